//! The frames up to the point where both sides know each other and how they protect and compress what follows.

use bytes::Bytes;

use super::Payload;
use crate::frame::Tag;
use crate::wire::address::EntityAddr;
use crate::wire::codes::{AuthMethod, CompressionMethod, ConnectionMode};
use crate::wire::reader::{DecodeError, Reader, put_bytes, put_u32_list};

/// Both sides: who is there, and at which address they see the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The type of the sender: mon 1, mds 2, osd 4, client 8, mgr 0x10, auth 0x20.
    pub entity_type: u8,
    /// The address of the receiver as its peer's socket sees it. An acceptor writes it as msgr2
    /// with nonce 0; a client behind NAT learns from it how it looks from outside.
    pub peer_address: EntityAddr,
}

impl Payload for Hello {
    const TAG: Tag = Tag::Hello;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.entity_type);
        self.peer_address.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { entity_type: reader.u8("entity type")?, peer_address: EntityAddr::decode(reader)? })
    }
}

/// Client: begins the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// How it wants to prove itself.
    pub method: AuthMethod,
    /// The modes it accepts, the best first.
    pub preferred_modes: Vec<ConnectionMode>,
    /// The method's own opening.
    pub payload: Bytes,
}

impl Payload for AuthRequest {
    const TAG: Tag = Tag::AuthRequest;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.method.0.to_le_bytes());
        put_u32_list(out, self.preferred_modes.iter().map(|code| code.0));
        put_bytes(out, &self.payload);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            method: AuthMethod(reader.u32("method")?),
            preferred_modes: reader.u32_list("preferred modes", ConnectionMode)?,
            payload: Bytes::copy_from_slice(reader.bytes("payload")?),
        })
    }
}

/// Server: the proof failed, or its method or every mode offered is not allowed. The client may try
/// again on this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthBadMethod {
    /// The method that was tried.
    pub method: AuthMethod,
    /// A negative error number: -95 for a method or modes not allowed, -13 for a wrong proof.
    pub result: i32,
    /// What it would take.
    pub allowed_methods: Vec<AuthMethod>,
    /// The modes it would take.
    pub allowed_modes: Vec<ConnectionMode>,
}

impl Payload for AuthBadMethod {
    const TAG: Tag = Tag::AuthBadMethod;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.method.0.to_le_bytes());
        out.extend_from_slice(&self.result.to_le_bytes());
        put_u32_list(out, self.allowed_methods.iter().map(|code| code.0));
        put_u32_list(out, self.allowed_modes.iter().map(|code| code.0));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            method: AuthMethod(reader.u32("method")?),
            result: reader.i32("result")?,
            allowed_methods: reader.u32_list("allowed methods", AuthMethod)?,
            allowed_modes: reader.u32_list("allowed modes", ConnectionMode)?,
        })
    }
}

/// Server: one more round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthReplyMore {
    /// The method's own message.
    pub payload: Bytes,
}

impl Payload for AuthReplyMore {
    const TAG: Tag = Tag::AuthReplyMore;

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.payload);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { payload: Bytes::copy_from_slice(reader.bytes("payload")?) })
    }
}

/// Client: one more round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRequestMore {
    /// The method's own message.
    pub payload: Bytes,
}

impl Payload for AuthRequestMore {
    const TAG: Tag = Tag::AuthRequestMore;

    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.payload);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { payload: Bytes::copy_from_slice(reader.bytes("payload")?) })
    }
}

/// Server: the client is who it says, and this is the mode of all that follows this frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthDone {
    /// The number that the authority gave the client.
    pub global_id: u64,
    /// The mode of the next frame in each direction.
    pub mode: ConnectionMode,
    /// The method's own closing.
    pub payload: Bytes,
}

impl Payload for AuthDone {
    const TAG: Tag = Tag::AuthDone;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.global_id.to_le_bytes());
        out.extend_from_slice(&self.mode.0.to_le_bytes());
        put_bytes(out, &self.payload);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            global_id: reader.u64("global id")?,
            mode: ConnectionMode(reader.u32("mode")?),
            payload: Bytes::copy_from_slice(reader.bytes("payload")?),
        })
    }
}

/// Both sides: HMAC-SHA-256 under the session key of every byte RECEIVED up to AUTH_DONE (or the last AUTH_REQUEST
/// or AUTH_REQUEST_MORE); zeros when there is no key. To be compared in constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthSignature {
    /// The 32 bytes.
    pub digest: [u8; 32],
}

impl Payload for AuthSignature {
    const TAG: Tag = Tag::AuthSignature;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { digest: reader.array("digest")? })
    }
}

/// Client: how it would compress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionRequest {
    /// Whether it wants to.
    pub wanted: bool,
    /// What it can, the best first. Empty when not wanted.
    pub preferred_methods: Vec<CompressionMethod>,
}

impl Payload for CompressionRequest {
    const TAG: Tag = Tag::CompressionRequest;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.wanted));
        put_u32_list(out, self.preferred_methods.iter().map(|code| code.0));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            wanted: reader.bool("wanted")?,
            preferred_methods: reader.u32_list("preferred methods", CompressionMethod)?,
        })
    }
}

/// Server: how both compress from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionDone {
    /// Whether they do.
    pub granted: bool,
    /// The method; 0 when not granted.
    pub method: CompressionMethod,
}

impl Payload for CompressionDone {
    const TAG: Tag = Tag::CompressionDone;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.granted));
        out.extend_from_slice(&self.method.0.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { granted: reader.bool("granted")?, method: CompressionMethod(reader.u32("method")?) })
    }
}
