//! Two processes, the frames between them, and faults at exact points of their conversation.
//!
//! The links are in crc mode without authentication, so the frames can be read as they are written: a fault is set at
//! the n-th frame of a kind that one end writes. What is asserted of each end is [`Seen`].

use outlast_msgr2::frame::Tag;
use outlast_msgr2::wire::{ClientIdent, Control, ServerIdent, SessionReconnect};
use outlast_msgr2::{
    ConnectionError, EndReason, Matching, Message, Policy, SessionConfig, SessionEvent, SessionId,
};
use outlast_session::{MessageId, ReceiptStatus};
use outlast_sim::link::{Direction, LinkId};
use outlast_sim::setup::{Security, address, ceph, process};
use outlast_sim::world::{Process, ProcessId, World};
use std::collections::BTreeMap;
use std::time::Duration;

/// World time after which everything that can happen has: longer than the longest back-off (15 s) and a handshake's
/// deadline (10 s) together.
pub(crate) const SETTLED: Duration = Duration::from_secs(40);

/// A part of the conversation at which something can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Banner,
    Frame(Tag),
}

impl From<Tag> for Point {
    fn from(tag: Tag) -> Self {
        Self::Frame(tag)
    }
}

/// What happens when that part is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The link breaks before any of it arrives.
    CutBefore,
    /// The link breaks in its middle.
    CutWithin,
    /// The link breaks as soon as it has arrived.
    CutAfter,
    /// It does not arrive until [`Stage::let_go`]; nobody learns of anything.
    Hold,
    /// As `Hold`, but its writer learns that the link is gone: it may dial again while the other still waits.
    Stall,
    /// It is lost and its reader learns that the link is gone, while its writer hears of nothing until
    /// [`Stage::let_go`].
    Vanish,
}

/// What one end has done and seen, for comparison as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Connections it opened.
    pub(crate) dialled: u64,
    /// Connections it accepted.
    pub(crate) accepted: u64,
    /// The frames of the message-flow handshake that it wrote, in order.
    pub(crate) said: String,
    /// Times that a session of its became ready.
    pub(crate) ready: u64,
    /// Messages that it sent again.
    pub(crate) replayed: u64,
    /// Messages that it had already and dropped.
    pub(crate) dropped: u64,
    /// Sessions that began anew because the other end had forgotten them.
    pub(crate) resets: u64,
    /// The messages that its application got, in order.
    pub(crate) got: Vec<u32>,
    /// What its sessions told the application, in order.
    pub(crate) events: String,
}

#[derive(Debug)]
struct Break {
    by: ProcessId,
    point: Point,
    nth: u32,
    fault: Fault,
    seen: u32,
    hit: Option<(LinkId, Direction)>,
}

/// A frame, or a banner, that was written.
#[derive(Debug)]
struct Written {
    by: ProcessId,
    point: Point,
    /// Of a frame of the message-flow handshake.
    payload: Vec<u8>,
}

/// Two processes and the faults between them. `a` is the one that dials unless a test says otherwise.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) a: ProcessId,
    pub(crate) b: ProcessId,
    configs: [SessionConfig; 2],
    breaks: Vec<Break>,
    scanned: BTreeMap<(LinkId, Direction), usize>,
    written: Vec<Written>,
    said: [u32; 2],
    receipts: Vec<(ProcessId, SessionId, MessageId)>,
}

impl Stage {
    /// Two processes with these policies, matched by address as Ceph does. The addresses are such that of two
    /// connections that cross, the one opened by `a` survives.
    pub(crate) fn new(a: Policy, b: Policy) -> Self {
        Self::with(ceph(a), ceph(b))
    }

    /// The same with the addresses the other way round: the connection opened by `b` survives.
    pub(crate) fn where_b_wins(a: Policy, b: Policy) -> Self {
        Self::build(ceph(a), ceph(b), [3, 2])
    }

    pub(crate) fn with(a: SessionConfig, b: SessionConfig) -> Self {
        Self::build(a, b, [1, 2])
    }

    fn build(a: SessionConfig, b: SessionConfig, hosts: [u8; 2]) -> Self {
        let mut world = World::new(1);
        world.tapped = true;
        let names = |config: &SessionConfig, osd| {
            let client = !config.policy.is_peer() && !config.policy.server;
            if client { ("client.a", false) } else { (osd, true) }
        };
        let [a_id, b_id] = [(&a, "osd.1", hosts[0]), (&b, "osd.2", hosts[1])].map(|(config, osd, host)| {
            let (name, listens) = names(config, osd);
            let listen = listens.then(|| address(host));
            world.start(process(name, listen, config.clone(), Security::None))
        });
        Self {
            world,
            a: a_id,
            b: b_id,
            configs: [a, b],
            breaks: Vec::new(),
            scanned: BTreeMap::new(),
            written: Vec::new(),
            said: [0; 2],
            receipts: Vec::new(),
        }
    }

