//! What frames carry: addresses, the payloads of control frames, the message header and the banner.
//!
//! Everything here is plain data with `encode` and `decode`; nothing is kept between calls. All integers are
//! little-endian. A decoder never reads past what it was given, never allocates for a count before the bytes
//! that would hold so many items are there, and never panics.

mod address;
mod banner;
mod codes;
mod control;
mod header;
mod reader;

#[cfg(test)]
mod tests;

pub use address::{
    ADDRESSES_MAX, AddrKind, AddrVec, EntityAddr, ParseAddrError, SOCKADDR_BYTES_MAX, Sockaddr,
};
pub use banner::{
    BANNER_PAYLOAD_BYTES_MAX, BANNER_PREFIX, BANNER_PREFIX_BYTES, Banner, BannerError, FEATURE_COMPRESSION,
    FEATURE_REVISION_1,
};
pub use codes::{AuthMethod, CompressionMethod, ConnectionMode, Stamp};
pub(crate) use control::CookieTag;
pub use control::{
    Ack, AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature, ClientIdent,
    Close, CompressionDone, CompressionRequest, Control, Hello, IDENT_FLAG_LOSSY, IdentMissingFeatures,
    Keepalive2, Keepalive2Ack, Payload, ServerIdent, SessionReconnect, SessionReconnectOk, SessionReset,
    SessionRetry, SessionRetryGlobal, Wait,
};
pub use header::{MESSAGE_FLAGS, MESSAGE_HEADER_BYTES, MessageHeader};
pub use reader::{DecodeError, Reader};
