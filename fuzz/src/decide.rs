//! What becomes of newcomers that ask for anything, one after the other.

use crate::input::Input;
use crate::setup::{self, Choice, Security, place};
use outlast_cephx::{EntityName, EntityType};
use outlast_msgr2::connection::FEATURE_OUTLAST_CLOSE;
use outlast_msgr2::endpoint::Introduced;
use outlast_msgr2::wire::{AddrVec, ClientIdent, EntityAddr, SessionReconnect};
use outlast_msgr2::{
    ChannelId, ConnectionError, Decision, Endpoint, FEATURES_SUPPORTED, Located, Matching, Message, Policy,
    Session, SessionEvent, SessionId, SessionRequest, SessionState, Target,
};
use outlast_session::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

const OPERATIONS_MAX: usize = 256;

const POLICIES: [Policy; 7] = [
    Policy::STATEFUL_SERVER,
    Policy::STATELESS_SERVER,
    Policy::STATELESS_REGISTERED_SERVER,
    Policy::LOSSLESS_PEER,
    Policy::LOSSLESS_PEER_REUSE,
    Policy::LOSSY_CLIENT,
    Policy::LOSSLESS_CLIENT,
];

struct World {
    endpoint: Endpoint,
    sessions: BTreeMap<SessionId, Session>,
    now: Instant,
    next_channel: u64,
    /// Sessions that were opened or accepted.
    made: usize,
}

/// Requests from hand. Options: policy (bits 0 to 2), matching (bit 3); then operations.
pub fn decide(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let matching = if options & 8 == 0 { Matching::Address } else { Matching::Identity };
    let policy = POLICIES[usize::from(options & 7) % POLICIES.len()];
    let choice = Choice { security: Security::None, revision_1: true, matching, compression: None };
    let process = setup::process("osd.1", Some(1), setup::session(policy, matching), choice);
    let mut world = World {
        endpoint: process.endpoint,
        sessions: BTreeMap::new(),
        now: process.now,
        // Far from those that the endpoint gives.
        next_channel: 1 << 32,
        made: 0,
    };
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operate(&mut input, policy, matching);
        world.check();
    }
}

/// From few values, so that they meet.
fn address(choice: u8) -> EntityAddr {
    if choice & 7 == 7 { EntityAddr::BLANK } else { place(choice & 7) }
}

fn addresses(choice: u8) -> AddrVec {
    let mut vector: AddrVec = address(choice).into();
    if choice & 8 != 0 {
        vector.0.push(address(choice >> 4));
    }
    if choice & 0xc0 == 0xc0 {
        vector.0.clear();
    }
    vector
}

fn small(choice: u8) -> u64 {
    if choice & 0x80 == 0 { u64::from(choice & 7) } else { u64::MAX - u64::from(choice & 7) }
}

fn name(choice: u8) -> Option<EntityName> {
    match choice & 3 {
        0 => None,
        1 => Some(EntityName::new(EntityType::Client, "a")),
        2 => Some(EntityName::new(EntityType::Osd, "2")),
        _ => Some(EntityName::new(EntityType::Osd, "0")),
    }
}

impl World {
    fn operate(&mut self, input: &mut Input<'_>, policy: Policy, matching: Matching) {
        let operation = input.u8();
        match operation % 8 {
            0..=3 => self.newcomer(input, operation),
            4 => {
                // The latest one, or one before it.
                let back = usize::from(input.u8() & 7);
                let now = self.now;
                if let Some(session) = self.sessions.values_mut().rev().nth(back)
                    && let Some(channel) = session.state().channel()
                {
                    // Only the end that dials is told to wait.
                    let wait = match session.state() {
                        SessionState::Connecting { .. } => ConnectionError::Wait,
                        _ => ConnectionError::Superseded,
                    };
                    let causes = [
                        ConnectionError::Silent,
                        wait,
                        ConnectionError::PeerClosed,
                        ConnectionError::BlankAddress,
                        ConnectionError::NoCommonMethod,
                    ];
                    session.connection_lost(channel, causes[usize::from(operation >> 3) % 5].clone(), now);
                }
            }
            5 => {
                self.now += Duration::from_millis(1 << (input.u8() % 24));
                for session in self.sessions.values_mut() {
                    session.handle_timeout(self.now);
                    if session.poll_dial(self.now).is_some() {
                        let credential =
                            outlast_msgr2::Credential::None { name: name(2).expect("a name"), global_id: 0 };
                        let target = address(2);
                        drop(self.endpoint.dial(session, target, credential, self.now));
                    }
                }
            }
            6 => {
                let choice = input.u8();
                if let Some(session) = self.sessions.values_mut().rev().nth(usize::from(choice & 7)) {
                    match choice >> 5 {
                        0 => session.abort(),
                        1 => session.close(self.now, Duration::from_secs(1)),
                        _ => drop(session.send(Message::new(1).front(vec![0; 100]), self.now)),
                    }
                }
            }
            _ => {
                let choice = input.u8();
                let target =
                    Target { addresses: addresses(choice), entity_type: None, name: name(choice >> 4) };
                if !policy.server && self.made < OPERATIONS_MAX {
                    let nowhere = target.addresses.0.is_empty();
                    let session = self.endpoint.connect(target, setup::session(policy, matching), self.now);
                    assert_eq!(session.is_err(), nowhere, "a session needs an address, and nothing else");
                    if let Ok(session) = session {
                        self.made += 1;
                        self.sessions.insert(session.id(), session);
                    }
                }
            }
        }
        self.collect();
    }

