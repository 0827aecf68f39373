//! `outlast probe` against real Ceph: it tells what is so.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, skip};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn wanted() -> bool {
    if std::env::var_os("OUTLAST_REAL_PEERS").is_some() {
        return true;
    }
    skip("OUTLAST_REAL_PEERS is not set: cargo xtask test sets it and installs what the test needs");
    false
}

/// A cluster of real daemons, stopped at the end.
struct Cluster {
    folder: PathBuf,
    facts: BTreeMap<String, String>,
}

fn script() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../peers/ceph"));
    command.stdin(Stdio::null());
    command
}

impl Cluster {
    fn start(home: &Home, release: &str, options: &[&str]) -> Self {
        let folder = home.file("cluster");
        let owner = std::process::id().to_string();
        let output = script()
            .args(["start", release])
            .arg(&folder)
            .args(options)
            .args(["--owner", &owner])
            .output()
            .unwrap();
        let (said, erred) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}\n{erred}");
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        Self { facts: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), folder }
    }

    fn fact(&self, name: &str) -> &str {
        &self.facts[name]
    }

    /// A daemon's address with its nonce, as the monitor's map has it.
    fn osd_known_as(&self) -> String {
        let output = script().arg("exec").arg(&self.folder).args(["ceph", "osd", "dump"]).output().unwrap();
        let dump = String::from_utf8_lossy(&output.stdout).into_owned();
        let start = dump.find(&format!("v2:{}/", self.fact("osd.0"))).unwrap_or_else(|| panic!("{dump}"));
        dump[start..].split([',', ']', ' ', '\n']).next().unwrap().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = script().arg("stop").arg(&self.folder).output();
    }
}

fn probe(home: &Home, arguments: &[&str]) -> serde_json::Value {
    home.run(&[&["probe", "--json"], arguments].concat()).expect(0).json()
}

fn monitor_and_osd(release: &str, options: &[&str], key_type: &str, compression: bool) {
    if !wanted() {
        return;
    }
    let home = Home::new();
    let cluster = Cluster::start(&home, release, &[&["--osds", "1"], options].concat());
    let (mon, keyring) = (cluster.fact("mon.a"), cluster.fact("keyring"));

    let stranger = probe(&home, &[mon]);
    assert_eq!(stranger["entity"]["type"], "mon");
    assert_eq!(stranger["allowed"]["methods"], serde_json::json!(["cephx"]));
    let modes = stranger["allowed"]["modes"].as_array().unwrap();
    assert!(modes.contains(&"crc".into()) && modes.contains(&"secure".into()), "{stranger}");
    let features = stranger["banner"]["features"].as_array().unwrap();
    assert_eq!(features.contains(&"compression".into()), compression, "{stranger}");
    assert!(stranger.get("login").is_none());

    for mode in ["secure", "crc"] {
        let known = probe(&home, &[mon, "--keyring", keyring, "--mode", mode]);
        assert_eq!(known["login"]["mode"], mode);
        assert_eq!(known["login"]["key_type"], key_type);
        assert_eq!((&known["entity"]["number"], &known["session"]["lossy"]), (&0.into(), &true.into()));
        assert_eq!(known["entity"]["addresses"][0], format!("v2:{mon}/0"));
        let services: Vec<_> = known["login"]["tickets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["service"].as_str().unwrap())
            .collect();
        assert!(services.contains(&"auth") && services.contains(&"osd"), "{known}");
    }
    let old = probe(&home, &[mon, "--keyring", keyring, "--mode", "crc", "--revision-0"]);
    assert_eq!((&old["banner"]["protocol"], &old["login"]["mode"]), (&"msgr2.0".into(), &"crc".into()));

    let osd = cluster.osd_known_as();
    let known = probe(&home, &[&osd, "--mon", mon, "--keyring", keyring]);
    assert_eq!((&known["entity"]["type"], &known["entity"]["number"]), (&"osd".into(), &0.into()));
    assert_eq!(known["entity"]["addresses"][0], osd);
    home.run(&["probe", cluster.fact("osd.0"), "--keyring", keyring]).expect(4);
    let nameless =
        home.run(&["probe", cluster.fact("osd.0"), "--mon", mon, "--keyring", keyring, "--json"]).expect(1);
    assert!(nameless.json()["stopped"]["reason"].as_str().unwrap().contains("nonce"), "{}", nameless.stdout);
}

#[test]
fn ceph_16_is_described_as_it_is() {
    monitor_and_osd("16", &[], "aes", false);
}

#[test]
fn ceph_18_is_described_as_it_is() {
    monitor_and_osd("18", &[], "aes", true);
}

#[test]
fn ceph_20_is_described_as_it_is() {
    monitor_and_osd("20", &[], "aes256k", true);
}

#[test]
fn ceph_20_with_the_older_keys_is_described_as_it_is() {
    monitor_and_osd("20", &["--keys", "aes"], "aes", true);
}

#[test]
fn ceph_without_authentication_lets_a_probe_in() {
    if !wanted() {
        return;
    }
    let home = Home::new();
    let cluster = Cluster::start(&home, "16", &["--osds", "0", "--auth", "none"]);
    let report = probe(&home, &[cluster.fact("mon.a")]);
    assert_eq!(report["allowed"]["methods"], serde_json::json!(["none"]));
    assert_eq!((&report["login"]["method"], &report["login"]["mode"]), (&"none".into(), &"crc".into()));
    assert_eq!(report["entity"]["number"], 0);
}
