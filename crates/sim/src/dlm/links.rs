//! Connections: how they come about, what they carry, how they end.

use super::cluster::{Attached, Cluster, Due, End, id};
use crate::link::{Arrival, Direction, Link};
use outlast_dlm::{ChannelId, Connection};
use outlast_session::StreamChannel;
use std::io::IoSlice;
use std::time::Duration;

/// How long a node waits at most until it gives up a connection on which nothing comes.
const SILENCE_MAX: Duration = Duration::from_millis(1500);
/// What a connection refused or without a route takes at most.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

impl Cluster {
    // ------------------------------------------------------------------ beginnings

    /// A node wants a connection.
    pub(crate) fn dials(&mut self, from: usize, to: usize) {
        let Some(life) = self.life(from) else { return };
        let number = life.number;
        if let Some(session) = life.sessions.get_mut(&to) {
            session.dialling();
        }
        let wait = self.delay();
        self.after(wait, Due::Dialled { from, life: number, to });
    }

    /// The connection is there at this end, and on its way to the other.
    pub(crate) fn dialled(&mut self, from: usize, number: u32, to: usize) {
        let now = self.now;
        let reachable = !self.parted.contains(&(from, to)) && !self.parted.contains(&(to, from));
        let target =
            self.nodes[to].life.as_ref().filter(|life| life.listens && reachable).map(|life| life.number);
        let dialler = self.nodes[from].life.as_mut().filter(|life| life.number == number);
        let Some(session) = dialler.and_then(|life| life.sessions.get_mut(&to)) else { return };
        let Some(target) = target else {
            session.dial_failed(now, &mut self.rng);
            self.meet("nobody answers");
            let wait = self.within(REFUSED_WITHIN);
            self.after(wait, Due::Node(from));
            return;
        };
        let (ours, theirs) = (ChannelId(self.number()), ChannelId(self.number()));
        let opener = End { node: from, life: number, channel: ours };
        let acceptor = End { node: to, life: target, channel: theirs };
        let link = self.number();
        self.links.insert(link, Link::new(opener, acceptor));
        self.attach(from, to, ours, link, Direction::Forth);
        self.meet("connected");
        let wait = self.delay();
        self.after(wait, Due::Accepted(link));
        self.pump(from);
    }

    pub(crate) fn accepted(&mut self, link: u64) {
        let Some((opener, acceptor)) =
            self.links.get(&link).map(|l| (l.sender(Direction::Forth), l.receiver(Direction::Forth)))
        else {
            return;
        };
        let alive = self.nodes[acceptor.node].life.as_ref().is_some_and(|life| life.number == acceptor.life);
        if !alive {
            return self.cuts(link);
        }
        self.attach(acceptor.node, opener.node, acceptor.channel, link, Direction::Back);
        self.pump(acceptor.node);
        self.arrives(link);
    }

    fn attach(&mut self, node: usize, peer: usize, channel: ChannelId, link: u64, direction: Direction) {
        let now = self.now;
        let Some(life) = self.life(node) else { return };
        let Some(session) = life.sessions.get_mut(&peer) else { return };
        session.attach(channel, direction == Direction::Forth, now);
        let connection = Connection::new(channel, id(peer));
        life.attached.insert(channel, Attached { link, direction, connection });
        self.note(|| format!("node {node} has a connection to node {peer}, link {link} {direction:?}"));
    }

    // ------------------------------------------------------------------ what they carry

    /// Writes what a connection has to say, as far as the window lets it. Returns whether it wrote anything.
    pub(crate) fn writes(&mut self, node: usize, channel: ChannelId) -> bool {
        let now = self.now;
        let mut wrote = false;
        loop {
            let wait = self.delay();
            let Some(life) = self.nodes[node].life.as_mut() else { return wrote };
            let Some(Attached { link: number, direction, connection }) = life.attached.get_mut(&channel)
            else {
                return wrote;
            };
            let (number, direction) = (*number, *direction);
            let Some(link) = self.links.get_mut(&number) else { return wrote };
            let room = self.plan.window_bytes.saturating_sub(link.in_flight(direction));
            let mut slices = [IoSlice::new(&[])];
            if room == 0 || connection.poll_write(&mut slices) == 0 {
                return wrote;
            }
            let len = slices[0].len().min(room);
            let ends = (link.sender(direction).node, link.receiver(direction).node);
            let bytes =
                self.wires.tap(&mut self.planted, &mut self.met, number, ends, direction, &slices[0][..len]);
            connection.handle_written(len, now);
            wrote = true;
            for piece in bytes.chunks(self.plan.piece_bytes_max.max(bytes.len().div_ceil(40))) {
                link.put(direction, piece.to_vec(), now + wait);
            }
            self.awaits(number, now + wait);
        }
    }

    /// Hands on what has arrived.
    pub(crate) fn arrives(&mut self, number: u64) {
        loop {
            let Some(link) = self.links.get_mut(&number) else { return };
            let Some((at, direction)) = link.next_event() else { return };
            if at > self.now {
                return self.awaits(number, at);
            }
            let reader = link.receiver(direction);
            let there = self.nodes[reader.node].life.as_ref().filter(|life| life.number == reader.life);
            if there.is_some_and(|life| !life.attached.contains_key(&reader.channel))
                && reader == link.receiver(Direction::Forth)
                && link.passed(direction) == 0
                && link.in_flight(direction) > 0
            {
                // Not accepted yet; or gone already, then it is closed.
                return;
            }
            match link.take(direction) {
                None => return,
                Some(Arrival::Bytes(bytes)) => self.reads(reader, &bytes),
                Some(Arrival::LastBytes(bytes)) => {
                    self.reads(reader, &bytes);
                    self.meet("cut within a stream");
                    self.cuts(number);
                }
                Some(Arrival::End) => {
                    self.hangs_up(reader.node, reader.channel);
                    self.forget_link(number);
                    // Another connection may have to carry what this one did.
                    self.pump(reader.node);
                }
            }
        }
    }

