//! What a connection is made with.

use crate::compress::{Algorithm, COMPRESS_THRESHOLD_BYTES};
use crate::session::handshake::{FEATURE_MSG_ADDR2, FEATURES_SUPPORTED};
use crate::wire::{ConnectionMode, FEATURE_COMPRESSION, FEATURE_REVISION_1};
use outlast_session::LivenessConfig;
use std::time::Duration;

/// Ours: both ends are Outlast and understand CLOSE. A bit of msgr2's own feature namespace (Ceph uses bits 0 and 1),
/// never required, and not offered to Ceph: without it the bytes are exactly Ceph's.
pub const FEATURE_OUTLAST_CLOSE: u64 = 1 << 48;

/// Time from the first byte to a session, for either end. Ceph gives its dialling end 10 s
/// (`ms_connection_ready_timeout`) and its accepting end for ever, which is how half-open connections pile up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a KEEPALIVE2 is sent.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Silence after that KEEPALIVE2 after which the connection is dead.
pub const KEEPALIVE_GRACE: Duration = Duration::from_secs(15);
/// Bytes that may wait to be written before nothing more is pulled from the session.
pub const OUT_BYTES_HIGH: usize = 256 << 10;
/// Bytes of answers (to keepalives, and acknowledgements) that may wait to be written before nothing more is read: a peer
/// that asks and does not read the answers is not asked what else it wants (C++ Ceph grows without bound here).
pub const OUT_BYTES_MAX: usize = 8 << 20;
/// Rounds of authentication on one connection. An acceptor answers 8 requests (AUTH_REQUEST and AUTH_REQUEST_MORE
/// together); a dialler answers 8 times (to AUTH_BAD_METHOD and AUTH_REPLY_MORE together). At the 9th the connection
/// ends with [`crate::ConnectionError::NoCommonMethod`]. cephx needs 2 and 1.
pub const AUTH_ROUNDS_MAX: u32 = 8;
/// Rounds of finding the session on one connection. A dialler follows 16 answers (SESSION_RETRY, SESSION_RETRY_GLOBAL and
/// SESSION_RESET together); an acceptor weighs 16 introductions (CLIENT_IDENT and SESSION_RECONNECT together). At the 17th
/// the connection ends with [`crate::ConnectionError::TooManyRetries`].
pub const RETRIES_MAX: u32 = 16;
/// A connection is replaced when fewer nonces than this are left (CVE-2020-1759): far more than a batch of frames.
pub const NONCES_SPARE: u64 = 1 << 16;

/// Compression of frames (spec: "msgr-post-compression").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionConfig {
    /// Algorithms in order of preference; empty: none is asked for and none granted.
    pub algorithms: Vec<Algorithm>,
    /// Also in secure mode, where the length of a frame can then tell of its content.
    pub in_secure_mode: bool,
    /// Frames shorter than this go as they are.
    pub threshold_bytes: usize,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self { algorithms: Vec::new(), in_secure_mode: false, threshold_bytes: COMPRESS_THRESHOLD_BYTES }
    }
}

/// What every connection of a process has in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionConfig {
    /// Our type (`CEPH_ENTITY_TYPE_*`).
    pub entity_type: u8,
    /// A daemon's number. None for a client, whose number is the global id that authentication gives it.
    pub number: Option<i64>,
    /// msgr2 features that this end has.
    pub msgr2_supported: u64,
    /// msgr2 features that the peer must have.
    pub msgr2_required: u64,
    /// Connection modes in order of preference: what a dialler offers, and what an acceptor allows.
    pub modes: Vec<ConnectionMode>,
    /// Take part in msgr2.0-secure, whose lengths must be decrypted before anything is authenticated. Off unless asked
    /// for.
    pub allow_secure_revision_0: bool,
    /// Compression.
    pub compression: CompressionConfig,
    /// Ceph features that this end has.
    pub features_supported: u64,
    /// Ceph features that the peer must have.
    pub features_required: u64,
    /// From the first byte to a session.
    pub handshake_timeout: Duration,
    /// Keepalives while a session is carried.
    pub liveness: LivenessConfig,
    /// A connection is replaced when fewer nonces are left.
    pub nonces_spare: u64,
}

impl ConnectionConfig {
    /// Defaults for an entity of this type, as Ceph has them: crc or secure, msgr2.1, compression understood and not
    /// wanted.
    #[must_use]
    pub fn new(entity_type: u8) -> Self {
        Self {
            entity_type,
            number: None,
            msgr2_supported: FEATURE_REVISION_1 | FEATURE_COMPRESSION,
            msgr2_required: 0,
            modes: vec![ConnectionMode::SECURE, ConnectionMode::CRC],
            allow_secure_revision_0: false,
            compression: CompressionConfig::default(),
            features_supported: FEATURES_SUPPORTED,
            features_required: FEATURE_MSG_ADDR2,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            liveness: LivenessConfig { interval: KEEPALIVE_INTERVAL, grace: KEEPALIVE_GRACE },
            nonces_spare: NONCES_SPARE,
        }
    }
}
