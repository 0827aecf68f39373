//! What a driver does: feeds machines and sessions with each other's news, as `outlast_lockspace`'s node does.

use super::cluster::{Cluster, Due, id, index, is_numbered};
use outlast_dlm::wire::{Inner, LockId, MessageKind, Mode, Queue, RcomBody};
use outlast_dlm::{ChannelId, Dial, SessionEvent};
use outlast_lockspace::machine::{Event, Outcome, Transmit};
use outlast_session::StreamChannel;

impl Cluster {
    /// Something of a node's own is due.
    pub(crate) fn time_comes(&mut self, node: usize) {
        let now = self.now;
        if self.nodes[node].wake.is_some_and(|wake| wake <= now) {
            self.nodes[node].wake = None;
        }
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        life.machine.handle_timeout(now);
        let mut failed = Vec::new();
        for (peer, session) in &mut life.sessions {
            if session.poll_timeout().is_some_and(|due| due <= now)
                && let Err(error) = session.handle_timeout(now)
            {
                let theirs = life.attached.iter().filter(|(_, a)| index(a.connection.peer()) == *peer);
                failed.extend(theirs.map(|(channel, _)| (*channel, error.clone())));
            }
        }
        for (channel, error) in failed {
            self.ended(node, channel, &error);
        }
        let dials: Vec<usize> = self.nodes[node].life.as_ref().map_or_else(Vec::new, |life| {
            let due = |dial| matches!(dial, Dial::At(at) if at <= now);
            life.sessions.iter().filter(|(_, s)| due(s.poll_dial())).map(|(peer, _)| *peer).collect()
        });
        for peer in dials {
            self.dials(node, peer);
        }
        self.pump(node);
    }

    /// Has a node called when something of its own is due.
    pub(crate) fn wakes(&mut self, node: usize) {
        let now = self.now;
        let place = &mut self.nodes[node];
        let Some(life) = &place.life else { return };
        let sessions = life.sessions.values().flat_map(|session| {
            let dial = match session.poll_dial() {
                Dial::At(at) => Some(at),
                Dial::No => None,
            };
            [dial, session.poll_timeout()]
        });
        let next = sessions.chain([life.machine.poll_timeout()]).flatten().min();
        if let Some(next) = next.map(|next| next.max(now))
            && place.wake.is_none_or(|wake| next < wake)
        {
            place.wake = Some(next);
            self.at(next, Due::Node(node));
        }
    }

    /// Carries news from a node's sessions to its machine and back, and out, until there are none.
    pub(crate) fn pump(&mut self, node: usize) {
        for _ in 0..10_000 {
            let delivered = self.delivers(node);
            let drained = self.drains(node);
            let written = self.sends(node);
            if !(delivered || drained || written) {
                return self.wakes(node);
            }
        }
        self.wrong(format!("node {node} does not come to rest"));
    }

    fn delivers(&mut self, node: usize) -> bool {
        let now = self.now;
        let ours = (node, self.nodes[node].lives);
        let known: Vec<_> = (0..self.nodes.len()).map(|peer| self.as_known(node, peer)).collect();
        let Some(life) = self.nodes[node].life.as_mut() else { return false };
        let mut faults = Vec::new();
        let mut any = false;
        for (peer, session) in &mut life.sessions {
            while let Some(event) = session.poll_event() {
                match event {
                    SessionEvent::Ended { reason, .. } => {
                        faults.push(format!("the session of node {node} with {peer} ended: {reason}"));
                    }
                    SessionEvent::Stuck { state, .. } => {
                        faults.push(format!("the session of node {node} with {peer} hung in {state}"));
                    }
                    SessionEvent::Restarted { .. } => {
                        faults.push(format!("node {node} was not told that {peer} began anew"));
                    }
                    SessionEvent::VersionLearned(_)
                    | SessionEvent::Connected { .. }
                    | SessionEvent::Interrupted { .. } => {}
                    _ => {}
                }
            }
            while let Some(inner) = session.poll_received() {
                any = true;
                let times = self.planted.times_delivered(&inner);
                for _ in 0..times {
                    if is_numbered(&inner) {
                        let sent =
                            self.ledger.get_mut(&[known[*peer], ours]).and_then(|sent| sent.pop_front());
                        if sent.as_ref() != Some(&inner) {
                            faults.push(format!(
                                "node {node} got {inner:?} from node {peer}, and next is {sent:?}"
                            ));
                        }
                    }
                    if let Err(fault) = life.machine.handle_message(id(*peer), inner.clone(), now) {
                        faults.push(format!("node {node} finds fault with node {peer}: {fault}: {inner:?}"));
                    }
                }
                if self.trace {
                    println!("             node {node} <- {peer}: {inner:?}");
                }
            }
        }
        for fault in faults {
            self.wrong(fault);
        }
        any
    }

    fn drains(&mut self, node: usize) -> bool {
        let mut any = false;
        loop {
            let Some(life) = self.life(node) else { return any };
            if let Some(event) = life.machine.poll_event() {
                self.happens(node, event);
            } else if let Some(transmit) = life.machine.poll_transmit() {
                self.says(node, transmit);
            } else {
                return any;
            }
            any = true;
        }
    }

