//! A connection that carries its session: messages, acknowledgements, keepalives, the orderly end.

use super::{Connection, FEATURE_OUTLAST_CLOSE, OUT_BYTES_HIGH, State};
use crate::error::{ConnectionError, EndReason};
use crate::frame::{Abort, MessageFrame, OutBuf, REFERENCE_BYTES_MIN};
use crate::message::{Message, Received};
use crate::session::Session;
use crate::wire::{Ack, Close, Control, Keepalive2, Keepalive2Ack, MESSAGE_FLAGS, MessageHeader, Payload};
use outlast_session::{Budget, Convention, Inclusive64, Instant, LivenessAction, Pulled};
use std::time::Duration;

/// Messages with at least this much payload are remembered while they are written, so that they can be aborted.
const ABORTABLE_BYTES_MIN: usize = 16 << 10;
/// Messages with at most this much payload are encoded under the session's lock. Their bytes are copied into the
/// stream in any case, and to do so takes less time than to hand them out first.
const ENCODE_AT_ONCE_BYTES_MAX: usize = REFERENCE_BYTES_MIN - 1;

/// What was said only because the peer said something: as much as it likes, were there no bound.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Bytes, of those that wait or waited together.
    bytes: usize,
    /// Where the last one ends in the stream of what is written.
    until: u64,
}

impl Answers {
    /// At most so many bytes of answers wait to be written.
    pub(super) fn waiting(&self, out: &OutBuf) -> usize {
        // An aborted frame can leave `until` beyond the end.
        if out.is_empty() || out.written_total() >= self.until { 0 } else { self.bytes }
    }
}

impl Connection {
    // Of the many kinds of frames, those named here are all that have a meaning now; what is added later has none yet.
    #[allow(clippy::wildcard_enum_match_arm)]
    pub(super) fn ready_control(&mut self, control: Control, now: Instant) -> Result<(), ConnectionError> {
        match control {
            Control::Ack(ack) => {
                self.note_acked(ack.seq);
                Ok(())
            }
            // Answers take nonces in the order of writing, so they go through the same encoder, ahead of what the
            // session still holds.
            Control::Keepalive2(keepalive) => self.answer(&Keepalive2Ack { stamp: keepalive.stamp }),
            Control::Keepalive2Ack(answer) => {
                let sent =
                    u64::from(answer.stamp.seconds) * 1_000_000_000 + u64::from(answer.stamp.nanoseconds);
                self.round_trip = Some(now.saturating_since(Instant::from_nanos(sent)));
                Ok(())
            }
            Control::Close(_) if self.close_spoken() => {
                self.peer_closed = true;
                Ok(())
            }
            control => self.unexpected(&control),
        }
    }

    pub(super) fn close_spoken(&self) -> bool {
        let peer = self.agreement.peer_banner.as_ref().map_or(0, |b| b.supported);
        peer & self.config.msgr2_supported & FEATURE_OUTLAST_CLOSE != 0
    }

    fn note_acked(&mut self, seq: u64) {
        // Cumulative: the last one says it all.
        self.acked = Some(self.acked.map_or(seq, |known| known.max(seq)));
    }

    pub(super) fn take_message(&mut self, frame: MessageFrame) {
        let MessageFrame { header, front, middle, data, .. } = frame;
        self.note_acked(header.ack_seq);
        self.arrived.push_back(Received {
            message: Message {
                kind: header.kind,
                tid: header.tid,
                priority: u8::try_from(header.priority).unwrap_or(u8::MAX),
                version: header.version,
                compat_version: header.compat_version,
                data_off: header.data_off,
                front,
                middle,
                data,
            },
            seq: header.seq,
        });
    }

