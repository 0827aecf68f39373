//! A production session with up to a few connections, and a peer that says anything over them.

use super::{Nothing, some_inner, some_options};
use crate::input::{Input, Pieces};
use outlast_dlm::wire::{Body, Frame, Inner, LockspaceId, Message, MessageKind, NodeId, Version};
use outlast_dlm::{ChannelId, Connection, Session, SessionConfig, SessionEvent};
use outlast_session::{Instant, OutboxLimits, StreamChannel};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::io::IoSlice;
use std::time::Duration;

const US: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const SPACE: LockspaceId = LockspaceId(7);
/// Connections that the input may have at a time.
const CONNECTIONS_MAX: usize = 6;
/// What the session keeps for its peer: enough to be reached.
const KEPT_MAX: usize = 1000;
/// Steps of an input.
const STEPS_MAX: usize = 4000;

struct Bench {
    session: Session,
    connections: Vec<Connection>,
    now: Instant,
    rng: StdRng,
    next: u64,
}

impl Bench {
    fn new(announce: Version) -> Self {
        let config = SessionConfig::new(US, PEER);
        let limits = OutboxLimits { messages_max: KEPT_MAX, ..config.limits };
        Self {
            session: Session::new(SessionConfig { announce, limits, ..config }),
            connections: Vec::new(),
            now: Instant::from_nanos(1_000_000_000),
            rng: StdRng::seed_from_u64(1),
            next: 0,
        }
    }

    fn open(&mut self, dialled: bool) {
        if self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        self.next += 1;
        let channel = ChannelId(self.next);
        self.session.attach(channel, dialled, self.now);
        self.connections.push(Connection::new(channel, PEER));
    }

    fn close(&mut self, index: usize) {
        if index < self.connections.len() {
            let connection = self.connections.remove(index);
            self.session.detach(connection.channel(), self.now, &mut self.rng);
        }
    }

    /// The peer's bytes, in pieces.
    fn feed(&mut self, index: usize, bytes: &[u8], pieces: &mut Pieces) {
        let mut rest = bytes;
        while let Some(connection) = self.connections.get_mut(index)
            && !rest.is_empty()
        {
            let buffer = connection.poll_read();
            assert!(!buffer.is_empty(), "there is always room");
            let len = rest.len().min(buffer.len()).min(pieces.next_len());
            buffer[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            let read = connection.handle_read(len, self.now);
            if read.and_then(|()| connection.sync(&mut self.session, self.now)).is_err() {
                self.close(index);
                return;
            }
            self.take();
        }
    }

    /// What came is taken, and nothing but messages comes.
    fn take(&mut self) {
        while let Some(inner) = self.session.poll_received() {
            assert_ne!(inner, Inner::Fin, "a FIN is the session's own business");
        }
        while let Some(event) = self.session.poll_event() {
            if let SessionEvent::Interrupted { .. } = event {
                assert_eq!(self.session.sender(), None);
            }
        }
    }

    /// Everything that can be written is, and read as the frames that it must be.
    fn write(&mut self) {
        let mut broken = Vec::new();
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let mut bytes = Vec::new();
            for _ in 0..1000 {
                if connection.sync(&mut self.session, self.now).is_err() {
                    broken.push(index);
                    break;
                }
                let mut slices = [IoSlice::new(&[])];
                if connection.poll_write(&mut slices) == 0 {
                    break;
                }
                let len = slices[0].len();
                bytes.extend_from_slice(&slices[0]);
                connection.handle_written(len, self.now);
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let len = outlast_dlm::wire::Header::frame_length(rest).expect("a frame").expect("all of it");
                let frame = Frame::decode(&rest[..len]).expect("a frame of ours");
                assert_eq!(frame.sender, US);
                rest = &rest[len..];
            }
        }
        for index in broken.into_iter().rev() {
            self.close(index);
        }
    }

    fn check(&self) {
        let statistics = self.session.statistics();
        assert!(statistics.unacknowledged + statistics.waiting <= KEPT_MAX, "{statistics:?}");
        assert!(statistics.channels <= outlast_dlm::session::CHANNELS_MAX, "{statistics:?}");
        if self.session.state().waits() {
            assert!(self.session.poll_timeout().is_some(), "{} lasts for ever", self.session.state());
        }
    }
}

/// Frames, bytes, time, members and the application, in any order.
pub fn dlm_session(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut bench = Bench::new(if options & 1 == 0 { Version::V3_2 } else { Version::V3_1 });
    let mut pieces = Pieces::new(input.u8());
    bench.open(options & 2 != 0);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let operation = input.u8();
        let which = usize::from(operation >> 5) % bench.connections.len().max(1);
        match operation & 0x1f {
            0 => {
                let bytes = input.short();
                bench.feed(which, bytes, &mut pieces);
            }
            1..=8 => {
                let statistics = bench.session.statistics();
                let number = match input.u8() {
                    255 => input.u32(),
                    254 => statistics.expected_number.wrapping_sub(u32::from(input.u8())),
                    253 => statistics.expected_number.wrapping_add(u32::from(input.u8())),
                    _ => statistics.expected_number,
                };
                let options = if operation & 7 == 7 { some_options(&mut input) } else { Default::default() };
                let inner = some_inner(SPACE, &Nothing, &mut input);
                frame(&mut bench, which, Body::Numbered { number, options, inner }, &mut pieces);
            }
            9..=11 => {
                let expected = bench.session.statistics().acked_number.wrapping_add(u32::from(input.u8()));
                frame(&mut bench, which, Body::Ack { expected }, &mut pieces);
            }
            12 | 13 => {
                let inner = some_inner(SPACE, &Nothing, &mut input);
                // It has its meaning by its place in an envelope.
                if inner != Inner::Fin {
                    frame(&mut bench, which, Body::Bare(inner), &mut pieces);
                }
            }
            14..=16 => {
                let mut message = Message::new(SPACE, MessageKind::Grant);
                message.extra = vec![0; usize::from(input.u8())];
                let _ = bench.session.send(&Inner::Message(message));
            }
            17 => {
                // As a machine says it.
                if let inner @ Inner::Rcom(_) = some_inner(SPACE, &Nothing, &mut input) {
                    bench.session.send_unnumbered(inner);
                }
            }
            18..=20 => {
                bench.now += Duration::from_millis(1 << (input.u8() % 14));
                if bench.session.handle_timeout(bench.now).is_err() {
                    while !bench.connections.is_empty() {
                        bench.close(0);
                    }
                }
            }
            21 => bench.session.add_member(),
            22 => bench.session.remove_member(bench.now),
            23 => bench.session.shut_down(bench.now),
            24 => bench.session.fence(),
            25 | 26 => bench.open(operation & 0x20 != 0),
            27 | 28 => bench.close(which),
            _ => bench.write(),
        }
        bench.take();
        bench.check();
    }
    // Whatever it was, in time nothing waits any more.
    bench.write();
    bench.now += Duration::from_secs(3600);
    let _ = bench.session.handle_timeout(bench.now);
    bench.write();
    assert!(!bench.session.state().waits(), "{} lasts for ever", bench.session.state());
    assert!(bench.session.poll_timeout().is_none_or(|next| next > bench.now), "a timer that runs hot");
}

fn frame(bench: &mut Bench, which: usize, body: Body, pieces: &mut Pieces) {
    let mut bytes = Vec::new();
    Frame { version: Version::V3_2, sender: PEER, body }.encode(&mut bytes);
    bench.feed(which, &bytes, pieces);
}
