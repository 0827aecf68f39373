//! Bytes that are cut, changed, made up, or that lie about their number.

#![allow(clippy::unwrap_used)]

mod common;

use common::{COMBINATIONS, Cluster, NOW, finish};
use outlast_cephx::client::{LoginError, ServiceLogin};
use outlast_cephx::server::{MonitorAcceptor, ServiceAcceptor, Step};
use outlast_cephx::{DecodeError, EntityName, EntityType, Key, KeyType, Keyring, none};
use proptest::prelude::*;

#[test]
fn cut_messages_are_refused_at_every_length() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        let tickets = cluster.tickets();
        // With an old ticket, so that every part is there.
        let mut login = cluster.login(Some(tickets.clone()));
        let request = login.request();
        for len in 0..request.len() {
            let step = MonitorAcceptor::new().handle_request(&request[..len], &mut cluster.rng);
            assert!(matches!(step, Step::Refused(_)), "request, {len} bytes");
        }
        let mut acceptor = MonitorAcceptor::new();
        let challenge = cluster.challenge(&mut acceptor, &request);
        for len in 0..challenge.len() {
            login.request();
            let result = login.handle_more(&challenge[..len], &mut cluster.rng);
            assert!(matches!(result, Err(LoginError::Decode(DecodeError::Truncated { .. }))), "{len} bytes");
        }
        login.request();
        let answer = login.handle_more(&challenge, &mut cluster.rng).unwrap();
        for len in 0..answer.len() {
            cluster.challenge(&mut acceptor, &request);
            assert!(
                finish(cluster.answer(&mut acceptor, &answer[..len], true)).is_err(),
                "answer, {len} bytes"
            );
        }
        let accepted = cluster.accept(&mut login, true).unwrap();
        for len in 0..accepted.payload.len() {
            login.request();
            login.handle_more(&challenge, &mut cluster.rng).unwrap();
            let result = login.handle_done(1, true, &accepted.payload[..len], NOW);
            assert!(result.is_err(), "end, {len} bytes");
        }

        let ticket = tickets.get(EntityType::Osd).unwrap();
        let secrets = cluster.osd_secrets().clone();
        let (mut login, mut acceptor, answer) = cluster.authorizer(ticket, tickets.global_id()).unwrap();
        let request = login.request();
        for len in 0..request.len() {
            let step = ServiceAcceptor::new(EntityType::Osd).handle_request(
                &request[..len],
                &secrets,
                NOW,
                &mut cluster.rng,
            );
            assert!(matches!(step, Step::Refused(_)), "authorizer, {len} bytes");
        }
        let accepted = finish(cluster.authorize(&mut acceptor, &answer, true)).unwrap();
        for len in 0..accepted.payload.len() {
            let (mut login, _, _) = cluster.authorizer(ticket, tickets.global_id()).unwrap();
            assert!(login.handle_done(true, &accepted.payload[..len]).is_err(), "reply, {len} bytes");
        }
    }
}

/// The answer is proved by its challenge and its proof; the mask and the version behind them are anybody's.
#[test]
fn a_changed_bit_of_the_proof_is_refused() {
    for (key_type, cipher) in COMBINATIONS {
        let mut cluster = Cluster::new(key_type, cipher);
        for bit in 0..(2 + 1 + 16) * 8 {
            let mut login = cluster.login(None);
            let mut acceptor = MonitorAcceptor::new();
            let challenge = cluster.challenge(&mut acceptor, &login.request());
            let mut answer = login.handle_more(&challenge, &mut cluster.rng).unwrap().to_vec();
            answer[bit / 8] ^= 1 << (bit % 8);
            let result = finish(cluster.answer(&mut acceptor, &answer, false));
            let is_version = bit / 8 == 2;
            assert_eq!(result.is_ok(), is_version && answer[2] != 0, "bit {bit}");
        }
    }
}

