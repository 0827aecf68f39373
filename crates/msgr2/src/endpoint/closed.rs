//! Sessions that this end has closed, for peers that could not be told so: nothing acknowledges a CLOSE, and the connection
//! may die with it. Such a peer comes back for its session. It hears that the session goes on and, at once, that it is
//! closed; so it learns how much of what it sent had arrived, and begins nothing anew.

use super::Key;
use crate::error::EndReason;
use crate::session::{Matching, Session};
use crate::wire::SessionReconnect;
use std::collections::BTreeMap;

/// How many closed sessions an endpoint remembers, the last of them, whosoever they were: around 1 MiB. Who comes back when as
/// many others have been closed since hears SESSION_RESET, as from a process that was started anew.
pub const CLOSED_SESSIONS_MAX: usize = 4096;

/// The client's and the server's.
type Cookies = (u64, u64);

/// What a peer that comes back must know, and is told.
#[derive(Clone, Copy)]
struct Last {
    cookies: Cookies,
    msg_seq: u64,
    /// Its place among all that were ever noted.
    place: u64,
}

/// The sessions that were closed last. Without Debug: cookies are in it.
#[derive(Default)]
pub(super) struct Closed {
    by_key: BTreeMap<Key, Last>,
    /// By their places: each key once, the oldest first.
    order: BTreeMap<u64, Key>,
    next: u64,
}

impl Closed {
    /// Remembers a session that has ended and was found by these keys, if this end closed it and its peer may come back.
    pub(super) fn note(&mut self, keys: &[Key], session: &Session) {
        let Some(msg_seq) = session.closed_here() else { return };
        let cookies = (session.client_cookie, session.server_cookie);
        for key in keys {
            let place = self.next;
            self.next += 1;
            let last = Last { cookies, msg_seq, place };
            if let Some(before) = self.by_key.insert(key.clone(), last) {
                self.order.remove(&before.place);
            }
            self.order.insert(place, key.clone());
        }
        while self.order.len() > CLOSED_SESSIONS_MAX {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.by_key.remove(&oldest);
            }
        }
    }

    /// How much had arrived of the session that the peer comes back for, if it is one of these.
    pub(super) fn find(&self, key: &Key, reconnect: &SessionReconnect) -> Option<u64> {
        self.by_key.get(key).filter(|last| last.cookies == cookies_of(reconnect)).map(|last| last.msg_seq)
    }
}

fn cookies_of(reconnect: &SessionReconnect) -> Cookies {
    (reconnect.client_cookie, reconnect.server_cookie)
}

impl Session {
    /// Whether the newcomer comes for this very session.
    pub(super) fn continues(&self, reconnect: &SessionReconnect) -> bool {
        (self.client_cookie, self.server_cookie) == cookies_of(reconnect)
    }

    /// How many of the peer's messages arrived before this end closed the session. None if it did not, and if the peer
    /// cannot know of it: a session that never was established, or one with Ceph, which has no word for this.
    pub(super) fn closed_here(&self) -> Option<u64> {
        let closed = matches!(self.end(), Some(EndReason::Closed | EndReason::ClosedUndrained));
        let known = self.config.matching == Matching::Identity && self.server_cookie != 0;
        (closed && known).then(|| self.ack_seq())
    }
}
