//! What a large batch must have met.

use crate::situations::Situations;

const EXPECTED: &[&str] = &[
    "connected",
    "connection cut",
    "cut within a stream",
    "connection half-open",
    "silent connection given up",
    "connection held up",
    "both dial",
    "connections that cross",
    "one-way partition",
    "partition",
    "nobody answers",
    "clock jumped",
    "connection lost",
    "message replayed",
    "duplicate dropped",
    "early message dropped",
    "repeated behind what was waiting",
    "acknowledged",
    "lost with a fenced session",
    "node joined",
    "node died",
    "node died during a recovery",
    "node came back",
    "node came back before anybody noticed",
    "told that a member is a fresh one",
    "change during a change",
    "recovery interrupted",
    "stopped twice",
    "recovery done",
    "resource lost its master",
    "recovered: granted",
    "recovered: waiting",
    "recovered: converting",
    "recovered: a conversion was under way",
    "recovered: a conversion in doubt",
    "message Request",
    "message Convert",
    "message Unlock",
    "message Cancel",
    "message RequestReply",
    "message ConvertReply",
    "message UnlockReply",
    "message CancelReply",
    "message Grant",
    "message Blocking",
    "message Lookup",
    "message Remove",
    "message LookupReply",
    "rcom Status",
    "rcom Names",
    "rcom Lookup",
    "rcom Lock",
    "rcom StatusReply",
    "rcom NamesReply",
    "rcom LookupReply",
    "rcom LockReply",
    "would block",
    "canceled",
    "forced unlock",
    "deadlock",
    "demoted",
    "alternate mode",
    "blocking told",
    "value read",
    "value not valid",
];

/// What a large batch must meet.
#[must_use]
pub fn expected() -> &'static [&'static str] {
    EXPECTED
}

/// What it has not.
#[must_use]
pub fn missing(met: &Situations) -> Vec<String> {
    EXPECTED.iter().filter(|what| met.times(what) == 0).map(|what| (*what).to_owned()).collect()
}
