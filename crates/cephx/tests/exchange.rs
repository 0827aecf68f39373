//! Our client against our own acceptors: what works, with each type of key, and what is refused.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{COMBINATIONS, Cluster, FIRST_GLOBAL_ID, NOW, copy_name, finish, more};
use outlast_cephx::client::{LoginError, MonitorLogin, ServiceLogin};
use outlast_cephx::crypt::{Usage, open, seal_prefixed};
use outlast_cephx::server::{
    MonitorAcceptor, REFUSED_ERRNO, RefusalReason, ServiceAcceptor, Step, TicketSecrets,
};
use outlast_cephx::{EntityName, EntityType, Key, KeyType, ServiceMask, Timestamp};

#[test]
fn a_client_logs_in_at_a_monitor_and_then_at_a_service() {
    for (key_type, cipher) in COMBINATIONS {
        for secure in [false, true] {
            let mut cluster = Cluster::new(key_type, cipher);
            let mut login = cluster.login(None);
            let (accepted, login) = cluster.run(&mut login, secure);
            let login = login.unwrap();
            assert_eq!(accepted.entity, copy_name());
            assert_eq!((accepted.global_id, login.global_id), (FIRST_GLOBAL_ID, FIRST_GLOBAL_ID));
            assert_eq!(accepted.session_key, login.session_key);
            assert_eq!(login.session_key.key_type(), key_type.min(cipher));
            assert_eq!(accepted.connection_secret, login.connection_secret);
            assert_eq!(
                login.connection_secret.as_ref().map(|secret| secret.as_bytes().len()),
                secure.then_some(64)
            );
            let services: Vec<EntityType> = login.tickets.iter().map(|ticket| ticket.service()).collect();
            assert_eq!(services, [EntityType::Auth, EntityType::Mon, EntityType::Osd]);
            let ticket = login.tickets.get(EntityType::Osd).unwrap();
            assert_eq!(ticket.expires(), NOW.saturating_add(Duration::from_secs(3600)));

            let (mut service_login, mut acceptor, answer) =
                cluster.authorizer(ticket, login.global_id).unwrap();
            let accepted = finish(cluster.authorize(&mut acceptor, &answer, secure)).unwrap();
            let authorized = service_login.handle_done(secure, &accepted.payload).unwrap();
            assert_eq!(accepted.entity, copy_name());
            assert_eq!(accepted.global_id, FIRST_GLOBAL_ID);
            assert_eq!(accepted.caps.as_deref(), Some("allow rwx pool=a"));
            assert_eq!(&accepted.session_key, ticket.session_key());
            assert_eq!(authorized.session_key, accepted.session_key);
            assert_eq!(authorized.connection_secret, accepted.connection_secret);
            assert_eq!(authorized.connection_secret.is_some(), secure);
        }
    }
}

#[test]
fn each_login_has_its_own_keys_and_secrets() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let mut first = cluster.login(None);
    let first = cluster.run(&mut first, true).1.unwrap();
    let mut second = cluster.login(None);
    let second = cluster.run(&mut second, true).1.unwrap();
    assert_ne!(first.session_key, second.session_key);
    assert_ne!(first.connection_secret, second.connection_secret);
    assert_ne!(first.global_id, second.global_id);
}

#[test]
fn with_its_old_ticket_a_client_keeps_its_number() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let tickets = cluster.tickets();
        for _ in 0..3 {
            let mut login = cluster.login(Some(tickets.clone()));
            let (accepted, login) = cluster.run(&mut login, true);
            let login = login.unwrap();
            assert_eq!((accepted.global_id, login.global_id), (FIRST_GLOBAL_ID, FIRST_GLOBAL_ID));
            assert_ne!(login.tickets.auth().session_key(), tickets.auth().session_key());
        }
        assert_eq!(cluster.next_global_id, FIRST_GLOBAL_ID + 1, "no number was wasted");
    }
}

