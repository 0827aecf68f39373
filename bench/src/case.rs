//! What is measured: who moves which messages how.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The sizes of a message's payload, in bytes.
pub(crate) const SIZES_BYTES: [usize; 4] = [64, 4 * 1024, 64 * 1024, 1024 * 1024];

/// What moves the messages.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rival {
    /// A length before each message, blocking sockets, no checksum: what TCP itself can do.
    Raw,
    /// Blocking sockets with the frames and checksums of msgr2.1 in crc mode. The anchor: every ratio is to it.
    AnchorCrc,
    /// The same with AES-128-GCM, msgr2.1's secure mode.
    AnchorSecure,
    /// tokio's length-delimited codec with buffers of 256 KiB.
    TokioCodec,
    /// One bidirectional stream of tonic (gRPC).
    TonicStream,
    /// A unary call of tonic for each request.
    TonicUnary,
    /// A stream of quinn (QUIC), a length before each message.
    Quinn,
    /// The crate `zeromq`: two pairs of PUSH and PULL.
    ZeroMq,
    /// Ceph's own messenger, by its programs `ceph_perf_msgr_server` and `ceph_perf_msgr_client`.
    CephPerf,
    /// Outlast in crc mode.
    OutlastCrc,
    /// Outlast in secure mode, authenticated by cephx.
    OutlastSecure,
    /// Outlast in crc mode with what Ceph's programs do: a small front of each message's own, and as data the same
    /// buffer again and again, which nobody reads.
    OutlastAsCeph,
}

impl Rival {
    /// The name in tables and raw runs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw TCP",
            Self::AnchorCrc => "anchor crc",
            Self::AnchorSecure => "anchor secure",
            Self::TokioCodec => "tokio codec",
            Self::TonicStream => "tonic stream",
            Self::TonicUnary => "tonic unary",
            Self::Quinn => "quinn",
            Self::ZeroMq => "zeromq",
            Self::CephPerf => "ceph_perf_msgr",
            Self::OutlastCrc => "outlast crc",
            Self::OutlastSecure => "outlast secure",
            Self::OutlastAsCeph => "outlast as ceph",
        }
    }

    /// Whether it can do this workload at all.
    pub(crate) fn does(self, workload: Workload) -> bool {
        match self {
            // Unary has no stream, and Ceph's program waits for a reply to everything.
            Self::TonicUnary | Self::CephPerf | Self::OutlastAsCeph => {
                matches!(workload, Workload::Call { .. })
            }
            Self::Raw
            | Self::AnchorCrc
            | Self::AnchorSecure
            | Self::TokioCodec
            | Self::TonicStream
            | Self::Quinn
            | Self::ZeroMq
            | Self::OutlastCrc
            | Self::OutlastSecure => true,
        }
    }

    /// How much of a message of this size is written and read by its ends.
    pub(crate) fn touched_bytes(self, size_bytes: usize) -> usize {
        match self {
            Self::OutlastAsCeph => 64,
            Self::Raw
            | Self::AnchorCrc
            | Self::AnchorSecure
            | Self::TokioCodec
            | Self::TonicStream
            | Self::TonicUnary
            | Self::Quinn
            | Self::ZeroMq
            | Self::CephPerf
            | Self::OutlastCrc
            | Self::OutlastSecure => size_bytes,
        }
    }

    /// How many bytes may be on their way before the receiver must have said that it took some; `None` where the
    /// rival sees to that itself.
    pub(crate) fn window_bytes(self) -> Option<u64> {
        match self {
            // Its queue to a peer is bounded in messages only, 100,000 of them: at 1 MiB that is all memory.
            Self::ZeroMq => Some(4 * 1024 * 1024),
            Self::Raw
            | Self::AnchorCrc
            | Self::AnchorSecure
            | Self::TokioCodec
            | Self::TonicStream
            | Self::TonicUnary
            | Self::Quinn
            | Self::CephPerf
            | Self::OutlastCrc
            | Self::OutlastSecure
            | Self::OutlastAsCeph => None,
        }
    }
}

/// How messages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// One way, as fast as they go.
    Stream,
    /// Requests of the given size with replies of 64 bytes.
    Call {
        /// How many requests are under way at a time.
        at_a_time: usize,
    },
}

impl Workload {
    pub(crate) const ALL: [Self; 3] =
        [Self::Stream, Self::Call { at_a_time: 1 }, Self::Call { at_a_time: 32 }];
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("stream"),
            Self::Call { at_a_time } => write!(f, "call-{at_a_time}"),
        }
    }
}

impl std::str::FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|workload| workload.to_string() == text)
            .ok_or_else(|| format!("{text} is none of stream, call-1, call-32"))
    }
}

/// One cell of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) cores: usize,
    pub(crate) workload: Workload,
    pub(crate) size_bytes: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, workload, size_bytes } = self;
        write!(
            f,
            "{workload}, {}, {cores} core{}",
            size_name(*size_bytes),
            if *cores == 1 { "" } else { "s" }
        )
    }
}

/// 64 B, 4 KiB, ...
pub(crate) fn size_name(bytes: usize) -> String {
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// What a child process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) role: Role,
    pub(crate) rival: Rival,
    pub(crate) workload: Workload,
    pub(crate) size_bytes: usize,
    /// Runs unmeasured for so long.
    pub(crate) warm_up: Duration,
    /// Measured for so long.
    pub(crate) measured: Duration,
    /// The child ends itself after this, whatever happens.
    pub(crate) deadline: Duration,
    /// What the sockets' buffers are bounded to where the rival lets us; 0: nobody bounds them so.
    pub(crate) socket_buffer_bytes: usize,
    /// What the client proves itself with, in Ceph's notation, made for this one run.
    pub(crate) key: Option<String>,
}

/// Which end a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Takes messages.
    Server,
    /// Sends them, and measures.
    Client {
        /// Where the server is.
        server: std::net::SocketAddr,
    },
}