    fn newcomer(&mut self, input: &mut Input<'_>, operation: u8) {
        self.next_channel += 1;
        let channel = ChannelId(self.next_channel);
        let who = input.u8();
        let introduced = if operation & 1 == 0 {
            Introduced::Ident(ClientIdent {
                addresses: addresses(input.u8()),
                target: if operation & 0x10 == 0 { place(1) } else { address(input.u8()) },
                global_id: if operation & 0x20 == 0 { 77 } else { i64::from(input.u8()) - 1 },
                global_seq: small(input.u8()),
                features_supported: if operation & 0x40 == 0 { FEATURES_SUPPORTED } else { input.u64() },
                features_required: 0,
                flags: u64::from(operation >> 7),
                cookie: small(input.u8()),
            })
        } else {
            Introduced::Reconnect(SessionReconnect {
                addresses: addresses(input.u8()),
                client_cookie: small(input.u8()),
                server_cookie: small(input.u8()),
                global_seq: small(input.u8()),
                connect_seq: small(input.u8()),
                msg_seq: small(input.u8()),
            })
        };
        let request = SessionRequest {
            channel,
            introduced,
            entity_type: [8, 4, 1, 0xff][usize::from(who >> 6)],
            name: name(who),
            global_id: 77,
            features_supported: FEATURES_SUPPORTED,
            features_required: outlast_msgr2::FEATURE_MSG_ADDR2
                & if operation & 8 == 0 { u64::MAX } else { 0 },
        };
        let existing = match self.endpoint.locate(&request) {
            Located::Known(id) => Some(self.sessions.get_mut(&id).expect("what the endpoint knows is here")),
            Located::Unknown => None,
        };
        let reconnects = matches!(request.introduced, Introduced::Reconnect(_));
        let (decision, fresh) = self.endpoint.decide(request, existing, self.now);
        if let Some(session) = fresh {
            assert!(!reconnects, "only an ident makes a session");
            self.made += 1;
            self.sessions.insert(session.id(), session);
        }
        match decision {
            Decision::Accept { session, answer: _ } => {
                let session = self.sessions.get(&session).expect("what was accepted is here");
                assert_eq!(session.state(), SessionState::Ready { channel }, "it is carried by the newcomer");
            }
            Decision::Reply(control) => {
                let mut bytes = Vec::new();
                control.encode(&mut bytes);
                assert!(self.sessions.values().all(|session| !session.is_ready_on(channel)));
            }
            Decision::Closed { msg_seq: _ } => {
                assert!(reconnects, "only who comes back is told");
                assert!(self.sessions.values().all(|session| !session.is_ready_on(channel)));
            }
            Decision::Refuse(error) => {
                let _ = (error.fault(), error.is_refusal(), error.to_string());
            }
        }
    }

    fn collect(&mut self) {
        for session in self.sessions.values_mut() {
            while let Some(event) = session.poll_event() {
                if matches!(event, SessionEvent::Ended(_)) {
                    self.endpoint.bury(session);
                }
            }
            while session.poll_revocation().is_some() {}
        }
    }

    fn check(&self) {
        let alive = self.sessions.values().filter(|session| session.end().is_none()).count();
        assert_eq!(self.endpoint.sessions(), alive, "the endpoint knows those that live, and no others");
        // One connection carries one session.
        let mut channels: Vec<_> =
            self.sessions.values().filter_map(|session| session.state().channel()).collect();
        channels.sort_unstable();
        let all = channels.len();
        channels.dedup();
        assert_eq!(channels.len(), all, "each by a connection of its own");
        assert_ne!(self.endpoint.connection_config().msgr2_supported & !FEATURE_OUTLAST_CLOSE, 0);
    }
}