    pub(crate) fn lossless() -> Self {
        Self::new(Policy::LOSSLESS_CLIENT, Policy::STATEFUL_SERVER)
    }

    pub(crate) fn lossy() -> Self {
        Self::new(Policy::LOSSY_CLIENT, Policy::STATELESS_SERVER)
    }

    pub(crate) fn peers() -> Self {
        Self::new(Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER)
    }

    // ------------------------------------------------------------------ faults

    /// Something happens at the first such frame that `by` writes.
    pub(crate) fn at(&mut self, by: ProcessId, point: impl Into<Point>, fault: Fault) {
        self.at_nth(by, point, 1, fault);
    }

    /// Something happens at the `nth` such frame from now on.
    pub(crate) fn at_nth(&mut self, by: ProcessId, point: impl Into<Point>, nth: u32, fault: Fault) {
        self.scan();
        self.breaks.push(Break { by, point: point.into(), nth, fault, seen: 0, hit: None });
    }

    /// Frames that are held arrive after all.
    pub(crate) fn let_go(&mut self) {
        for (link, direction) in self.breaks.iter().filter_map(|b| b.hit) {
            if let Some(link) = self.world.links.get_mut(&link) {
                link.hold_at(direction, None);
            }
        }
    }

    /// Whether every fault was met.
    pub(crate) fn all_hit(&self) -> bool {
        self.breaks.iter().all(|b| b.hit.is_some())
    }

    /// Runs until every fault was met.
    pub(crate) fn until_hit(&mut self) {
        self.until("a fault", Self::all_hit);
    }

    // ------------------------------------------------------------------ what the processes do

    fn index(&self, of: ProcessId) -> usize {
        usize::from(of != self.a)
    }

    pub(crate) fn other(&self, of: ProcessId) -> ProcessId {
        if of == self.a { self.b } else { self.a }
    }

    /// A session from here to the other process.
    pub(crate) fn dial(&mut self, from: ProcessId) -> SessionId {
        let config = self.configs[self.index(from)].clone();
        let to = self.other(from);
        let session = self.world.connect(from, to, config);
        self.scan();
        session
    }

    /// The next message of this process, numbered from 0, over its one live session.
    pub(crate) fn say(&mut self, from: ProcessId) -> MessageId {
        let session = self.session(from);
        self.say_on(from, session)
    }

    pub(crate) fn say_on(&mut self, from: ProcessId, session: SessionId) -> MessageId {
        let index = self.index(from);
        let number = self.said[index];
        self.said[index] += 1;
        let message = Message::new(7).front(number.to_le_bytes().to_vec());
        let id = self.world.send(from, session, message).expect("the queue is not full");
        self.receipts.push((from, session, id));
        self.scan();
        id
    }

    /// `a` dials, and each end says something as soon as it has a session.
    pub(crate) fn a_dials_and_both_speak(&mut self) {
        let session = self.dial(self.a);
        self.say_on(self.a, session);
        self.until_b_has_a_session();
        self.say(self.b);
    }

    pub(crate) fn until_b_has_a_session(&mut self) {
        self.until("a session at b", |s| !s.world.live_sessions(s.b).is_empty());
    }

    /// The application forgets the session without telling anybody.
    pub(crate) fn mark_down(&mut self, at: ProcessId) {
        let session = self.session(at);
        self.world.with_session(at, session, |s, _| s.abort()).expect("a session of this process");
        self.scan();
    }

    pub(crate) fn restart(&mut self, id: ProcessId) -> Process {
        let before = self.world.restart(id);
        self.scan();
        before
    }

    /// The one live session of a process.
    pub(crate) fn session(&self, of: ProcessId) -> SessionId {
        let live = self.world.live_sessions(of);
        assert_eq!(live.len(), 1, "live sessions of {of:?}");
        live[0]
    }

    /// What became of each message said, in the order of saying, by this process.
    pub(crate) fn receipts(&self, of: ProcessId) -> Vec<ReceiptStatus> {
        self.receipts
            .iter()
            .filter(|(process, _, _)| *process == of)
            .map(|(process, session, id)| self.world.session(*process, *session).status(*id))
            .collect()
    }

