//! The sixteen bytes that every frame begins with, inside an envelope too.

use core::fmt;

use super::error::DecodeError;
use super::ids::NodeId;
use super::reader::Reader;

/// The size of a header, in bytes.
pub const HEADER_BYTES: usize = 16;

/// The largest frame, in bytes (`DLM_MAX_SOCKET_BUFSIZE`).
pub const FRAME_BYTES_MAX: usize = 4096;

/// The largest message or recovery message, in bytes, so that it fits into an envelope (`DLM_MAX_APP_BUFSIZE`).
pub const INNER_BYTES_MAX: usize = FRAME_BYTES_MAX - super::frame::OPTS_BYTES;

/// Which protocol a node speaks. Learned from the first frame that comes from it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// Messages have no number: what a lost connection takes along is lost.
    V3_1,
    /// Messages are numbered, acknowledged and replayed.
    V3_2,
}

impl Version {
    /// Major in the upper half, minor in the lower.
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::V3_1 => 0x0003_0001,
            Self::V3_2 => 0x0003_0002,
        }
    }

    const fn from_wire(raw: u32) -> Result<Self, DecodeError> {
        match raw {
            0x0003_0001 => Ok(Self::V3_1),
            0x0003_0002 => Ok(Self::V3_2),
            _ => Err(DecodeError::Version(raw)),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V3_1 => "3.1",
            Self::V3_2 => "3.2",
        })
    }
}

/// What a header introduces.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Command {
    /// A message about a lock.
    Message = 1,
    /// A recovery message.
    Rcom = 2,
    /// An envelope.
    Opts = 3,
    /// An acknowledgement.
    Ack = 4,
    /// The end of what the sender has to say.
    Fin = 5,
}

impl Command {
    pub(super) const fn from_wire(raw: u8) -> Result<Self, DecodeError> {
        match raw {
            1 => Ok(Self::Message),
            2 => Ok(Self::Rcom),
            3 => Ok(Self::Opts),
            4 => Ok(Self::Ack),
            5 => Ok(Self::Fin),
            _ => Err(DecodeError::Command(raw)),
        }
    }
}

/// A header.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the sender speaks.
    pub version: Version,
    /// The lockspace of a message or recovery message; the number of an envelope or acknowledgement.
    pub scope: u32,
    /// Who sends.
    pub sender: NodeId,
    /// Of the whole frame, in bytes: [`HEADER_BYTES`] to [`FRAME_BYTES_MAX`].
    pub length: u16,
    /// What follows.
    pub command: Command,
}

impl Header {
    /// The length of the frame whose first bytes these are. `None`: too few to say.
    ///
    /// # Errors
    /// [`DecodeError::Length`], if no frame has that length.
    pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Some([low, high]) = bytes.get(12..14).and_then(|length| length.first_chunk::<2>()) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        check_length(length, HEADER_BYTES, FRAME_BYTES_MAX)?;
        Ok(Some(length))
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u32("a header")?;
        let scope = reader.u32("a header")?;
        let sender = reader.u32("a header")?;
        let length = reader.u16("a header")?;
        let command = reader.u8("a header")?;
        reader.u8("a header")?;
        Ok(Self {
            version: Version::from_wire(version)?,
            scope,
            sender: NodeId(sender),
            length,
            command: Command::from_wire(command)?,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_wire().to_le_bytes());
        out.extend_from_slice(&self.scope.to_le_bytes());
        out.extend_from_slice(&self.sender.0.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&[self.command as u8, 0]);
    }
}

pub(super) const fn check_length(length: usize, min: usize, max: usize) -> Result<(), DecodeError> {
    if length < min || length > max {
        return Err(DecodeError::Length { length, min, max });
    }
    Ok(())
}
