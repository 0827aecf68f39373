//! What a driver does in production: dials, accepts, carries bytes, and polls in the order of the contract.

use super::{Attached, ProcessId, World};
use crate::link::{Arrival, Direction, Link, LinkId};
use crate::watch::party;
use outlast_msgr2::wire::{EntityAddr, Wait};
use outlast_msgr2::{
    Authority, ChannelId, Connection, ConnectionError, ConnectionEvent, Decision, Located, SessionEvent,
};
use outlast_session::StreamChannel;
use rand::RngExt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

impl World {
    /// Bytes, or the news of the end, reach one end of a link.
    pub(super) fn deliver(&mut self, link_id: LinkId, direction: Direction) {
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let (receiver, channel) = link.receiver(direction);
        let sender = link.sender(direction).0;
        match link.take(direction) {
            None => {}
            Some(Arrival::Bytes(bytes)) => self.hand_over(receiver, channel, link_id, direction, &bytes),
            Some(Arrival::LastBytes(bytes)) => {
                self.hand_over(receiver, channel, link_id, direction, &bytes);
                self.cut(link_id);
            }
            Some(Arrival::End) => {
                let now = self.clock(receiver);
                if let Some(attached) = self.process_mut(receiver).connections.get_mut(&channel) {
                    let error = attached.connection.handle_eof(now);
                    self.close(receiver, channel, error);
                }
            }
        }
        if self.links.get(&link_id).is_some_and(Link::is_finished) {
            self.links.remove(&link_id);
        }
        self.drain(receiver);
        // There is room again for the one who wrote.
        self.drain(sender);
    }

    fn hand_over(
        &mut self,
        id: ProcessId,
        channel: ChannelId,
        link: LinkId,
        direction: Direction,
        bytes: &[u8],
    ) {
        let now = self.clock(id);
        let stale = self.planted.as_mut().and_then(|p| p.left_over(id, channel, bytes));
        let mut rest = stale.as_deref().unwrap_or(bytes);
        while !rest.is_empty() {
            let Some(attached) = self.process_mut(id).connections.get_mut(&channel) else { return };
            let buffer = attached.connection.poll_read();
            if buffer.is_empty() {
                // Reading is paused: the rest waits in front of what follows.
                let at = self.now;
                if let Some(link) = self.links.get_mut(&link) {
                    link.put_back(direction, rest.to_vec(), at);
                }
                self.meet("reading paused by the throttle");
                if let Some(planted) = &mut self.planted {
                    planted.paused(id);
                }
                return;
            }
            let len = buffer.len().min(rest.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            if let Err(error) = attached.connection.handle_read(len, now) {
                self.close(id, channel, error);
                return;
            }
            self.drain(id);
        }
    }

    /// Connections that read again after a pause.
    fn resume_reading(&mut self, id: ProcessId) {
        for attached in self.processes[id.0].connections.values_mut() {
            let Some(link) = self.links.get_mut(&attached.link) else { continue };
            let inward = attached.end.reverse();
            if link.is_paused(inward) && !attached.connection.poll_read().is_empty() {
                link.resume(inward);
            }
        }
    }

    /// Everything that follows from the last input to this process.
    pub fn drain(&mut self, id: ProcessId) {
        for _ in 0..DRAIN_ROUNDS_MAX {
            let mut busy = self.dial(id);
            let channels: Vec<_> = self.process(id).connections.keys().copied().collect();
            for channel in channels {
                busy |= self.turn(id, channel);
            }
            busy |= self.collect(id);
            if !busy {
                self.resume_reading(id);
                return;
            }
        }
        panic!("process {id:?} does not come to rest");
    }

    /// Opens connections for the sessions that want one.
    fn dial(&mut self, id: ProcessId) -> bool {
        let now = self.clock(id);
        let wanting: Vec<_> = self
            .process_mut(id)
            .sessions
            .values_mut()
            .filter_map(|s| s.poll_dial(now).map(|address| (s.id(), address)))
            .collect();
        let busy = !wanting.is_empty();
        let mut unreachable = false;
        for (session, address) in wanting {
            let to = address.socket_addr().and_then(|a| self.routes.get(&a).copied());
            let reachable = to.filter(|to| !self.unreachable.contains(&(id, *to)));
            let credential = self.process(id).config.credential.clone();
            let process = self.process_mut(id);
            process.dialled += 1;
            let Some(s) = process.sessions.get_mut(&session) else { continue };
            let connection = process.endpoint.dial(s, address, credential, now);
            let channel = connection.id();
            let Some(to) = reachable else {
                let reason = "no route".to_owned();
                unreachable = true;
                s.connection_lost(channel, ConnectionError::Unreachable { reason }, now);
                continue;
            };
            self.open(id, connection, to);
        }
        if unreachable {
            self.meet("no route");
        }
        busy
    }

    fn open(&mut self, from: ProcessId, connection: Connection, to: ProcessId) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let opener = connection.id();
        let mut source =
            self.process(from).config.listen.unwrap_or_else(|| SocketAddr::from(([10, 0, 0, 1], 40_000)));
        if self.roaming {
            source = SocketAddr::from(([10, 1, self.rng.random(), self.rng.random()], self.rng.random()));
        }
        let to_now = self.clock(to);
        let authority = if self.busy_authorities.contains(&to) {
            Arc::new(Authority::Busy)
        } else {
            Arc::clone(&self.process(to).config.authority)
        };
        let accepted = {
            let process = self.process_mut(to);
            process.accepted += 1;
            process.endpoint.accept(EntityAddr::msgr2(source, 0), authority, to_now)
        };
        let acceptor = accepted.id();
        let mut fresh = Link::new((from, opener), (to, acceptor));
        if self.tapped {
            fresh.tap();
        }
        self.befall(&mut fresh, from, to);
        self.links.insert(link, fresh);
        let attach = |connection, end| Attached { connection, link, end };
        self.process_mut(from).connections.insert(opener, attach(connection, Direction::Forth));
        self.process_mut(to).connections.insert(acceptor, attach(accepted, Direction::Back));
        self.drain(to);
    }

