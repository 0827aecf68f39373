//! Bugs that are put in on purpose, to see that the checkers find them.
//!
//! None of them is in the production crates. Each is played from outside: a man in the middle changes frames of the
//! crc mode as a faulty peer would have written them, or the driver breaks its contract. What the other end and the
//! checkers see is the same.

use crate::link::{Direction, LinkId};
use crate::world::ProcessId;
use outlast_msgr2::connection::State;
use outlast_msgr2::frame::{
    AdmitAll, FrameDecoder, FrameEncoder, Incoming, Limits, MessageFrame, OutBuf, Revision,
};
use outlast_msgr2::wire::{Ack, BANNER_PREFIX_BYTES, Banner, Control};
use outlast_msgr2::{ChannelId, Session, SessionEvent, SessionId, SessionState};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::IoSlice;

/// A bug to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Every acknowledgement says one message more than was received.
    AckOffByOne,
    /// The first message after a resumption is not sent again.
    LostReplay,
    /// The first two messages after a resumption are sent in the wrong order.
    ReplayOutOfOrder,
    /// What was sent before is sent again under new numbers, so that no duplicate is noticed.
    DuplicateNotDropped,
    /// RECONNECT_OK claims one message more than was received.
    NumbersNotRestored,
    /// The acceptor takes every cookie of a client for the one it knows.
    CookieNotCompared,
    /// A message is acknowledged when it is written, not when it is received.
    ReceiptTooEarly,
    /// A new connection starts with what was left undecoded of the old one.
    DecoderKept,
    /// The driver does not lend the session that is being dialled: both of two crossing connections win.
    TwoWinners,
    /// An equal answers WAIT although it is not dialling.
    WaitWithoutPromise,
    /// A handshake has no deadline.
    NoHandshakeDeadline,
    /// Once reading was paused for the throttle, the application is not given anything any more.
    ThrottleLeak,
    /// The application is not told of a reset.
    ResetUntold,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AckOffByOne,
        Self::LostReplay,
        Self::ReplayOutOfOrder,
        Self::DuplicateNotDropped,
        Self::NumbersNotRestored,
        Self::CookieNotCompared,
        Self::ReceiptTooEarly,
        Self::DecoderKept,
        Self::TwoWinners,
        Self::WaitWithoutPromise,
        Self::NoHandshakeDeadline,
        Self::ThrottleLeak,
        Self::ResetUntold,
    ];

    /// Whether frames must be readable on the wire.
    #[must_use]
    pub const fn is_on_the_wire(self) -> bool {
        match self {
            Self::AckOffByOne
            | Self::LostReplay
            | Self::ReplayOutOfOrder
            | Self::DuplicateNotDropped
            | Self::NumbersNotRestored
            | Self::CookieNotCompared
            | Self::ReceiptTooEarly => true,
            Self::DecoderKept
            | Self::TwoWinners
            | Self::WaitWithoutPromise
            | Self::NoHandshakeDeadline
            | Self::ThrottleLeak
            | Self::ResetUntold => false,
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AckOffByOne => "an acknowledgement off by one",
            Self::LostReplay => "a lost replay",
            Self::ReplayOutOfOrder => "a replay in the wrong order",
            Self::DuplicateNotDropped => "a duplicate that is not dropped",
            Self::NumbersNotRestored => "numbers not restored at RECONNECT_OK",
            Self::CookieNotCompared => "a cookie that is not compared",
            Self::ReceiptTooEarly => "a receipt told too early",
            Self::DecoderKept => "a decoder kept over a reconnection",
            Self::TwoWinners => "a race with two winners",
            Self::WaitWithoutPromise => "a WAIT without a promise",
            Self::NoHandshakeDeadline => "a handshake without a deadline",
            Self::ThrottleLeak => "a throttle that never lets go",
            Self::ResetUntold => "a reset that nobody is told of",
        })
    }
}

/// One direction of a link, read and written again.
struct Wire {
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    banner_len: Option<usize>,
    banner_done: bool,
    held: Option<MessageFrame>,
    messages: u64,
    shift: u64,
}

impl Wire {
    fn new() -> Self {
        let mut encoder = FrameEncoder::new();
        encoder.set_revision(Revision::V1);
        Self {
            decoder: FrameDecoder::new(Limits::READY),
            encoder,
            banner_len: None,
            banner_done: false,
            held: None,
            messages: 0,
            shift: 0,
        }
    }
}

/// A bug in a world. See the [module](self).
pub struct Planted {
    bug: Option<Bug>,
    /// Resumptions say less than what was received. No bug: more is sent again than need be.
    sloppy: bool,
    wires: BTreeMap<(LinkId, Direction), Wire>,
    resumed: BTreeSet<LinkId>,
    /// The highest number that a process wrote to whoever is at the other end.
    highest: BTreeMap<ProcessId, u64>,
    cookies: BTreeMap<ProcessId, u64>,
    asleep: BTreeSet<ProcessId>,
    tails: BTreeMap<(ProcessId, ChannelId), Vec<u8>>,
    left_over: BTreeMap<ProcessId, Vec<u8>>,
}

