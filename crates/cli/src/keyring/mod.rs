//! `outlast keyring`: keys in Ceph's own file format.

pub(crate) mod file;

use crate::exit::{Exit, Failure, Outcome};
use crate::random;
use crate::{clock, term};
use clap::{Args, Subcommand};
use file::Existing;
use outlast_cephx::keyring::{Entry, Keyring};
use outlast_cephx::{EntityName, Key, KeyType};
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const LONG_HELP: &str = "\
Keyrings are text files in Ceph's own format: `ceph-authtool` reads what is made here, and the other way round. They are \
made for their owner only (mode 0600) and replaced in one step.

A server's keyring lists everybody who may come in. A client's keyring holds that client's key. Whoever can read a key \
can be its owner: hand it over on a way that nobody else reads.";

const EXAMPLES: &str = "\
Examples:
  A keyring for a server, with two clients:
    outlast keyring create server.keyring client.laptop
    outlast keyring add server.keyring client.backup

  What the laptop needs, straight to where it is needed:
    outlast keyring show server.keyring client.laptop --keyring \\
        | ssh laptop 'umask 077; cat > outlast.keyring'

  A key for a user of Ceph, with what it may do:
    outlast keyring create ceph.client.app.keyring client.app \\
        --cap 'mon=profile rbd' --cap 'osd=profile rbd pool=vms'";

/// Make and read keyrings, in Ceph's own file format
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct KeyringArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a keyring with a new key for each name
    Create(CreateArgs),
    /// Put another name with a new key into a keyring, or take its key from another keyring
    Add(AddArgs),
    /// Who is in a keyring, with which type of key; never the keys
    List(ListArgs),
    /// What a keyring says of one name; its key only when asked for
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct Making {
    /// The type of the new keys: aes256k (Ceph 20 and later, and Outlast), or aes for older Ceph
    #[arg(long = "type", value_name = "TYPE", default_value = "aes256k")]
    key_type: KeyType,
    /// What the name may do at a service, as Ceph's capabilities; may be given several times
    #[arg(long = "cap", value_name = "SERVICE=CAPS", value_parser = parse_cap)]
    caps: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The file to make
    file: PathBuf,
    /// Whose keys, as TYPE.ID
    #[arg(default_value = "client.admin")]
    names: Vec<EntityName>,
    #[command(flatten)]
    making: Making,
    /// Replace a file that is there: its keys are gone
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The keyring to add to
    file: PathBuf,
    /// Whose key, as TYPE.ID
    name: EntityName,
    #[command(flatten)]
    making: Making,
    /// Take the key and what else is known of the name from this keyring (- is standard input)
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// Replace the key of a name that is there: the old key no longer works
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The keyring to read (- is standard input)
    file: PathBuf,
    /// For scripts: a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The keyring to read (- is standard input)
    file: PathBuf,
    /// Whose entry, as TYPE.ID
    name: EntityName,
    /// Print the key itself, and nothing else
    #[arg(long, conflicts_with_all = ["keyring", "json"])]
    key: bool,
    /// Print a whole keyring for this one name, key included: what a client needs
    #[arg(long, conflicts_with = "json")]
    keyring: bool,
    /// For scripts: a JSON object, without the key
    #[arg(long)]
    json: bool,
}

fn parse_cap(text: &str) -> Result<(String, String), String> {
    let (service, caps) = text.split_once('=').ok_or("write SERVICE=CAPS, for instance mon='allow r'")?;
    let service = service.trim();
    if service.is_empty() || !service.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("{service:?} is not the name of a service (mon, osd, mds, mgr)"));
    }
    Ok((service.to_owned(), caps.trim().to_owned()))
}

/// What is shown of an entry. There is no field for the key.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_type: Option<&'static str>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u32>,
    caps: std::collections::BTreeMap<String, String>,
}

impl Shown {
    fn new(name: &EntityName, entry: &Entry) -> Self {
        Self {
            name: name.to_string(),
            key_type: entry.key().map(|key| key.key_type().name()),
            created: entry.key().map(|key| key.created().seconds()),
            caps: entry.caps().map(|(service, caps)| (service.to_owned(), caps.to_owned())).collect(),
        }
    }
}

/// A new key for a name.
pub(crate) fn make_entry(key_type: KeyType) -> Entry {
    Entry::new(Key::generate(key_type, clock::timestamp(), &mut random::system()))
}

impl Making {
    fn entry(&self) -> Entry {
        self.with_caps(make_entry(self.key_type))
    }

