//! By what a session is found again, and that no other takes that from it unsaid.

use super::*;

fn target(host: u8) -> Target {
    Target { addresses: address(host).into(), entity_type: None, name: None }
}

/// Two daemons, each the other's client: the sessions have nothing to do with each other.
#[test]
fn a_clients_session_to_an_address_does_not_hide_the_session_that_came_from_there() {
    for policy in [Policy::LOSSLESS_CLIENT, Policy::LOSSY_CLIENT] {
        let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
        let cookie = acceptor.accepted(LOWER, 1);
        let opened =
            acceptor.endpoint.connect(target(LOWER), SessionConfig::new(policy), NOW).expect("an address");
        acceptor.lost();
        resumed(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)));
        assert_eq!(acceptor.endpoint.sessions(), 2);
        acceptor.endpoint.forget(opened.id());
        acceptor.lost();
        resumed(acceptor.reconnect(reconnect(LOWER, cookie, 3, 2)));
    }
}

/// And the other way round: it is no session of the newcomer's that it could take over.
#[test]
fn a_newcomer_from_an_address_does_not_get_the_clients_session_to_it() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let config = SessionConfig::new(Policy::LOSSLESS_CLIENT);
    let opened = acceptor.endpoint.connect(target(LOWER), config, NOW).expect("an address");
    assert_eq!(acceptor.endpoint.locate(&acceptor.request), Located::Unknown);
    accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    assert_ne!(acceptor.session().id(), opened.id());
    assert!(opened.state().is_dialling());
}

#[test]
fn whether_there_is_a_session_with_a_peer_can_be_asked_before_another_is_opened() {
    let peer = SessionConfig::new(Policy::LOSSLESS_PEER);
    let mut acceptor = Acceptor::new(peer.clone());
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &peer), None);
    let first = acceptor.endpoint.connect(target(LOWER), peer.clone(), NOW).expect("an address");
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &peer), Some(first.id()), "not dialled yet");
    assert_eq!(acceptor.endpoint.registered(&target(HIGHER), &peer), None);
    let client = SessionConfig::new(Policy::LOSSLESS_CLIENT);
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &client), None, "a client may have several");

    // Opened all the same, the newer one is found, and the end of the older changes nothing about that.
    let second = acceptor.endpoint.connect(target(LOWER), peer.clone(), NOW).expect("an address");
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &peer), Some(second.id()));
    acceptor.endpoint.forget(first.id());
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &peer), Some(second.id()));
    acceptor.endpoint.forget(second.id());
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &peer), None);

    // One that came in is found by the same question.
    acceptor.accepted(LOWER, 1);
    let came = acceptor.session().id();
    assert_eq!(acceptor.endpoint.registered(&target(LOWER), &peer), Some(came));
}

/// A driver that has lost what [`Endpoint::locate`] names says so by lending nothing.
#[test]
fn a_session_that_its_driver_no_longer_has_is_forgotten_when_its_peer_comes_again() {
    for policy in [Policy::STATEFUL_SERVER, Policy::LOSSLESS_PEER] {
        let mut acceptor = Acceptor::by_address(policy);
        acceptor.accepted(LOWER, 1);
        let lost = acceptor.session.take().unwrap().id();
        acceptor.accepted(LOWER, 2);
        assert_ne!(acceptor.session().id(), lost);
        assert_eq!(acceptor.endpoint.sessions(), 1);
    }
}
