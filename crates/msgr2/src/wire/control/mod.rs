//! The payloads of control frames: their fields in order, without versions (Ceph `src/msg/async/frames_v2.h`).
//!
//! Bytes behind the last field are ignored, as Ceph does: that is how fields can be added.
//!
//! The specification also names a CLOSE frame, "equivalent to a hangup", which has no tag in today's table (1 to 22):
//! Ceph never sends it. [`Close`] is ours, for a session that ends in an orderly way between our own ends.

mod auth;
mod session;

use super::reader::{DecodeError, Reader};
use crate::frame::Tag;

pub use auth::{
    AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature, CompressionDone,
    CompressionRequest, Hello,
};
pub(crate) use session::CookieTag;
pub use session::{
    Ack, ClientIdent, Close, IDENT_FLAG_LOSSY, IdentMissingFeatures, Keepalive2, Keepalive2Ack, ServerIdent,
    SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Wait,
};

/// The payload of one kind of control frame.
pub trait Payload: Sized {
    /// The tag of its frame.
    const TAG: Tag;

    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads it; bytes behind it are left unread.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Makes the enum of all control frames. Each variant, its structure and its tag have one name.
macro_rules! control_frames {
    ($($name:ident),* $(,)?) => {
        /// Any control frame.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Control {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        impl Control {
            /// The tag of its frame.
            #[must_use]
            pub fn tag(&self) -> Tag {
                match self {
                    $(Self::$name(_) => Tag::$name,)*
                }
            }

            /// Appends the bytes of its payload.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(payload) => payload.encode(out),)*
                }
            }

            /// Reads the payload of a frame with this tag.
            ///
            /// # Errors
            /// [`DecodeError`]; [`DecodeError::NotControl`] for the tag of messages.
            pub fn decode(tag: Tag, payload: &[u8]) -> Result<Self, DecodeError> {
                let reader = &mut Reader::new(payload);
                match tag {
                    Tag::Message => Err(DecodeError::NotControl),
                    $(Tag::$name => $name::decode(reader).map(Self::$name),)*
                }
            }
        }

        $(impl From<$name> for Control {
            fn from(payload: $name) -> Self {
                Self::$name(payload)
            }
        })*
    };
}

control_frames!(
    Hello,
    AuthRequest,
    AuthBadMethod,
    AuthReplyMore,
    AuthRequestMore,
    AuthDone,
    AuthSignature,
    CompressionRequest,
    CompressionDone,
    ClientIdent,
    ServerIdent,
    IdentMissingFeatures,
    SessionReconnect,
    SessionReset,
    SessionRetry,
    SessionRetryGlobal,
    SessionReconnectOk,
    Wait,
    Keepalive2,
    Keepalive2Ack,
    Ack,
    Close,
);
