//! `outlast serve` and `outlast copy`, as people use them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, Server, noise, partial_bytes, signal, wait_for, wait_for_end};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

/// Large enough that a copy is still under way when it is seen to be.
const LARGE_BYTES: usize = 192 << 20;
/// So much of it has arrived when somebody dies.
const ARRIVED_BYTES: u64 = 8 << 20;

#[test]
fn a_tree_goes_up_and_comes_down_again() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    home.write("tree/a", b"");
    home.write("tree/sub/with space", &noise(1, 3 << 20));
    fs::set_permissions(home.write("tree/sub/run", b"#!/bin/sh\n"), fs::Permissions::from_mode(0o750))
        .unwrap();

    let up = home.run(&["copy", "tree", &server.at("")]).expect(0);
    assert!(up.stdout.starts_with("copied 3 files, 3.00 MiB"), "{}", up.stdout);
    let again = home.run(&["copy", "tree", &server.at("/"), "--json"]).expect(0).json();
    assert_eq!((&again["files_copied"], &again["files_unchanged"]), (&0.into(), &3.into()));
    assert_eq!((&again["complete"], &again["sessions"]), (&true.into(), &1.into()));

    home.ok(&["copy", &server.at("tree/"), "back"]);
    assert_eq!(fs::read(home.file("back/sub/with space")).unwrap(), noise(1, 3 << 20));
    assert_eq!(fs::metadata(home.file("back/sub/run")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read(home.file("back/a")).unwrap(), b"");
}

#[test]
fn the_first_start_makes_a_keyring_and_says_how_a_client_comes_in() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    let keyring = home.file(".config/outlast/server.keyring");
    assert_eq!(fs::metadata(&keyring).unwrap().permissions().mode() & 0o777, 0o600);
    let log = fs::read_to_string(home.file("serve.log")).unwrap();
    assert!(log.contains("outlast copy --keyring") && log.contains("umask 077"), "{log}");

    signal(&server.child, Signal::TERM);
    let ended = wait_for("the server's end", || server.child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    let before = fs::read(&keyring).unwrap();
    let _second = Server::start(&home, &[]);
    assert_eq!(fs::read(&keyring).unwrap(), before);
}

#[test]
fn the_server_tells_who_came_and_who_went() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    home.write("file", b"hello");
    home.ok(&["copy", "file", &server.at("")]);
    let log = || fs::read_to_string(home.file("serve.log")).unwrap();
    wait_for("the end of the client", || log().contains("client.admin gone").then_some(()));
    let log = log();
    assert!(log.contains("client.admin came from 127.0.0.1:") && log.contains("secure mode"), "{log}");
    assert!(log.contains("closed by the peer; received 1 file, 5 B"), "{log}");
    assert!(!log.contains("interrupted"), "{log}");
}

/// Of 300 clients that exited as soon as their session was closed, six had not told the server yet.
#[test]
fn clients_that_exit_at_once_have_told_the_server_that_they_go() {
    const CLIENTS: usize = 6;
    const EACH: usize = 100;
    let home = Home::new();
    let server = Server::start(&home, &[]);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (home, at) = (&home, server.at(""));
            scope.spawn(move || {
                let file = format!("file{client}");
                home.write(&file, b"hello");
                for _ in 0..EACH {
                    home.ok(&["copy", &file, &at]);
                }
            });
        }
    });
    let log = || fs::read_to_string(home.file("serve.log")).unwrap();
    wait_for("the end of all", || {
        (log().matches("client.admin gone").count() == CLIENTS * EACH).then_some(())
    });
    assert!(!log().contains("interrupted"), "{}", log());
}

#[test]
fn a_key_that_the_server_does_not_know_is_refused() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    home.write("file", b"x");
    home.ok(&["keyring", "create", "wrong"]);
    home.run(&["copy", "--keyring", "wrong", "file", &server.at("")]).expect(4).says("refuses our key");
    home.ok(&["keyring", "create", "stranger", "client.stranger"]);
    home.run(&["copy", "--keyring", "stranger", "file", &server.at("")]).expect(4).says("refuses our key");
    home.run(&["copy", "--auth", "none", "file", &server.at("")]).expect(4).says("--keyring");
    assert!(!home.file("served/file").exists());
}

#[test]
fn without_keys_only_loopback_is_served() {
    let home = Home::new();
    home.write("file", b"x");
    home.run(&["serve", "--auth", "none"]).expect(2).says("--force");
    home.run(&["serve", "--auth", "none", "--listen", "127.0.0.1:0", "--listen", "[::]:0"])
        .expect(2)
        .says("--force");
    let server = Server::start(&home, &["--auth", "none"]);
    home.ok(&["copy", "--auth", "none", "file", &server.at("")]);
    assert_eq!(fs::read(home.file("served/file")).unwrap(), b"x");
    home.ok(&["keyring", "create", "k"]);
    home.run(&["copy", "--keyring", "k", "file", &server.at("")]).expect(4);
}