/// CVE-2021-20288.
#[test]
fn a_number_without_its_ticket_is_refused() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let tickets = cluster.tickets();
        let others: EntityName = "client.other".parse().unwrap();
        let reason =
            |name: &EntityName| RefusalReason::GlobalId { name: name.clone(), global_id: FIRST_GLOBAL_ID };

        // The request claims the number, the answer shows no ticket.
        let mut claims = cluster.login(Some(tickets.clone()));
        let mut honest = cluster.login(None);
        honest.request();
        let mut acceptor = MonitorAcceptor::new();
        let challenge = cluster.challenge(&mut acceptor, &claims.request());
        let answer = honest.handle_more(&challenge, &mut cluster.rng).unwrap();
        let refusal = finish(cluster.answer(&mut acceptor, &answer, false)).unwrap_err();
        assert_eq!((refusal.errno, refusal.reason), (REFUSED_ERRNO, reason(&copy_name())));

        // Somebody else shows the ticket.
        let mut stolen =
            MonitorLogin::new(others.clone(), cluster.key(&others), ServiceMask::NONE, Some(tickets.clone()));
        assert_eq!(cluster.accept(&mut stolen, false).unwrap_err().reason, reason(&others));

        // The ticket is shown, but no number is claimed.
        let mut acceptor = MonitorAcceptor::new();
        let mut shows = cluster.login(Some(tickets.clone()));
        shows.request();
        let challenge = cluster.challenge(&mut acceptor, &cluster.login(None).request());
        let answer = shows.handle_more(&challenge, &mut cluster.rng).unwrap();
        let refusal = finish(cluster.answer(&mut acceptor, &answer, false)).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::GlobalId { name: copy_name(), global_id: 0 });

        // The monitor's secrets are gone, as after three rotations.
        cluster.secrets = TicketSecrets::generate(cipher, ServiceMask::OSD, NOW, &mut cluster.rng);
        let mut late = cluster.login(Some(tickets));
        assert_eq!(cluster.accept(&mut late, false).unwrap_err().reason, reason(&copy_name()));
        let next = cluster.next_global_id;
        let mut anew = cluster.login(None);
        assert_eq!(cluster.run(&mut anew, false).1.unwrap().global_id, next);
    }
}

#[test]
fn a_client_with_a_wrong_key_is_refused() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        for wrong_type in [KeyType::Aes, KeyType::Aes256k] {
            let wrong = Key::generate(wrong_type, NOW, &mut cluster.rng);
            let mut login = MonitorLogin::new(copy_name(), wrong, ServiceMask::NONE, None);
            let refusal = cluster.accept(&mut login, true).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::Proof(copy_name()));
            assert_eq!(refusal.errno, REFUSED_ERRNO);
        }
        assert_eq!(cluster.next_global_id, FIRST_GLOBAL_ID, "no number was given away");
    }
}

#[test]
fn an_unknown_client_is_challenged_and_then_refused_alike() {
    let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes);
    let nobody: EntityName = "client.nobody".parse().unwrap();
    let key = Key::generate(KeyType::Aes, NOW, &mut cluster.rng);
    let mut login = MonitorLogin::new(nobody.clone(), key, ServiceMask::NONE, None);
    let refusal = cluster.accept(&mut login, true).unwrap_err();
    assert_eq!((refusal.errno, refusal.reason), (REFUSED_ERRNO, RefusalReason::Unknown(nobody)));
}

/// A server that knows another key for us can only seal with that.
#[test]
fn a_monitor_with_a_wrong_key_fails_at_the_client() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let mut victim = cluster.login(None);
        victim.request();
        victim.handle_more(&[1, 2, 3, 4, 5, 6, 7, 8, 9], &mut cluster.rng).unwrap();
        // The impostor's answer: a right one, for the key that it has.
        let mut impostor = Cluster::new(key_type, cipher);
        let wrong = Key::generate(key_type, NOW, &mut impostor.rng);
        impostor.keyring.insert(copy_name(), outlast_cephx::keyring::Entry::new(wrong.clone()));
        let mut login = MonitorLogin::new(copy_name(), wrong, ServiceMask::OSD, None);
        let forged = impostor.accept(&mut login, true).unwrap();
        let error = victim.handle_done(1, true, &forged.payload, NOW).unwrap_err();
        assert_eq!(error, LoginError::Undecipherable { part: "a ticket's session key" });
        assert_eq!(error.fault(), outlast_cephx::Fault::Peer);
    }
}

