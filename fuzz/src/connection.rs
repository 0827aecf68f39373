//! A production connection in each role, and a peer that says anything.

use crate::frames::drain;
use crate::input::{Input, Pieces};
use crate::layout;
use crate::meter;
use crate::process::{News, Process};
use crate::setup::{self, Choice, INBOUND_BYTES_MAX, INBOUND_MESSAGES_MAX, Security, place};
use bytes::Bytes;
use outlast_cephx::{EntityName, EntityType, none};
use outlast_msgr2::compress::{Algorithm, Compressor};
use outlast_msgr2::connection::State;
use outlast_msgr2::frame::{FrameEncoder, OutBuf, Revision, Segment, Tag};
use outlast_msgr2::wire::{
    Ack, AddrVec, AuthBadMethod, AuthDone, AuthMethod, AuthReplyMore, AuthRequest, AuthRequestMore,
    AuthSignature, Banner, ClientIdent, Close, CompressionDone, CompressionMethod, CompressionRequest,
    ConnectionMode, Control, EntityAddr, FEATURE_COMPRESSION, FEATURE_REVISION_1, Hello,
    IdentMissingFeatures, Keepalive2, Keepalive2Ack, MESSAGE_FLAGS, MessageHeader, ServerIdent,
    SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Stamp, Wait,
};
use outlast_msgr2::{ChannelId, FEATURES_SUPPORTED, Matching, Message, Policy, SessionId, Target};
use outlast_session::{Instant, MessageId};
use std::time::Duration;

/// What a connection may hold before its peer has a session: the read buffer, the longest control frame and its copy,
/// and the record of the handshake that is signed.
const HELD_BEFORE_SESSION_MAX: isize = 256 << 10;
/// The most that is read of what the process writes.
const ALL: usize = usize::MAX;

/// The process under test and its one transport.
struct Bench {
    process: Process,
    channel: ChannelId,
    /// What it holds of what was read since it was made.
    held: isize,
    /// The peer reads what is written to it.
    peer_reads: bool,
    sent: Vec<(SessionId, MessageId)>,
}

fn choice_of(options: u8) -> Choice {
    Choice {
        security: if options & 0x10 == 0 { Security::None } else { Security::Secure },
        revision_1: options & 1 == 0,
        matching: if options & 4 == 0 { Matching::Identity } else { Matching::Address },
        compression: (options & 8 != 0).then_some(Algorithm::ALL[usize::from(options >> 6)]),
    }
}

impl Bench {
    fn client(options: u8) -> Self {
        let choice = choice_of(options);
        let policy = if options & 0x20 == 0 { Policy::LOSSLESS_CLIENT } else { Policy::LOSSY_CLIENT };
        let config = setup::session(policy, choice.matching);
        let mut process = setup::process("client.a", None, config.clone(), choice);
        process.connect(Target { addresses: place(1).into(), entity_type: None, name: None }, config);
        let channel = *process.connections.keys().next().expect("it dials at once");
        Self::new(process, channel)
    }

    fn server(options: u8) -> Self {
        let choice = choice_of(options);
        let policy = if options & 0x20 == 0 { Policy::STATEFUL_SERVER } else { Policy::LOSSLESS_PEER };
        let mut process = setup::process("osd.1", None, setup::session(policy, choice.matching), choice);
        let channel = process.accept(place(9));
        process.drain();
        Self::new(process, channel)
    }

    fn new(process: Process, channel: ChannelId) -> Self {
        let mut bench = Self { process, channel, held: 0, peer_reads: true, sent: Vec::new() };
        bench.write();
        bench
    }

    fn state(&self) -> State {
        self.process.connections.get(&self.channel).map_or(State::Closed, |connection| connection.state())
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        // A peer whose answers pile up, or whose messages nobody takes, waits for ever.
        for _ in 0..=bytes.len() {
            let before = meter::live();
            let read = self.process.feed(self.channel, bytes);
            self.held += meter::live() - before;
            bytes = &bytes[read..];
            self.check();
            self.write();
            if bytes.is_empty() || (read == 0 && !self.take_messages()) {
                return;
            }
        }
    }

