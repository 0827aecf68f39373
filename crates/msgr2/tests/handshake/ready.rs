//! A session that is ready, and a peer that does what it must not, or does it too often.

use crate::config::{OSD, connection, endpoint, server_address};
use crate::rig::{End, SESSION, Talk, client_ident};
use outlast_msgr2::connection::{OUT_BYTES_MAX, State};
use outlast_msgr2::endpoint::Introduced;
use outlast_msgr2::wire::{Ack, Control, Keepalive2, Keepalive2Ack, SessionReconnect, Stamp};
use outlast_msgr2::{
    Authority, ChannelId, ConnectionError, Decision, Message, SessionConfig, SessionRequest,
};
use outlast_session::{AckError, GapPolicy, StreamChannel};

fn ready() -> Talk {
    let mut talk = Talk::accepting();
    talk.until(State::Ready);
    talk.controls();
    talk
}

fn fronts(talk: &Talk) -> Vec<&[u8]> {
    talk.end.got.iter().map(|r| &r.message.front[..]).collect()
}

#[test]
fn old_numbers_and_number_zero_are_dropped_and_reading_goes_on() {
    let mut talk = ready();
    for (seq, front) in [(1, "1"), (2, "2"), (2, "2 again"), (1, "1 again"), (0, "0"), (3, "3")] {
        talk.message(seq, 0, front.as_bytes());
    }
    assert_eq!(talk.end.error, None);
    assert_eq!(fronts(&talk), [b"1", b"2", b"3"]);
    assert_eq!(talk.end.session().counters().duplicates_dropped, 3);
    talk.say(Keepalive2 { stamp: Stamp { seconds: 7, nanoseconds: 8 } });
    let answer = Keepalive2Ack { stamp: Stamp { seconds: 7, nanoseconds: 8 } };
    assert!(talk.controls().contains(&answer.into()));
}

#[test]
fn number_zero_as_the_first_is_dropped() {
    let mut talk = ready();
    talk.message(0, 0, b"0");
    talk.message(1, 0, b"1");
    assert_eq!((talk.end.error.clone(), fronts(&talk)), (None, vec![&b"1"[..]]));
}

#[test]
fn gaps_are_counted_or_refused_as_configured() {
    let mut talk = ready();
    talk.message(1, 0, b"1");
    talk.message(5, 0, b"5");
    assert_eq!(fronts(&talk), [b"1", b"5"]);
    let counters = talk.end.session().counters();
    assert_eq!((counters.gaps, counters.messages_missing), (1, 3));

    let mut config = endpoint("osd.2", server_address(), connection(OSD), SESSION);
    config.accepted_default = SessionConfig { gaps: GapPolicy::Refuse, ..SessionConfig::new(SESSION) };
    let mut talk = Talk::with(End::accepting(config, Authority::None));
    talk.until(State::Ready);
    talk.message(1, 0, b"1");
    talk.message(5, 0, b"5");
    talk.fails_with(&ConnectionError::Gap { expected: 2, got: 5 });
    assert_eq!(fronts(&talk), [b"1"]);
}

#[test]
fn acknowledgements_beyond_what_was_sent_are_refused_in_frames_and_in_headers() {
    for seq in [2, 1 << 40, u64::MAX - 1, u64::MAX] {
        for in_header in [true, false] {
            let mut talk = ready();
            let now = talk.end.now;
            talk.end.session().send(Message::new(7), now).unwrap();
            talk.end.drain();
            if in_header {
                talk.message(1, seq, b"");
            } else {
                talk.say(Ack { seq });
            }
            let error = talk.end.error.clone();
            assert!(matches!(error, Some(ConnectionError::Ack(AckError::BeyondSent { .. }))), "{error:?}");
            assert_eq!(talk.end.session().outbox().unacked_len(), 1);
        }
    }
}

#[test]
fn older_and_repeated_acknowledgements_are_no_fault() {
    let mut talk = ready();
    let now = talk.end.now;
    for _ in 0..3 {
        talk.end.session().send(Message::new(7), now).unwrap();
    }
    talk.end.drain();
    for seq in [0, 2, 1, 0, 2, 3, 3] {
        talk.say(Ack { seq });
    }
    assert_eq!(talk.end.error, None);
    assert!(talk.end.session().outbox().is_empty());
}

