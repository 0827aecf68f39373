//! `outlast copy`: files and trees to and from a machine where `outlast serve` runs.

mod display;
mod location;

use crate::access::{self, ClientAuthArgs};
use crate::exit::{Context as _, Exit, Failure, Outcome};
use crate::{signals, term, units};
use clap::Args;
use display::Display;
use location::Location;
use outlast::{
    Address, ConnectOptions, Counters, Events, Lifetime, Messenger, Session, SessionEvent, Status,
};
use outlast_transfer::{
    CopyOptions, CopyRequest, FileErrorKind, Links, Progress, Summary, Sync, TransferError, copy,
};
use serde::Serialize;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the end of a session may take when everything has arrived already.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Sessions that a copy begins anew before it gives up: each of them was lost at the other end.
const SESSIONS_MAX: u32 = 100;
/// How long to wait for another copy that writes the same files: longer than a silent peer is taken for alive.
const BUSY_MAX: Duration = Duration::from_secs(90);
/// How often to look whether it has ended.
const BUSY_PAUSE: Duration = Duration::from_secs(2);
/// The pause before a copy begins anew.
const ANEW_PAUSE: Duration = Duration::from_millis(500);

const LONG_HELP: &str = "\
Copies files and whole trees to or from a machine where `outlast serve` runs. When the connection is lost the copy waits and \
goes on where it was, over whatever connection comes next; the session may be without one for as long as --lifetime says. That \
this machine has moved to another network is noticed within about three seconds, a line that died otherwise after 20. When \
either program dies, start it again: what is whole is not sent a second time, and large files go on in their middle.

A remote place is HOST:PATH, HOST:PORT:PATH, [IPV6]:PORT:PATH or unix:/SOCKET:PATH; the port is 13300 unless said. Paths begin at \
the folder that is served, and nothing outside it can be reached. A local file with a colon in its name is written ./a:b.

As with `cp -r`: DST that is a directory gets SRC put into it, else SRC becomes DST. With a slash at its end, SRC stands for \
what is in it, and DST for a directory (made if need be). Modes and times are kept, links are copied as links, files appear \
under their names when they are complete, checked by BLAKE3 and safe on disk.";

const EXAMPLES: &str = "\
Examples:
    outlast copy --keyring laptop.keyring photos/ server:/
    outlast copy server:/photos/2026 .
    outlast copy a.iso b.iso backup.example:13301:images/
    outlast copy --auth none big.tar unix:/run/outlast.sock:

Exit codes: 0 all there; 3 some files could not be copied, each is named on stderr; 1 nothing could;
4 the server refuses the key; 5 no connection in time; 130 stopped by Ctrl-C. All are in `outlast --help`.";

/// Copy files and trees to or from a served folder, whatever happens to the link
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES, override_usage = "outlast copy [OPTIONS] SRC... DST")]
pub(crate) struct CopyArgs {
    /// What to copy, and where to: SRC... DST, one side of them remote as `HOST[:PORT]:PATH`
    #[arg(value_name = "PLACE", num_args = 2.., required = true)]
    places: Vec<OsString>,
    #[command(flatten)]
    auth: ClientAuthArgs,
    /// How long the session goes on without any connection: 30s, 10m, 12h, 7d or forever
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = access::parse_lifetime)]
    lifetime: Lifetime,
    /// How long to wait for the first connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_time)]
    wait: Duration,
    /// Compare the contents of files that look unchanged, not only size and time
    #[arg(long)]
    checksum: bool,
    /// Leave symbolic links out
    #[arg(long)]
    no_links: bool,
    /// Do not wait until files are safe on disk
    #[arg(long)]
    no_sync: bool,
    /// No progress and no summary; failures are still told
    #[arg(short, long)]
    quiet: bool,
    /// For scripts: the summary as a JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// What a script learns of a copy.
#[derive(Debug, Default, Serialize)]
struct Account {
    complete: bool,
    files_copied: u64,
    files_unchanged: u64,
    files_resumed: u64,
    files_failed: u64,
    directories: u64,
    links: u64,
    skipped: u64,
    bytes_copied: u64,
    bytes_resumed: u64,
    bytes_unchanged: u64,
    seconds: f64,
    /// Sessions that were needed: more than one if the server was restarted meanwhile.
    sessions: u32,
    interruptions: u64,
    resumptions: u64,
    messages_replayed: u64,
    duplicates_dropped: u64,
    failures: Vec<String>,
}