    fn write(&mut self) {
        if self.peer_reads {
            let before = meter::live();
            self.process.take_out(self.channel, ALL);
            self.held += meter::live() - before;
        }
        // The transport of a connection that is gone is closed; who dials again does so with time.
        self.process.news.clear();
    }

    /// What always holds.
    fn check(&self) {
        let no_session = !matches!(self.state(), State::Ready | State::Closed);
        let stranger = self.process.sessions.values().all(|session| session.connects() == 0);
        if no_session && stranger {
            assert!(
                self.held <= HELD_BEFORE_SESSION_MAX,
                "{} bytes are held in state {}",
                self.held,
                self.state()
            );
        }
        for session in self.process.sessions.values() {
            assert!(
                session.inbound_len() <= INBOUND_MESSAGES_MAX + 1,
                "{} messages wait",
                session.inbound_len()
            );
        }
    }

    /// The application takes what is there.
    fn take_messages(&mut self) -> bool {
        let mut any = false;
        for session in self.process.sessions.values_mut() {
            let mut bytes = 0;
            let mut largest = 0;
            while let Some(received) = session.poll_message() {
                bytes += received.message.payload_len();
                largest = largest.max(received.message.payload_len());
                any = true;
            }
            assert!(bytes <= INBOUND_BYTES_MAX.max(largest) + largest, "{bytes} bytes waited");
        }
        self.process.drain();
        any
    }

    fn advance(&mut self, span: Duration) {
        let now = self.process.now + span;
        self.process.time_out(now);
        self.write();
        self.follow();
    }

    /// The peer is always at the other end of the latest transport.
    fn follow(&mut self) -> bool {
        let latest =
            self.process.connections.keys().next_back().copied().filter(|latest| *latest != self.channel);
        if let Some(latest) = latest {
            self.channel = latest;
            self.write();
        }
        latest.is_some()
    }

    fn send(&mut self, len: usize) {
        let message = Message::new(1).front(vec![1; len.min(64)]).data(vec![2; len]);
        if let Some((id, session)) = self.process.sessions.iter_mut().next_back()
            && let Ok(message) = session.send(message, self.process.now)
        {
            self.sent.push((*id, message));
        }
        self.process.drain();
        self.write();
    }

    /// Time passes until nothing is left to wait for.
    fn settle(&mut self) {
        self.take_messages();
        self.peer_reads = true;
        self.write();
        // A handshake has one deadline, a keepalive two.
        for _ in 0..8 {
            let Some(connection) = self.process.connections.get(&self.channel) else { return };
            let Some(at) = outlast_session::StreamChannel::poll_timeout(connection) else { return };
            self.process.time_out(at);
            self.write();
            self.take_messages();
        }
        let left = self.process.connections.get(&self.channel).map(|connection| connection.state());
        assert_eq!(left, None, "a peer that has fallen silent is given up");
    }
}

/// Bytes from a server. Options: no msgr2.1 (bit 0), repair the checksums (bit 1), matched by address (bit 2),
/// compression (bit 3, which in 6 and 7), cephx in secure mode (bit 4), lossy (bit 5); pieces; then the stream.
pub fn connection_client(data: &[u8]) {
    raw(data, Bench::client);
}

/// Bytes from a client. Options as above, but bit 5: a peer and not a server.
pub fn connection_server(data: &[u8]) {
    raw(data, Bench::server);
}

fn raw(data: &[u8], start: fn(u8) -> Bench) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut pieces = Pieces::new(input.u8());
    let mut bench = start(options);
    let mut stream = input.rest().to_vec();
    if options & 2 != 0 {
        repair_behind_banner(&mut stream, options & 1 == 0);
    }
    let mut left = &stream[..];
    while !left.is_empty() && bench.state() != State::Closed {
        let len = left.len().min(pieces.next_len());
        bench.feed(&left[..len]);
        left = &left[len..];
    }
    bench.settle();
}

/// Repairs the frames behind the banner, of the revision that both ends will speak.
fn repair_behind_banner(stream: &mut [u8], revision_1: bool) {
    const PREFIX: usize = 10;
    if stream.len() < PREFIX {
        return;
    }
    let len = usize::from(u16::from_le_bytes([stream[8], stream[9]]));
    let theirs = stream.get(PREFIX).is_some_and(|features| features & 1 != 0);
    let revision = if revision_1 && theirs { Revision::V1 } else { Revision::V0 };
    if let Some(frames) = stream.get_mut(PREFIX + len..) {
        layout::repair(frames, revision);
    }
}