#[test]
fn a_challenge_is_good_for_one_answer() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let mut login = cluster.login(None);
    let mut acceptor = MonitorAcceptor::new();
    let request = login.request();
    let challenge = cluster.challenge(&mut acceptor, &request);
    let answer = login.handle_more(&challenge, &mut cluster.rng).unwrap();
    finish(cluster.answer(&mut acceptor, &answer, false)).unwrap();

    // The same answer again, on the same connection without and with a new challenge, and on another.
    let refusal = finish(cluster.answer(&mut acceptor, &answer, false)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::NoChallenge);
    let second = cluster.challenge(&mut acceptor, &request);
    assert_ne!(second, challenge);
    let refusal = finish(cluster.answer(&mut acceptor, &answer, false)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Proof(copy_name()));
    let mut other = MonitorAcceptor::new();
    cluster.challenge(&mut other, &request);
    let refusal = finish(cluster.answer(&mut other, &answer, false)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Proof(copy_name()));

    // A wrong answer uses the challenge up, too.
    let mut acceptor = MonitorAcceptor::new();
    let challenge = cluster.challenge(&mut acceptor, &login.request());
    let answer = login.handle_more(&challenge, &mut cluster.rng).unwrap();
    assert!(finish(cluster.answer(&mut acceptor, &[0; 3], false)).is_err());
    let refusal = finish(cluster.answer(&mut acceptor, &answer, false)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::NoChallenge);
}

#[test]
fn a_refused_login_starts_again_on_the_same_connection() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let mut login = cluster.login(None);
    login.request();
    let mut acceptor = MonitorAcceptor::new();
    let challenge = cluster.challenge(&mut acceptor, &login.request());
    let answer = login.handle_more(&challenge, &mut cluster.rng).unwrap();
    let accepted = finish(cluster.answer(&mut acceptor, &answer, true)).unwrap();
    assert!(login.handle_done(accepted.global_id, true, &accepted.payload, NOW).is_ok());
}

#[test]
fn messages_out_of_turn_end_the_login() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let challenge = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    let mut login = cluster.login(None);
    assert_eq!(
        login.handle_more(&challenge, &mut cluster.rng),
        Err(LoginError::OutOfTurn),
        "before the request"
    );
    login.request();
    assert_eq!(
        login.handle_done(1, false, &[], NOW),
        Err(LoginError::OutOfTurn),
        "an end without a challenge"
    );
    assert_eq!(login.handle_more(&challenge, &mut cluster.rng), Err(LoginError::OutOfTurn), "after an error");
    login.request();
    assert!(login.handle_more(&challenge, &mut cluster.rng).is_ok());
    assert_eq!(
        login.handle_more(&challenge, &mut cluster.rng),
        Err(LoginError::OutOfTurn),
        "a second challenge"
    );

    let tickets = cluster.tickets();
    let mut login = ServiceLogin::new(tickets.get(EntityType::Osd).unwrap(), 1, &mut cluster.rng);
    assert_eq!(login.handle_done(false, &[]), Err(LoginError::OutOfTurn));
}

#[test]
fn a_secure_connection_needs_a_secret_of_40_bytes() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let mut login = cluster.login(None);
    let accepted = cluster.accept(&mut login, false).unwrap();
    let error = login.handle_done(1, true, &accepted.payload, NOW).unwrap_err();
    assert_eq!(error, LoginError::SecretLength { len: 0 });

    let tickets = cluster.tickets();
    let ticket = tickets.get(EntityType::Osd).unwrap();
    for (len, good) in [(0, false), (39, false), (40, true), (64, true), (65, false)] {
        let (mut login, mut acceptor, answer) = cluster.authorizer(ticket, tickets.global_id()).unwrap();
        let accepted = finish(cluster.authorize(&mut acceptor, &answer, true)).unwrap();
        let mut reply =
            open(ticket.session_key(), Usage::AuthorizeReply, &accepted.payload[4..]).unwrap().to_vec();
        reply.truncate(9 + 4);
        reply.resize(9 + 4 + len, 0xee);
        reply[9..13].copy_from_slice(&(len as u32).to_le_bytes());
        let forged = seal_prefixed(ticket.session_key(), Usage::AuthorizeReply, &reply, &mut cluster.rng);
        let result = login.handle_done(true, &forged);
        if good {
            assert_eq!(result.unwrap().connection_secret.unwrap().as_bytes(), &vec![0xee; len]);
        } else {
            assert_eq!(result, Err(LoginError::SecretLength { len }));
        }
    }
}

