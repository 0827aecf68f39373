//! `outlast demo`: a tree of files crosses a connection that is cut again and again, and arrives whole.

mod cuts;
mod display;
mod ends;
mod relay;
mod report;
mod workdir;

pub(crate) use ends::{client as client_process, server as server_process};
pub(crate) use relay::run as relay_process;

use crate::exit::{Context as _, Failure, Outcome};
use crate::keyring::make_entry;
use crate::process::Child;
use crate::term::{self, Paint};
use crate::{random, signals, units};
use clap::{Args, ValueEnum};
use display::{Now, Screen};
use ends::{ClientReport, ClientTask, CopyEnd, ServerReport, ServerTask};
use outlast::{EntityName, EntityType, KeyType, Keyring};
use outlast_transfer::{Comparison, GenerateOptions, compare, generate};
use relay::{RelayConfig, RelayReport};
use report::{Plan, Verdict};
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use workdir::{WorkDir, check_room};

/// How often the screen is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How long the last figures of the server and the relay may take to come in.
const LAST_REPORTS: Duration = Duration::from_millis(200);
/// Longer than any demo.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// The fewest cuts of a tree that is large enough for them.
const CUTS_MIN: u64 = 20;
/// Trees of this many bytes and more are: a cut every [`cuts::SPACING_BYTES_MIN`] and some room between them.
const CUTS_MIN_FROM_BYTES: u64 = 96 * 1024 * 1024;
/// The most bytes that can be asked for.
const SIZE_BYTES_MAX: u64 = 1 << 40;

const LONG_HELP: &str = "\
Shows what Outlast is for. Three processes on this machine: a server, a client, and between them a relay that cuts their connection \
again and again, at random bytes in either direction, now and then in the middle of a handshake. The client copies a tree of \
files of every size through that, in one encrypted session (cephx, secure mode, a key made for the occasion). At the end the two \
trees are compared by BLAKE3, and a table says what was lost.

With SRC and DST it does the same with files of your own: SRC is only read, DST is made and stays.";

const EXAMPLES: &str = "\
Examples:
    outlast demo
    outlast demo --size 256M --seed 7
    outlast demo ~/photos /tmp/photos-that-arrived
    outlast demo --json

Exit codes: 0 nothing was lost; 6 something was, or the session never had to be resumed;
130 stopped by Ctrl-C. Temporary files are removed in any case but with --keep.";

/// See it work: copy a tree over a connection that is cut again and again
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// A directory of your own to copy; without it one is made up
    #[arg(value_name = "SRC", requires = "destination")]
    source: Option<PathBuf>,
    /// Where the copy goes: a directory that does not exist yet
    #[arg(value_name = "DST")]
    destination: Option<PathBuf>,
    /// How large the tree is that is made up
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size, conflicts_with = "source")]
    size: u64,
    /// Makes the same tree and the same cuts again
    #[arg(long)]
    seed: Option<u64>,
    /// How often to cut, besides the cuts in handshakes; fewer if the tree is small
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    cuts: u64,
    /// Keep the temporary files, and say where they are
    #[arg(long)]
    keep: bool,
    /// For scripts: only the verdict, as a JSON object
    #[arg(long)]
    json: bool,
    /// Makes the demo fail, to see that it can
    #[arg(long, hide = true, value_enum)]
    sabotage: Option<Sabotage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sabotage {
    /// One byte of one file is flipped before the comparison.
    Flip,
    /// The relay never cuts.
    NoCut,
}

fn parse_size(text: &str) -> Result<u64, String> {
    match units::parse_bytes(text)? {
        0 => Err("a tree of nothing shows nothing".to_owned()),
        size if size > SIZE_BYTES_MAX => Err(format!("at most {}", units::bytes(SIZE_BYTES_MAX))),
        size => Ok(size),
    }
}

/// Where everything is.
struct Places {
    source: PathBuf,
    /// What the server serves.
    served: PathBuf,
    /// The copy's name in there.
    name: PathBuf,
    /// Removed at the end.
    work: WorkDir,
}

impl Places {
    fn copy(&self) -> PathBuf {
        self.served.join(&self.name)
    }
}

/// What is copied.
#[derive(Clone, Copy, Default)]
struct Tree {
    files: u64,
    bytes: u64,
}

