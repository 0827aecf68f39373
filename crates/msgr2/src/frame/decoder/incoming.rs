//! What comes out of a decoder, and whom it asks.

use bytes::{Bytes, BytesMut};
use std::fmt;

use crate::frame::preamble::Lengths;
use crate::frame::tag::Tag;
use crate::wire::MessageHeader;

/// A frame that was received.
#[derive(Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A control frame, for [`crate::wire::Control::decode`].
    Control {
        /// Which one; never [`Tag::Message`].
        tag: Tag,
        /// Its payload.
        payload: Bytes,
    },
    /// A message.
    Message(MessageFrame),
    /// A message that its sender took back while it was under way. It counts for nothing; what was admitted for
    /// it is to be given back.
    Aborted {
        /// What [`Landing::admit`] was asked for it.
        lengths: Lengths,
    },
}

/// Without the payload of control frames, some of which hold cookies and proofs.
impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control { tag, payload } => {
                f.debug_struct("Control").field("tag", tag).field("payload_len", &payload.len()).finish()
            }
            Self::Message(frame) => f.debug_tuple("Message").field(frame).finish(),
            Self::Aborted { lengths } => f.debug_struct("Aborted").field("lengths", lengths).finish(),
        }
    }
}

/// A message that was received.
///
/// Its parts may be views of a read buffer: who keeps a small one for long keeps the buffer, up to
/// [`crate::frame::Limits::read_buffer_bytes`], alive with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFrame {
    /// Its header.
    pub header: MessageHeader,
    /// Its front, decompressed.
    pub front: Bytes,
    /// Its middle, decompressed.
    pub middle: Bytes,
    /// Its data, decompressed.
    pub data: Bytes,
    /// What [`Landing::admit`] was asked for it: the lengths on the wire.
    pub admitted: Lengths,
}

/// Whom a decoder asks about the message that is coming in.
pub trait Landing {
    /// Asked for each message once its preamble is in (verified, but for msgr2.0's secure mode), before its body
    /// takes memory. `false` stops the decoder until it is asked again, at the next call of
    /// [`super::FrameDecoder::next`]. After `true` the message comes out, or is aborted, or the connection dies.
    fn admit(&mut self, lengths: Lengths) -> bool;

    /// Asked for each message with data in msgr2.1, once its header is verified: where the data shall land, so
    /// that the transport can put them there. A buffer shorter than `data_len` is not used. `None`: anywhere.
    ///
    /// In crc mode the data are read straight into it, as far as they had not come already; in secure mode they are
    /// copied there once.
    fn buffer(&mut self, header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
        let _ = (header, data_len);
        None
    }
}

/// Admits every message and has no places for data.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmitAll;

impl Landing for AdmitAll {
    fn admit(&mut self, _lengths: Lengths) -> bool {
        true
    }
}
