//! Addresses of entities: an IP address and port, a kind, and a nonce that tells incarnations of a process apart
//! (Ceph `src/msg/msg_types.{h,cc}`).

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use thiserror::Error;

use super::reader::{DecodeError, Reader, put_len};

/// The longest socket address on the wire: that of IPv6, which is also the size of the field in memory.
pub const SOCKADDR_BYTES_MAX: usize = 28;

/// A `sockaddr_in` with the padding at its end, which is sent.
const SOCKADDR_V4_BYTES: u8 = 16;
/// A `sockaddr_in6`.
const SOCKADDR_V6_BYTES: u8 = 28;
/// Linux's numbers of the address families, used on the wire on every system.
const FAMILY_NONE: u16 = 0;
const FAMILY_V4: u16 = 2;
const FAMILY_V6: u16 = 10;

/// The marker of the encoding used today.
const ADDR_MARKER: u8 = 1;
/// The marker of the encoding used before there were two protocols: the first byte of a 32-bit zero.
const ADDR_MARKER_LEGACY: u8 = 0;
/// The marker of a list of addresses.
const VEC_MARKER: u8 = 2;
/// The version of the address structure.
const ADDR_VERSION: u8 = 1;
/// A `sockaddr_storage`, as the legacy encoding carries it.
const LEGACY_SOCKADDR_BYTES: usize = 128;
/// The shortest address in today's encoding: marker, envelope, kind, nonce, the length of nothing.
const ADDR_BYTES_MIN: usize = 1 + 6 + 12;

/// The most addresses of a list that is read. Ceph's entities have up to four: two protocols over two families. A session
/// keeps the list of its peer as long as it lives, and is found by it.
pub const ADDRESSES_MAX: usize = 64;

/// Which protocol an address speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrKind(pub u32);

impl AddrKind {
    /// Nothing; the kind of the blank address.
    pub const NONE: Self = Self(0);
    /// msgr1.
    pub const LEGACY: Self = Self(1);
    /// msgr2.
    pub const MSGR2: Self = Self(2);
    /// Either; clients name themselves so.
    pub const ANY: Self = Self(3);
    /// A network, in configuration only.
    pub const CIDR: Self = Self(4);

    /// What stands before the colon in text.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::NONE => Some("none"),
            Self::LEGACY => Some("v1"),
            Self::MSGR2 => Some("v2"),
            Self::ANY => Some("any"),
            Self::CIDR => Some("cidr"),
            Self(_) => None,
        }
    }
}

/// The socket address inside an entity's address: the bytes of the C structure. The family is little-endian,
/// port and address are in network order.
///
/// The length it had on the wire is kept so that it encodes as it came. It takes no part in comparisons: two
/// structures are equal when their 28 bytes are.
#[derive(Clone, Copy)]
pub struct Sockaddr {
    bytes: [u8; SOCKADDR_BYTES_MAX],
    wire_len: u8,
}

impl Sockaddr {
    /// No address, as Ceph sends it: 28 zero bytes.
    pub const BLANK: Self = Self { bytes: [0; SOCKADDR_BYTES_MAX], wire_len: SOCKADDR_BYTES_MAX as u8 };
    /// No address, of length 0. Equal to [`Sockaddr::BLANK`].
    pub const ABSENT: Self = Self { bytes: [0; SOCKADDR_BYTES_MAX], wire_len: 0 };

    /// The number of the address family.
    #[must_use]
    pub fn family(&self) -> u16 {
        u16::from_le_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Whether there is no address in it: the family is 0.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.family() == FAMILY_NONE
    }