    fn happens(&mut self, node: usize, event: Event) {
        let now = self.now;
        self.note(|| format!("node {node}: {event:?}"));
        match event {
            Event::Completed { lock, outcome } => self.completes(node, lock, &outcome),
            Event::Blocking { lock, .. } => {
                self.meet("blocking told");
                self.model.blocks((node, lock));
            }
            Event::MemberAdded(other) => {
                if let Some(session) = self.life(node).and_then(|life| life.sessions.get_mut(&index(other))) {
                    session.add_member();
                }
            }
            Event::MemberRemoved(other) => {
                if let Some(session) = self.life(node).and_then(|life| life.sessions.get_mut(&index(other))) {
                    session.remove_member(now);
                }
            }
            Event::RecoveryBegun => {
                if let Some(life) = self.life(node) {
                    life.recovering = true;
                }
            }
            Event::RecoveryDone { .. } => {
                if let Some(life) = self.life(node) {
                    life.recovering = false;
                }
                self.meet("recovery done");
                if self.membership.is_settled() && !self.is_recovering() {
                    self.model.unsettled = false;
                }
            }
            Event::RecoveryFailed(failure) => self.wrong(format!("node {node}: no recovery: {failure}")),
            _ => {}
        }
    }

    fn completes(&mut self, node: usize, lock: LockId, outcome: &Outcome) {
        let before = self.model.findings.len();
        self.model.completed((node, lock), outcome);
        for what in std::mem::take(&mut self.model.met) {
            self.meet(what);
        }
        for finding in self.model.findings.get(before..).unwrap_or_default() {
            self.note(|| format!("WRONG: {finding}"));
        }
    }

    fn says(&mut self, node: usize, transmit: Transmit) {
        self.recognise(node, &transmit.inner);
        let to = index(transmit.to);
        let (said, answers) = self.planted.changes(node, transmit);
        for answer in answers {
            let now = self.now;
            if let Some(life) = self.life(node) {
                let _ = life.machine.handle_message(id(to), answer, now);
            }
        }
        let Some(Transmit { inner, numbered, .. }) = said else { return };
        let Some(session) = self.life(node).and_then(|life| life.sessions.get_mut(&to)) else { return };
        if !numbered {
            return session.send_unnumbered(inner);
        }
        if let Err(error) = session.send(&inner) {
            return self.wrong(format!("node {node}: {error}"));
        }
        if is_numbered(&inner) {
            let ends = [(node, self.nodes[node].lives), self.as_known(node, to)];
            self.ledger.entry(ends).or_default().push_back(inner);
        }
    }

    fn sends(&mut self, node: usize) -> bool {
        let now = self.now;
        let Some(life) = self.nodes[node].life.as_mut() else { return false };
        let mut wrote = false;
        let mut failed = None;
        let channels: Vec<ChannelId> = life.attached.keys().copied().collect();
        for channel in channels {
            let Some(life) = self.nodes[node].life.as_mut() else { return wrote };
            let Some(attached) = life.attached.get_mut(&channel) else { continue };
            let Some(session) = life.sessions.get_mut(&index(attached.connection.peer())) else { continue };
            let work = session.sender() == Some(channel) && session.has_work(now);
            if (work || session.carries(channel).is_err())
                && let Err(error) = attached.connection.sync(session, now)
            {
                failed = Some((channel, error));
                break;
            }
            wrote |= self.writes(node, channel);
        }
        if let Some((channel, error)) = failed {
            self.ended(node, channel, &error);
            return true;
        }
        wrote
    }

    /// Counts what is worth meeting.
    fn recognise(&mut self, node: usize, inner: &Inner) {
        match inner {
            Inner::Message(message) => {
                self.met.meet(&format!("message {:?}", message.kind));
                if message.result < 0 {
                    self.met.meet(&format!("{:?} with error {}", message.kind, message.result));
                }
            }
            Inner::Rcom(rcom) => {
                self.met.meet(&format!("rcom {:?}", rcom.body.kind()));
                if let RcomBody::Lock(lock) = &rcom.body {
                    let sideways = [Some(Mode::ProtectedRead), Some(Mode::ConcurrentWrite)];
                    if u32::from(lock.wait_kind) == MessageKind::Convert as u32 {
                        self.met.meet("recovered: a conversion was under way");
                        if lock.granted != lock.requested && (sideways.contains(&lock.requested)) {
                            self.met.meet("recovered: a conversion in doubt");
                        }
                    }
                    if u32::from(lock.wait_kind) == MessageKind::Request as u32 {
                        self.met.meet("recovered: a request was under way");
                    }
                    match lock.queue {
                        Some(Queue::Waiting) => self.met.meet("recovered: waiting"),
                        Some(Queue::Granted) => self.met.meet("recovered: granted"),
                        Some(Queue::Converting) => self.met.meet("recovered: converting"),
                        None => {}
                    }
                }
            }
            Inner::Fin => self.wrong(format!("node {node}: a machine says FIN")),
        }
    }
}
