//! A peer that does not read, and what is left of a peer's last life.

use std::io::IoSlice;

use outlast_dlm::wire::{Body, FRAME_BYTES_MAX, Frame, Inner, NodeId, Options, Rcom, RcomBody, Version};
use outlast_dlm::{ChannelId, Connection, ConnectionError, Session, SessionConfig};
use outlast_session::{Instant, StreamChannel};

use crate::ends::{LOCKSPACE, message};

const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn session() -> Session {
    let mut session =
        Session::new(SessionConfig { incarnation: 9, ..SessionConfig::new(NodeId(1), NodeId(2)) });
    session.add_member();
    session
}

fn status(incarnation: u64) -> Inner {
    let body = RcomBody::Status { need_slots: false, incarnation };
    Inner::Rcom(Rcom { lockspace: LOCKSPACE, result: 0, id: 1, sequence: 1, sequence_reply: 0, body })
}

fn frame(body: Body) -> Frame {
    Frame { version: Version::V3_2, sender: NodeId(2), body }
}

#[test]
fn who_asks_again_and_again_and_reads_nothing_makes_us_hold_no_more_than_a_few_frames() {
    let mut session = session();
    let mut connection = Connection::new(ChannelId(1), NodeId(2));
    session.attach(ChannelId(1), false, NOW);
    let mut bytes = Vec::new();
    frame(Body::Bare(status(5))).encode(&mut bytes);
    for _ in 0..20_000 {
        let buffer = connection.poll_read();
        buffer[..bytes.len()].copy_from_slice(&bytes);
        connection.handle_read(bytes.len(), NOW).expect("frames");
        connection.sync(&mut session, NOW).expect("what may be sent");
        while session.poll_received().is_some() {
            session.send_unnumbered(status(0));
        }
    }
    let mut slices = [IoSlice::new(&[])];
    assert_eq!(connection.poll_write(&mut slices), 1);
    let held = slices[0].len();
    assert!(held <= 17 * FRAME_BYTES_MAX, "{held} bytes");
}

#[test]
fn what_comes_over_a_connection_of_the_last_life_is_not_taken_for_the_new_ones() {
    let mut session = session();
    let (old, new) = (ChannelId(1), ChannelId(2));
    session.attach(old, false, NOW);
    session.handle_frame(old, frame(Body::Bare(status(111))), 64, NOW).expect("a status");
    session.attach(new, false, NOW);
    session.handle_frame(new, frame(Body::Bare(status(222))), 64, NOW).expect("a status");
    assert_eq!(session.sender(), Some(new));
    let late = frame(Body::Numbered { number: 0, options: Options::NONE, inner: message(1) });
    let refused = Err(ConnectionError::Superseded { peer: NodeId(2) });
    assert_eq!(session.handle_frame(old, late, 64, NOW), refused);
    assert_eq!(session.handle_frame(old, frame(Body::Bare(status(111))), 64, NOW), refused);
    assert_eq!(session.statistics().messages_received, 0);
    let first = frame(Body::Numbered { number: 0, options: Options::NONE, inner: message(2) });
    assert_eq!(session.handle_frame(new, first, 64, NOW), Ok(()));
    assert_eq!(session.statistics().messages_received, 1);
}