#[test]
fn a_service_that_cannot_read_the_nonce_fails_at_the_client() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let tickets = cluster.tickets();
        let ticket = tickets.get(EntityType::Osd).unwrap();
        for wrong_by in [1_u64, u64::MAX] {
            let (mut login, mut acceptor, answer) = cluster.authorizer(ticket, tickets.global_id()).unwrap();
            let accepted = finish(cluster.authorize(&mut acceptor, &answer, false)).unwrap();
            let mut reply =
                open(ticket.session_key(), Usage::AuthorizeReply, &accepted.payload[4..]).unwrap().to_vec();
            let nonce_plus_one = u64::from_le_bytes(reply[1..9].try_into().unwrap());
            reply[1..9].copy_from_slice(&nonce_plus_one.wrapping_add(wrong_by).to_le_bytes());
            let forged = seal_prefixed(ticket.session_key(), Usage::AuthorizeReply, &reply, &mut cluster.rng);
            assert_eq!(login.handle_done(false, &forged), Err(LoginError::Nonce));
        }

        // A service without the session key cannot even challenge.
        let mut login = ServiceLogin::new(ticket, tickets.global_id(), &mut cluster.rng);
        login.request();
        let wrong = Key::generate(ticket.session_key().key_type(), NOW, &mut cluster.rng);
        let forged = outlast_cephx::crypt::seal(&wrong, Usage::AuthorizeChallenge, &[1; 9], &mut cluster.rng);
        let error = login.handle_more(&forged, &mut cluster.rng).unwrap_err();
        assert_eq!(error, LoginError::Undecipherable { part: "the challenge" });
    }
}

#[test]
fn a_recorded_authorizer_is_worth_nothing() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let tickets = cluster.tickets();
        let ticket = tickets.get(EntityType::Osd).unwrap();
        let (mut login, mut acceptor, answer) = cluster.authorizer(ticket, tickets.global_id()).unwrap();
        finish(cluster.authorize(&mut acceptor, &answer, false)).unwrap();
        let refusal = finish(cluster.authorize(&mut acceptor, &answer, false)).unwrap_err();
        assert_eq!((refusal.errno, refusal.reason), (REFUSED_ERRNO, RefusalReason::NoChallenge));

        // Both messages again, on another connection.
        let secrets = cluster.osd_secrets().clone();
        let mut other = ServiceAcceptor::new(EntityType::Osd);
        more(other.handle_request(&login.request(), &secrets, NOW, &mut cluster.rng));
        let refusal = finish(cluster.authorize(&mut other, &answer, false)).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Challenge);
        // The first one twice: it answers no challenge.
        more(other.handle_request(&login.request(), &secrets, NOW, &mut cluster.rng));
        let refusal = finish(cluster.authorize(&mut other, &login.request(), false)).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Challenge);
    }
}