pub(crate) async fn run(args: DemoArgs) -> Outcome {
    let live = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let mut screen = Screen::new(!args.json, live, Paint::new(term::colours(live)));
    let seed = args.seed.unwrap_or_else(|| random::number() % 1_000_000);
    let stop = signals::stop_or_hang_up();
    let places = places(&args)?;
    let work = demonstrate(&args, seed, &places, &mut screen);
    let outcome = tokio::select! {
        outcome = work => outcome,
        exit = stop => Err(Failure::new(exit, "stopped")),
    };
    if args.keep {
        eprintln!("kept: {}", places.work.path().display());
    }
    let removed = tokio::task::spawn_blocking(|| places.work.remove()).await.context("cleaning up")?;
    let verdict = outcome?;
    removed?;
    if args.json {
        term::print_json(&verdict);
    }
    Ok(verdict.exit())
}

fn places(args: &DemoArgs) -> Outcome<Places> {
    let (Some(source), Some(destination)) = (&args.source, &args.destination) else {
        let work = WorkDir::make(args.size.saturating_mul(2), args.keep)?;
        let (source, served) = (work.path().join("source"), work.path().join("served"));
        fs::create_dir(&served).context(served.display())?;
        return Ok(Places { source, served, name: PathBuf::from("copy"), work });
    };
    let source = fs::canonicalize(source).context(source.display())?;
    if !source.is_dir() {
        return Err(Failure::usage(format!("{} is not a directory", source.display())));
    }
    if destination.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{} exists; the demo wants to make it", destination.display()))
            .hint("so that it touches nothing of yours"));
    }
    let parent = destination.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let served = fs::canonicalize(parent).context(parent.display())?;
    let name = destination.file_name().ok_or_else(|| Failure::usage("DST has no name"))?;
    if served.starts_with(&source) {
        return Err(Failure::usage("DST lies within SRC: the copy would copy itself"));
    }
    let name = PathBuf::from(name);
    Ok(Places { source, served, name, work: WorkDir::make(0, args.keep)? })
}

async fn demonstrate(args: &DemoArgs, seed: u64, places: &Places, screen: &mut Screen) -> Outcome<Verdict> {
    let own = args.source.is_some();
    let tree = if own { measure(places, screen).await? } else { make(args, seed, places, screen).await? };
    let what = if own { places.source.display().to_string() } else { format!("seed {seed}") };
    screen.print(&format!(
        "  {} in {} of every size, {what}",
        units::bytes(tree.bytes),
        units::counted(tree.files, "file")
    ));
    screen.print("  one session, cephx and AES-128-GCM; its connection is cut at random bytes\n");
    let (now, end, time) = copy(args, seed, places, tree, screen).await?;
    screen.last(&now);
    if args.sabotage == Some(Sabotage::Flip) {
        flip_a_byte(&places.copy()).context("cannot flip a byte")?;
    }
    let comparison = compare_trees(places, tree, screen).await?;
    let enough = tree.bytes >= CUTS_MIN_FROM_BYTES && args.cuts >= CUTS_MIN;
    let failures = if end.complete { Vec::new() } else { end.failures };
    let plan = Plan { seed, cuts_min: if enough { CUTS_MIN } else { 1 }, failures };
    let verdict = Verdict::new(plan, &now, &comparison, time);
    screen.print(&format!("\n{}", verdict.text(screen.paint())));
    Ok(verdict)
}

/// Runs something that takes its time on another thread, and shows that it does.
async fn step<T: Send + 'static>(
    screen: &mut Screen,
    what: &str,
    done: Option<(&AtomicU64, u64)>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Outcome<T> {
    let mut work = tokio::task::spawn_blocking(work);
    let mut ticks = tokio::time::interval(DRAW_INTERVAL);
    loop {
        tokio::select! {
            result = &mut work => return result.context(what),
            _ = ticks.tick() => screen.step(what, done.map(|(so_far, all)| (so_far.load(Ordering::Relaxed), all))),
        }
    }
}

async fn make(args: &DemoArgs, seed: u64, places: &Places, screen: &mut Screen) -> Outcome<Tree> {
    let options = GenerateOptions { bytes: args.size, seed };
    let directory = places.source.clone();
    let made = step(screen, "making a tree of files", None, move || generate(&directory, &options)).await?;
    let made = made.context("cannot make the files")?;
    Ok(Tree { files: made.files, bytes: made.bytes })
}

