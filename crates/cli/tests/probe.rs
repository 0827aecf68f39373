//! `outlast probe` against a server of our own, and against what is none.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, Server};
use std::io::Write as _;
use std::net::TcpListener;

#[test]
fn our_own_server_is_described_as_it_is() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let stranger = home.run(&["probe", &server.address, "--json"]).expect(0).json();
    assert_eq!(stranger["banner"]["protocol"], "msgr2.1");
    assert_eq!(stranger["allowed"]["methods"], serde_json::json!(["cephx"]));
    assert_eq!(stranger["allowed"]["modes"], serde_json::json!(["secure"]));
    assert!(stranger["our_address"].as_str().unwrap().starts_with("v2:127.0.0.1:"), "{stranger}");
    assert!(stranger.get("login").is_none() && stranger.get("stopped").is_none(), "{stranger}");

    let keyring = ".config/outlast/server.keyring";
    let known = home.run(&["probe", &server.address, "--keyring", keyring, "--json"]).expect(0).json();
    assert_eq!(known["login"]["name"], "client.admin");
    assert_eq!(known["login"]["mode"], "secure");
    assert_eq!(known["login"]["key_type"], "aes256k");
    assert_eq!(known["session"]["lossy"], false);
    let steps: Vec<_> =
        known["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    let wanted =
        ["connect", "banner", "hello", "methods", "login", "signature", "compression", "ident", "keepalive"];
    assert_eq!(steps, wanted);

    let old = home.run(&["probe", &server.address, "--revision-0", "--json"]).expect(0).json();
    assert_eq!(old["banner"]["protocol"], "msgr2.0");
}

#[test]
fn a_server_without_keys_lets_a_probe_in() {
    let home = Home::new();
    let server = Server::start(&home, &["--auth", "none"]);
    let report = home.run(&["probe", &server.address, "--json"]).expect(0).json();
    assert_eq!(report["allowed"]["methods"], serde_json::json!(["none"]));
    assert_eq!((&report["login"]["method"], &report["login"]["mode"]), (&"none".into(), &"crc".into()));
}

#[test]
fn a_refusal_is_told_with_what_was_learnt_before() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    home.ok(&["keyring", "create", "wrong"]);
    let ran = home.run(&["probe", &server.address, "--keyring", "wrong", "--json"]).expect(4);
    let report = ran.json();
    assert_eq!(report["stopped"]["step"], "login");
    assert_eq!(report["banner"]["protocol"], "msgr2.1");
    let ran =
        home.run(&["probe", &server.address, "--keyring", "wrong", "--mode", "crc", "--json"]).expect(4);
    assert!(
        ran.json()["stopped"]["reason"].as_str().unwrap().contains("allows cephx in secure"),
        "{}",
        ran.stdout
    );
}

#[test]
fn what_is_no_msgr2_is_called_so() {
    let home = Home::new();
    for (said, wanted) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "banner"), (b"ceph v027", "msgr1")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Longer than a banner's beginning, so that nobody waits for more.
            stream.write_all(said).and_then(|()| stream.write_all(&[0; 64])).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let ran = home.run(&["probe", &address, "--json"]).expect(1);
        let report = ran.json();
        assert_eq!(report["stopped"]["step"], "banner");
        assert!(report["stopped"]["reason"].as_str().unwrap().contains(wanted), "{report}");
        peer.join().unwrap();
    }
}

#[test]
fn nobody_there_and_nobody_answering_are_told_apart() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let ran = home.run(&["probe", &silent, "--timeout", "300ms", "--json"]).expect(1);
    assert_eq!(ran.json()["stopped"]["reason"], "nothing came within 300.0 ms");
    drop(listener);
    home.run(&["probe", &silent, "--json"]).expect(5);
}