    /// The IP address and port, if its family is one of the two.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let b = &self.bytes;
        let port = u16::from_be_bytes([b[2], b[3]]);
        match self.family() {
            FAMILY_V4 => {
                let ip = Ipv4Addr::new(b[4], b[5], b[6], b[7]);
                Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
            }
            FAMILY_V6 => {
                let flow = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
                let mut ip = [0; 16];
                ip.copy_from_slice(&b[8..24]);
                let scope = u32::from_le_bytes([b[24], b[25], b[26], b[27]]);
                Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope)))
            }
            _ => None,
        }
    }

    /// The port, if it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|addr| addr.port())
    }

    /// Changes the port, if its family has one.
    pub fn set_port(&mut self, port: u16) {
        if matches!(self.family(), FAMILY_V4 | FAMILY_V6) {
            self.bytes[2..4].copy_from_slice(&port.to_be_bytes());
        }
    }

    /// The bytes that go on the wire.
    fn wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.wire_len)]
    }
}

impl From<SocketAddr> for Sockaddr {
    fn from(addr: SocketAddr) -> Self {
        let mut bytes = [0; SOCKADDR_BYTES_MAX];
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let wire_len = match addr {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&FAMILY_V4.to_le_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                SOCKADDR_V4_BYTES
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&FAMILY_V6.to_le_bytes());
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_le_bytes());
                SOCKADDR_V6_BYTES
            }
        };
        Self { bytes, wire_len }
    }
}

impl Default for Sockaddr {
    fn default() -> Self {
        Self::BLANK
    }
}

impl PartialEq for Sockaddr {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Sockaddr {}

impl PartialOrd for Sockaddr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sockaddr {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl Hash for Sockaddr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Debug for Sockaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Sockaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            Some(addr) => fmt::Display::fmt(&addr, f),
            None if self.is_blank() => f.write_str("-"),
            None => write!(f, "(family {})", self.family()),
        }
    }
}

/// The address of an entity.
///
/// Order and equality are those of Ceph: the bytes of the C structure in the memory of a little-endian machine,
/// compared one after the other. So the kind counts first, then the nonce **from its least significant byte
/// up**, then the socket address. Both ends of a race must come to the same result.
#[derive(Clone, Copy, Default)]
pub struct EntityAddr {
    /// Which protocol it speaks.
    pub kind: AddrKind,
    /// Tells incarnations of a process at one place apart: random, or like a process number.
    pub nonce: u32,
    /// Where it is.
    pub sockaddr: Sockaddr,
}

impl EntityAddr {
    /// Kind, nonce and socket address in memory.
    const MEMORY_BYTES: usize = 8 + SOCKADDR_BYTES_MAX;

    /// The address that says nothing.
    pub const BLANK: Self = Self { kind: AddrKind::NONE, nonce: 0, sockaddr: Sockaddr::BLANK };

    /// An address that speaks msgr2.
    #[must_use]
    pub fn msgr2(addr: SocketAddr, nonce: u32) -> Self {
        Self { kind: AddrKind::MSGR2, nonce, sockaddr: addr.into() }
    }

    /// An address of no particular protocol, as clients use it for themselves.
    #[must_use]
    pub fn any(addr: SocketAddr, nonce: u32) -> Self {
        Self { kind: AddrKind::ANY, nonce, sockaddr: addr.into() }
    }