    fn reads(&mut self, reader: End, bytes: &[u8]) {
        let now = self.now;
        let mut rest = bytes;
        let mut failed = None;
        while !rest.is_empty() && failed.is_none() {
            let Some(life) = self.nodes[reader.node].life.as_mut().filter(|life| life.number == reader.life)
            else {
                return;
            };
            let Some(Attached { connection, .. }) = life.attached.get_mut(&reader.channel) else { return };
            let Some(session) = life.sessions.get_mut(&super::cluster::index(connection.peer())) else {
                return;
            };
            let buffer = connection.poll_read();
            let len = buffer.len().min(rest.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            let read = connection.handle_read(len, now).and_then(|()| connection.sync(session, now));
            failed = read.err();
        }
        if let Some(error) = failed {
            self.ended(reader.node, reader.channel, &error);
        }
        self.pump(reader.node);
        // There may be room again for who writes.
        let writer =
            self.nodes[reader.node].life.as_ref().and_then(|life| life.attached.get(&reader.channel));
        if let Some(link) =
            writer.and_then(|attached| self.links.get(&attached.link).map(|l| (l, attached.direction)))
        {
            let other = link.0.receiver(link.1);
            self.pump(other.node);
        }
    }

    /// A connection found out that it must end.
    pub(crate) fn ended(&mut self, node: usize, channel: ChannelId, error: &outlast_dlm::ConnectionError) {
        use outlast_dlm::ConnectionError as E;
        let expected = match error {
            E::Superseded { .. } => {
                self.meet("superseded");
                true
            }
            E::Missing { .. } => {
                self.meet("messages missing");
                self.plan.repeats_late
            }
            E::Lost { .. } | E::Ended { .. } => true,
            E::Decode { .. }
            | E::WrongSender { .. }
            | E::Unnumbered { .. }
            | E::Ack { .. }
            | E::Number { .. }
            | E::AfterFin { .. }
            | E::Content { .. } => false,
            _ => false,
        };
        if expected {
            self.note(|| format!("node {node}: {error}"));
        } else {
            self.wrong(format!("node {node} ended a connection: {error}"));
        }
        self.hangs_up(node, channel);
    }

    // ------------------------------------------------------------------ ends

    /// A node ends a connection, and resets it.
    pub(crate) fn hangs_up(&mut self, node: usize, channel: ChannelId) {
        let now = self.now;
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        let Some(Attached { link, connection, .. }) = life.attached.remove(&channel) else { return };
        let peer = super::cluster::index(connection.peer());
        if let Some(session) = life.sessions.get_mut(&peer) {
            session.detach(channel, now, &mut self.rng);
        }
        self.note(|| format!("node {node} has lost a connection to node {peer}, link {link}"));
        let at = self.now + self.delay();
        if let Some(link) = self.links.get_mut(&link) {
            link.cut(at);
        }
        self.awaits(link, at);
        self.forget_link(link);
        self.wakes(node);
    }

    /// A link breaks: both ends learn of it, each in its time.
    pub(crate) fn cuts(&mut self, link: u64) {
        let at = self.now + self.delay();
        if let Some(found) = self.links.get_mut(&link) {
            found.cut(at);
            self.awaits(link, at);
        }
    }

    /// Forgets a link that nobody has any more.
    pub(crate) fn forget_link(&mut self, number: u64) {
        let Some(link) = self.links.get(&number) else { return };
        let held = [Direction::Forth, Direction::Back].into_iter().any(|direction| {
            let end = link.receiver(direction);
            let life = self.nodes[end.node].life.as_ref().filter(|life| life.number == end.life);
            life.is_some_and(|life| life.attached.contains_key(&end.channel))
        });
        // One that is not accepted yet is held by who opened it.
        if !held {
            self.links.remove(&number);
            self.wires.forget(number);
        }
    }

    /// From now on nothing arrives in one direction or in both, until the ends notice.
    pub(crate) fn falls_silent(&mut self, number: u64, both: bool, forth: bool) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if both || forth {
            link.silence(Direction::Forth);
        }
        if both || !forth {
            link.silence(Direction::Back);
        }
        for opener in [true, false] {
            let wait = self.within(SILENCE_MAX);
            self.after(wait, Due::GiveUp(number, opener));
        }
    }

    pub(crate) fn gives_up(&mut self, number: u64, opener: bool) {
        let Some(link) = self.links.get(&number) else { return };
        let end = link.receiver(if opener { Direction::Back } else { Direction::Forth });
        let alive = self.nodes[end.node].life.as_ref().is_some_and(|life| life.number == end.life);
        if alive {
            self.meet("silent connection given up");
            self.hangs_up(end.node, end.channel);
            self.pump(end.node);
        }
    }

    /// Bytes are held up in one direction for a while.
    pub(crate) fn resumes(&mut self, number: u64, forth: bool) {
        if let Some(link) = self.links.get_mut(&number) {
            link.hold_at(if forth { Direction::Forth } else { Direction::Back }, None);
            self.arrives(number);
        }
    }
}
