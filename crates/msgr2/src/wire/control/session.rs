//! The frames that begin and resume a session, and those beside the messages in it.

use super::Payload;
use crate::frame::Tag;
use crate::wire::address::{AddrVec, EntityAddr};
use crate::wire::codes::Stamp;
use crate::wire::reader::{DecodeError, Reader};
use sha2::{Digest, Sha256};
use std::fmt;

/// In the flags of an ident: nothing is kept, acknowledgements and resumption are off. The client announces its
/// policy and adopts what the server answers.
pub const IDENT_FLAG_LOSSY: u64 = 1;

/// How a cookie is shown: who holds both of a session may resume it, so not as it is. The tag, the first 16 bits of its
/// SHA-256, tells the sessions in a log apart and leaves 2^48 cookies that it may be the tag of.
pub(crate) struct CookieTag(pub(crate) u64);

impl fmt::Debug for CookieTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let digest = Sha256::digest(self.0.to_le_bytes());
        write!(f, "#{:02x}{:02x}", digest[0], digest[1])
    }
}

/// Client: wants a new session.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdent {
    /// Its own addresses; the server's table of sessions is keyed by the whole vector.
    pub addresses: AddrVec,
    /// The address it dialled. The server refuses one that is not its own.
    pub target: EntityAddr,
    /// The number of a daemon (osd.3 sends 3), the global id of a client; -1 for a client that has none.
    pub global_id: i64,
    /// Counts the connection attempts of its process.
    pub global_seq: u64,
    /// Ceph's feature bits that it knows.
    pub features_supported: u64,
    /// Those it insists on. The server does not look at them.
    pub features_required: u64,
    /// See [`IDENT_FLAG_LOSSY`].
    pub flags: u64,
    /// Random and not 0 for a session that keeps messages, else 0.
    pub cookie: u64,
}

impl fmt::Debug for ClientIdent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdent")
            .field("addresses", &self.addresses)
            .field("target", &self.target)
            .field("global_id", &self.global_id)
            .field("global_seq", &self.global_seq)
            .field("features_supported", &self.features_supported)
            .field("features_required", &self.features_required)
            .field("flags", &self.flags)
            .field("cookie", &CookieTag(self.cookie))
            .finish()
    }
}

impl Payload for ClientIdent {
    const TAG: Tag = Tag::ClientIdent;

    fn encode(&self, out: &mut Vec<u8>) {
        self.addresses.encode(out);
        self.target.encode(out);
        out.extend_from_slice(&self.global_id.to_le_bytes());
        out.extend_from_slice(&self.global_seq.to_le_bytes());
        out.extend_from_slice(&self.features_supported.to_le_bytes());
        out.extend_from_slice(&self.features_required.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.cookie.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            addresses: AddrVec::decode(reader)?,
            target: EntityAddr::decode(reader)?,
            global_id: reader.i64("global id")?,
            global_seq: reader.u64("global seq")?,
            features_supported: reader.u64("features supported")?,
            features_required: reader.u64("features required")?,
            flags: reader.u64("flags")?,
            cookie: reader.u64("cookie")?,
        })
    }
}

/// Server: the session exists.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerIdent {
    /// Its addresses. The client refuses a vector without the one it dialled.
    pub addresses: AddrVec,
    /// As in [`ClientIdent`].
    pub global_id: i64,
    /// As in [`ClientIdent`].
    pub global_seq: u64,
    /// As in [`ClientIdent`].
    pub features_supported: u64,
    /// The client must check them against its own.
    pub features_required: u64,
    /// See [`IDENT_FLAG_LOSSY`]. The client adopts them.
    pub flags: u64,
    /// Random and not 0 for a session that keeps messages, else 0. Who holds it may reconnect.
    pub cookie: u64,
}

impl fmt::Debug for ServerIdent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdent")
            .field("addresses", &self.addresses)
            .field("global_id", &self.global_id)
            .field("global_seq", &self.global_seq)
            .field("features_supported", &self.features_supported)
            .field("features_required", &self.features_required)
            .field("flags", &self.flags)
            .field("cookie", &CookieTag(self.cookie))
            .finish()
    }
}

impl Payload for ServerIdent {
    const TAG: Tag = Tag::ServerIdent;

    fn encode(&self, out: &mut Vec<u8>) {
        self.addresses.encode(out);
        out.extend_from_slice(&self.global_id.to_le_bytes());
        out.extend_from_slice(&self.global_seq.to_le_bytes());
        out.extend_from_slice(&self.features_supported.to_le_bytes());
        out.extend_from_slice(&self.features_required.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.cookie.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            addresses: AddrVec::decode(reader)?,
            global_id: reader.i64("global id")?,
            global_seq: reader.u64("global seq")?,
            features_supported: reader.u64("features supported")?,
            features_required: reader.u64("features required")?,
            flags: reader.u64("flags")?,
            cookie: reader.u64("cookie")?,
        })
    }
}