    /// What the weather and chance do to a new link.
    fn befall(&mut self, link: &mut Link, from: ProcessId, to: ProcessId) {
        if self.blackholes.contains(&(from, to)) {
            link.silence(Direction::Forth);
            link.silence(Direction::Back);
            self.meet("link black from the beginning");
        }
        let hazards = self.hazards;
        if hazards.cut_percent > 0 && self.rng.random_range(0..100) < hazards.cut_percent {
            let direction = if self.rng.random() { Direction::Forth } else { Direction::Back };
            link.cut_after(direction, self.rng.random_range(0..=hazards.cut_bytes_max));
            self.meet("link cut");
        }
        if hazards.silent_percent > 0 && self.rng.random_range(0..100) < hazards.silent_percent {
            let which = self.rng.random_range(0..3);
            if which != 1 {
                link.silence(Direction::Forth);
            }
            if which != 0 {
                link.silence(Direction::Back);
            }
            self.meet("link half-open");
        }
    }

    pub(crate) fn meet(&mut self, what: &str) {
        if let Some(watch) = &mut self.watch {
            watch.situations.meet(what);
        }
    }

    /// The authorities that were busy know now: the requests that waited are tried again.
    pub fn authorities_answer(&mut self) {
        for id in std::mem::take(&mut self.busy_authorities) {
            let now = self.clock(id);
            let authority = Arc::clone(&self.process(id).config.authority);
            let channels: Vec<_> = self.process(id).connections.keys().copied().collect();
            for channel in channels {
                let Some(attached) = self.processes[id.0].connections.get_mut(&channel) else { continue };
                if let Err(error) = attached.connection.retry_authentication(Arc::clone(&authority), now) {
                    self.close(id, channel, error);
                }
            }
            self.drain(id);
        }
    }

    /// One connection's turn: decisions, the session, writing.
    fn turn(&mut self, id: ProcessId, channel: ChannelId) -> bool {
        let now = self.clock(id);
        let process = &mut self.processes[id.0];
        let Some(attached) = process.connections.get_mut(&channel) else { return false };
        let connection = &mut attached.connection;
        let mut busy = false;
        let mut failed = None;
        while let Some(request) = connection.poll_request() {
            busy = true;
            let mut existing = match process.endpoint.locate(&request) {
                Located::Known(session) => process.sessions.get_mut(&session),
                Located::Unknown => None,
            };
            let before = existing.as_ref().map(|s| s.state());
            if self.planted.as_ref().is_some_and(|p| p.overlooks(before)) {
                existing = None;
            }
            let (decision, fresh) = if self.planted.as_ref().is_some_and(|p| p.says_wait(existing.as_deref()))
            {
                (Decision::Reply(Wait.into()), None)
            } else {
                process.endpoint.decide(request, existing, now)
            };
            if let Some(watch) = &mut self.watch {
                watch.decided(before, &decision);
            }
            if let Some(session) = fresh {
                let refused = matches!(decision, Decision::Refuse(_));
                if !refused {
                    if let Some(watch) = &mut self.watch {
                        watch.opened(id, process.incarnation, &session);
                    }
                    process.sessions.insert(session.id(), session);
                }
            }
            if let Err(error) = connection.handle_decision(decision, now) {
                failed = Some(error);
                break;
            }
        }
        while let Some(event) = connection.poll_event() {
            match event {
                ConnectionEvent::LearnedAddress(address) => process.endpoint.learn_address(address),
                ConnectionEvent::RaiseGlobalSeq(seq) => process.endpoint.raise_global_seq(seq),
                _ => {}
            }
        }
        if failed.is_none()
            && let Some(session) = connection.session().and_then(|s| process.sessions.get_mut(&s))
        {
            let before = (session.inbound_len(), session.counters(), connection.out_len());
            failed = connection.sync(session, now).err();
            if let Some(watch) = &mut self.watch {
                let at = party(id, process.incarnation, session.id());
                watch.synced(at, session, before, connection.out_len());
            }
        }
        if let Some(error) = failed {
            self.close(id, channel, error);
            return true;
        }
        busy |= self.write(id, channel);
        let ended = self.process(id).connections.get(&channel).and_then(|a| a.connection.poll_end().cloned());
        if let Some(error) = ended {
            self.close(id, channel, error);
            return true;
        }
        busy
    }