    /// The IP address and port, if there are such.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.sockaddr.socket_addr()
    }

    /// The IP address alone, if there is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|addr| addr.ip())
    }

    /// Whether it equals [`EntityAddr::BLANK`]. A msgr2 address without a socket address does not.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::BLANK
    }

    /// The C structure as it lies in the memory of a little-endian machine; what comparisons compare.
    #[must_use]
    pub fn to_memory(&self) -> [u8; Self::MEMORY_BYTES] {
        let mut out = [0; Self::MEMORY_BYTES];
        out[..4].copy_from_slice(&self.kind.0.to_le_bytes());
        out[4..8].copy_from_slice(&self.nonce.to_le_bytes());
        out[8..].copy_from_slice(&self.sockaddr.bytes);
        out
    }

    /// Appends it in the encoding that msgr2 frames use: 35 bytes for IPv4, 47 for IPv6.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let sockaddr = self.sockaddr.wire();
        out.extend_from_slice(&[ADDR_MARKER, ADDR_VERSION, ADDR_VERSION]);
        put_len(out, 12 + sockaddr.len());
        out.extend_from_slice(&self.kind.0.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
        put_len(out, sockaddr.len());
        out.extend_from_slice(sockaddr);
    }

    /// Appends it in the encoding for peers that know msgr1 only: 136 bytes. The kind is lost.
    pub fn encode_legacy(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        let mut storage = [0; LEGACY_SOCKADDR_BYTES];
        storage[..SOCKADDR_BYTES_MAX].copy_from_slice(&self.sockaddr.bytes);
        storage[..2].copy_from_slice(&self.sockaddr.family().to_be_bytes());
        out.extend_from_slice(&storage);
    }

    /// Reads an address in either encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("address marker")? {
            ADDR_MARKER => Self::decode_body(reader),
            ADDR_MARKER_LEGACY => Self::decode_legacy_body(reader),
            marker => Err(DecodeError::Marker { what: "an address", marker }),
        }
    }

    fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let _version = reader.u8("address version")?;
        let compat = reader.u8("address compatibility")?;
        if compat > ADDR_VERSION {
            return Err(DecodeError::Incompatible { what: "an address", compat, known: ADDR_VERSION });
        }
        // Later versions may have more fields: whatever is in the envelope and not read here is skipped.
        let mut body = Reader::new(reader.bytes("address")?);
        let kind = AddrKind(body.u32("address kind")?);
        let nonce = body.u32("address nonce")?;
        let len = body.u32("socket address length")?;
        let wire_len = match u8::try_from(len) {
            // A single byte is less than the family.
            Ok(fits) if usize::from(fits) <= SOCKADDR_BYTES_MAX && fits != 1 => fits,
            _ => return Err(DecodeError::SockaddrLength { len }),
        };
        let mut bytes = [0; SOCKADDR_BYTES_MAX];
        let wire = body.take("socket address", usize::from(wire_len))?;
        bytes[..wire.len()].copy_from_slice(wire);
        Ok(Self { kind, nonce, sockaddr: Sockaddr { bytes, wire_len } })
    }

    fn decode_legacy_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let _rest_of_marker = reader.take("address marker", 3)?;
        let nonce = reader.u32("address nonce")?;
        let storage = reader.take("socket address", LEGACY_SOCKADDR_BYTES)?;
        let mut bytes = [0; SOCKADDR_BYTES_MAX];
        bytes.copy_from_slice(&storage[..SOCKADDR_BYTES_MAX]);
        let family = u16::from_be_bytes([bytes[0], bytes[1]]);
        bytes[..2].copy_from_slice(&family.to_le_bytes());
        let wire_len = if family == FAMILY_V4 { SOCKADDR_V4_BYTES } else { SOCKADDR_V6_BYTES };
        // Behind the family's own structure there may be anything, and it takes no part in comparisons.
        bytes[usize::from(wire_len)..].fill(0);
        // The C structure's first field tells whether there is an address at all.
        let kind = if family == FAMILY_NONE { AddrKind::NONE } else { AddrKind::LEGACY };
        Ok(Self { kind, nonce, sockaddr: Sockaddr { bytes, wire_len } })
    }
}

impl PartialEq for EntityAddr {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for EntityAddr {}

impl PartialOrd for EntityAddr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntityAddr {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_memory().cmp(&other.to_memory())
    }
}

impl Hash for EntityAddr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_memory().hash(state);
    }
}

impl fmt::Debug for EntityAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for EntityAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_blank() {
            return f.write_str("-");
        }
        match self.kind.name() {
            Some(name) => write!(f, "{name}:")?,
            None => write!(f, "kind{}:", self.kind.0)?,
        }
        write!(f, "{}/{}", self.sockaddr, self.nonce)
    }
}