/// Server: the client lacks features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentMissingFeatures {
    /// Those it lacks.
    pub features: u64,
}

impl Payload for IdentMissingFeatures {
    const TAG: Tag = Tag::IdentMissingFeatures;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.features.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { features: reader.u64("features")? })
    }
}

/// Client: wants its session back.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionReconnect {
    /// Its addresses, as in the ident.
    pub addresses: AddrVec,
    /// The cookie of the session's client.
    pub client_cookie: u64,
    /// The cookie of the session's server.
    pub server_cookie: u64,
    /// Counts the connection attempts of its process.
    pub global_seq: u64,
    /// Counts the reconnections of this session.
    pub connect_seq: u64,
    /// The last number it received.
    pub msg_seq: u64,
}

impl fmt::Debug for SessionReconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionReconnect")
            .field("addresses", &self.addresses)
            .field("client_cookie", &CookieTag(self.client_cookie))
            .field("server_cookie", &CookieTag(self.server_cookie))
            .field("global_seq", &self.global_seq)
            .field("connect_seq", &self.connect_seq)
            .field("msg_seq", &self.msg_seq)
            .finish()
    }
}

impl Payload for SessionReconnect {
    const TAG: Tag = Tag::SessionReconnect;

    fn encode(&self, out: &mut Vec<u8>) {
        self.addresses.encode(out);
        out.extend_from_slice(&self.client_cookie.to_le_bytes());
        out.extend_from_slice(&self.server_cookie.to_le_bytes());
        out.extend_from_slice(&self.global_seq.to_le_bytes());
        out.extend_from_slice(&self.connect_seq.to_le_bytes());
        out.extend_from_slice(&self.msg_seq.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            addresses: AddrVec::decode(reader)?,
            client_cookie: reader.u64("client cookie")?,
            server_cookie: reader.u64("server cookie")?,
            global_seq: reader.u64("global seq")?,
            connect_seq: reader.u64("connect seq")?,
            msg_seq: reader.u64("msg seq")?,
        })
    }
}

/// Server: there is no such session; begin anew on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionReset {
    /// Whether everything queued is lost. Otherwise what was not acknowledged goes into the new session.
    pub full: bool,
}

impl Payload for SessionReset {
    const TAG: Tag = Tag::SessionReset;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.full));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { full: reader.bool("full")? })
    }
}

/// Server: the connect_seq was old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRetry {
    /// The one it holds; to be exceeded.
    pub connect_seq: u64,
}

impl Payload for SessionRetry {
    const TAG: Tag = Tag::SessionRetry;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.connect_seq.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { connect_seq: reader.u64("connect seq")? })
    }
}

/// Server: the global_seq was old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRetryGlobal {
    /// The one it holds; to be exceeded.
    pub global_seq: u64,
}

impl Payload for SessionRetryGlobal {
    const TAG: Tag = Tag::SessionRetryGlobal;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.global_seq.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { global_seq: reader.u64("global seq")? })
    }
}

/// Server: the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionReconnectOk {
    /// The last number it received; what came after is sent again.
    pub msg_seq: u64,
}

impl Payload for SessionReconnectOk {
    const TAG: Tag = Tag::SessionReconnectOk;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.msg_seq.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { msg_seq: reader.u64("msg seq")? })
    }
}

/// Server: it is connecting to this client itself, and that connection wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait;

impl Payload for Wait {
    const TAG: Tag = Tag::Wait;

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// Asks for a sign of life. Legal only once the session is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive2 {
    /// The sender's clock.
    pub stamp: Stamp,
}

impl Payload for Keepalive2 {
    const TAG: Tag = Tag::Keepalive2;

    fn encode(&self, out: &mut Vec<u8>) {
        self.stamp.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { stamp: Stamp::decode(reader)? })
    }
}

/// The sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive2Ack {
    /// The stamp of the question.
    pub stamp: Stamp,
}

impl Payload for Keepalive2Ack {
    const TAG: Tag = Tag::Keepalive2Ack;

    fn encode(&self, out: &mut Vec<u8>) {
        self.stamp.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { stamp: Stamp::decode(reader)? })
    }
}

/// Everything up to a number has been received. Sent alone only when no message goes out that could carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The number, inclusive.
    pub seq: u64,
}

impl Payload for Ack {
    const TAG: Tag = Tag::Ack;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seq.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { seq: reader.u64("seq")? })
    }
}

/// The sender's session is over: nothing more will come, and it does not come back. Ours, see [`Tag::Close`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close;

impl Payload for Close {
    const TAG: Tag = Tag::Close;

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}
