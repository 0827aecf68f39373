//! The kinds of frames.

use core::fmt;

/// Makes the enum from the table of tags.
macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// What a frame is (Ceph `src/msg/async/frames_v2.h`). An unknown tag is a fault, never skipped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Tag {
            $($(#[$doc])* $name = $code,)*
        }

        impl Tag {
            /// All of them.
            pub const ALL: [Self; 23] = [$(Self::$name,)*];

            /// The tag with this number.
            #[inline]
            #[must_use]
            pub fn from_wire(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name in the specification.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

tags! {
    /// Who is there.
    Hello = 1, "HELLO";
    /// The client begins its proof.
    AuthRequest = 2, "AUTH_REQUEST";
    /// The proof failed.
    AuthBadMethod = 3, "AUTH_BAD_METHOD";
    /// One more round, from the server.
    AuthReplyMore = 4, "AUTH_REPLY_MORE";
    /// One more round, from the client.
    AuthRequestMore = 5, "AUTH_REQUEST_MORE";
    /// The proof was accepted.
    AuthDone = 6, "AUTH_DONE";
    /// A digest of all that was received before.
    AuthSignature = 7, "AUTH_SIGNATURE";
    /// The client wants a session.
    ClientIdent = 8, "CLIENT_IDENT";
    /// The server grants it.
    ServerIdent = 9, "SERVER_IDENT";
    /// The client lacks features.
    IdentMissingFeatures = 10, "IDENT_MISSING_FEATURES";
    /// The client wants its session back.
    SessionReconnect = 11, "SESSION_RECONNECT";
    /// There is no such session.
    SessionReset = 12, "SESSION_RESET";
    /// The attempt is older than one known.
    SessionRetry = 13, "SESSION_RETRY";
    /// The attempt is older than one known of that process.
    SessionRetryGlobal = 14, "SESSION_RETRY_GLOBAL";
    /// The session goes on.
    SessionReconnectOk = 15, "SESSION_RECONNECT_OK";
    /// The other direction wins.
    Wait = 16, "WAIT";
    /// A message.
    Message = 17, "MESSAGE";
    /// A question for a sign of life.
    Keepalive2 = 18, "KEEPALIVE2";
    /// The sign of life.
    Keepalive2Ack = 19, "KEEPALIVE2_ACK";
    /// An acknowledgement.
    Ack = 20, "ACK";
    /// The client says how it would compress.
    CompressionRequest = 21, "COMPRESSION_REQUEST";
    /// The server says how both do.
    CompressionDone = 22, "COMPRESSION_DONE";
    /// Ours, and only where both banners have [`crate::connection::FEATURE_OUTLAST_CLOSE`]: the session is over. The
    /// spec describes TAG_CLOSE without giving it a number.
    Close = 64, "CLOSE";
}

impl Tag {
    /// Its number on the wire.
    #[inline]
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