/// What the type `aes256k` seals cannot be changed; what stands beside it (version bytes, the service's part of a
/// ticket, which only the service can judge) changes nothing of what was agreed.
#[test]
fn a_changed_bit_of_the_end_never_changes_the_keys() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let tickets = cluster.tickets();
    let mut login = cluster.login(Some(tickets));
    let accepted = cluster.accept(&mut login, true).unwrap();
    let mut errors = 0;
    for bit in 0..accepted.payload.len() * 8 {
        let mut changed = accepted.payload.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        login.request();
        login.handle_more(&[1; 9], &mut cluster.rng).unwrap();
        match login.handle_done(1, true, &changed, NOW) {
            Ok(login) => {
                assert_eq!(login.session_key, accepted.session_key, "bit {bit}");
                assert_eq!(login.connection_secret, accepted.connection_secret, "bit {bit}");
            }
            Err(_) => errors += 1,
        }
    }
    assert!(
        errors > accepted.payload.len() * 4,
        "most of it is sealed, yet only {errors} changes were noticed"
    );
}

#[test]
fn with_the_older_type_changed_bits_do_no_worse_than_fail() {
    let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes);
    let tickets = cluster.tickets();
    let mut login = cluster.login(Some(tickets));
    let accepted = cluster.accept(&mut login, true).unwrap();
    let mut errors = 0;
    for bit in 0..accepted.payload.len() * 8 {
        let mut changed = accepted.payload.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        login.request();
        login.handle_more(&[1; 9], &mut cluster.rng).unwrap();
        errors += usize::from(login.handle_done(1, true, &changed, NOW).is_err());
    }
    assert!(errors > accepted.payload.len());
}

#[test]
fn a_changed_bit_of_an_authorizer_is_refused() {
    let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes256k);
    let tickets = cluster.tickets();
    let ticket = tickets.get(EntityType::Osd).unwrap();
    let secrets = cluster.osd_secrets().clone();
    let mut login = ServiceLogin::new(ticket, tickets.global_id(), &mut cluster.rng);
    let request = login.request();
    // Where the version of the ticket's blob stands: a higher one is taken.
    const BLOB_VERSION: usize = 1 + 8 + 4;
    for bit in 0..request.len() * 8 {
        let mut changed = request.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let step =
            ServiceAcceptor::new(EntityType::Osd).handle_request(&changed, &secrets, NOW, &mut cluster.rng);
        let is_taken = bit / 8 == BLOB_VERSION && changed[BLOB_VERSION] != 0;
        assert_eq!(matches!(step, Step::More(_)), is_taken, "bit {bit}");
    }
}

#[test]
fn counts_and_lengths_that_lie_cost_nothing() {
    let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes);
    let mut end = |tail: &[u8]| {
        let mut login = cluster.login(None);
        login.request();
        login.handle_more(&[1; 9], &mut cluster.rng).unwrap();
        let mut payload = vec![0, 1, 0, 0, 0, 0];
        payload.extend_from_slice(tail);
        login.handle_done(1, false, &payload, NOW).unwrap_err()
    };
    assert_eq!(
        end(&[1, 0xff, 0xff, 0xff, 0xff]),
        LoginError::Decode(DecodeError::TooMany {
            field: "the count of tickets",
            count: 0xffff_ffff,
            max: 32
        })
    );
    assert_eq!(
        end(&[1, 32, 0, 0, 0]),
        LoginError::Decode(DecodeError::Truncated { field: "a ticket's service" })
    );
    assert_eq!(
        end(&[1, 1, 0, 0, 0, 0x20, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0]),
        LoginError::Decode(DecodeError::Truncated { field: "a ticket's session key" })
    );
    assert_eq!(end(&[1, 0, 0, 0, 0]), LoginError::NoAuthTicket);
}