    /// Moves what a connection lends onto its link, as far as there is room.
    fn write(&mut self, id: ProcessId, channel: ChannelId) -> bool {
        let mut busy = false;
        loop {
            let now = self.clock(id);
            let delay = self.delay();
            let piece = self.rng.random_range(1..=self.weather.piece_bytes_max);
            let process = &mut self.processes[id.0];
            let Some(attached) = process.connections.get_mut(&channel) else { return busy };
            let Some(link) = self.links.get_mut(&attached.link) else { return busy };
            let room = self.weather.window_bytes.saturating_sub(link.in_flight(attached.end)).min(piece);
            let mut bytes = Vec::new();
            {
                let mut slices: [IoSlice<'_>; 16] = std::array::from_fn(|_| IoSlice::new(&[]));
                let filled = attached.connection.poll_write(&mut slices);
                for slice in &slices[..filled] {
                    let len = slice.len().min(room - bytes.len());
                    bytes.extend_from_slice(&slice[..len]);
                }
            }
            if bytes.is_empty() {
                return busy;
            }
            attached.connection.handle_written(bytes.len(), now);
            busy = true;
            let mut at = self.now + delay;
            let hazards = self.hazards;
            if hazards.late_per_myriad > 0 && self.rng.random_range(0..10_000) < hazards.late_per_myriad {
                at += hazards.late_max.mul_f64(self.rng.random());
                if let Some(watch) = &mut self.watch {
                    watch.situations.meet("delay spike");
                }
            }
            if let Some(planted) = &mut self.planted {
                let (forth, back) = planted.tap(attached.link, attached.end, id, &bytes);
                bytes = forth;
                if !back.is_empty() {
                    link.put(attached.end.reverse(), back, self.now);
                }
            }
            if !bytes.is_empty() {
                link.put(attached.end, bytes, at);
            }
        }
    }

    /// Takes what sessions have for their application.
    fn collect(&mut self, id: ProcessId) -> bool {
        let asleep = self.planted.as_ref().is_some_and(|p| p.is_asleep(id));
        let process = &mut self.processes[id.0];
        let mut busy = false;
        for (session_id, session) in &mut process.sessions {
            while let Some(event) = session.poll_event() {
                if matches!(event, SessionEvent::Ended(_)) {
                    process.endpoint.bury(session);
                }
                if self.planted.as_ref().is_some_and(|p| p.swallows(&event)) {
                    continue;
                }
                if let Some(watch) = &mut self.watch {
                    watch.happened(party(id, process.incarnation, *session_id), &event);
                }
                process.events.push((*session_id, event));
                busy = true;
            }
            while let Some((message, taken)) = session.poll_revocation() {
                if let Some(watch) = &mut self.watch {
                    watch.revoked(party(id, process.incarnation, *session_id), message, taken);
                }
                process.revocations.push((*session_id, message, taken));
                busy = true;
            }
            while process.takes_messages && !asleep {
                let Some(received) = session.poll_message() else { break };
                if let Some(watch) = &mut self.watch {
                    watch.delivered(party(id, process.incarnation, *session_id), &received, true);
                }
                process.delivered.push((*session_id, received));
                busy = true;
            }
        }
        busy
    }

    /// A connection of this process is over: its session learns why, and the other end will see the link close.
    pub fn close(&mut self, id: ProcessId, channel: ChannelId, error: ConnectionError) {
        let now = self.clock(id);
        let delay = self.delay();
        let process = &mut self.processes[id.0];
        let Some(attached) = process.connections.remove(&channel) else { return };
        if let Some(planted) = &mut self.planted {
            planted.closed(id, channel, attached.connection.session());
        }
        if let Some(watch) = &mut self.watch {
            watch.connection_ended(attached.connection.state(), &error);
        }
        if let Some(session) = attached.connection.session().and_then(|s| process.sessions.get_mut(&s)) {
            session.connection_lost(channel, error.clone(), now);
        }
        process.ended.push((channel, error));
        if let Some(link) = self.links.get_mut(&attached.link) {
            link.close(attached.end, self.now + delay);
            if link.is_finished() {
                self.links.remove(&attached.link);
            }
        }
    }
}

/// Rounds in which a process must come to rest; more means that it talks to itself.
const DRAIN_ROUNDS_MAX: u32 = 10_000;
