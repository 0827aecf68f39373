//! Which situations were met, and how often. A batch of runs that misses one has not tried it.

use outlast_msgr2::connection::State;
use outlast_session::Counters;
use std::collections::BTreeMap;
use std::fmt;

/// What a batch must meet beside the states in which a connection can be cut.
const EXPECTED: &[&str] = &[
    "connected",
    "interrupted",
    "attempt failed",
    "resumed",
    "resumed with a replay",
    "duplicate dropped",
    "WAIT",
    "waits for the peer",
    "RETRY",
    "RETRY_GLOBAL",
    "RESET full",
    "RESET partial",
    "reset with losses",
    "stale attempt refused",
    "takeover of Ready",
    "takeover of Connecting",
    "takeover of Pausing",
    "takeover of Waiting",
    "takeover of Standby",
    "superseded",
    "death by silence",
    "handshake timed out",
    "reading paused by the throttle",
    "queue full",
    "expired",
    "closed, drained",
    "closed, not drained",
    "closed by the peer",
    "came back for a closed session",
    "replaced",
    "lossy session lost",
    "revoked before it had a number",
    "revoked while it was written",
    "frame aborted",
    "frame removed",
    "revoked too late",
    "rekey",
    "no route",
    "one-way partition that lasts",
    "link cut",
    "link half-open",
    "link black from the beginning",
    "delay spike",
    "link held up",
    "clock jumped",
    "process restarted with another nonce",
    "process restarted with its nonce",
    "address changed",
    "through a relay",
    "authority busy",
];

/// States that no byte can end: the end decides within the same step, or is dead already.
const NEVER_CUT: [State; 3] = [State::SessionOpening, State::SessionDeciding, State::Closed];

/// Counts of situations, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situations(BTreeMap<String, u64>);

impl Situations {
    /// It happened.
    pub fn meet(&mut self, what: &str) {
        self.meet_often(what, 1);
    }

    /// It happened so often.
    pub fn meet_often(&mut self, what: &str, times: u64) {
        if times == 0 {
            return;
        }
        match self.0.get_mut(what) {
            Some(count) => *count += times,
            None => {
                self.0.insert(what.to_owned(), times);
            }
        }
    }

    /// It happened in a state.
    pub fn meet_in(&mut self, what: &str, state: State) {
        self.meet(&format!("{what}{state}"));
    }

    /// What a session counted itself.
    pub fn count(&mut self, counters: &Counters) {
        self.meet_often("duplicate dropped", counters.duplicates_dropped);
        self.meet_often("message replayed", counters.replayed);
        self.meet_often("acknowledged in a message", counters.acks_piggybacked);
        self.meet_often("acknowledged on its own", counters.acks_sent);
        self.meet_often("hole left by a revoked message", counters.gaps);
    }

    /// How often.
    #[must_use]
    pub fn times(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.meet_often(what, *times);
        }
    }

    /// What a large batch must have met and has not.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let states = State::ALL.into_iter().filter(|s| !NEVER_CUT.contains(s)).map(|s| format!("cut in {s}"));
        EXPECTED.iter().map(|s| (*s).to_owned()).chain(states).filter(|what| self.times(what) == 0).collect()
    }
}

impl fmt::Display for Situations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in &self.0 {
            writeln!(f, "{times:>10}  {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_met_is_missing() {
        let mut situations = Situations::default();
        assert!(situations.missing().contains(&"RETRY_GLOBAL".to_owned()));
        assert!(situations.missing().contains(&"cut in HelloAccepting".to_owned()));
        situations.meet("RETRY_GLOBAL");
        situations.meet_in("cut in ", State::HelloAccepting);
        let missing = situations.missing();
        assert!(!missing.contains(&"RETRY_GLOBAL".to_owned()));
        assert!(!missing.contains(&"cut in HelloAccepting".to_owned()));
    }
}