    pub(super) fn ready_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        // Who does not listen cannot tell whether something was said; but goes on saying that he is there. And while the
        // question itself waits behind a long message, whose bytes go on being taken, there can be no answer yet.
        let deaf = self.decoder.is_paused();
        let written = self.out.written_total();
        let busy = self.question_waits() && written > self.written_then;
        if self.ending.is_none() && (deaf || busy) && self.liveness.poll_timeout().is_some_and(|at| at <= now)
        {
            self.written_then = written;
            self.liveness.handle_heard(now);
            // The question may be waiting already: its time has passed all the same, or the timer would ask again at once.
            self.liveness.handle_said(now);
            return self.ask_for_life(now);
        }
        match self.liveness.handle_timeout(now) {
            LivenessAction::Nothing => Ok(()),
            LivenessAction::Dead => Err(ConnectionError::Silent),
            LivenessAction::SendHeartbeat => {
                self.written_then = written;
                self.ask_for_life(now)
            }
        }
    }

    /// The last KEEPALIVE2 has not been written.
    fn question_waits(&self) -> bool {
        !self.out.is_empty() && self.out.written_total() < self.asked_until
    }

    /// Says KEEPALIVE2, unless one waits to be written already, or this end has said its last word.
    fn ask_for_life(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.question_waits() || self.ending.is_some() {
            return Ok(());
        }
        self.send(&Keepalive2 { stamp: Self::now_stamp(now) })?;
        self.asked_until = self.out.queued_total();
        Ok(())
    }

    /// Says what the peer has asked for.
    fn answer(&mut self, payload: &impl Payload) -> Result<(), ConnectionError> {
        let waiting = self.answers.waiting(&self.out);
        let before = self.out.len();
        self.send(payload)?;
        self.answers = Answers { bytes: waiting + self.out.len() - before, until: self.out.queued_total() };
        Ok(())
    }

    /// The one place where connection and session meet.
    pub(super) fn exchange(&mut self, session: &mut Session, now: Instant) -> Result<(), ConnectionError> {
        match self.state {
            State::Closed => return Err(ConnectionError::Lost { state: State::Closed }),
            State::SessionOpening => self.open_session(session)?,
            State::SessionConnecting | State::SessionReconnecting => {
                while let Some(reply) = self.reply.take() {
                    self.take_reply(session, reply, now)?;
                    self.parse(now)?;
                }
            }
            State::BannerConnecting
            | State::HelloConnecting
            | State::AuthConnecting
            | State::AuthConnectingSign
            | State::CompressionConnecting
            | State::BannerAccepting
            | State::HelloAccepting
            | State::AuthAccepting
            | State::AuthAcceptingMore
            | State::AuthStandby
            | State::AuthAcceptingSign
            | State::CompressionAccepting
            | State::SessionAccepting
            | State::SessionDeciding => {}
            State::Ready => {}
        }
        if self.ending.is_some() {
            // Nothing more is acknowledged; a timer left over would ask for it without end.
            self.ack_timer = None;
            return Ok(());
        }
        if session.state().channel() != Some(self.id) {
            return match session.end() {
                Some(EndReason::Closed | EndReason::ClosedUndrained | EndReason::Expired) => {
                    self.end_at_once()
                }
                Some(_) => Err(ConnectionError::SessionEnded),
                None => Err(ConnectionError::Superseded),
            };
        }
        if self.state == State::Ready { self.exchange_ready(session, now) } else { Ok(()) }
    }

    fn exchange_ready(&mut self, session: &mut Session, now: Instant) -> Result<(), ConnectionError> {
        loop {
            if let Some(seq) = self.acked.take() {
                session.take_ack(seq)?;
                session.counters_mut().acks_received += 1;
            }
            if !self.arrived.is_empty() {
                session.take_messages(&mut self.arrived, now)?;
            }
            self.budget = session.budget();
            // What was admitted and is still on its way is not among what the session holds.
            if self.admitted.is_some_and(|len| !self.budget.try_take(len)) {
                self.budget = Budget::NONE;
            }
            // Reading stopped for want of budget: what is buffered may go on now.
            if !self.decoder.is_paused() {
                break;
            }
            self.parse(now)?;
            if self.arrived.is_empty() && self.acked.is_none() {
                break;
            }
        }
        if self.peer_closed {
            return Err(ConnectionError::PeerClosed);
        }
        self.abort_revoked(session);
        self.pull(session, now)?;
        if session.is_drained() && self.pulled.is_empty() {
            self.end_in_order(session)?;
        }
        self.ack_timer = session.inbox.poll_timeout();
        Ok(())
    }

    fn pull(&mut self, session: &mut Session, now: Instant) -> Result<(), ConnectionError> {
        let worn = self.encoder.nonces_remaining().is_some_and(|left| left < self.config.nonces_spare);
        if worn && self.out.is_empty() && self.pulled.is_empty() {
            return Err(ConnectionError::Rekey);
        }
        self.ack_seq = session.ack_seq();
        let mut any = false;
        // What was encoded before goes out first, and acknowledgements too: it took the nonces, and a connection that
        // threw it away would be replaced by one that does the same.
        while !worn && self.out.len() + self.pulled_bytes < OUT_BYTES_HIGH {
            let pulled = session.pull_with(|ordinal, id, message, replay| {
                // Small ones are encoded where they lie: cheaper than to hand them out. The others wait until the
                // session is out of hand, and what is behind them with them.
                if self.pulled.is_empty() && message.payload_len() <= ENCODE_AT_ONCE_BYTES_MAX {
                    return self.encode_message(ordinal, message);
                }
                self.pulled_bytes += message.payload_len() + crate::message::MESSAGE_OVERHEAD_BYTES;
                self.pulled.push_back(Pulled { ordinal, id, message: message.clone(), replay });
                Ok(())
            });
            match pulled {
                None => break,
                Some(encoded) => encoded?,
            }
            any = true;
        }
        if any {
            session.note_ack_sent(true);
        } else if session.inbox.ack_due(now) {
            self.ack_out = Some(session.ack_seq());
            session.note_ack_sent(false);
        }
        Ok(())
    }

    /// Everything of ours is acknowledged and the application has closed: say so and end.
    fn end_in_order(&mut self, session: &mut Session) -> Result<(), ConnectionError> {
        self.send(&Ack { seq: session.ack_seq() })?;
        if self.close_spoken() {
            self.send(&Close)?;
        }
        session.finish_drained();
        self.ending = Some(ConnectionError::SessionEnded);
        Ok(())
    }

    /// This end has ended the session without draining it. The peer is told, if it understands: else it would come
    /// back to find that nobody knows it.
    fn end_at_once(&mut self) -> Result<(), ConnectionError> {
        if self.state != State::Ready || !self.close_spoken() {
            return Err(ConnectionError::SessionEnded);
        }
        self.pulled.clear();
        self.pulled_bytes = 0;
        self.send(&Close)?;
        self.ending = Some(ConnectionError::SessionEnded);
        Ok(())
    }

    /// Encodes what was pulled; outside the session's lock.
    pub(super) fn encode_pulled(&mut self) {
        if self.state != State::Ready {
            return;
        }
        if let Some(seq) = self.ack_out.take() {
            self.try_encode(|connection| connection.answer(&Ack { seq }));
        }
        while let Some(pulled) = self.pulled.pop_front() {
            self.try_encode(|connection| connection.encode_message(pulled.ordinal, &pulled.message));
            if self.ending.is_some() {
                // What cannot be written will be replayed.
                self.pulled.clear();
            }
        }
        self.pulled_bytes = 0;
        let written = self.out.written_total();
        while self.marks.front().is_some_and(|(_, _, end)| *end <= written) {
            self.marks.pop_front();
        }
    }

    fn encode_message(&mut self, ordinal: u64, message: &Message) -> Result<(), ConnectionError> {
        let header = MessageHeader {
            seq: Inclusive64::number(ordinal),
            tid: message.tid,
            kind: message.kind,
            priority: u16::from(message.priority),
            version: message.version,
            data_pre_padding_len: 0,
            data_off: message.data_off,
            ack_seq: self.ack_seq,
            flags: MESSAGE_FLAGS,
            compat_version: message.compat_version,
            reserved: 0,
        };
        let Message { front, middle, data, .. } = message;
        let mark = self.encoder.encode_message(&header, front, middle, data, &mut self.out)?;
        if message.payload_len() >= ABORTABLE_BYTES_MIN {
            self.marks.push_back((ordinal, mark, self.out.queued_total()));
        }
        Ok(())
    }

    fn try_encode(&mut self, encode: impl FnOnce(&mut Self) -> Result<(), ConnectionError>) {
        if let Err(error) = encode(self) {
            self.ending = Some(error);
        }
    }

    /// Messages that were revoked after they got their number: those still being written are aborted on the wire, as
    /// the spec allows a sender to do; the others are too late.
    fn abort_revoked(&mut self, session: &mut Session) {
        while let Some((id, ordinal)) = session.next_abort() {
            let before_encoding = self.pulled.iter().position(|p| p.ordinal == ordinal);
            let aborted = if let Some(index) = before_encoding {
                self.pulled.remove(index);
                true
            } else {
                let mark = self.marks.iter().find(|(o, _, _)| *o == ordinal).map(|(_, mark, _)| *mark);
                mark.is_some_and(|mark| match self.out.abort(mark) {
                    Abort::Removed | Abort::Aborted => true,
                    Abort::TooLate => false,
                })
            };
            session.settle_abort(id, ordinal, aborted);
        }
    }

    /// Bytes that were taken from the session and not written yet, encoded or not.
    #[must_use]
    pub fn unwritten_len(&self) -> usize {
        self.out_len() + self.pulled_bytes
    }

    /// How long since the handshake began.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_since(self.handshake_started)
    }
}
