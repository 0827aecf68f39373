//! The first segment of a MESSAGE frame (`ceph_msg_header2`).

/// The length of a message header on the wire.
pub const MESSAGE_HEADER_BYTES: usize = 41;

/// The flags that Ceph sends with every message: complete (1), and that the checksums are the frame's
/// business (2).
pub const MESSAGE_FLAGS: u8 = 3;

/// The header of a message. The lengths of its parts are those of the frame's segments, its source is who
/// identified itself on this connection: neither is in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageHeader {
    /// Its number in the session, from 1.
    pub seq: u64,
    /// The transaction it belongs to: a reply carries that of its request.
    pub tid: u64,
    /// What it is; the application's business.
    pub kind: u16,
    /// Higher is more urgent: low 64, default 127, high 196, highest 255.
    pub priority: u16,
    /// The version of its contents.
    pub version: u16,
    /// Bytes before the data; Ceph always writes 0.
    pub data_pre_padding_len: u32,
    /// The offset of the data in what it was taken from. Its low bits (within a page) are a hint on how to
    /// align the receive buffer.
    pub data_off: u16,
    /// The last number received from the peer: an acknowledgement.
    pub ack_seq: u64,
    /// See [`MESSAGE_FLAGS`].
    pub flags: u8,
    /// The oldest version of the contents that a reader must know.
    pub compat_version: u16,
    /// Written as 0.
    pub reserved: u16,
}

impl MessageHeader {
    /// Its bytes on the wire.
    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; MESSAGE_HEADER_BYTES] {
        let mut out = [0; MESSAGE_HEADER_BYTES];
        out[0..8].copy_from_slice(&self.seq.to_le_bytes());
        out[8..16].copy_from_slice(&self.tid.to_le_bytes());
        out[16..18].copy_from_slice(&self.kind.to_le_bytes());
        out[18..20].copy_from_slice(&self.priority.to_le_bytes());
        out[20..22].copy_from_slice(&self.version.to_le_bytes());
        out[22..26].copy_from_slice(&self.data_pre_padding_len.to_le_bytes());
        out[26..28].copy_from_slice(&self.data_off.to_le_bytes());
        out[28..36].copy_from_slice(&self.ack_seq.to_le_bytes());
        out[36] = self.flags;
        out[37..39].copy_from_slice(&self.compat_version.to_le_bytes());
        out[39..41].copy_from_slice(&self.reserved.to_le_bytes());
        out
    }

    /// Reads a header. Every value of every field is taken as it is.
    #[inline]
    #[must_use]
    pub fn decode(bytes: &[u8; MESSAGE_HEADER_BYTES]) -> Self {
        let u64_at = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            seq: u64_at(0),
            tid: u64_at(8),
            kind: u16_at(16),
            priority: u16_at(18),
            version: u16_at(20),
            data_pre_padding_len: u32::from_le_bytes([bytes[22], bytes[23], bytes[24], bytes[25]]),
            data_off: u16_at(26),
            ack_seq: u64_at(28),
            flags: bytes[36],
            compat_version: u16_at(37),
            reserved: u16_at(39),
        }
    }
}
