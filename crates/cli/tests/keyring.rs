//! `outlast keyring`: the files, what is shown of them, and Ceph's own tool.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn key(home: &Home, file: &str, name: &str) -> String {
    home.ok(&["keyring", "show", file, name, "--key"]).trim().to_owned()
}

#[test]
fn a_keyring_is_its_owners_alone_and_shows_keys_only_on_request() {
    let home = Home::new();
    home.ok(&["keyring", "create", "k", "client.a", "client.b", "--cap", "mon=allow r"]);
    assert_eq!(mode(&home.file("k")), 0o600);
    let secret = key(&home, "k", "client.a");
    assert!(fs::read_to_string(home.file("k")).unwrap().contains(&secret));
    for arguments in [
        &["keyring", "list", "k"][..],
        &["keyring", "list", "k", "--json"],
        &["keyring", "show", "k", "client.a"],
        &["keyring", "show", "k", "client.a", "--json"],
    ] {
        let said = home.ok(arguments);
        assert!(said.contains("client.a") && said.contains("aes256k") && said.contains("allow r"), "{said}");
        assert!(!said.contains(&secret[8..]), "{arguments:?} shows the key");
    }
}

#[test]
fn what_is_there_is_replaced_only_by_force() {
    let home = Home::new();
    home.ok(&["keyring", "create", "k"]);
    let first = key(&home, "k", "client.admin");
    home.run(&["keyring", "create", "k"]).expect(1).says("--force");
    home.run(&["keyring", "add", "k", "client.admin"]).expect(1).says("--force");
    assert_eq!(key(&home, "k", "client.admin"), first);
    home.ok(&["keyring", "add", "k", "client.b", "--type", "aes"]);
    assert_eq!(key(&home, "k", "client.admin"), first);
    home.ok(&["keyring", "create", "k", "--force"]);
    assert_ne!(key(&home, "k", "client.admin"), first);
    home.run(&["keyring", "show", "k", "client.b"]).expect(1);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn what_a_client_needs_is_a_keyring_of_its_own() {
    let home = Home::new();
    home.ok(&["keyring", "create", "server", "client.a", "client.b", "--cap", "osd=allow \"rw\""]);
    let one = home.ok(&["keyring", "show", "server", "client.b", "--keyring"]);
    home.write("one", one.as_bytes());
    assert_eq!(home.ok(&["keyring", "list", "one"]).lines().count(), 1);
    assert_eq!(key(&home, "one", "client.b"), key(&home, "server", "client.b"));

    home.ok(&["keyring", "create", "other", "client.c"]);
    home.ok(&["keyring", "add", "other", "client.b", "--import", "one"]);
    assert_eq!(key(&home, "other", "client.b"), key(&home, "server", "client.b"));
    home.run(&["keyring", "add", "other", "client.d", "--import", "one"])
        .expect(1)
        .says("no key of client.d");
}

#[test]
fn mistakes_are_told_without_the_secret() {
    let home = Home::new();
    home.run(&["keyring", "create", "k", "nobody"]).expect(2);
    home.run(&["keyring", "create", "k", "client.a", "client.a"]).expect(2).says("twice");
    home.run(&["keyring", "list", "missing"]).expect(1).says("keyring create");
    home.write("broken", b"[client.a]\n\tkey = c2VjcmV0IHNlY3JldA==\n");
    let ran = home.run(&["keyring", "list", "broken"]).expect(1).says("line 2");
    assert!(!ran.stderr.contains("c2Vj"), "{}", ran.stderr);
}

#[test]
fn ceph_authtool_reads_what_is_written_and_the_other_way_round() {
    let home = Home::new();
    let authtool =
        |arguments: &[&str]| Command::new("ceph-authtool").args(arguments).current_dir(home.path()).output();
    if authtool(&["--help"]).is_err() {
        skip("no ceph-authtool on this machine");
        return;
    }
    home.ok(&[
        "keyring",
        "create",
        "ours",
        "client.x",
        "--type",
        "aes",
        "--cap",
        "mon=allow r",
        "--cap",
        "osd=allow *",
    ]);
    let printed = authtool(&["-p", "-n", "client.x", "ours"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), key(&home, "ours", "client.x"));
    let listed = authtool(&["-l", "ours"]).unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.contains("caps mon = \"allow r\"") && listed.contains("caps osd = \"allow *\""),
        "{listed}"
    );

    let made =
        authtool(&["-C", "-g", "-n", "client.y", "--cap", "mon", "allow profile rbd", "theirs"]).unwrap();
    assert!(made.status.success());
    let printed = authtool(&["-p", "-n", "client.y", "theirs"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), key(&home, "theirs", "client.y"));
    assert!(home.ok(&["keyring", "list", "theirs"]).contains("mon: allow profile rbd"));
}