/// Messages that a sloppy peer forgets.
const FORGOTTEN: u64 = 3;
/// How much a kept decoder keeps at most.
const TAIL_BYTES_MAX: usize = 40;

impl Planted {
    /// Plants a bug.
    #[must_use]
    pub fn new(bug: Bug) -> Self {
        Self { bug: Some(bug), ..Self::sloppy(false) }
    }

    /// No bug, but peers that forget a little of what they received.
    #[must_use]
    pub fn sloppy(sloppy: bool) -> Self {
        Self {
            bug: None,
            sloppy,
            wires: BTreeMap::new(),
            resumed: BTreeSet::new(),
            highest: BTreeMap::new(),
            cookies: BTreeMap::new(),
            asleep: BTreeSet::new(),
            tails: BTreeMap::new(),
            left_over: BTreeMap::new(),
        }
    }

    // ------------------------------------------------------------------ drivers that break their contract

    pub(crate) fn has_no_deadline(&self, state: State) -> bool {
        self.bug == Some(Bug::NoHandshakeDeadline) && state != State::Ready
    }

    pub(crate) fn paused(&mut self, process: ProcessId) {
        if self.bug == Some(Bug::ThrottleLeak) {
            self.asleep.insert(process);
        }
    }

    pub(crate) fn is_asleep(&self, process: ProcessId) -> bool {
        self.asleep.contains(&process)
    }

    pub(crate) fn swallows(&self, event: &SessionEvent) -> bool {
        self.bug == Some(Bug::ResetUntold) && matches!(event, SessionEvent::Reset { .. })
    }

    pub(crate) fn overlooks(&self, existing: Option<SessionState>) -> bool {
        self.bug == Some(Bug::TwoWinners) && existing.is_some_and(SessionState::is_dialling)
    }

    pub(crate) fn says_wait(&self, existing: Option<&Session>) -> bool {
        self.bug == Some(Bug::WaitWithoutPromise)
            && existing.is_some_and(|s| {
                s.policy().is_peer()
                    && match s.state() {
                        SessionState::Pausing { .. }
                        | SessionState::Standby
                        | SessionState::Waiting { .. } => true,
                        SessionState::Connecting { .. }
                        | SessionState::Ready { .. }
                        | SessionState::Closed => false,
                    }
            })
    }