#[test]
fn a_ticket_is_good_for_its_owner_its_service_and_its_time() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let tickets = cluster.tickets();
        let ticket = tickets.get(EntityType::Osd).unwrap();
        let refusal =
            |result: Result<_, outlast_cephx::server::Refusal>| result.map(|_| ()).unwrap_err().reason;

        assert_eq!(refusal(cluster.authorizer(ticket, 1)), RefusalReason::OtherTicket, "another number");
        let for_monitors = tickets.get(EntityType::Mon).unwrap();
        assert_eq!(
            refusal(cluster.authorizer(for_monitors, tickets.global_id())),
            RefusalReason::OtherService(EntityType::Mon)
        );
        cluster.now = ticket.expires().saturating_add(Duration::from_secs(300));
        assert!(cluster.authorizer(ticket, tickets.global_id()).is_ok(), "clocks differ");
        cluster.now = ticket.expires().saturating_add(Duration::from_secs(301));
        assert_eq!(
            refusal(cluster.authorizer(ticket, tickets.global_id())),
            RefusalReason::Expired { expires: ticket.expires() }
        );
        for _ in 0..2 {
            let due = cluster.secrets.rotate_at().unwrap();
            assert!(cluster.secrets.rotate(due, &mut cluster.rng));
        }
        assert_eq!(
            refusal(cluster.authorizer(ticket, tickets.global_id())),
            RefusalReason::StaleTicket { secret_id: ticket.secret_id() }
        );
    }
}

#[test]
fn a_ticket_of_another_monitors_making_does_not_open() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let mut impostor = Cluster::new(key_type, cipher);
        impostor.secrets = TicketSecrets::generate(cipher, ServiceMask::OSD, NOW, &mut impostor.rng);
        let forged = impostor.tickets();
        let refused = cluster.authorizer(forged.get(EntityType::Osd).unwrap(), forged.global_id());
        assert_eq!(refused.map(|_| ()).unwrap_err().reason, RefusalReason::Undecipherable);
    }
}

#[test]
fn the_second_round_must_show_the_ticket_of_the_first() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let first = cluster.tickets();
    let second = cluster.tickets();
    let (_, mut acceptor, _) =
        cluster.authorizer(first.get(EntityType::Osd).unwrap(), first.global_id()).unwrap();
    let (_, _, answer) =
        cluster.authorizer(second.get(EntityType::Osd).unwrap(), second.global_id()).unwrap();
    let refusal = finish(cluster.authorize(&mut acceptor, &answer, false)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::OtherTicket);
}

#[test]
fn a_client_older_than_nautilus_gets_no_secret() {
    let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes);
    for secure in [false, true] {
        let mut login = cluster.login(None);
        let mut acceptor = MonitorAcceptor::new();
        let challenge = cluster.challenge(&mut acceptor, &login.request());
        let mut answer = login.handle_more(&challenge, &mut cluster.rng).unwrap().to_vec();
        // Its structure has version 1 and ends before the mask.
        answer[2] = 1;
        answer.truncate(answer.len() - 4);
        let step = cluster.answer(&mut acceptor, &answer, secure);
        if secure {
            assert_eq!(finish(step).unwrap_err().reason, RefusalReason::NoSecretPossible);
        } else {
            let accepted = finish(step).unwrap();
            let login = login.handle_done(accepted.global_id, false, &accepted.payload, NOW).unwrap();
            assert_eq!(login.tickets.iter().count(), 1);
        }
    }
}

#[test]
fn services_without_secrets_are_left_out_and_without_its_own_a_monitor_lets_nobody_in() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    cluster.secrets = TicketSecrets::generate(KeyType::Aes256k, ServiceMask::NONE, NOW, &mut cluster.rng);
    assert_eq!(cluster.tickets().iter().count(), 1);
    cluster.secrets = TicketSecrets::new();
    let mut login = cluster.login(None);
    assert_eq!(cluster.accept(&mut login, true).unwrap_err().reason, RefusalReason::NoSecrets);
}

#[test]
fn a_monitors_error_number_reaches_the_client() {
    let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes);
    let mut login = cluster.login(None);
    login.request();
    login.handle_more(&[1; 9], &mut cluster.rng).unwrap();
    let mut payload = vec![0, 1];
    payload.extend_from_slice(&(-13_i32).to_le_bytes());
    let error = login.handle_done(1, false, &payload, Timestamp::default()).unwrap_err();
    assert_eq!(error, LoginError::Refused { errno: -13 });
}

#[test]
fn steps_are_plain_to_match() {
    let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes);
    let step = MonitorAcceptor::new().handle_request(&[10], &mut cluster.rng);
    assert!(matches!(step, Step::Refused(refusal) if refusal.errno == REFUSED_ERRNO));
}
