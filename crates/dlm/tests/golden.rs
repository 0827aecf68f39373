//! Frames of real kernels (Linux 6.12), captured with `cargo xtask capture dlm`: decoded, and encoded again to the same bytes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use outlast_dlm::wire::{
    Body, Command, Frame, Header, Inner, MessageKind, NodeId, RcomBody, RcomKind, Version,
};
use outlast_dlm::{ChannelId, Session, SessionConfig, SessionEvent, State};
use outlast_session::Instant;

const SESSION: &str = include_str!("golden/session.hex");
const KINDS: &str = include_str!("golden/kinds.hex");
const OLD: &str = include_str!("golden/version-3.1.hex");

struct Line {
    from: u32,
    to: u32,
    dialled_by: u64,
    bytes: Vec<u8>,
}

fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (from, to) = words.next().unwrap().split_once('>').unwrap();
        let dialled_by = words.next().unwrap().parse().unwrap();
        let hex = words.next().unwrap();
        let bytes =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        Line { from: from.parse().unwrap(), to: to.parse().unwrap(), dialled_by, bytes }
    };
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(line).collect()
}

#[test]
fn every_frame_is_decoded_and_encoded_again_to_the_same_bytes() {
    for (name, text) in [("session", SESSION), ("kinds", KINDS), ("3.1", OLD)] {
        let mut lines = lines(text);
        // The node that announced 3.1 was no kernel.
        lines.retain(|line| name != "3.1" || line.from == 1);
        assert!(lines.len() > 3, "{name}");
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(Header::frame_length(&line.bytes), Ok(Some(line.bytes.len())), "{name} {number}");
            let frame = Frame::decode(&line.bytes).unwrap_or_else(|error| panic!("{name} {number}: {error}"));
            assert_eq!(frame.sender, NodeId(line.from), "{name} {number}");
            let mut again = Vec::new();
            frame.encode(&mut again);
            assert_eq!(again, line.bytes, "{name} {number}: {frame:?}");
        }
    }
}

#[test]
fn the_captures_have_every_command_and_every_kind_of_message() {
    let mut commands = BTreeSet::new();
    let (mut messages, mut rcoms) = (BTreeSet::new(), BTreeSet::new());
    let mut pages = BTreeMap::new();
    for line in lines(KINDS) {
        let frame = Frame::decode(&line.bytes).unwrap();
        let inner = match frame.body {
            Body::Bare(inner) => inner,
            Body::Numbered { inner, .. } => {
                commands.insert(Command::Opts as u8);
                inner
            }
            Body::Ack { .. } => {
                commands.insert(Command::Ack as u8);
                continue;
            }
        };
        commands.insert(inner.command() as u8);
        match inner {
            Inner::Message(message) => {
                messages.insert(message.kind);
            }
            Inner::Rcom(rcom) => {
                rcoms.insert(rcom.body.kind());
                if let RcomBody::NamesReply { names, complete } = rcom.body {
                    *pages.entry((names.is_empty(), complete)).or_insert(0) += 1;
                }
            }
            Inner::Fin => {}
        }
    }
    assert_eq!(commands, BTreeSet::from([1, 2, 3, 4, 5]));
    assert_eq!(messages.len(), 14, "{messages:?}");
    assert!(messages.contains(&MessageKind::Purge));
    assert_eq!(rcoms.len(), 8, "{rcoms:?}");
    assert!(rcoms.contains(&RcomKind::LockReply));
    for page in [(true, true), (false, true), (false, false)] {
        assert!(pages.contains_key(&page), "an empty, a last and a full page of names: {pages:?}");
    }
}

/// A session of ours in the place of a kernel hears all that the other said: everything is taken, in order.
#[test]
fn a_session_takes_what_a_kernel_said_from_the_first_word_to_the_goodbye() {
    for us in [1, 2] {
        let peer = 3 - us;
        let mut session = Session::new(SessionConfig::new(NodeId(us), NodeId(peer)));
        session.add_member();
        let now = Instant::from_nanos(1);
        let mut channels = BTreeSet::new();
        let mut numbered = 0;
        let said = lines(SESSION);
        let said: Vec<_> = said.iter().filter(|line| line.from == peer && line.to == us).collect();
        assert!(said.len() > 20);
        for line in &said {
            if channels.insert(line.dialled_by) {
                session.attach(ChannelId(line.dialled_by), line.dialled_by == u64::from(us), now);
            }
            let frame = Frame::decode(&line.bytes).unwrap();
            // What this end said to be acknowledged is not played here.
            if matches!(frame.body, Body::Ack { .. }) {
                continue;
            }
            numbered += usize::from(matches!(frame.body, Body::Numbered { .. }));
            session.handle_frame(ChannelId(line.dialled_by), frame, line.bytes.len(), now).unwrap();
        }
        let events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
        assert!(events.contains(&SessionEvent::VersionLearned(Version::V3_2)), "{events:?}");
        let statistics = session.statistics();
        assert_eq!(statistics.messages_received as usize, numbered);
        assert_eq!((statistics.duplicates_dropped, statistics.early_dropped), (0, 0));
        assert_eq!(session.state(), State::CloseWait, "its FIN came, and we still count it as a member");
        let received = std::iter::from_fn(|| session.poll_received()).count();
        assert!(received > numbered, "the statuses, and all that was numbered but the FIN");
    }
}

#[test]
fn a_kernel_that_hears_3_1_numbers_nothing() {
    let kernels: Vec<_> = lines(OLD).into_iter().filter(|line| line.from == 1).collect();
    assert!(kernels.len() > 3);
    for line in kernels {
        let frame = Frame::decode(&line.bytes).unwrap();
        assert!(matches!(frame.body, Body::Bare(_)), "{frame:?}");
        assert_eq!(frame.version, Version::V3_2, "and its headers say 3.2 nevertheless");
    }
}
