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
        acceptor.session = Some(acceptor.endpoint.connect(target, SessionConfig::new(policy), NOW));
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
        acceptor.session = Some(acceptor.endpoint.connect(target, SessionConfig::new(policy), NOW));
        acceptor.newcomer("osd.7");
        let claim = ClientIdent { global_id: 7, ..ident(LOWER, 1, COOKIE) };
        assert!(refused(acceptor.ident(claim)), "a name that is proven is compared");
        acceptor.request.name = None;
        accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    }
}