    /// The bytes that reach a connection, with what the one before left over.
    pub(crate) fn left_over(
        &mut self,
        process: ProcessId,
        channel: ChannelId,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        if self.bug != Some(Bug::DecoderKept) {
            return None;
        }
        let fresh = !self.tails.contains_key(&(process, channel));
        let tail = self.tails.entry((process, channel)).or_default();
        tail.extend_from_slice(bytes);
        let cut = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..cut);
        let mut left = self.left_over.remove(&process).filter(|_| fresh)?;
        left.extend_from_slice(bytes);
        Some(left)
    }

    pub(crate) fn closed(&mut self, process: ProcessId, channel: ChannelId, session: Option<SessionId>) {
        if let (Some(tail), Some(_)) = (self.tails.remove(&(process, channel)), session) {
            self.left_over.insert(process, tail);
        }
    }

    // ------------------------------------------------------------------ the man in the middle

    /// What becomes of bytes that `from` writes: what goes on, and what comes back at once.
    pub(crate) fn tap(
        &mut self,
        link: LinkId,
        direction: Direction,
        from: ProcessId,
        bytes: &[u8],
    ) -> (Vec<u8>, Vec<u8>) {
        if !self.sloppy && !self.bug.is_some_and(Bug::is_on_the_wire) {
            return (bytes.to_vec(), Vec::new());
        }
        let mut wire = self.wires.remove(&(link, direction)).unwrap_or_else(Wire::new);
        let (mut forth, mut back) = (Vec::new(), Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let buffer = wire.decoder.poll_read();
            let len = buffer.len().min(rest.len());
            assert!(len > 0, "the man in the middle admits everything");
            buffer[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            wire.decoder.handle_read(len);
            self.read(&mut wire, link, direction, from, &mut forth, &mut back);
        }
        self.wires.insert((link, direction), wire);
        (forth, back)
    }

    fn read(
        &mut self,
        wire: &mut Wire,
        link: LinkId,
        direction: Direction,
        from: ProcessId,
        forth: &mut Vec<u8>,
        back: &mut Vec<u8>,
    ) {
        while !wire.banner_done {
            let Some(len) = wire.banner_len else {
                let Some(prefix) = wire.decoder.take_raw(BANNER_PREFIX_BYTES) else { return };
                let mut fixed = [0; BANNER_PREFIX_BYTES];
                fixed.copy_from_slice(&prefix);
                wire.banner_len = Some(Banner::payload_len(&fixed).expect("a banner of ours"));
                forth.extend_from_slice(&prefix);
                continue;
            };
            let Some(payload) = wire.decoder.take_raw(len) else { return };
            forth.extend_from_slice(&payload);
            wire.decoder.set_revision(Revision::V1);
            wire.banner_done = true;
        }
        while let Some(frame) = wire.decoder.next(&mut AdmitAll).expect("frames of ours") {
            match frame {
                Incoming::Control { tag, payload } => {
                    let control = Control::decode(tag, &payload).expect("a payload of ours");
                    if let Some(message) = wire.held.take() {
                        write_message(wire, &message, forth);
                    }
                    let control = self.change_control(control, link, direction, from);
                    write_control(wire, &control, forth);
                }
                Incoming::Message(message) => {
                    self.change_message(wire, message, link, direction, from, forth, back);
                }
                Incoming::Aborted { .. } => {}
            }
        }
    }

    /// How far the numbers of the other direction were shifted.
    fn shift_back(&self, link: LinkId, direction: Direction) -> u64 {
        self.wires.get(&(link, direction.reverse())).map_or(0, |wire| wire.shift)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only these are changed")]
    fn change_control(
        &mut self,
        control: Control,
        link: LinkId,
        direction: Direction,
        from: ProcessId,
    ) -> Control {
        match control {
            Control::Ack(ack) => Control::Ack(Ack { seq: self.change_ack(ack.seq, link, direction) }),
            Control::SessionReconnectOk(mut ok) => {
                self.resumed.insert(link);
                if self.bug == Some(Bug::NumbersNotRestored) {
                    ok.msg_seq += 1;
                } else if self.sloppy {
                    ok.msg_seq = ok.msg_seq.saturating_sub(FORGOTTEN);
                }
                Control::SessionReconnectOk(ok)
            }
            Control::ClientIdent(mut ident) if self.bug == Some(Bug::CookieNotCompared) => {
                ident.cookie = *self.cookies.entry(from).or_insert(ident.cookie);
                Control::ClientIdent(ident)
            }
            Control::SessionReconnect(mut reconnect) if self.bug == Some(Bug::CookieNotCompared) => {
                reconnect.client_cookie = *self.cookies.entry(from).or_insert(reconnect.client_cookie);
                Control::SessionReconnect(reconnect)
            }
            Control::SessionReconnect(mut reconnect) if self.sloppy => {
                reconnect.msg_seq = reconnect.msg_seq.saturating_sub(FORGOTTEN);
                Control::SessionReconnect(reconnect)
            }
            control => control,
        }
    }

    fn change_ack(&self, seq: u64, link: LinkId, direction: Direction) -> u64 {
        match self.bug {
            Some(Bug::AckOffByOne) if seq > 0 => seq + 1,
            Some(Bug::DuplicateNotDropped) => seq.saturating_sub(self.shift_back(link, direction)),
            Some(_) | None => seq,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a direction of a link, and where its bytes go")]
    fn change_message(
        &mut self,
        wire: &mut Wire,
        mut message: MessageFrame,
        link: LinkId,
        direction: Direction,
        from: ProcessId,
        forth: &mut Vec<u8>,
        back: &mut Vec<u8>,
    ) {
        let resumed = self.resumed.contains(&link);
        let first = wire.messages == 0;
        wire.messages += 1;
        message.header.ack_seq = self.change_ack(message.header.ack_seq, link, direction);
        match self.bug {
            Some(Bug::LostReplay) if resumed && first => return,
            Some(Bug::ReplayOutOfOrder) if resumed && first => {
                wire.held = Some(message);
                return;
            }
            Some(Bug::ReplayOutOfOrder) => {
                if let Some(mut held) = wire.held.take() {
                    std::mem::swap(&mut held.header.seq, &mut message.header.seq);
                    write_message(wire, &message, forth);
                    message = held;
                }
            }
            Some(Bug::DuplicateNotDropped) => {
                let highest = self.highest.entry(from).or_default();
                if first && resumed && message.header.seq <= *highest {
                    wire.shift = *highest + 1 - message.header.seq;
                }
                message.header.seq += wire.shift;
                *highest = (*highest).max(message.header.seq);
            }
            Some(Bug::ReceiptTooEarly) => {
                write_control(wire, &Control::Ack(Ack { seq: message.header.seq }), back);
            }
            Some(_) | None => {}
        }
        write_message(wire, &message, forth);
    }
}

fn write_control(wire: &mut Wire, control: &Control, to: &mut Vec<u8>) {
    let mut out = OutBuf::new();
    wire.encoder.encode_control(control, &mut out).expect("it was read");
    move_bytes(&mut out, to);
}

fn write_message(wire: &mut Wire, message: &MessageFrame, to: &mut Vec<u8>) {
    let mut out = OutBuf::new();
    let MessageFrame { header, front, middle, data, .. } = message;
    wire.encoder.encode_message(header, front, middle, data, &mut out).expect("it was read");
    move_bytes(&mut out, to);
}

fn move_bytes(out: &mut OutBuf, to: &mut Vec<u8>) {
    while !out.is_empty() {
        let mut slices: [IoSlice<'_>; 8] = std::array::from_fn(|_| IoSlice::new(&[]));
        let filled = out.slices(&mut slices);
        let before = to.len();
        slices[..filled].iter().for_each(|slice| to.extend_from_slice(slice));
        let written = to.len() - before;
        out.advance(written);
    }
}
