//! Frames: what goes over a connection one after the other.

use super::error::DecodeError;
use super::header::{Command, FRAME_BYTES_MAX, HEADER_BYTES, Header, Version, check_length};
use super::ids::{LockspaceId, NodeId};
use super::message::{MESSAGE_BYTES, Message};
use super::rcom::{RCOM_BYTES, Rcom};
use super::reader::Reader;

/// The size of an envelope without options and content, in bytes.
pub const OPTS_BYTES: usize = HEADER_BYTES + 8;

/// The head of an option.
const OPTION_HEAD_BYTES: usize = 8;

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What the sender speaks.
    pub version: Version,
    /// Who sends.
    pub sender: NodeId,
    /// What.
    pub body: Body,
}

/// What a frame holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Something without a number: all that 3.1 sends, and what finds out the version. Never [`Inner::Fin`].
    Bare(Inner),
    /// Something with a number.
    Numbered {
        /// Its number.
        number: u32,
        /// What else the envelope says.
        options: Options,
        /// The content.
        inner: Inner,
    },
    /// Everything before this number has come.
    Ack {
        /// The number that is expected next.
        expected: u32,
    },
}

/// What a node has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inner {
    /// About a lock.
    Message(Message),
    /// About a recovery.
    Rcom(Rcom),
    /// Nothing more, until both have said so.
    Fin,
}

/// The options of an envelope, as they came. None is defined, so all are skipped, but their bounds are checked.
///
/// On the wire: type u16, length of the value u16, pad u32, value; the next one begins at a multiple of eight bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options(Vec<u8>);

impl Options {
    /// No option: what everybody sends today.
    pub const NONE: Self = Self(Vec::new());

    /// Options as they are on the wire.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], if one does not end within these bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        while !reader.rest().is_empty() {
            reader.u16("an option")?;
            let len = usize::from(reader.u16("an option")?);
            reader.u32("an option")?;
            // The padding behind the last one may be missing.
            let padded = len.next_multiple_of(OPTION_HEAD_BYTES).min(reader.rest().len().max(len));
            reader.bytes("an option's value", padded)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// As they are on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Inner {
    /// The command that announces it.
    pub const fn command(&self) -> Command {
        match self {
            Self::Message(_) => Command::Message,
            Self::Rcom(_) => Command::Rcom,
            Self::Fin => Command::Fin,
        }
    }

    /// Its length with its own header and without an envelope, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Rcom(rcom) => rcom.len(),
            Self::Fin => HEADER_BYTES,
        }
    }

    /// Never: there is a header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The lockspace it is about, if it is about one.
    pub const fn lockspace(&self) -> Option<LockspaceId> {
        match self {
            Self::Message(message) => Some(message.lockspace),
            Self::Rcom(rcom) => Some(rcom.lockspace),
            Self::Fin => None,
        }
    }

    fn decode(header: &Header, reader: Reader<'_>) -> Result<Self, DecodeError> {
        let length = usize::from(header.length);
        let lockspace = LockspaceId(header.scope);
        match header.command {
            Command::Message => {
                check_length(length, MESSAGE_BYTES, FRAME_BYTES_MAX)?;
                Message::decode(lockspace, reader).map(Self::Message)
            }
            Command::Rcom => {
                check_length(length, RCOM_BYTES, FRAME_BYTES_MAX)?;
                Rcom::decode(lockspace, reader).map(Self::Rcom)
            }
            Command::Fin => Ok(Self::Fin),
            Command::Opts | Command::Ack => Err(DecodeError::Command(header.command as u8)),
        }
    }

    /// Appends it with its own header.
    pub(crate) fn encode(&self, version: Version, sender: NodeId, out: &mut Vec<u8>) {
        let header = Header {
            version,
            scope: self.lockspace().map_or(0, |lockspace| lockspace.0),
            sender,
            length: self.len() as u16,
            command: self.command(),
        };
        header.encode(out);
        match self {
            Self::Message(message) => message.encode(out),
            Self::Rcom(rcom) => rcom.encode(out),
            Self::Fin => {}
        }
    }
}

impl Frame {
    /// The frame in `bytes`, all of which it must take ([`Header::frame_length`] says how many there must be).
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = Header::decode(&mut reader)?;
        check_length(usize::from(header.length), bytes.len(), bytes.len())?;
        let body = match header.command {
            Command::Message | Command::Rcom => Body::Bare(Inner::decode(&header, reader)?),
            Command::Opts => decode_envelope(&header, reader)?,
            Command::Ack => Body::Ack { expected: header.scope },
            // It has its meaning by its place in the stream.
            Command::Fin => return Err(DecodeError::Command(header.command as u8)),
        };
        Ok(Self { version: header.version, sender: header.sender, body })
    }

    /// Appends the frame's bytes.
    ///
    /// The caller keeps to the limits of what it builds ([`super::INNER_BYTES_MAX`], [`super::SLOTS_MAX`],
    /// [`super::NAMES_BYTES_MAX`]): a longer frame would be refused by who reads it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.body {
            Body::Bare(inner) => inner.encode(self.version, self.sender, out),
            Body::Numbered { number, options, inner } => {
                let (command, len) = (inner.command(), inner.len());
                Self::encode_envelope(self.version, self.sender, *number, options, command, len, out);
                inner.encode(self.version, self.sender, out);
            }
            Body::Ack { expected } => {
                let header = Header {
                    version: self.version,
                    scope: *expected,
                    sender: self.sender,
                    length: HEADER_BYTES as u16,
                    command: Command::Ack,
                };
                header.encode(out);
            }
        }
    }

    /// Appends the envelope of what has this command and length.
    pub(crate) fn encode_envelope(
        version: Version,
        sender: NodeId,
        number: u32,
        options: &Options,
        command: Command,
        inner_len: usize,
        out: &mut Vec<u8>,
    ) {
        let header = Header {
            version,
            scope: number,
            sender,
            length: (OPTS_BYTES + options.0.len() + inner_len) as u16,
            command: Command::Opts,
        };
        header.encode(out);
        out.extend_from_slice(&[command as u8, 0]);
        out.extend_from_slice(&(options.0.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&options.0);
    }
}

fn decode_envelope(outer: &Header, mut reader: Reader<'_>) -> Result<Body, DecodeError> {
    let announced = reader.u8("an envelope")?;
    reader.u8("an envelope")?;
    let options_len = usize::from(reader.u16("an envelope")?);
    reader.u32("an envelope")?;
    let options = Options::new(reader.bytes("options", options_len)?)?;
    let room = reader.rest().len();
    let header = Header::decode(&mut reader)?;
    // The kernel trusts only the outer length; ours must agree.
    check_length(usize::from(header.length), room, room)?;
    if announced != header.command as u8 {
        return Err(DecodeError::NextCommand { announced, found: header.command as u8 });
    }
    if outer.sender != header.sender {
        return Err(DecodeError::Sender { outer: outer.sender.0, inner: header.sender.0 });
    }
    Ok(Body::Numbered { number: outer.scope, options, inner: Inner::decode(&header, reader)? })
}