    /// Cuts every link.
    pub(crate) fn cut(&mut self) {
        self.world.cut_all();
    }

    // ------------------------------------------------------------------ time

    fn step(&mut self) -> bool {
        self.scan();
        let more = self.world.step();
        self.scan();
        more
    }

    /// Runs until something is so, which must happen within a minute.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.world.now + Duration::from_secs(60);
        while !done(self) {
            assert!(self.world.now < end, "{what} did not happen: {:#?}", self.both());
            assert!(self.step(), "nothing happens any more, nor did {what}: {:#?}", self.both());
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.world.now + span;
        while self.world.next_time().is_some_and(|next| next <= end) {
            self.step();
        }
        self.world.run_for(end.saturating_since(self.world.now));
    }

    /// Everything that can happen has happened; every fault was met.
    pub(crate) fn settle(&mut self) {
        self.pass(SETTLED);
        assert!(self.all_hit(), "not met: {:?} in {:#?}", self.breaks, self.both());
    }

    // ------------------------------------------------------------------ what was seen

    pub(crate) fn seen(&self, of: ProcessId) -> Seen {
        let process = self.world.process(of);
        let sum = |f: fn(&outlast_session::Counters) -> u64| -> u64 {
            process.sessions.values().map(|s| f(&s.counters())).sum()
        };
        let said: Vec<_> = self
            .written
            .iter()
            .filter(|w| w.by == of)
            .filter_map(|w| match w.point {
                Point::Frame(tag) => handshake_word(tag),
                Point::Banner => None,
            })
            .collect();
        let number =
            |front: &bytes::Bytes| u32::from_le_bytes(front[..].try_into().expect("a number of four bytes"));
        Seen {
            dialled: process.dialled,
            accepted: process.accepted,
            said: said.join(" "),
            ready: process.sessions.values().map(outlast_msgr2::Session::connects).sum(),
            replayed: sum(|c| c.replayed),
            dropped: sum(|c| c.duplicates_dropped),
            resets: sum(|c| c.resets),
            got: process.delivered.iter().map(|(_, r)| number(&r.message.front)).collect(),
            events: process.events.iter().map(|(_, e)| event_word(e)).collect::<Vec<_>>().join(" "),
        }
    }

    fn both(&self) -> [Seen; 2] {
        [self.seen(self.a), self.seen(self.b)]
    }

    /// Compares what both ends have seen.
    #[track_caller]
    pub(crate) fn expect(&self, a: Seen, b: Seen) {
        assert_eq!(self.seen(self.a), a, "at the dialling end a");
        assert_eq!(self.seen(self.b), b, "at the other end b");
    }

    /// The payloads of the frames of this kind that a process wrote, in order.
    pub(crate) fn controls(&self, by: ProcessId, tag: Tag) -> impl Iterator<Item = Control> + use<'_> {
        self.written
            .iter()
            .filter(move |w| w.by == by && w.point == Point::Frame(tag))
            .map(move |w| Control::decode(tag, &w.payload).expect("a payload of ours"))
    }

    pub(crate) fn idents(&self, by: ProcessId) -> impl Iterator<Item = ClientIdent> + use<'_> {
        self.controls(by, Tag::ClientIdent).map(|control| match control {
            Control::ClientIdent(ident) => ident,
            other => panic!("{other:?}"),
        })
    }

    pub(crate) fn server_idents(&self, by: ProcessId) -> impl Iterator<Item = ServerIdent> + use<'_> {
        self.controls(by, Tag::ServerIdent).map(|control| match control {
            Control::ServerIdent(ident) => ident,
            other => panic!("{other:?}"),
        })
    }

    pub(crate) fn reconnects(&self, by: ProcessId) -> impl Iterator<Item = SessionReconnect> + use<'_> {
        self.controls(by, Tag::SessionReconnect).map(|control| match control {
            Control::SessionReconnect(reconnect) => reconnect,
            other => panic!("{other:?}"),
        })
    }

    /// Reads what was written since the last look, and sets the faults that it meets.
    fn scan(&mut self) {
        let links: Vec<_> = self.world.links.keys().copied().collect();
        for link in links {
            for direction in [Direction::Forth, Direction::Back] {
                self.scan_pipe(link, direction);
            }
        }
    }

    fn scan_pipe(&mut self, id: LinkId, direction: Direction) {
        loop {
            let Some(link) = self.world.links.get(&id) else { return };
            let (by, _) = link.sender(direction);
            let start = self.scanned.get(&(id, direction)).copied().unwrap_or(0);
            let bytes = &link.written(direction)[start..];
            let Some((point, len)) = (if start == 0 { banner(bytes) } else { frame(bytes) }) else { return };
            self.scanned.insert((id, direction), start + len);
            let payload = match point {
                Point::Frame(tag) if handshake_word(tag).is_some() && len > PREAMBLE_BYTES => {
                    bytes[PREAMBLE_BYTES..len - CRC_BYTES].to_vec()
                }
                Point::Frame(_) | Point::Banner => Vec::new(),
            };
            self.written.push(Written { by, point, payload });
            self.meet(id, direction, by, point, start as u64, (start + len) as u64);
        }
    }

    fn meet(&mut self, id: LinkId, direction: Direction, by: ProcessId, point: Point, start: u64, end: u64) {
        let now = self.world.now;
        let Some(link) = self.world.links.get_mut(&id) else { return };
        for fault in self.breaks.iter_mut().filter(|b| b.by == by && b.point == point && b.hit.is_none()) {
            fault.seen += 1;
            if fault.seen < fault.nth {
                continue;
            }
            fault.hit = Some((id, direction));
            let left = |until: u64| until.saturating_sub(link.passed(direction));
            match fault.fault {
                Fault::CutBefore => link.cut_after(direction, left(start)),
                Fault::CutWithin => link.cut_after(direction, left(start.midpoint(end))),
                Fault::CutAfter => link.cut_after(direction, left(end)),
                Fault::Hold => link.hold_at(direction, Some(start)),
                Fault::Stall => {
                    link.hold_at(direction, Some(start));
                    link.sever(direction.reverse(), now);
                }
                Fault::Vanish => {
                    let back = direction.reverse();
                    link.sever(direction, now);
                    link.hold_at(back, Some(link.passed(back)));
                    fault.hit = Some((id, back));
                }
            }
        }
    }
}

