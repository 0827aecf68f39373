//! Keyring files: where they are, and how they are read and written.
//!
//! A keyring holds secrets: it is readable by its owner only (mode 0600) from the first byte on, and replaced in one
//! step, so that a crash leaves the old one or the new one.

use crate::exit::{Context as _, Exit, Failure, Outcome};
use outlast_cephx::keyring::KEYRING_BYTES_MAX;
use outlast_cephx::{EntityName, EntityType, Key, KeyType, Keyring};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The name under which a server's own keyring is kept.
const SERVER_FILE: &str = "server.keyring";
/// The name under which a client's keyring is looked for.
const CLIENT_FILE: &str = "keyring";
/// Others may not read it.
const MODE: u32 = 0o600;

/// Where this user's keyrings are: `$XDG_CONFIG_HOME/outlast` or `~/.config/outlast`.
pub(crate) fn config_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(base.join("outlast"))
}

fn server_path() -> Outcome<PathBuf> {
    config_dir().map(|dir| dir.join(SERVER_FILE)).ok_or_else(no_home)
}

/// A server's keyring.
pub(crate) struct ServerKeyring {
    pub(crate) path: PathBuf,
    pub(crate) keyring: Keyring,
    /// It was made just now, with a key for this name.
    pub(crate) made: Option<EntityName>,
}

/// The keyring of a server: the one it was told, or its own in the configuration directory, which is made if it is not
/// there.
pub(crate) fn open_server(told: Option<&Path>) -> Outcome<ServerKeyring> {
    let path = match told {
        Some(path) => path.to_owned(),
        None => server_path()?,
    };
    let mut made = None;
    if told.is_none() && !path.exists() {
        let name = EntityName::new(EntityType::Client, "admin");
        let mut keyring = Keyring::new();
        keyring.insert(name.clone(), super::make_entry(KeyType::default()));
        make_parent(&path)?;
        write(&path, &keyring, Existing::Keep)?;
        made = Some(name);
    }
    let keyring = read(&path)?;
    warn_if_open(&path);
    if !keyring.iter().any(|(_, entry)| entry.key().is_some()) {
        let message = format!("the keyring {} has no key: nobody could come in", path.display());
        return Err(
            Failure::failed(message).hint(format!("outlast keyring add {} client.admin", path.display()))
        );
    }
    Ok(ServerKeyring { path, keyring, made })
}

/// The keyring of a client: the one it was told, or its own in the configuration directory, or that of a server on
/// this machine.
pub(crate) fn client_path(told: Option<&Path>) -> Outcome<PathBuf> {
    if let Some(path) = told {
        return Ok(path.to_owned());
    }
    let dir = config_dir().ok_or_else(no_home)?;
    let candidates = [dir.join(CLIENT_FILE), dir.join(SERVER_FILE)];
    candidates.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        Failure::new(Exit::Usage, format!("no keyring: {} does not exist", candidates[0].display())).hint(
            "give one with --keyring FILE; `outlast serve` prints at its start how a client gets it\n\
             (or --auth none, where the server allows it)",
        )
    })
}

fn no_home() -> Failure {
    Failure::usage("neither XDG_CONFIG_HOME nor HOME is set: say where the keyring is with --keyring FILE")
}

/// Reads a keyring; `-` is standard input.
pub(crate) fn read(path: &Path) -> Outcome<Keyring> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = KEYRING_BYTES_MAX as u64 + 1;
    let done = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    done.map_err(|e| {
        let failure = Failure::failed(format!("cannot read the keyring {}: {e}", path.display()));
        if e.kind() == io::ErrorKind::NotFound {
            failure.hint(format!("outlast keyring create {}", path.display()))
        } else {
            failure
        }
    })?;
    Keyring::parse(&bytes).context(path.display())
}

/// Says on stderr when others may read the file. What they do with it is not ours to forbid: Ceph does not either.
pub(crate) fn warn_if_open(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.is_file()
        && metadata.mode() & 0o077 != 0
    {
        let (path, mode) = (path.display(), metadata.mode() & 0o777);
        eprintln!("outlast: warning: others can read the keyring {path} (mode {mode:04o}); chmod 600 {path}");
    }
}

/// What happens when the file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Keep,
}

/// Writes a keyring beside its place, makes it durable, and moves it there.
pub(crate) fn write(path: &Path, keyring: &Keyring, existing: Existing) -> Outcome<()> {
    let text = keyring.to_text().context("cannot write the keyring")?;
    let what = format!("cannot write the keyring {}", path.display());
    // A symbolic link is followed to the file it names, so that it stays a link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = match target.parent() {
        Some(dir) if dir != Path::new("") => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    let name =
        target.file_name().ok_or_else(|| Failure::usage(format!("{} is not a file", path.display())))?;
    let mut beside = name.to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = dir.join(beside);

    // Nobody else's file, and nobody's link: made here or not at all.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside).context(&what)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let moved = written.and_then(|()| match existing {
        Existing::Replace => fs::rename(&beside, &target),
        // Unlike a rename, a link never replaces what is there.
        Existing::Keep => fs::hard_link(&beside, &target).and_then(|()| fs::remove_file(&beside)),
    });
    if let Err(e) = moved {
        let _ = fs::remove_file(&beside);
        let failure = Failure::failed(format!("{what}: {e}"));
        return Err(if e.kind() == io::ErrorKind::AlreadyExists {
            failure.hint("add to it with `outlast keyring add`, or replace it with --force")
        } else {
            failure
        });
    }
    File::open(&dir).and_then(|dir| dir.sync_all()).context(&what)
}

/// Makes the directories above a file of ours, for us alone.
pub(crate) fn make_parent(path: &Path) -> Outcome<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let Some(dir) = path.parent().filter(|dir| *dir != Path::new("")) else { return Ok(()) };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.context(format!("cannot make the directory {}", dir.display()))
}

/// Whose key a client uses: the name it was told, or the only one there is, or `client.admin`.
pub(crate) fn choose(
    keyring: &Keyring,
    path: &Path,
    told: Option<&EntityName>,
) -> Outcome<(EntityName, Key)> {
    let names = || {
        let names: Vec<_> = keyring.iter().map(|(name, _)| name.to_string()).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    let name = match told {
        Some(name) => name.clone(),
        None => {
            let mut clients = keyring.iter().filter(|(name, _)| name.entity_type() == EntityType::Client);
            match (clients.next(), clients.next()) {
                (Some((only, _)), None) => only.clone(),
                (None | Some(_), _) => EntityName::new(EntityType::Client, "admin"),
            }
        }
    };
    let Some(key) = keyring.get(&name).and_then(|entry| entry.key()) else {
        let message = format!("the keyring {} has no key of {name}", path.display());
        return Err(Failure::usage(message).hint(format!("it has those of: {}; choose with --name", names())));
    };
    Ok((name, key.clone()))
}