/// The other end: encodes whatever it is told to.
struct Hostile {
    encoder: FrameEncoder,
    out: OutBuf,
    is_client: bool,
    global_seq: u64,
    seq: u64,
    last: Vec<u8>,
}

impl Hostile {
    fn new(is_client: bool) -> Self {
        Self {
            encoder: FrameEncoder::new(),
            out: OutBuf::new(),
            is_client,
            global_seq: 1,
            seq: 0,
            last: Vec::new(),
        }
    }

    fn banner(&mut self, supported: u64, required: u64, ours: u64) -> Vec<u8> {
        let both = supported & ours & FEATURE_REVISION_1;
        self.encoder.set_revision(if both != 0 { Revision::V1 } else { Revision::V0 });
        Banner { supported, required }.encode().to_vec()
    }

    /// What would be right to say with this tag, about here.
    fn right(&mut self, tag: Tag) -> Option<Control> {
        let own: AddrVec = if self.is_client { place(9).into() } else { place(1).into() };
        let client = EntityName::new(EntityType::Client, "a");
        let stamp = Stamp { seconds: 1, nanoseconds: 5 };
        let kind = if self.is_client { EntityType::Client } else { EntityType::Osd };
        Some(match tag {
            Tag::Hello => Hello { entity_type: kind.number(), peer_address: place(7) }.into(),
            Tag::AuthRequest => AuthRequest {
                method: AuthMethod::NONE,
                preferred_modes: vec![ConnectionMode::CRC],
                payload: none::service_request(&client, 0),
            }
            .into(),
            Tag::AuthBadMethod => AuthBadMethod {
                method: AuthMethod::NONE,
                result: -95,
                allowed_methods: vec![AuthMethod::NONE],
                allowed_modes: vec![ConnectionMode::CRC],
            }
            .into(),
            Tag::AuthReplyMore => AuthReplyMore { payload: Bytes::from_static(&[1; 9]) }.into(),
            Tag::AuthRequestMore => AuthRequestMore { payload: Bytes::from_static(&[1; 9]) }.into(),
            Tag::AuthDone => {
                AuthDone { global_id: 77, mode: ConnectionMode::CRC, payload: Bytes::new() }.into()
            }
            Tag::AuthSignature => AuthSignature { digest: [0; 32] }.into(),
            Tag::ClientIdent => {
                self.global_seq += 1;
                ClientIdent {
                    addresses: own,
                    target: place(1),
                    global_id: 77,
                    global_seq: self.global_seq,
                    features_supported: FEATURES_SUPPORTED,
                    features_required: 0,
                    flags: 0,
                    cookie: 7,
                }
                .into()
            }
            Tag::ServerIdent => ServerIdent {
                addresses: own,
                global_id: 1,
                global_seq: self.global_seq,
                features_supported: FEATURES_SUPPORTED,
                features_required: 0,
                flags: 0,
                cookie: 9,
            }
            .into(),
            Tag::IdentMissingFeatures => IdentMissingFeatures { features: 4 }.into(),
            Tag::SessionReconnect => {
                self.global_seq += 1;
                SessionReconnect {
                    addresses: own,
                    client_cookie: 7,
                    server_cookie: 9,
                    global_seq: self.global_seq,
                    connect_seq: 1,
                    msg_seq: 0,
                }
                .into()
            }
            Tag::SessionReset => SessionReset { full: true }.into(),
            Tag::SessionRetry => SessionRetry { connect_seq: 3 }.into(),
            Tag::SessionRetryGlobal => SessionRetryGlobal { global_seq: 40 }.into(),
            Tag::SessionReconnectOk => SessionReconnectOk { msg_seq: 0 }.into(),
            Tag::Wait => Wait.into(),
            Tag::Keepalive2 => Keepalive2 { stamp }.into(),
            Tag::Keepalive2Ack => Keepalive2Ack { stamp }.into(),
            Tag::Ack => Ack { seq: 1 }.into(),
            Tag::CompressionRequest => {
                CompressionRequest { wanted: true, preferred_methods: vec![CompressionMethod::SNAPPY] }.into()
            }
            Tag::CompressionDone => {
                CompressionDone { granted: true, method: CompressionMethod::SNAPPY }.into()
            }
            Tag::Close => Close.into(),
            Tag::Message => return None,
        })
    }

