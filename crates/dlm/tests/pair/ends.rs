//! Two ends and what lies between them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use outlast_dlm::wire::{
    CallbackFlags, Inner, LockId, LockspaceId, Message, MessageKind, NodeId, Rcom, RcomBody, Version,
};
use outlast_dlm::{ChannelId, Connection, ConnectionError, Session, SessionConfig};
use outlast_session::{Instant, StreamChannel};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) const LOCKSPACE: LockspaceId = LockspaceId(7);

/// A connection with both its ends and the bytes under way.
struct Link {
    ends: [Connection; 2],
    /// From end 0 to end 1, and back.
    wires: [VecDeque<u8>; 2],
}

pub(crate) struct Pair {
    pub(crate) sessions: [Session; 2],
    links: Vec<Link>,
    pub(crate) now: Instant,
    pub(crate) rng: StdRng,
    next_channel: u64,
    next_message: u32,
    pub(crate) sent: [Vec<u32>; 2],
    pub(crate) delivered: [Vec<u32>; 2],
    /// Unnumbered ones.
    pub(crate) statuses: [usize; 2],
    pub(crate) errors: Vec<ConnectionError>,
    pub(crate) cuts: usize,
}

/// A message that can be told from others.
pub(crate) fn message(name: u32) -> Inner {
    let mut message = Message::new(LOCKSPACE, MessageKind::Grant);
    message.lock = LockId(name);
    message.callbacks = CallbackFlags::COMPLETION;
    message.extra = vec![name as u8; (name % 40) as usize];
    Inner::Message(message)
}

pub(crate) fn status() -> Inner {
    Inner::Rcom(Rcom {
        lockspace: LOCKSPACE,
        result: 0,
        id: 1,
        sequence: 1,
        sequence_reply: 0,
        body: RcomBody::Status { need_slots: false, incarnation: 0 },
    })
}

fn session(end: usize, incarnation: u64) -> Session {
    let [us, peer] = if end == 0 { [1, 2] } else { [2, 1] };
    Session::new(SessionConfig { incarnation, ..SessionConfig::new(NodeId(us), NodeId(peer)) })
}

impl Pair {
    /// A node loses all that it knew, and has a word for the other.
    pub(crate) fn restart(&mut self, end: usize, incarnation: u64) {
        self.sessions[end] = session(end, incarnation);
        self.sessions[end].add_member();
        self.sessions[end].send_unnumbered(status());
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self::announcing(seed, [Version::V3_2; 2])
    }

    pub(crate) fn announcing(seed: u64, versions: [Version; 2]) -> Self {
        let session = |us: u32, peer: u32, announce| {
            let config = SessionConfig::new(NodeId(us), NodeId(peer));
            Session::new(SessionConfig { announce, ..config })
        };
        Self {
            sessions: [session(1, 2, versions[0]), session(2, 1, versions[1])],
            links: Vec::new(),
            now: Instant::from_nanos(1_000_000_000),
            rng: StdRng::seed_from_u64(seed),
            next_channel: 0,
            next_message: 0,
            sent: [Vec::new(), Vec::new()],
            delivered: [Vec::new(), Vec::new()],
            statuses: [0; 2],
            errors: Vec::new(),
            cuts: 0,
        }
    }

    /// As two nodes that have each other as a member and know their versions.
    pub(crate) fn established(seed: u64) -> Self {
        Self::established_as(seed, [0, 0])
    }

    /// The same, and they say which of their lives they are at.
    pub(crate) fn established_as(seed: u64, incarnations: [u64; 2]) -> Self {
        let mut pair = Self::new(seed);
        for (end, incarnation) in incarnations.into_iter().enumerate() {
            pair.sessions[end] = session(end, incarnation);
        }
        for session in &mut pair.sessions {
            session.add_member();
            session.send_unnumbered(status());
        }
        pair.connect(0);
        pair.run();
        pair
    }