async fn measure(places: &Places, screen: &mut Screen) -> Outcome<Tree> {
    let source = places.source.clone();
    let tree =
        step(screen, "counting", None, move || count(&source)).await?.context("cannot count the files")?;
    if tree.bytes == 0 {
        return Err(Failure::usage("there is nothing in SRC to copy"));
    }
    check_room(&places.served, tree.bytes)?;
    Ok(tree)
}

/// The regular files below a directory.
fn count(root: &Path) -> std::io::Result<Tree> {
    let mut tree = Tree::default();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() {
                tree.files += 1;
                tree.bytes += metadata.len();
            }
        }
    }
    Ok(tree)
}

/// The copy: three processes, and this one looks on.
async fn copy(
    args: &DemoArgs,
    seed: u64,
    places: &Places,
    tree: Tree,
    screen: &mut Screen,
) -> Outcome<(Now, CopyEnd, Duration)> {
    let name = EntityName::new(EntityType::Client, "demo");
    let mut keyring = Keyring::new();
    keyring.insert(name.clone(), make_entry(KeyType::default()));
    let keyring = keyring.to_text().context("no key")?;

    let task = ServerTask { keyring: keyring.clone(), dir: places.served.clone() };
    let mut server: Child<ServerReport> = Child::start("demo-server", &task).await?;
    let ServerReport::Listening(address) = server.must_report().await? else {
        return Err(Failure::failed("the server does not say where it is"));
    };
    let planned = match args.sabotage {
        Some(Sabotage::NoCut) => Vec::new(),
        Some(Sabotage::Flip) | None => cuts::plan(seed, tree.bytes, args.cuts),
    };
    let config = RelayConfig { server: address.parse().context("the server's address")?, cuts: planned };
    let mut relay: Child<RelayReport> = Child::start("demo-relay", &config).await?;
    let RelayReport::Listening(address) = relay.must_report().await? else {
        return Err(Failure::failed("the relay does not say where it is"));
    };
    let task = ClientTask {
        keyring,
        name: name.to_string(),
        address: address.to_string(),
        source: places.source.clone(),
        destination: places.name.clone(),
    };
    let started = Instant::now();
    let mut client: Child<ClientReport> = Child::start("demo-client", &task).await?;

    let mut now = Now { bytes: tree.bytes, files: tree.files, ..Now::default() };
    let mut ticks = tokio::time::interval(DRAW_INTERVAL);
    let mut end: Option<(CopyEnd, Duration)> = None;
    let mut over = std::pin::pin!(tokio::time::sleep(NEVER));
    loop {
        tokio::select! {
            report = client.must_report() => match report? {
                ClientReport::State(state) => now.copy = state,
                ClientReport::Done(done) => {
                    end = Some((done, started.elapsed()));
                    over.as_mut().reset(tokio::time::Instant::now() + LAST_REPORTS);
                }
            },
            report = server.must_report() => match report? {
                ServerReport::State(state) => now.server = state,
                ServerReport::Listening(_) => {}
            },
            report = relay.must_report() => match report? {
                RelayReport::State(state) => now.relay = state,
                RelayReport::Listening(_) => {}
            },
            _ = ticks.tick() => screen.copying(&now, started),
            () = &mut over => break,
        }
    }
    tokio::join!(client.stop(), relay.stop(), server.stop());
    let (end, time) = end.ok_or_else(|| Failure::failed("the copy did not end"))?;
    Ok((now, end, time))
}

async fn compare_trees(places: &Places, tree: Tree, screen: &mut Screen) -> Outcome<Comparison> {
    let (source, copy) = (places.source.clone(), places.copy());
    let read = Arc::new(AtomicU64::new(0));
    let theirs = read.clone();
    let work = move || compare(&source, &copy, Some(&theirs));
    step(screen, "comparing", Some((&read, tree.bytes)), work).await?.context("cannot compare the trees")
}

/// Flips one bit in the middle of the largest file that can be written, and leaves its times as they were.
fn flip_a_byte(root: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let mut largest: Option<(u64, PathBuf)> = None;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() && metadata.permissions().mode() & 0o200 != 0 {
                largest = largest.max(Some((metadata.len(), entry.path())));
            }
        }
    }
    let (len, path) = largest.filter(|(len, _)| *len > 0).ok_or(std::io::ErrorKind::NotFound)?;
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let modified = file.metadata()?.modified()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, len / 2)?;
    byte[0] ^= 1;
    file.write_all_at(&byte, len / 2)?;
    file.set_modified(modified)
}