    fn with_caps(&self, entry: Entry) -> Entry {
        self.caps.iter().fold(entry, |entry, (service, caps)| entry.with_caps(service, caps))
    }
}

pub(crate) fn run(args: KeyringArgs) -> Outcome {
    match args.command {
        Command::Create(args) => create(&args),
        Command::Add(args) => add(&args),
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
    }
}

fn create(args: &CreateArgs) -> Outcome {
    let mut keyring = Keyring::new();
    for name in &args.names {
        check_name(name)?;
        if keyring.insert(name.clone(), args.making.entry()).is_some() {
            return Err(Failure::usage(format!("{name} is named twice")));
        }
    }
    file::make_parent(&args.file)?;
    file::write(&args.file, &keyring, if args.force { Existing::Replace } else { Existing::Keep })?;
    let names: Vec<_> = keyring.iter().map(|(name, _)| name.to_string()).collect();
    println!("{}: {} ({})", args.file.display(), names.join(", "), args.making.key_type);
    Ok(Exit::Done)
}

fn check_name(name: &EntityName) -> Outcome<()> {
    name.check().map_err(|e| Failure::usage(format!("{name}: {e}")))
}

fn add(args: &AddArgs) -> Outcome {
    let name = &args.name;
    check_name(name)?;
    let mut keyring = file::read(&args.file)?;
    if keyring.get(name).is_some() && !args.force {
        let message = format!("{name} is in {} already", args.file.display());
        return Err(
            Failure::failed(message).hint("replace its key with --force: the old one no longer works then")
        );
    }
    let entry = match &args.import {
        None => args.making.entry(),
        Some(from) => {
            let theirs = file::read(from)?;
            let entry = theirs.get(name).filter(|entry| entry.key().is_some()).cloned();
            let entry =
                entry.ok_or_else(|| Failure::failed(format!("{} has no key of {name}", from.display())))?;
            args.making.with_caps(entry)
        }
    };
    let key_type = entry.key().map_or("no key", |key| key.key_type().name());
    keyring.insert(name.clone(), entry);
    file::write(&args.file, &keyring, Existing::Replace)?;
    println!("{}: {name} ({key_type})", args.file.display());
    Ok(Exit::Done)
}

fn list(args: &ListArgs) -> Outcome {
    let keyring = file::read(&args.file)?;
    let shown: Vec<_> = keyring.iter().map(|(name, entry)| Shown::new(name, entry)).collect();
    if args.json {
        term::print_json(&shown);
        return Ok(Exit::Done);
    }
    let width = shown.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for Shown { name, key_type, created, caps } in &shown {
        let key_type = key_type.unwrap_or("no key");
        let date = created.map_or_else(String::new, clock::date);
        let caps: Vec<_> = caps.iter().map(|(service, caps)| format!("{service}: {caps}")).collect();
        let line = format!("{name:width$}  {key_type:7}  {date:10}  {}", caps.join("; "));
        println!("{}", line.trim_end());
    }
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> Outcome {
    let keyring = file::read(&args.file)?;
    let name = &args.name;
    let entry = keyring
        .get(name)
        .ok_or_else(|| Failure::failed(format!("{} is not in {}", name, args.file.display())))?;
    if args.key {
        let key = entry.key().ok_or_else(|| no_key(&args.file, name))?;
        print_secret(&format_args!("{}\n", *key.to_base64()))?;
    } else if args.keyring {
        entry.key().ok_or_else(|| no_key(&args.file, name))?;
        let mut one = Keyring::new();
        one.insert(name.clone(), entry.clone());
        let text = one.to_text().map_err(|e| Failure::failed(e.to_string()))?;
        print_secret(&format_args!("{}", *text))?;
    } else if args.json {
        term::print_json(&Shown::new(name, entry));
    } else {
        let Shown { name, key_type, created, caps } = Shown::new(name, entry);
        println!("{name}");
        match key_type {
            Some(key_type) => {
                println!("  key      {key_type}, of {}", created.map_or_else(String::new, clock::date))
            }
            None => println!("  key      none"),
        }
        for (service, caps) in caps {
            println!("  caps     {service}: {caps}");
        }
    }
    Ok(Exit::Done)
}

fn no_key(file: &Path, name: &EntityName) -> Failure {
    Failure::failed(format!("{} says something of {name}, but has no key of it", file.display()))
}

/// Written as it is, with an error when nobody takes it: half a key in a file would be worse.
fn print_secret(text: &std::fmt::Arguments<'_>) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(*text)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::failed(format!("cannot print the key: {e}")))
}