    pub(crate) fn connect(&mut self, dialler: usize) {
        let [mut first, mut second] = [0, 1].map(|end| {
            self.next_channel += 1;
            Connection::new(ChannelId(self.next_channel), NodeId(2 - end))
        });
        self.sessions[0].attach(first.channel(), dialler == 0, self.now);
        self.sessions[1].attach(second.channel(), dialler == 1, self.now);
        for (end, connection) in [&mut first, &mut second].into_iter().enumerate() {
            connection.sync(&mut self.sessions[end], self.now).expect("a new connection");
        }
        self.links.push(Link { ends: [first, second], wires: [VecDeque::new(), VecDeque::new()] });
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn send(&mut self, from: usize) {
        let name = self.next_message;
        self.next_message += 1;
        self.sessions[from].send(&message(name)).expect("room");
        self.sent[from].push(name);
    }

    /// Moves at most `bytes` of what `end` has to say over `link`.
    pub(crate) fn carry(&mut self, link: usize, end: usize, bytes: usize) {
        let Some(Link { ends, wires }) = self.links.get_mut(link) else { return };
        let sync = ends[end].sync(&mut self.sessions[end], self.now);
        let mut slices = [IoSlice::new(&[])];
        if ends[end].poll_write(&mut slices) > 0 {
            let len = slices[0].len().min(bytes);
            wires[end].extend(&slices[0][..len]);
            ends[end].handle_written(len, self.now);
        }
        if let Err(error) = sync {
            self.errors.push(error);
            self.cut(link);
        }
    }

    /// Lets the other end read at most `bytes` of what `end` wrote.
    pub(crate) fn arrive(&mut self, link: usize, end: usize, bytes: usize) {
        let Some(Link { ends, wires }) = self.links.get_mut(link) else { return };
        let reader = &mut ends[1 - end];
        let buffer = reader.poll_read();
        let len = bytes.min(buffer.len()).min(wires[end].len());
        for (place, byte) in buffer.iter_mut().zip(wires[end].drain(..len)) {
            *place = byte;
        }
        let read = reader.handle_read(len, self.now);
        let read = read.and_then(|()| reader.sync(&mut self.sessions[1 - end], self.now));
        if let Err(error) = read {
            self.errors.push(error);
            self.cut(link);
        }
        self.collect();
    }

    pub(crate) fn collect(&mut self) {
        for (end, session) in self.sessions.iter_mut().enumerate() {
            while let Some(inner) = session.poll_received() {
                match inner {
                    Inner::Message(message) => self.delivered[end].push(message.lock.0),
                    Inner::Rcom(_) => self.statuses[end] += 1,
                    Inner::Fin => panic!("a FIN is the session's own business"),
                }
            }
        }
    }

    /// The connection dies with what is under way on it.
    pub(crate) fn cut(&mut self, link: usize) {
        if link >= self.links.len() {
            return;
        }
        let link = self.links.remove(link);
        self.cuts += 1;
        for (end, connection) in link.ends.iter().enumerate() {
            self.sessions[end].detach(connection.channel(), self.now, &mut self.rng);
        }
    }

    /// One end finds out that the connection is dead; the other still believes in it.
    pub(crate) fn lose_at(&mut self, link: usize, end: usize) {
        let channel = self.links[link].ends[end].channel();
        self.sessions[end].detach(channel, self.now, &mut self.rng);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        for link in 0..self.links.len() {
            for end in 0..2 {
                if let Some(link) = self.links.get_mut(link) {
                    link.ends[end].handle_timeout(self.now).expect("nothing yet");
                }
            }
        }
        for session in &mut self.sessions {
            if let Err(error) = session.handle_timeout(self.now) {
                self.errors.push(error);
            }
        }
    }

    /// Everything moves until nothing does; time passes for what waits for it.
    pub(crate) fn run(&mut self) {
        for _ in 0..200 {
            for link in 0..self.links.len() {
                for end in 0..2 {
                    self.carry(link, end, usize::MAX);
                    self.arrive(link, end, usize::MAX);
                }
            }
            self.pass(Duration::from_millis(5));
        }
    }
}