/// C++ Ceph queues answers without a bound here.
#[test]
fn a_peer_that_asks_and_does_not_read_the_answers_is_not_read_either() {
    let mut talk = ready();
    talk.end.room = 0;
    let question = talk.script.frame(&Keepalive2 { stamp: Stamp::default() }.into());
    let questions = question.repeat(1000);
    let (mut fed, mut highest) = (0, 0);
    for _ in 0..1000 {
        let taken = talk.end.feed(&questions);
        highest = highest.max(talk.end.connection.out_len());
        fed += taken;
        if taken < questions.len() {
            break;
        }
    }
    assert_eq!(talk.end.error, None);
    assert!(talk.end.connection.poll_read().is_empty(), "reading has stopped after {fed} bytes");
    // What was already in the read buffer is still answered.
    assert!(highest <= OUT_BYTES_MAX + (256 << 10), "{highest}");
    assert!(highest > OUT_BYTES_MAX);
    // The peer reads again, and so does this end.
    talk.end.room = usize::MAX;
    talk.end.drain();
    assert!(!talk.end.connection.poll_read().is_empty());
    assert_eq!(talk.end.connection.out_len(), 0);
}

/// An application that takes nothing stops the peer, not the keepalives' bound of memory.
#[test]
fn messages_beyond_the_inbound_bound_are_not_read() {
    let mut config = endpoint("osd.2", server_address(), connection(OSD), SESSION);
    let inbound = outlast_session::ThrottleLimits { messages_max: 10, bytes_max: 1 << 20 };
    config.accepted_default = SessionConfig { inbound, ..SessionConfig::new(SESSION) };
    let mut talk = Talk::with(End::accepting(config, Authority::None));
    talk.end.takes_messages = false;
    talk.until(State::Ready);
    let mut fed = 0;
    for seq in 1..=2000 {
        let bytes = talk.script.message(seq, 0, &[1; 1000]);
        let taken = talk.end.feed(&bytes);
        fed += taken;
        if taken < bytes.len() {
            break;
        }
    }
    assert_eq!(talk.end.error, None);
    assert_eq!(talk.end.session().inbound_len(), 10);
    assert!(fed < 512 << 10, "{fed} bytes were taken for 10 messages of 1000");
    // The application takes them: the rest that was buffered comes in.
    talk.end.takes_messages = true;
    talk.end.drain();
    assert!(talk.end.got.len() > 10, "{}", talk.end.got.len());
    let seqs: Vec<_> = talk.end.got.iter().map(|r| r.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn an_ident_of_another_client_takes_nothing_over_while_the_first_is_served() {
    let mut talk = ready();
    talk.say(client_ident(2, 99));
    assert!(matches!(talk.end.error, Some(ConnectionError::Unexpected { .. })));
    assert_eq!(talk.end.sessions.len(), 1);
}

#[test]
fn a_messages_header_carries_the_acknowledgement_and_an_idle_end_sends_it_alone() {
    let mut talk = ready();
    talk.message(1, 0, b"1");
    let now = talk.end.now;
    talk.end.session().send(Message::new(7), now).unwrap();
    talk.end.drain();
    assert_eq!(talk.messages().iter().map(|m| m.header.ack_seq).collect::<Vec<_>>(), [1]);
    talk.end.wait(std::time::Duration::from_secs(1));
    assert!(talk.controls().is_empty(), "nothing is left to say");
    talk.message(2, 1, b"2");
    talk.end.wait(std::time::Duration::from_millis(100));
    assert_eq!(talk.controls(), [Control::from(Ack { seq: 2 })]);
}

/// What it says cannot be true, and the connection that carries the session goes on: it does not say anything twice.
#[test]
fn a_newcomer_that_claims_what_was_never_sent_does_not_disturb_the_connection_that_carries_the_session() {
    let mut talk = ready();
    let now = talk.end.now;
    talk.end.session().send(Message::new(7), now).unwrap();
    talk.end.drain();
    assert_eq!(talk.messages().len(), 1);
    let reconnect = SessionReconnect {
        addresses: client_ident(1, 77).addresses,
        client_cookie: 77,
        server_cookie: 0,
        global_seq: 2,
        connect_seq: 1,
        msg_seq: u64::MAX,
    };
    let request = SessionRequest {
        channel: ChannelId(1000),
        introduced: Introduced::Reconnect(reconnect),
        entity_type: talk.end.session().peer().entity_type,
        name: None,
        global_id: 0,
        features_supported: 0,
        features_required: 0,
    };
    let End { endpoint, sessions, .. } = &mut talk.end;
    let session = sessions.values_mut().next().unwrap();
    let (decision, _) = endpoint.decide(request, Some(session), now);
    assert!(matches!(decision, Decision::Refuse(ConnectionError::Ack(_))), "{decision:?}");
    talk.end.drain();
    assert!(talk.messages().is_empty(), "nothing is repeated");
    assert_eq!(talk.end.error, None);
}