proptest! {
    #[test]
    fn made_up_bytes_are_refused_by_every_acceptor(
        request in proptest::collection::vec(any::<u8>(), 0..200),
        answer in proptest::collection::vec(any::<u8>(), 0..300),
        secure: bool,
    ) {
        let mut cluster = Cluster::new(KeyType::Aes256k, KeyType::Aes);
        let _ = MonitorAcceptor::new().handle_request(&request, &mut cluster.rng);
        let mut acceptor = MonitorAcceptor::new();
        let mut good = cluster.login(None);
        cluster.challenge(&mut acceptor, &good.request());
        prop_assert!(finish(cluster.answer(&mut acceptor, &answer, secure)).is_err());
        let secrets = cluster.osd_secrets().clone();
        let mut acceptor = ServiceAcceptor::new(EntityType::Osd);
        let step = acceptor.handle_request(&request, &secrets, NOW, &mut cluster.rng);
        prop_assert!(matches!(step, Step::Refused(_)));
        let _ = none::accept(&request);
    }

    #[test]
    fn made_up_bytes_end_every_login(
        challenge in proptest::collection::vec(any::<u8>(), 0..60),
        end in proptest::collection::vec(any::<u8>(), 0..300),
        secure: bool,
    ) {
        let mut cluster = Cluster::new(KeyType::Aes, KeyType::Aes256k);
        let tickets = cluster.tickets();
        let mut login = cluster.login(Some(tickets.clone()));
        login.request();
        let _ = login.handle_more(&challenge, &mut cluster.rng);
        login.request();
        login.handle_more(&[1; 9], &mut cluster.rng).unwrap();
        // With a header that is right, so that the rest is read.
        let mut payload = vec![0, 1, 0, 0, 0, 0, 1];
        payload.extend_from_slice(&end);
        prop_assert!(login.handle_done(1, secure, &payload, NOW).is_err());
        let ticket = tickets.get(EntityType::Osd).unwrap();
        let (mut login, _, _) = cluster.authorizer(ticket, tickets.global_id()).unwrap();
        prop_assert!(login.handle_done(secure, &end).is_err());
    }

    #[test]
    fn made_up_texts_are_keyrings_or_mistakes(text in "(\\[[a-z.]{1,9}\\]|[a-z_ ]{0,6}=?[\"'a-zA-Z#;=\\\\]{0,9}|\n|\t| ){0,30}") {
        if let Ok(keyring) = Keyring::parse(text.as_bytes()) {
            let written = keyring.to_text().unwrap();
            let again = Keyring::parse(written.as_bytes()).unwrap();
            prop_assert_eq!(&*again.to_text().unwrap(), &*written);
        }
    }

    #[test]
    fn capabilities_survive_a_keyring(caps in "[^\n\r]{0,40}") {
        let key = Key::new(KeyType::Aes256k, NOW, &[9; 32]).unwrap();
        let entry = outlast_cephx::keyring::Entry::new(key).with_caps("osd", &caps);
        let mut keyring = Keyring::new();
        keyring.insert(common::copy_name(), entry);
        let again = Keyring::parse(keyring.to_text().unwrap().as_bytes()).unwrap();
        prop_assert_eq!(again, keyring);
    }

    #[test]
    fn keys_names_and_types_as_text_come_back(
        text in "([a-z]{0,8}|aes256k|osd|client)(\\.[a-z0-9.]{0,8})?|[A-Za-z0-9+/]{0,60}={0,2}", secret in any::<[u8; 32]>(),
    ) {
        if let Ok(name) = text.parse::<EntityName>() {
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }
        if let Ok(kind) = text.parse::<EntityType>() {
            prop_assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        if let Ok(kind) = text.parse::<KeyType>() {
            prop_assert_eq!(KeyType::from_number(kind.number()), Some(kind));
        }
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(Key::from_base64(&key.to_base64()), Ok(key));
        }
        let key = Key::new(KeyType::Aes256k, NOW, &secret).unwrap();
        prop_assert_eq!(Key::from_base64(&key.to_base64()), Ok(key));
    }
}