#[test]
fn a_keyring_is_not_served() {
    let home = Home::new();
    home.ok(&["keyring", "create", "k"]);
    home.run(&["serve", "--dir", ".", "--keyring", "k", "--listen", "127.0.0.1:0"])
        .expect(2)
        .says("inside the folder");
}

#[test]
fn what_cannot_be_is_told_with_its_own_exit_code() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    home.write("file", b"x");
    home.run(&["copy", "file", "elsewhere"]).expect(2).says("both sides are local");
    home.run(&["copy", &server.at("a"), &server.at("b")]).expect(2).says("both sides are remote");
    home.run(&["copy", "file"]).expect(2);
    home.run(&["copy", "missing", &server.at("")]).expect(1).says("missing");
    home.run(&["copy", &server.at("missing"), "."]).expect(1).says("missing");
    home.run(&["copy", &server.at("../serve.log"), "."]).expect(1).says("..");
    let partly = home.run(&["copy", "file", "missing", &server.at("")]).expect(3).says("missing");
    assert!(partly.stdout.contains("1 file FAILED"), "{}", partly.stdout);
    assert!(home.file("served/file").exists());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    home.run(&["copy", "--wait", "1s", "file", &format!("{nobody}:")])
        .expect(5)
        .says("is `outlast serve` running");
}

#[test]
fn a_folder_that_may_only_be_read_is_not_written() {
    let home = Home::new();
    let server = Server::start(&home, &["--read-only"]);
    home.write("served/file", b"x");
    home.write("other", b"y");
    home.ok(&["copy", &server.at("file"), "."]);
    home.run(&["copy", "other", &server.at("")]).expect(1).says("not written");
    assert!(!home.file("served/other").exists());
}

#[test]
fn a_socket_of_this_machine_serves_too() {
    let home = Home::new();
    let place = format!("unix:{}", home.file("sock").display());
    let server = Server::listen(&home, &place, &[]);
    home.write("file", b"x");
    home.ok(&["copy", "file", &server.at("")]);
    assert!(home.file("served/file").exists());
}

#[test]
fn a_copy_whose_client_was_killed_goes_on_where_it_was() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let content = noise(2, LARGE_BYTES);
    home.write("large", &content);
    let mut client = home.outlast(&["copy", "large", &server.at("")]).stdout(Stdio::null()).spawn().unwrap();
    wait_for("some of the file", || (partial_bytes(&home.file("served")) > ARRIVED_BYTES).then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(!home.file("served/large").exists(), "the copy was over before its client could be killed");

    let second = home.run(&["copy", "large", &server.at(""), "--json"]).expect(0).json();
    assert_eq!((&second["complete"], &second["files_resumed"]), (&true.into(), &1.into()));
    let resumed = second["bytes_resumed"].as_u64().unwrap();
    assert!(resumed > 0, "{second}");
    assert_eq!(resumed + second["bytes_copied"].as_u64().unwrap(), LARGE_BYTES as u64);
    assert!(fs::read(home.file("served/large")).unwrap() == content);
}

#[test]
fn a_copy_whose_server_was_killed_goes_on_with_the_next_one() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    let content = noise(3, LARGE_BYTES);
    home.write("large", &content);
    let mut client = home.outlast(&["copy", "large", &server.at(""), "--json"]);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("some of the file", || (partial_bytes(&home.file("served")) > ARRIVED_BYTES).then_some(()));
    server.kill();
    assert!(!home.file("served/large").exists(), "the copy was over before its server could be killed");

    let _next = Server::listen(&home, &server.address, &[]);
    let ran = wait_for_end(client).expect(0);
    let account = ran.json();
    assert_eq!((&account["complete"], &account["sessions"]), (&true.into(), &2.into()));
    assert!(account["bytes_resumed"].as_u64().unwrap() > 0, "{account}");
    assert!(fs::read(home.file("served/large")).unwrap() == content);
}

#[test]
fn a_copy_that_is_stopped_says_so() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    home.write("large", &noise(4, LARGE_BYTES));
    let mut client = home.outlast(&["copy", "large", &server.at("")]);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("some of the file", || (partial_bytes(&home.file("served")) > ARRIVED_BYTES).then_some(()));
    signal(&client, Signal::INT);
    wait_for_end(client).expect(130).says("run the same command again");
    assert!(!home.file("served/large").exists());
}
