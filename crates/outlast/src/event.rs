//! What happens to a session as a whole.

use crate::core::Core;
use crate::wait::Place;
use outlast_msgr2::{ConnectionError, EndReason};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Events that a session remembers for those who have not read them yet.
pub const EVENTS_KEPT_MAX: usize = 256;

/// Something that happened to a session as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// It is established for the first time.
    Connected,
    /// Its connection is gone; what is sent now waits in the queue.
    Interrupted {
        /// Why.
        cause: ConnectionError,
    },
    /// An attempt to connect failed; there will be another. Several in a row are told once, with the last cause, to
    /// those who read late.
    AttemptFailed {
        /// Why.
        cause: ConnectionError,
    },
    /// A new connection goes on where the old one ended.
    Resumed {
        /// Unacknowledged messages that are sent again, once the peer has said what it has.
        replayed: usize,
        /// How long there was no connection.
        away: Duration,
    },
    /// The peer has forgotten the session, because it was restarted or has let it expire: the session begins anew.
    Reset {
        /// Messages that were lost with it; their receipts say so.
        lost: usize,
    },
    /// The session is over. The last event.
    Ended(EndReason),
    /// So many events were not read in time.
    Missed {
        /// How many.
        count: u64,
    },
}

/// The events of one session that are remembered; kept under its lock.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    next: u64,
    /// Events below this number are forgotten.
    kept_from: u64,
    kept: VecDeque<(u64, SessionEvent)>,
}

impl EventLog {
    pub(crate) fn push(&mut self, event: SessionEvent) {
        let failed = |event: &SessionEvent| matches!(event, SessionEvent::AttemptFailed { .. });
        if failed(&event) && self.kept.back().is_some_and(|(_, last)| failed(last)) {
            // A day without the peer must not push everything else out.
            self.kept.pop_back();
        } else if self.kept.len() >= EVENTS_KEPT_MAX
            && let Some((forgotten, _)) = self.kept.pop_front()
        {
            self.kept_from = forgotten + 1;
        }
        self.kept.push_back((self.next, event));
        self.next += 1;
    }

    /// The first event from number `from` on, and the number to go on with.
    fn read(&self, from: u64) -> Option<(u64, SessionEvent)> {
        if from < self.kept_from {
            return Some((self.kept_from, SessionEvent::Missed { count: self.kept_from - from }));
        }
        let index = self.kept.partition_point(|(number, _)| *number < from);
        self.kept.get(index).map(|(number, event)| (number + 1, event.clone()))
    }
}

/// A reader of a session's events, from the oldest that is remembered. Each reader sees all of them.
#[derive(Debug)]
pub struct Events {
    core: Arc<Core>,
    next: u64,
    place: Option<Place>,
}

impl Events {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, next: 0, place: None }
    }

    /// The next event, once there is one. None after [`SessionEvent::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event that has happened already.
    pub fn try_next(&mut self) -> Option<SessionEvent> {
        let (next, event) = self.core.lock().events.read(self.next)?;
        self.next = next;
        Some(event)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SessionEvent>> {
        let mut locked = self.core.lock();
        if let Some((next, event)) = locked.events.read(self.next) {
            self.next = next;
            return Poll::Ready(Some(event));
        }
        if locked.session.end().is_some() {
            return Poll::Ready(None);
        }
        locked.watchers.enter(&mut self.place, cx.waker());
        Poll::Pending
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.core.lock().watchers.leave(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str) -> SessionEvent {
        SessionEvent::AttemptFailed { cause: ConnectionError::Unreachable { reason: text.to_owned() } }
    }

    #[test]
    fn every_reader_sees_every_event_and_attempts_in_a_row_once() {
        let mut log = EventLog::default();
        log.push(SessionEvent::Connected);
        log.push(failed("first"));
        assert_eq!(log.read(0), Some((1, SessionEvent::Connected)));
        assert_eq!(log.read(1), Some((2, failed("first"))));
        log.push(failed("second"));
        assert_eq!(log.read(2), Some((3, failed("second"))), "who has seen the first sees the second");
        assert_eq!(log.read(1), Some((3, failed("second"))), "who reads late sees the last one");
        assert_eq!(log.read(3), None);
    }

    #[test]
    fn a_slow_reader_is_told_how_much_it_missed() {
        let mut log = EventLog::default();
        for lost in 0..EVENTS_KEPT_MAX + 3 {
            log.push(SessionEvent::Reset { lost });
        }
        assert_eq!(log.read(0), Some((3, SessionEvent::Missed { count: 3 })));
        assert_eq!(log.read(3), Some((4, SessionEvent::Reset { lost: 3 })));
    }
}