/// Of a frame of msgr2.1 in crc mode with one segment.
const PREAMBLE_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// What the banner takes, once it is whole.
fn banner(bytes: &[u8]) -> Option<(Point, usize)> {
    let payload = u16::from_le_bytes([*bytes.get(8)?, *bytes.get(9)?]);
    let len = 10 + usize::from(payload);
    (bytes.len() >= len).then_some((Point::Banner, len))
}

/// The next frame of msgr2.1 in crc mode and what it takes, once it is whole.
fn frame(bytes: &[u8]) -> Option<(Point, usize)> {
    let preamble: &[u8; 32] = bytes.first_chunk()?;
    let tag = Tag::from_wire(preamble[0]).expect("a tag");
    let count = usize::from(preamble[1]);
    let len_of = |i: usize| {
        let at = 2 + 6 * i;
        u32::from_le_bytes(preamble[at..at + 4].try_into().expect("four bytes")) as usize
    };
    let first = if len_of(0) > 0 { len_of(0) + 4 } else { 0 };
    let rest: usize = (1..count).map(len_of).sum();
    let epilogue = if count > 1 { 13 } else { 0 };
    let len = 32 + first + rest + epilogue;
    (bytes.len() >= len).then_some((Point::Frame(tag), len))
}

fn handshake_word(tag: Tag) -> Option<&'static str> {
    Some(match tag {
        Tag::ClientIdent => "ident",
        Tag::ServerIdent => "server_ident",
        Tag::IdentMissingFeatures => "missing_features",
        Tag::SessionReconnect => "reconnect",
        Tag::SessionReset => "reset",
        Tag::SessionRetry => "retry",
        Tag::SessionRetryGlobal => "retry_global",
        Tag::SessionReconnectOk => "reconnect_ok",
        Tag::Wait => "wait",
        _ => return None,
    })
}

fn event_word(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Connected => "connected".to_owned(),
        SessionEvent::Interrupted { .. } => "interrupted".to_owned(),
        SessionEvent::AttemptFailed { cause: ConnectionError::Wait } => "told_to_wait".to_owned(),
        SessionEvent::AttemptFailed { .. } => "failed".to_owned(),
        SessionEvent::Resumed { replayed, .. } => format!("resumed({replayed})"),
        SessionEvent::Reset { lost } => format!("reset({lost})"),
        SessionEvent::Ended(EndReason::ConnectionLost(_)) => "ended(lost)".to_owned(),
        SessionEvent::Ended(reason) => format!("ended({reason:?})"),
    }
}

/// A configuration between our own ends.
pub(crate) fn by_identity(policy: Policy) -> SessionConfig {
    SessionConfig { matching: Matching::Identity, ..ceph(policy) }
}
