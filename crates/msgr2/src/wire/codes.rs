//! Numbers with names. Unknown numbers are kept: what is not understood is refused where it matters, and can
//! be named in an error.

use core::fmt;

use super::reader::{DecodeError, Reader};

/// How a client proves who it is (Ceph `src/include/msgr.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthMethod(pub u32);

impl AuthMethod {
    /// No proof at all.
    pub const NONE: Self = Self(1);
    /// Ceph's shared secrets and tickets.
    pub const CEPHX: Self = Self(2);
    /// Kerberos.
    pub const GSS: Self = Self(4);
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::CEPHX => f.write_str("cephx"),
            Self::GSS => f.write_str("gss"),
            Self(other) => write!(f, "auth method {other}"),
        }
    }
}

/// How frames are protected once the peer is authenticated (Ceph `src/include/msgr.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionMode(pub u32);

impl ConnectionMode {
    /// Not agreed on.
    pub const UNKNOWN: Self = Self(0);
    /// Checksums against accidents; no protection against anyone.
    pub const CRC: Self = Self(1);
    /// AES-128-GCM.
    pub const SECURE: Self = Self(2);
}

impl fmt::Display for ConnectionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UNKNOWN => f.write_str("unknown"),
            Self::CRC => f.write_str("crc"),
            Self::SECURE => f.write_str("secure"),
            Self(other) => write!(f, "connection mode {other}"),
        }
    }
}

/// How frames are compressed (Ceph `src/compressor/Compressor.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompressionMethod(pub u32);

impl CompressionMethod {
    /// Not at all.
    pub const NONE: Self = Self(0);
    /// Snappy.
    pub const SNAPPY: Self = Self(1);
    /// Deflate.
    pub const ZLIB: Self = Self(2);
    /// Zstandard.
    pub const ZSTD: Self = Self(3);
    /// LZ4.
    pub const LZ4: Self = Self(4);
    /// Brotli, which Ceph names and is not built with.
    pub const BROTLI: Self = Self(5);
}

impl fmt::Display for CompressionMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::SNAPPY => f.write_str("snappy"),
            Self::ZLIB => f.write_str("zlib"),
            Self::ZSTD => f.write_str("zstd"),
            Self::LZ4 => f.write_str("lz4"),
            Self::BROTLI => f.write_str("brotli"),
            Self(other) => write!(f, "compression method {other}"),
        }
    }
}

/// A time of day on the clock of whoever wrote it (Ceph's `utime_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// Seconds since 1970.
    pub seconds: u32,
    /// Nanoseconds in that second. Peers may send more than a second's worth; it is echoed as it came.
    pub nanoseconds: u32,
}

impl Stamp {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seconds.to_le_bytes());
        out.extend_from_slice(&self.nanoseconds.to_le_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { seconds: reader.u32("seconds")?, nanoseconds: reader.u32("nanoseconds")? })
    }
}