    /// A frame with this tag: right but for the bytes that the fuzzer changes, and for its length.
    fn control(&mut self, tag: Tag, input: &mut Input<'_>) -> Vec<u8> {
        let Some(control) = self.right(tag) else { return self.message(input) };
        let mut payload = Vec::new();
        control.encode(&mut payload);
        let changes = input.u8();
        for _ in 0..changes & 7 {
            let (at, value) = (usize::from(input.u8()), input.u8());
            if let Some(byte) = payload.get_mut(at) {
                *byte = value;
            }
        }
        if changes & 8 != 0 {
            payload.truncate(usize::from(input.u8()));
        }
        let payload = Bytes::from(payload);
        // It may be too long for a frame of this tag, which is then not sent.
        let _ = self.encoder.encode(tag, &[Segment { bytes: &payload, alignment: 8 }], &mut self.out);
        drain(&mut self.out, ALL)
    }

    fn message(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (header, front, middle, data) = self.message_parts(input);
        let _ = self.encoder.encode_message(&header, &front, &middle, &data, &mut self.out);
        drain(&mut self.out, ALL)
    }

    fn message_parts(&mut self, input: &mut Input<'_>) -> (MessageHeader, Bytes, Bytes, Bytes) {
        let shape = input.u8();
        self.seq = match shape & 3 {
            0 | 1 => self.seq.wrapping_add(1),
            2 => self.seq.wrapping_add(u64::from(input.u8())),
            _ => input.u64(),
        };
        let ack_seq = if shape & 4 == 0 { 0 } else { u64::from(input.u8()) };
        let header = MessageHeader {
            seq: self.seq,
            tid: u64::from(shape),
            kind: 1,
            priority: if shape & 8 == 0 { 127 } else { input.u16() },
            ack_seq,
            flags: MESSAGE_FLAGS,
            ..MessageHeader::default()
        };
        let len = usize::from(if shape & 0x10 == 0 { u16::from(input.u8()) } else { input.u16() });
        let front = Bytes::from(vec![1; len & 0x1fff]);
        let middle =
            if shape & 0x20 == 0 { Bytes::new() } else { Bytes::from(vec![2; usize::from(input.u8())]) };
        let data = if shape & 0x40 == 0 { Bytes::new() } else { Bytes::from(vec![3; len]) };
        (header, front, middle, data)
    }

    /// A message that is begun and taken back.
    fn aborted(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (header, front, _, _) = self.message_parts(input);
        let data = Bytes::from(vec![4; 40 << 10]);
        let Ok(mark) = self.encoder.encode_message(&header, &front, &Bytes::new(), &data, &mut self.out)
        else {
            return Vec::new();
        };
        let mut bytes = drain(&mut self.out, 1 + usize::from(input.u16()));
        self.out.abort(mark);
        bytes.extend(drain(&mut self.out, ALL));
        bytes
    }
}

/// A peer whose frames are in order but for what the fuzzer changes in them, and which come in any order. Options: the
/// connection under test is a server (bit 7), others as above without cephx; pieces; then operations.
pub fn connection_frames(data: &[u8]) {
    const OPERATIONS_MAX: usize = 200;
    const FLOOD_BYTES_MAX: usize = 1 << 20;
    let mut input = Input::new(data);
    let options = input.u8();
    let mut pieces = Pieces::new(input.u8());
    let is_server = options & 0x80 != 0;
    let mut bench = if is_server { Bench::server(options & 0x2f) } else { Bench::client(options & 0x2f) };
    let ours = if options & 1 == 0 { FEATURE_REVISION_1 } else { 0 } | FEATURE_COMPRESSION;
    let mut peer = Hostile::new(is_server);
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let operation = input.u8();
        let bytes = match operation % 40 {
            0 => peer.banner(ours | 1 << 48, 0, ours),
            1 => {
                let (supported, required) = (u64::from(input.u8()), u64::from(input.u8()));
                peer.banner(supported, required, ours)
            }
            operation @ 2..=24 => match Tag::from_wire(operation - 1) {
                Some(tag) => peer.control(tag, &mut input),
                None => peer.control(Tag::Close, &mut input),
            },
            25 => peer.message(&mut input),
            26 => peer.aborted(&mut input),
            27 => input.short().to_vec(),
            28 => {
                let times = usize::from(input.u8()) * 16;
                let times = times.min(FLOOD_BYTES_MAX / peer.last.len().max(1));
                peer.last.repeat(times)
            }
            other => {
                act(&mut bench, &mut peer, other, &mut input);
                continue;
            }
        };
        if bytes.len() < 4096 {
            peer.last.clone_from(&bytes);
        }
        let mut left = &bytes[..];
        while !left.is_empty() && bench.state() != State::Closed {
            let len = left.len().min(pieces.next_len().max(bytes.len() / 256));
            bench.feed(&left[..len]);
            left = &left[len..];
        }
    }
    bench.settle();
}

