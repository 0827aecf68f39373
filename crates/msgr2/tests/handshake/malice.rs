//! What a peer can think of that may say anything: strangers, and peers that hold a key.

use crate::config::client_address;
use crate::rig::{Talk, client_ident};
use outlast_msgr2::ConnectionError;
use outlast_msgr2::connection::State;
use outlast_msgr2::wire::{AddrVec, ClientIdent, DecodeError, SessionReconnectOk};
use std::time::Duration;

/// Each connection carries a message, so that the next is dialled at once: 32 times, and then after Ceph's first pause.
#[test]
fn a_peer_that_is_of_use_and_gone_without_end_does_not_make_us_dial_without_pause() {
    let mut talk = Talk::dialling();
    talk.until(State::Ready);
    let begin = talk.end.now;
    for round in 1..=40 {
        talk.message(u64::from(round), 0, b"of use");
        assert_eq!(talk.end.error, None);
        talk.dial_again();
        let paused = talk.end.now.saturating_since(begin);
        assert_eq!(paused, Duration::from_millis(200) * u32::saturating_sub(round, 32), "{round}");
        talk.until(State::SessionReconnecting);
        talk.say(SessionReconnectOk { msg_seq: 0 });
        assert_eq!(talk.state(), State::Ready);
    }
    // Who has been of use for a while has earned it again.
    talk.end.wait(Duration::from_secs(1));
    talk.message(41, 0, b"of use");
    let begin = talk.end.now;
    talk.dial_again();
    assert_eq!(talk.end.now, begin);
}

/// Its 65 addresses would be kept four times, for as long as the session lives.
#[test]
fn a_peer_with_more_than_64_addresses_gets_no_session() {
    for (count, refused) in [(64, false), (65, true)] {
        let mut talk = Talk::accepting();
        talk.until(State::SessionAccepting);
        let addresses = AddrVec(vec![client_address(); count]);
        talk.say(ClientIdent { addresses, ..client_ident(1, 77) });
        if refused {
            let error = DecodeError::TooMany { what: "addresses", count: 65, limit: 64 };
            talk.fails_with(&ConnectionError::Decode(error));
        } else {
            assert_eq!(talk.state(), State::Ready);
        }
    }
}

/// The numbers of two sessions of one peer, each with a hole of almost 2^64.
#[test]
fn holes_that_add_up_to_more_than_can_be_counted_do_no_harm() {
    let mut talk = Talk::accepting();
    talk.until(State::Ready);
    for (attempt, cookie) in [(1, 77), (2, 78), (3, 79)] {
        if attempt > 1 {
            talk.accept_again();
            talk.until(State::SessionAccepting);
            talk.say(client_ident(attempt, cookie));
        }
        talk.message(1, 0, b"the first");
        talk.message(u64::MAX - 1, 0, b"far behind it");
        assert_eq!(talk.end.error, None);
    }
    assert_eq!(talk.end.got.len(), 6);
    assert_eq!(talk.end.session().counters().messages_missing, u64::MAX);
}