impl CopyArgs {
    /// From where to where, in one direction.
    fn request(&self) -> Outcome<(Address, CopyRequest)> {
        let places = self.places.iter().map(|place| {
            location::parse(place).map_err(|e| Failure::usage(format!("{}: {e}", place.to_string_lossy())))
        });
        let mut places = places.collect::<Outcome<Vec<_>>>()?;
        let destination = places.pop().ok_or_else(|| Failure::usage("copy what?"))?;
        let mut sources = Vec::new();
        let mut host = None;
        for place in places {
            let (address, path) = match place {
                Location::Local(path) => (None, path),
                Location::Remote(address, path) => (Some(address), path),
            };
            if host.get_or_insert_with(|| address.clone()) != &address {
                let message = "all that is copied at once comes from one place";
                return Err(Failure::usage(message).hint("copy from the others with commands of their own"));
            }
            sources.push(path);
        }
        let (address, mut request) = match (host.flatten(), destination) {
            (None, Location::Remote(address, path)) => (address, CopyRequest::upload(sources, path)),
            (Some(address), Location::Local(path)) => (address, CopyRequest::download(sources, path)),
            (None, Location::Local(_)) => {
                return Err(Failure::usage("both sides are local: one of them must be HOST:PATH")
                    .hint("between places on this machine, cp does it"));
            }
            (Some(_), Location::Remote(..)) => {
                return Err(Failure::usage("both sides are remote: one of them must be on this machine"));
            }
        };
        request.options = self.options();
        Ok((address, request))
    }

    fn options(&self) -> CopyOptions {
        CopyOptions {
            checksum: self.checksum,
            links: if self.no_links { Links::Skip } else { Links::Copy },
            sync: if self.no_sync { Sync::None } else { Sync::Durable },
        }
    }
}

/// What became of the sessions of a copy.
#[derive(Default)]
struct Sessions {
    count: u32,
    interruptions: u64,
    counters: Counters,
}

pub(crate) async fn run(args: CopyArgs) -> Outcome {
    let stop = signals::stop();
    let (address, request) = args.request()?;
    let messenger = args.auth.builder()?.build().context("cannot start")?;
    let progress = Progress::new();
    let mut display = Display::new(progress.clone(), args.quiet || args.json);
    let started = Instant::now();
    let mut sessions = Sessions::default();
    let work =
        copy_whatever_happens(&args, &messenger, &address, &request, &progress, &mut display, &mut sessions);
    let outcome = tokio::select! {
        outcome = work => outcome,
        exit = stop => Err(Failure::new(exit, "stopped; run the same command again to go on where it was")),
    };
    display.clear();
    let summary = outcome?;
    // The other end shall know that this was the end, and no interruption.
    messenger.shutdown(CLOSE_MAX).await;
    let account = Account::new(&summary, &sessions, started.elapsed());
    for failure in &summary.failures {
        eprintln!("outlast: {failure}");
    }
    let told = summary.failures.len() as u64;
    if summary.files_failed > told {
        eprintln!("outlast: and {} more", units::count(summary.files_failed - told));
    }
    if summary.failures.iter().any(|failure| failure.error.kind == FileErrorKind::NoSpace) {
        eprintln!(
            "outlast: make room, and run the same command again: files that have arrived whole are not sent a second time"
        );
    }
    if args.json {
        term::print_json(&account);
    } else if !args.quiet {
        term::print_line(&account.text());
        for skip in &summary.skips {
            term::print_line(&format!("left out: {skip}"));
        }
    }
    Ok(account.exit())
}

/// Copies; a session that the other end has lost is followed by another.
async fn copy_whatever_happens(
    args: &CopyArgs,
    messenger: &Messenger,
    address: &Address,
    request: &CopyRequest,
    progress: &Arc<Progress>,
    display: &mut Display,
    sessions: &mut Sessions,
) -> Outcome<Summary> {
    let mut wait = args.wait;
    loop {
        sessions.count += 1;
        let options = ConnectOptions::lossless().lifetime(args.lifetime).connect_within(wait);
        let connected = messenger.connect(std::slice::from_ref(address), options).await;
        let session = connected.map_err(|e| access::connect_failure(address, &e))?;
        let outcome = copy_when_free(&session, request, progress, display, sessions).await;
        sessions.counters += session.stats().counters;
        let error = match outcome {
            Ok(summary) => {
                session.close_within(CLOSE_MAX).await;
                return Ok(summary);
            }
            Err(error) => error,
        };
        let end = session.end();
        session.abort();
        if !error.is_worth_another_try() || sessions.count >= SESSIONS_MAX {
            return Err(transfer_failure(address, &error, end.as_ref()));
        }
        if let Some(outlast::EndReason::Expired) = end {
            return Err(access::end_failure(address, &outlast::EndReason::Expired));
        }
        display.say(&format!("{error}; beginning a new session, what has arrived stays"));
        // The server may be on its way back: as long as a session of ours would have waited for it.
        wait = match args.lifetime {
            Lifetime::Forever => Duration::MAX,
            Lifetime::For(lifetime) => lifetime,
        };
        tokio::time::sleep(ANEW_PAUSE).await;
    }
}