/// What happens beside the peer's bytes.
fn act(bench: &mut Bench, peer: &mut Hostile, operation: u8, input: &mut Input<'_>) {
    match operation {
        29 => bench.advance(Duration::from_micros(1 << (input.u8() % 28))),
        30 => bench.send(usize::from(input.u16())),
        31 => drop(bench.take_messages()),
        32 => {
            if let Some((session, message)) = bench.sent.pop() {
                if let Some(session) = bench.process.sessions.get_mut(&session) {
                    session.revoke(message);
                }
                bench.process.drain();
            }
        }
        33 | 34 => {
            let now = bench.process.now;
            for session in bench.process.sessions.values_mut() {
                if operation == 33 {
                    session.close(now, Duration::from_secs(u64::from(input.u8())));
                } else {
                    session.abort();
                }
            }
            bench.process.drain();
            bench.write();
        }
        35 => bench.peer_reads = !bench.peer_reads,
        36 => {
            bench.process.end(bench.channel);
            next_transport(bench, peer);
        }
        37 => next_transport(bench, peer),
        38 => {
            let algorithm = Algorithm::ALL[usize::from(input.u8() & 3)];
            peer.encoder.set_compression(Some(Compressor::new(algorithm, 16)));
        }
        _ => peer.encoder.set_compression(None),
    }
}

/// Another transport: a client's own, once it dials again; a server is simply called again.
fn next_transport(bench: &mut Bench, peer: &mut Hostile) {
    let is_client = peer.is_client;
    if is_client {
        // The one before stays as it is.
        bench.channel = bench.process.accept(EntityAddr::BLANK);
        bench.process.drain();
        bench.write();
    } else {
        let later = bench.process.next_timeout().unwrap_or(Instant::ZERO);
        bench.process.time_out(later);
        let dialled = bench.process.news.iter().any(|news| matches!(news, News::Dialled(..)));
        if !bench.follow() && !dialled {
            return;
        }
    }
    let (global_seq, seq) = (peer.global_seq, peer.seq);
    *peer = Hostile { global_seq, seq, ..Hostile::new(is_client) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT_SERVER: [Tag; 4] = [Tag::Hello, Tag::AuthDone, Tag::AuthSignature, Tag::ServerIdent];
    const RIGHT_CLIENT: [Tag; 4] = [Tag::Hello, Tag::AuthRequest, Tag::AuthSignature, Tag::ClientIdent];

    /// Without this the targets would fuzz the handshake alone.
    #[test]
    fn who_says_what_is_right_gets_a_session_and_its_messages_through() {
        for revision_0 in [0, 1] {
            for (is_client, words) in [(true, RIGHT_CLIENT), (false, RIGHT_SERVER)] {
                let mut bench = if is_client { Bench::server(revision_0) } else { Bench::client(revision_0) };
                let mut peer = Hostile::new(is_client);
                let banner = peer.banner(u64::from(1 - revision_0), 0, FEATURE_REVISION_1);
                bench.feed(&banner);
                for word in words {
                    let frame = peer.control(word, &mut Input::new(&[]));
                    bench.feed(&frame);
                }
                assert_eq!(bench.state(), State::Ready);
                let frame = peer.message(&mut Input::new(&[0, 9]));
                bench.feed(&frame);
                assert!(bench.take_messages(), "it came through");
                bench.settle();
            }
        }
    }
}
