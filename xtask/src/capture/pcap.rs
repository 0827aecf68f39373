//! TCP connections out of a capture file of the loopback interface, or of a bridge on this machine.
//!
//! Both lose nothing and reorder nothing, so a gap means that the capture is incomplete: an error.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// One TCP connection with all the bytes of both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Of the end that dialled, and of the other; as all pairs here.
    pub(crate) addresses: [Ipv4Addr; 2],
    pub(crate) client_port: u16,
    pub(crate) server_port: u16,
    /// What the end that dialled sent.
    pub(crate) client: Vec<u8>,
    /// What the end that accepted sent.
    pub(crate) server: Vec<u8>,
    /// When the bytes of each direction came: up to which byte they were there after which packet of the capture.
    pub(crate) arrivals: [Vec<Arrival>; 2],
}

/// Bytes before `end` were there after packet number `packet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) end: usize,
    pub(crate) packet: usize,
}

impl Connection {
    /// The packet with which the byte before `end` came, in the direction of that side: 0 sent by the client.
    pub(crate) fn packet_of(&self, side: usize, end: usize) -> Option<usize> {
        self.arrivals.get(side)?.iter().find(|arrival| arrival.end >= end).map(|arrival| arrival.packet)
    }
}

/// The file is no capture of loopback traffic, or an incomplete one.
pub(crate) type PcapError = String;

const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
const ETHERNET_HEADER_BYTES: usize = 14;
const LINK_ETHERNET: u32 = 1;
/// Second and microsecond, in the byte order of the machine that captured; ours are little-endian.
const MAGIC: u32 = 0xA1B2_C3D4;
const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_TCP: u8 = 6;
const FLAG_FIN: u8 = 1;
const FLAG_SYN: u8 = 2;
const FLAG_ACK: u8 = 16;

struct Segment<'a> {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

/// One direction: the number of the next byte that is missing.
#[derive(Default)]
struct Direction {
    next: Option<u32>,
}

/// The connections in the order in which they were dialled. Those whose beginning was not captured are left out.
pub(crate) fn connections(file: &[u8]) -> Result<Vec<Connection>, PcapError> {
    let mut done: Vec<Connection> = Vec::new();
    let mut directions: Vec<[Direction; 2]> = Vec::new();
    // The latest connection between two addresses, client first.
    let mut latest: BTreeMap<[(Ipv4Addr, u16); 2], usize> = BTreeMap::new();
    for (number, packet) in packets(file)?.into_iter().enumerate() {
        let Some(segment) = segment(packet)? else { continue };
        let forward = [segment.source, segment.destination];
        if segment.flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN {
            latest.insert(forward, done.len());
            let [(client_address, client_port), (server_address, server_port)] = forward;
            done.push(Connection {
                addresses: [client_address, server_address],
                client_port,
                server_port,
                client: Vec::new(),
                server: Vec::new(),
                arrivals: Default::default(),
            });
            directions.push(Default::default());
        }
        let (index, side) = match (latest.get(&forward), latest.get(&[forward[1], forward[0]])) {
            (Some(&index), _) => (index, 0),
            (None, Some(&index)) => (index, 1),
            (None, None) => continue,
        };
        let connection = &mut done[index];
        let bytes = if side == 0 { &mut connection.client } else { &mut connection.server };
        directions[index][side].take(&segment, bytes)?;
        connection.arrivals[side].push(Arrival { end: bytes.len(), packet: number });
    }
    Ok(done)
}

impl Direction {
    fn take(&mut self, segment: &Segment<'_>, bytes: &mut Vec<u8>) -> Result<(), PcapError> {
        if segment.flags & FLAG_SYN != 0 {
            self.next = Some(segment.sequence.wrapping_add(1));
            return Ok(());
        }
        if segment.payload.is_empty() {
            return Ok(());
        }
        let next = self.next.ok_or("data before a connection was made")?;
        // What came before, if the segment was sent again.
        let known = next.wrapping_sub(segment.sequence);
        if known > u32::MAX / 2 {
            return Err(format!("{} bytes are missing in the capture", known.wrapping_neg()));
        }
        if let Some(fresh) = segment.payload.get(known as usize..) {
            bytes.extend_from_slice(fresh);
            let fresh_bytes = u32::try_from(fresh.len()).expect("a packet is shorter than 4 GiB");
            self.next = Some(next.wrapping_add(fresh_bytes));
        }
        if segment.flags & FLAG_FIN != 0 {
            self.next = self.next.map(|next| next.wrapping_add(1));
        }
        Ok(())
    }
}

fn packets(file: &[u8]) -> Result<Vec<&[u8]>, PcapError> {
    if file.len() < FILE_HEADER_BYTES || u32_at(file, 0) != MAGIC || u32_at(file, 20) != LINK_ETHERNET {
        return Err("not a pcap file of an Ethernet-like interface".to_owned());
    }
    let mut packets = Vec::new();
    let mut rest = &file[FILE_HEADER_BYTES..];
    while rest.len() >= RECORD_HEADER_BYTES {
        let captured = u32_at(rest, 8) as usize;
        if captured != u32_at(rest, 12) as usize {
            return Err("a packet was cut by the capture".to_owned());
        }
        // The last record may be half written when the capture ends.
        let Some(packet) = rest.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + captured) else { break };
        packets.push(packet);
        rest = &rest[RECORD_HEADER_BYTES + captured..];
    }
    Ok(packets)
}