/// Copies; where another copy is writing the very same files, its end is waited for. It may be an earlier one of ours, whose
/// machine lost power: the server learns of that only in time.
async fn copy_when_free(
    session: &Session,
    request: &CopyRequest,
    progress: &Arc<Progress>,
    display: &mut Display,
    sessions: &mut Sessions,
) -> Result<Summary, TransferError> {
    let until = Instant::now() + BUSY_MAX;
    loop {
        let summary = copy_and_watch(session, request, progress, display, sessions).await?;
        let mut failures = summary.failures.iter().map(|failure| failure.error.kind);
        let busy = !summary.is_complete() && failures.all(|kind| kind == FileErrorKind::Busy);
        if !busy || Instant::now() >= until {
            return Ok(summary);
        }
        display.say("another copy is writing the same files; waiting for its end");
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

async fn copy_and_watch(
    session: &Session,
    request: &CopyRequest,
    progress: &Arc<Progress>,
    display: &mut Display,
    sessions: &mut Sessions,
) -> Result<Summary, TransferError> {
    let work = copy(session, request, progress);
    tokio::pin!(work);
    let mut events = session.events();
    let mut ticks = tokio::time::interval(display.interval());
    // The first tick comes at once, when there is nothing to see yet.
    ticks.tick().await;
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = ticks.tick() => {
                let away = if let Status::Interrupted { since } = session.status() { Some(since) } else { None };
                display.draw(away);
            }
            () = watch(&mut events, display, sessions) => {}
        }
    }
}

/// Tells of the next event.
async fn watch(events: &mut Events, display: &Display, sessions: &mut Sessions) {
    match events.next().await {
        Some(SessionEvent::Interrupted { cause }) => {
            sessions.interruptions += 1;
            display.say(&format!("interrupted: {cause}"));
        }
        Some(SessionEvent::Resumed { replayed, away }) => {
            display.say(&format!(
                "resumed after {}, {} sent again",
                units::duration(away),
                units::counted(replayed as u64, "message")
            ));
        }
        Some(_) => {}
        None => std::future::pending().await,
    }
}

fn transfer_failure(address: &Address, error: &TransferError, end: Option<&outlast::EndReason>) -> Failure {
    match (error, end) {
        (TransferError::SessionEnded(_), Some(reason)) => access::end_failure(address, reason),
        (TransferError::Local { path, error }, _) => {
            Failure::failed(format!("{}: {error}", PathBuf::from(path).display()))
        }
        (error, _) => Failure::failed(format!("{address}: {error}")),
    }
}

impl Account {
    fn new(summary: &Summary, sessions: &Sessions, time: Duration) -> Self {
        Self {
            complete: summary.is_complete(),
            files_copied: summary.files_copied,
            files_unchanged: summary.files_unchanged,
            files_resumed: summary.files_resumed,
            files_failed: summary.files_failed,
            directories: summary.directories,
            links: summary.links,
            skipped: summary.skipped,
            bytes_copied: summary.bytes_copied,
            bytes_resumed: summary.bytes_resumed,
            bytes_unchanged: summary.bytes_unchanged,
            seconds: time.as_secs_f64(),
            sessions: sessions.count,
            interruptions: sessions.interruptions,
            // A peer that had forgotten the session began a new one.
            resumptions: sessions.counters.reconnects.saturating_sub(sessions.counters.resets),
            messages_replayed: sessions.counters.replayed,
            duplicates_dropped: sessions.counters.duplicates_dropped,
            failures: summary.failures.iter().map(ToString::to_string).collect(),
        }
    }

    const fn exit(&self) -> Exit {
        if self.complete {
            Exit::Done
        } else if self.files_copied + self.files_unchanged + self.directories + self.links == 0 {
            Exit::Failed
        } else {
            Exit::Partial
        }
    }

    fn text(&self) -> String {
        let time = Duration::from_secs_f64(self.seconds);
        let files = |count| units::counted(count, "file");
        let mut text = format!("copied {}", files(self.files_copied));
        if self.bytes_copied > 0 {
            let (bytes, rate) = (units::bytes(self.bytes_copied), units::rate(self.bytes_copied, time));
            text.push_str(&format!(", {bytes} in {}, {rate}", units::duration(time)));
        }
        if self.files_unchanged > 0 {
            text.push_str(&format!("; {} unchanged", files(self.files_unchanged)));
        }
        if self.files_resumed > 0 {
            let (files, bytes) = (files(self.files_resumed), units::bytes(self.bytes_resumed));
            text.push_str(&format!("; {files} gone on with, {bytes} not sent again"));
        }
        if self.files_failed > 0 {
            text.push_str(&format!("; {} FAILED", files(self.files_failed)));
        }
        if self.interruptions > 0 || self.sessions > 1 {
            text.push_str(&format!(
                "\ninterrupted {}, resumed {}, {} sent again; {}",
                units::counted(self.interruptions, "time"),
                units::counted(self.resumptions, "time"),
                units::counted(self.messages_replayed, "message"),
                units::counted(u64::from(self.sessions), "session")
            ));
        }
        text
    }
}
