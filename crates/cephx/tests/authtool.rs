//! Keyrings to and from Ceph's own `ceph-authtool`.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use outlast_cephx::keyring::Entry;
use outlast_cephx::{Key, KeyType, Keyring, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// A directory of its own for one test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("outlast-cephx-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `ceph-authtool` prints; `None`, loudly, when there is none.
fn authtool(test: &str, file: &Path, args: &[&str]) -> Option<String> {
    match Command::new("ceph-authtool").arg(file).args(args).output() {
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ceph-authtool {args:?}: {stderr}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(_) => {
            println!("SKIPPED {test}: no ceph-authtool");
            None
        }
    }
}

#[test]
fn what_ceph_writes_is_read_and_written_the_same() {
    const TEST: &str = "what_ceph_writes_is_read_and_written_the_same";
    let scratch = Scratch::new(TEST);
    let file = scratch.file("keyring");
    let caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow rwx pool=\"a b\""];
    let create = ["--create-keyring", "--gen-key", "-n", "client.x"];
    if authtool(TEST, &file, &[&create[..], &caps[..]].concat()).is_none() {
        return;
    }
    authtool(TEST, &file, &["--gen-key", "-n", "osd.0"]).unwrap();
    authtool(TEST, &file, &["--gen-key", "-n", "mon.", "--cap", "mon", "allow *"]).unwrap();

    let text = std::fs::read_to_string(&file).unwrap();
    let keyring = Keyring::parse(text.as_bytes()).unwrap();
    assert_eq!(keyring.len(), 3);
    assert_eq!(*keyring.to_text().unwrap(), text);
    for (name, entry) in keyring.iter() {
        let printed = authtool(TEST, &file, &["-p", "-n", &name.to_string()]).unwrap();
        assert_eq!(&*entry.key().unwrap().to_base64(), printed.trim(), "{name}");
        assert_eq!(entry.key().unwrap().key_type(), KeyType::Aes);
    }
}

#[test]
fn what_we_write_is_read_by_ceph() {
    const TEST: &str = "what_we_write_is_read_by_ceph";
    let scratch = Scratch::new(TEST);
    let file = scratch.file("keyring");
    let mut rng = StdRng::seed_from_u64(1);
    let mut keyring = Keyring::new();
    for name in ["client.admin", "osd.12", "mon."] {
        // Ceph 16 and 18 know this type only.
        let key = Key::generate(KeyType::Aes, Timestamp::new(1_800_000_000, 1), &mut rng);
        let entry =
            Entry::new(key).with_caps("mon", "allow *").with_caps("osd", r#"allow "x" 'y' z\w # ; ="#);
        keyring.insert(name.parse().unwrap(), entry);
    }
    std::fs::write(&file, keyring.to_text().unwrap().as_bytes()).unwrap();
    let Some(listed) = authtool(TEST, &file, &["-l"]) else { return };
    // It prints without the escapes that it wants when it reads, but those of quotes.
    let expected = keyring.to_text().unwrap().replace(r"\\", r"\").replace(r"\#", "#").replace(r"\;", ";");
    assert_eq!(listed, expected);
}
