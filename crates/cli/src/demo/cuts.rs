//! When the relay cuts, and how: drawn from a seed before the copy starts.

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::random;

/// Bytes that pass between two cuts in any case: more than the handshake and the largest message of a copy, so that each
/// connection brings the copy on.
pub(crate) const SPACING_BYTES_MIN: u64 = 2 * 1024 * 1024 + 64 * 1024;
/// One cut in so many is followed by one within the next handshake.
const HANDSHAKE_CUT_ONE_IN: u32 = 5;
/// The range of a cut within a handshake, in bytes from the client: banner, HELLO, login and ident.
const HANDSHAKE_BYTES: u64 = 900;
/// How far behind the planned place a cut of the server's direction may lie, in bytes: into some acknowledgement.
const BACKWARD_BYTES_MAX: u64 = 200;
/// The last cuts fall before this part of the whole, so that each of them comes to pass.
const LAST_PART_PERCENT: u64 = 92;

/// Which way the bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// How an end of the connection learns that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Manner {
    /// A TCP reset: what is under way is gone.
    Reset,
    /// A TCP close, in the middle of whatever was being said.
    Close,
}

/// One cut to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    /// After this byte of the client's, counted over all connections.
    pub(crate) at: u64,
    /// In this direction: for [`Direction::ToClient`], `more` bytes of the server's later.
    pub(crate) direction: Direction,
    pub(crate) more: u64,
    pub(crate) client: Manner,
    pub(crate) server: Manner,
    /// The connection that follows is cut after this byte of the client's, too.
    pub(crate) handshake: Option<u64>,
}

/// The cuts of a copy of about `bytes` bytes, at least [`SPACING_BYTES_MIN`] apart.
pub(crate) fn plan(seed: u64, bytes: u64, wanted: u64) -> Vec<Cut> {
    let mut rng = random::seeded(seed, "cuts");
    let last = bytes / 100 * LAST_PART_PERCENT;
    // Each cut has a stretch of its own and lies anywhere in what the spacing leaves of it. A connection that has passed
    // the spacing is always cut once in a copy that is long enough for it.
    let count = wanted.min(last / (SPACING_BYTES_MIN + SPACING_BYTES_MIN / 4)).max(1);
    let stretch = last / count;
    let free = stretch.saturating_sub(SPACING_BYTES_MIN).max(1);
    let cuts = (0..count).map(|number| {
        let manner = |reset: bool| if reset { Manner::Reset } else { Manner::Close };
        Cut {
            at: number * stretch + rng.random_range(0..free) + 1,
            direction: if rng.random_ratio(1, 2) { Direction::ToServer } else { Direction::ToClient },
            more: rng.random_range(0..=BACKWARD_BYTES_MAX),
            client: manner(rng.random_ratio(1, 2)),
            server: manner(rng.random_ratio(1, 2)),
            handshake: rng
                .random_ratio(1, HANDSHAKE_CUT_ONE_IN)
                .then(|| rng.random_range(1..HANDSHAKE_BYTES)),
        }
    });
    cuts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_leave_room_for_something_to_pass() {
        for seed in 0..50 {
            for bytes in [1 << 20, 8 << 20, 64 << 20, 1 << 30] {
                let cuts = plan(seed, bytes, 24);
                assert!(!cuts.is_empty());
                for pair in cuts.windows(2) {
                    assert!(pair[1].at >= pair[0].at + SPACING_BYTES_MIN, "seed {seed}, {bytes} bytes");
                }
                assert!(cuts.iter().all(|cut| cut.at > 0 && cut.at <= bytes));
            }
        }
    }

    #[test]
    fn a_gibibyte_is_cut_as_often_as_asked_for_in_every_manner() {
        let cuts: Vec<_> = (0..20).flat_map(|seed| plan(seed, 1 << 30, 24)).collect();
        assert_eq!(cuts.len(), 20 * 24);
        for direction in [Direction::ToServer, Direction::ToClient] {
            for client in [Manner::Reset, Manner::Close] {
                for server in [Manner::Reset, Manner::Close] {
                    let one = cuts
                        .iter()
                        .find(|c| (c.direction, c.client, c.server) == (direction, client, server));
                    assert!(one.is_some(), "{direction:?} {client:?} {server:?}");
                }
            }
        }
        assert!(cuts.iter().any(|cut| cut.handshake.is_some()));
    }
}