/// The TCP segment of an Ethernet frame, if it is one over IPv4.
fn segment(packet: &[u8]) -> Result<Option<Segment<'_>>, PcapError> {
    let short = || "a packet is shorter than its headers".to_owned();
    if packet.len() < ETHERNET_HEADER_BYTES + 20 || u16_at(packet, 12) != ETHERTYPE_IPV4 {
        return Ok(None);
    }
    let ip = &packet[ETHERNET_HEADER_BYTES..];
    if ip[9] != PROTOCOL_TCP {
        return Ok(None);
    }
    let ip_header = usize::from(ip[0] & 15) * 4;
    let tcp =
        ip.get(ip_header..usize::from(u16_at(ip, 2))).filter(|tcp| tcp.len() >= 20).ok_or_else(short)?;
    let payload = tcp.get(usize::from(tcp[12] >> 4) * 4..).ok_or_else(short)?;
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    Ok(Some(Segment {
        source: (address(12), u16_at(tcp, 0)),
        destination: (address(16), u16_at(tcp, 2)),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        flags: tcp[13],
        payload,
    }))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The file's own headers are in the byte order of the machine.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: u16 = 40_000;
    const SERVER: u16 = 3_300;

    /// A capture file of packets: from the client or not, number, flags, payload.
    fn file(packets: &[(bool, u32, u8, &[u8])]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [MAGIC, 0x0004_0002, 0, 0, 262_144, LINK_ETHERNET] {
            file.extend(word.to_le_bytes());
        }
        for (from_client, sequence, flags, payload) in packets {
            let length = u16::try_from(40 + payload.len()).expect("small");
            let record = u32::from(length) + 14;
            for word in [0, 0, record, record] {
                file.extend(word.to_le_bytes());
            }
            file.extend([0; 12]);
            file.extend([8, 0, 0x45, 0]);
            file.extend(length.to_be_bytes());
            file.extend([0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
            let ports = if *from_client { [CLIENT, SERVER] } else { [SERVER, CLIENT] };
            file.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
            file.extend(sequence.to_be_bytes());
            file.extend([0, 0, 0, 0, 0x50, *flags, 0, 0, 0, 0, 0, 0]);
            file.extend(*payload);
        }
        file
    }

    #[test]
    fn both_directions_are_put_together_over_a_wrapping_number() {
        let file = file(&[
            (true, u32::MAX - 1, FLAG_SYN, b""),
            (false, 7, FLAG_SYN | FLAG_ACK, b""),
            (true, u32::MAX, FLAG_ACK, b"abc"),
            (false, 8, FLAG_ACK, b"xy"),
            (true, 2, FLAG_ACK, b"de"),
        ]);
        let arrival = |packet, end| Arrival { end, packet };
        let expected = Connection {
            addresses: [Ipv4Addr::LOCALHOST; 2],
            client_port: CLIENT,
            server_port: SERVER,
            client: b"abcde".to_vec(),
            server: b"xy".to_vec(),
            arrivals: [vec![arrival(0, 0), arrival(2, 3), arrival(4, 5)], vec![arrival(1, 0), arrival(3, 2)]],
        };
        assert_eq!(connections(&file).as_deref(), Ok(&[expected.clone()][..]));
        assert_eq!([1, 3, 4].map(|end| expected.packet_of(0, end)), [Some(2), Some(2), Some(4)]);
        assert_eq!(expected.packet_of(0, 6), None);
    }

    #[test]
    fn bytes_that_were_sent_again_count_once() {
        let file = file(&[
            (true, 0, FLAG_SYN, b""),
            (true, 1, FLAG_ACK, b"abc"),
            (true, 2, FLAG_ACK, b"bcd"),
            (true, 1, FLAG_ACK, b"a"),
        ]);
        assert_eq!(connections(&file).expect("complete")[0].client, b"abcd");
    }

    #[test]
    fn a_lost_packet_is_an_error() {
        let file = file(&[(true, 0, FLAG_SYN, b""), (true, 1, FLAG_ACK, b"abc"), (true, 6, FLAG_ACK, b"f")]);
        assert_eq!(connections(&file), Err("2 bytes are missing in the capture".to_owned()));
    }

    #[test]
    fn a_port_that_is_used_again_is_another_connection() {
        let file = file(&[
            (true, 0, FLAG_SYN, b""),
            (true, 1, FLAG_ACK | FLAG_FIN, b"one"),
            (true, 900, FLAG_SYN, b""),
            (true, 901, FLAG_ACK, b"two"),
        ]);
        let found = connections(&file).expect("complete");
        assert_eq!(found.iter().map(|one| one.client.as_slice()).collect::<Vec<_>>(), [b"one", b"two"]);
    }
}