/// Text that is no address. The user's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no address such as v2:192.0.2.1:3300/0")]
pub struct ParseAddrError {
    /// What was to be read.
    pub text: String,
}

impl FromStr for EntityAddr {
    type Err = ParseAddrError;

    /// `v2:192.0.2.1:3300/123`, `v1:[2001:db8::1]:6789/0`, `any:`, `cidr:`, or `-`. Without a kind it is msgr2,
    /// without a nonce that is 0.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        let error = || ParseAddrError { text: text.to_owned() };
        if text == "-" {
            return Ok(Self::BLANK);
        }
        let kinds = [AddrKind::NONE, AddrKind::LEGACY, AddrKind::MSGR2, AddrKind::ANY, AddrKind::CIDR];
        let (kind, rest) = kinds
            .into_iter()
            .find_map(|kind| {
                let rest = text.strip_prefix(kind.name()?)?.strip_prefix(':')?;
                Some((kind, rest))
            })
            .unwrap_or((AddrKind::MSGR2, text));
        let (place, nonce) = match rest.rsplit_once('/') {
            Some((place, nonce)) => (place, nonce.parse().map_err(|_| error())?),
            None => (rest, 0),
        };
        let sockaddr = match place {
            "-" => Sockaddr::BLANK,
            place => Sockaddr::from(place.parse::<SocketAddr>().map_err(|_| error())?),
        };
        Ok(Self { kind, nonce, sockaddr })
    }
}

/// The addresses of one entity. It is compared as a whole: the same addresses in another order are another
/// vector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrVec(pub Vec<EntityAddr>);

impl AddrVec {
    /// The first msgr2 address; blank if there is none. Rules about connections that cross compare these.
    #[must_use]
    pub fn msgr2(&self) -> EntityAddr {
        self.0.iter().find(|addr| addr.kind == AddrKind::MSGR2).copied().unwrap_or(EntityAddr::BLANK)
    }

    /// Whether `addr` is one of them, nonce included.
    #[must_use]
    pub fn contains(&self, addr: &EntityAddr) -> bool {
        self.0.contains(addr)
    }

    /// Whether there is no address in it, or only blank ones.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(EntityAddr::is_blank)
    }

    /// Appends it as a list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VEC_MARKER);
        put_len(out, self.0.len());
        self.0.iter().for_each(|addr| addr.encode(out));
    }

    /// Reads a list, or a single address in either encoding as a list of one.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("address list marker")? {
            VEC_MARKER => {
                let count = reader.count("addresses", ADDR_BYTES_MIN)?;
                if count > ADDRESSES_MAX {
                    return Err(DecodeError::TooMany { what: "addresses", count, limit: ADDRESSES_MAX });
                }
                (0..count).map(|_| EntityAddr::decode(reader)).collect()
            }
            ADDR_MARKER => EntityAddr::decode_body(reader).map(Self::from),
            ADDR_MARKER_LEGACY => EntityAddr::decode_legacy_body(reader).map(Self::from),
            marker => Err(DecodeError::Marker { what: "a list of addresses", marker }),
        }
    }
}

impl From<EntityAddr> for AddrVec {
    fn from(addr: EntityAddr) -> Self {
        Self(vec![addr])
    }
}

impl FromIterator<EntityAddr> for AddrVec {
    fn from_iter<I: IntoIterator<Item = EntityAddr>>(addrs: I) -> Self {
        Self(addrs.into_iter().collect())
    }
}

impl fmt::Debug for AddrVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AddrVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, addr) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{addr}")?;
        }
        f.write_str("]")
    }
}

impl FromStr for AddrVec {
    type Err = ParseAddrError;

    /// `[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0]`, or one address without brackets.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        // The brackets of a lone IPv6 address are no list's.
        let lone = text.parse::<EntityAddr>();
        match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            Some("") => Ok(Self::default()),
            Some(inner) if lone.is_err() => inner.split(',').map(str::parse).collect(),
            _ => lone.map(Self::from),
        }
    }
}
