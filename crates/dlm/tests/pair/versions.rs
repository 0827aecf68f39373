//! Nodes that number their messages, and nodes that do not.

use outlast_dlm::wire::Version;
use outlast_dlm::{Dial, State};

use crate::ends::{Pair, status};

fn pair(versions: [Version; 2]) -> Pair {
    let mut pair = Pair::announcing(1, versions);
    for session in &mut pair.sessions {
        session.add_member();
    }
    pair.connect(0);
    pair
}

#[test]
fn before_the_version_is_known_only_what_finds_it_out_is_written() {
    let mut pair = pair([Version::V3_2; 2]);
    pair.send(0);
    pair.run();
    assert_eq!(pair.delivered[1], [0u32; 0]);
    assert_eq!(pair.sessions[0].version(), None);
    pair.sessions[1].send_unnumbered(status());
    pair.run();
    assert_eq!(pair.sessions[0].version(), Some(Version::V3_2));
    assert_eq!(pair.sessions[1].version(), Some(Version::V3_2));
    assert_eq!(pair.statuses, [1, 0]);
    assert_eq!(pair.delivered[1], pair.sent[0], "what waited goes now");
}

#[test]
fn with_3_1_at_either_end_nothing_is_numbered_and_a_cut_loses() {
    for versions in [[Version::V3_1, Version::V3_2], [Version::V3_2, Version::V3_1], [Version::V3_1; 2]] {
        let mut pair = pair(versions);
        for session in &mut pair.sessions {
            session.send_unnumbered(status());
        }
        pair.run();
        pair.send(0);
        pair.send(1);
        pair.run();
        assert_eq!(
            (&pair.delivered[1], &pair.delivered[0]),
            (&pair.sent[0], &pair.sent[1]),
            "{:?}",
            pair.errors
        );
        for session in &pair.sessions {
            let statistics = session.statistics();
            assert_eq!((statistics.acks_sent, statistics.unacknowledged), (0, 0), "nothing is acknowledged");
        }
        pair.send(0);
        pair.carry(0, 0, usize::MAX);
        pair.cut(0);
        pair.connect(0);
        pair.run();
        assert_eq!(pair.delivered[1].len() + 1, pair.sent[0].len(), "as numbering is there for");
        let now = pair.now;
        for session in &mut pair.sessions {
            session.shut_down(now);
            session.remove_member(now);
            assert_eq!(session.state(), State::Closed, "there is no FIN");
            assert_eq!(session.poll_dial(), Dial::No);
        }
    }
}
