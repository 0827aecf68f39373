//! Who may speak for whom.

use super::*;

fn refused(decision: Decision) -> bool {
    matches!(decision, Decision::Refuse(ConnectionError::NameNotAllowed { .. }))
}

/// A credential for one name is no leave to speak for another.
#[test]
fn a_name_that_the_credential_is_not_for_is_refused() {
    let global_id = i64::try_from(GLOBAL_ID).unwrap();
    for (name, entity_type, claimed, allowed) in [
        ("client.a", 8, global_id, true),
        // Only fetches its configuration.
        ("client.a", 8, -1, true),
        ("client.a", 8, global_id + 1, false),
        ("client.a", 8, 0, false),
        ("client.a", 8, i64::MIN, false),
        ("client.a", 4, global_id, false),
        ("client.a", 1, global_id, false),
        ("osd.3", 4, 3, true),
        ("osd.3", 4, 4, false),
        ("osd.3", 8, 3, false),
        // Named by letters, they number themselves.
        ("mon.a", 1, 0, true),
        ("mon.a", 4, 0, false),
    ] {
        let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
        acceptor.newcomer(name);
        acceptor.request.entity_type = entity_type;
        let claim = ClientIdent { global_id: claimed, ..ident(LOWER, 1, COOKIE) };
        let decision = acceptor.ident(claim);
        assert_eq!(refused(decision), !allowed, "{name} as {entity_type:#x}.{claimed}");
        assert_eq!(acceptor.session.is_some(), allowed);
    }
}

/// By address anybody who may authenticate can claim one; what is behind it stays its owner's.
#[test]
fn the_session_behind_a_claimed_address_stays_its_owners() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    acceptor.newcomer("osd.1");
    let cookie = acceptor.accepted(LOWER, 1);
    let before = acceptor.session().state();
    acceptor.newcomer("osd.7");
    let claim = ClientIdent { global_id: 7, ..ident(LOWER, 2, COOKIE) };
    assert!(refused(acceptor.ident(claim)));
    assert!(refused(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1))));
    assert_eq!(acceptor.session().state(), before);
    assert_eq!(acceptor.events(), []);
}

/// A session that this end has opened to an OSD is not a client's, whatever address it claims.
#[test]
fn a_newcomer_of_another_type_does_not_get_the_session_that_was_opened_to_its_address() {
    for policy in [Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER_REUSE] {
        let mut acceptor = Acceptor::by_address(policy);
        let target = Target { addresses: address(LOWER).into(), entity_type: Some(OSD), name: None };
        acceptor.session = Some(acceptor.endpoint.connect(target, SessionConfig::new(policy), NOW).unwrap());
        let queued = acceptor.say();
        acceptor.newcomer("client.a");
        let claim = ClientIdent { global_id: -1, ..ident(LOWER, 1, COOKIE) };
        assert!(refused(acceptor.ident(claim)));
        assert_eq!(acceptor.session().status(queued), ReceiptStatus::Pending);
        assert!(acceptor.session().state().is_dialling());
        acceptor.newcomer("osd.1");
        accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    }
}

/// With auth none there are no names to compare: who was dialled by one may come from the dialled address.
#[test]
fn without_proof_a_wished_name_keeps_nobody_out() {
    for policy in [Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER_REUSE] {
        let mut acceptor = Acceptor::by_address(policy);
        let name = "osd.1".parse().ok();
        let target = Target { addresses: address(LOWER).into(), entity_type: Some(OSD), name };
        acceptor.session = Some(acceptor.endpoint.connect(target, SessionConfig::new(policy), NOW).unwrap());
        acceptor.newcomer("osd.7");
        let claim = ClientIdent { global_id: 7, ..ident(LOWER, 1, COOKIE) };
        assert!(refused(acceptor.ident(claim)), "a name that is proven is compared");
        acceptor.request.name = None;
        accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    }
}

/// One key cannot fill the table: its sessions are counted by the name that it proves, whatever addresses and cookies it
/// comes with.
#[test]
fn a_name_with_as_many_sessions_as_one_may_have_is_refused_and_the_others_are_not() {
    const LIMIT: usize = 3;
    let global_id = i64::try_from(GLOBAL_ID).unwrap();
    for matching in [Matching::Address, Matching::Identity] {
        let config = SessionConfig { matching, ..SessionConfig::new(Policy::STATEFUL_SERVER) };
        let mut acceptor = Acceptor::with_limit(config, LIMIT);
        let claim = |number: u8| ClientIdent {
            global_id,
            ..ident(10 + number, 1 + u64::from(number), COOKIE + u64::from(number))
        };
        acceptor.newcomer("client.a");
        let mut sessions = Vec::new();
        for number in 0..3 {
            accepted(acceptor.ident(claim(number)));
            sessions.push(acceptor.session.take().unwrap());
        }
        let too_many = ConnectionError::TooManySessionsOfName { limit: LIMIT };
        assert_eq!((too_many.fault(), too_many.is_refusal()), (Fault::Peer, false));
        assert_eq!(acceptor.ident(claim(3)), Decision::Refuse(too_many.clone()));
        let proven = acceptor.request.name.clone().unwrap();
        assert_eq!((acceptor.endpoint.sessions_of(&proven), acceptor.endpoint.sessions()), (3, 3));

        // Those that it has go on.
        acceptor.session = sessions.pop();
        let again = ClientIdent { global_seq: 9, ..claim(2) };
        accepted(acceptor.ident(again));
        assert_eq!(acceptor.endpoint.sessions_of(&proven), 3);

        // Another name comes in, and so does this one when one of its sessions is over.
        acceptor.session = None;
        acceptor.newcomer("client.b");
        accepted(acceptor.ident(claim(4)));
        acceptor.session = None;
        acceptor.newcomer("client.a");
        assert_eq!(acceptor.ident(claim(5)), Decision::Refuse(too_many));
        for _ in 0..2 {
            // The second time it is known no more.
            acceptor.endpoint.forget(sessions[0].id());
            assert_eq!(acceptor.endpoint.sessions_of(&proven), 2);
        }
        accepted(acceptor.ident(claim(5)));
    }
}

/// Nobody has proven anything: there is no name to count by.
#[test]
fn who_proves_no_name_is_not_counted_by_name() {
    let mut acceptor = Acceptor::with_limit(SessionConfig::new(Policy::STATEFUL_SERVER), 1);
    for host in 1..4 {
        accepted(acceptor.ident(ident(host, 1, COOKIE)));
        acceptor.session = None;
    }
    assert_eq!(acceptor.endpoint.sessions(), 3);
}

/// It would be about to dial for ever, and its timer always in the past.
#[test]
fn a_session_to_nowhere_is_not_begun() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    let target = Target { addresses: AddrVec::default(), entity_type: None, name: None };
    let config = acceptor.endpoint_default();
    assert_eq!(acceptor.endpoint.connect(target, config, NOW).err(), Some(NoAddress));
    assert_eq!(acceptor.endpoint.sessions(), 0);
}
