//! `outlast serve`: offers a folder.

use crate::access::{self, AuthMethodArg, DEFAULT_PORT};
use crate::exit::{Context as _, Exit, Failure, Outcome};
use crate::keyring::file;
use crate::{clock, signals, term, units};
use clap::Args;
use outlast::{
    Address, Auth, EntityName, Keyring, Lifetime, Messenger, Mode, Session, SessionEvent, SessionOptions,
    Status,
};
use outlast_transfer::{Folder, Links, ServeOptions, Served, Sync, raise_open_files_limit, serve};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the sessions may take to end in order when the server is stopped.
const DRAIN_MAX: Duration = Duration::from_secs(5);

const LONG_HELP: &str = "\
Offers a folder to clients that hold a key, over encrypted sessions which go on when their connections break. Nothing outside \
the folder can be reached, whatever a client asks for.

Without --keyring the server uses ~/.config/outlast/server.keyring. When that is not there it is made, with one key for \
client.admin, and the commands are printed that bring the key to a client. `outlast keyring add` lets more clients in, from the \
next start of the server.

A client that is away keeps its session for --lifetime. A server that was stopped and started again knows no sessions; copies \
begin new ones by themselves and send nothing twice.";

const EXAMPLES: &str = "\
Examples:
    outlast serve --dir /srv/files
    outlast serve --dir . --listen 127.0.0.1:13300 --listen '[::1]:13300' --listen unix:/run/outlast.sock
    outlast serve --dir /srv/mirror --read-only --keyring mirror.keyring
    outlast serve --auth none --listen 127.0.0.1          for trying things out: no keys, no encryption

Ends at Ctrl-C or SIGTERM with exit code 0.";

/// Offer a folder to `outlast copy`
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where to listen: `HOST[:PORT]`, `[IPV6][:PORT]` or unix:/PATH; may be given several times. Port 13300 unless said; 0
    /// chooses a free one [default: 0.0.0.0:13300]
    #[arg(long, value_name = "ADDR", value_parser = access::parse_address)]
    listen: Vec<Address>,
    /// The folder to offer
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Who may come in (default: ~/.config/outlast/server.keyring, made if it is not there)
    #[arg(long, value_name = "FILE", conflicts_with = "auth")]
    keyring: Option<PathBuf>,
    /// Let everybody in who can connect, unencrypted: on loopback and Unix sockets only, unless forced
    #[arg(long, value_enum, value_name = "METHOD")]
    auth: Option<AuthMethodArg>,
    /// Do what is dangerous: --auth none on a network, or a keyring inside the folder
    #[arg(long)]
    force: bool,
    /// Let nobody write
    #[arg(long)]
    read_only: bool,
    /// Leave symbolic links out, in both directions
    #[arg(long)]
    no_links: bool,
    /// Do not wait until files are safe on disk
    #[arg(long)]
    no_sync: bool,
    /// How long a client may be away before its session is forgotten: 30s, 10m, 12h, 7d or forever
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = access::parse_lifetime)]
    lifetime: Lifetime,
}

pub(crate) async fn run(args: ServeArgs) -> Outcome {
    let stop = signals::stop();
    let listen = match args.listen.as_slice() {
        [] => vec![Address::Ip((std::net::Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into())],
        told => told.to_vec(),
    };
    let what = format!("cannot serve {}", args.dir.display());
    let dir = fs::canonicalize(&args.dir).context(&what)?;
    let folder = Folder::open(&dir).context(&what)?;
    let options = ServeOptions {
        read_only: args.read_only,
        links: if args.no_links { Links::Skip } else { Links::Copy },
        sync: if args.no_sync { Sync::None } else { Sync::Durable },
    };
    let access = Access::new(&args, &dir, &listen)?;
    let builder =
        Messenger::builder(access::server_name()).accepted(SessionOptions::server().lifetime(args.lifetime));
    let messenger = match &access {
        Access::Keyring { keyring, .. } => builder.auth(Auth::keyring(keyring.clone())).modes([Mode::SECURE]),
        Access::Everybody => builder.auth(Auth::none()).modes([Mode::CRC]),
    };
    let messenger = messenger.build().context("cannot start")?;
    raise_open_files_limit();

    let mut bound = Vec::new();
    for address in listen {
        bound.push(messenger.listen(address.clone()).await.map_err(|e| Failure::failed(e.to_string()))?);
    }
    access.announce(&bound);
    let places: Vec<_> = bound.iter().map(ToString::to_string).collect();
    term::print_line(&format!("serving {} on {}", dir.display(), places.join(" ")));

    let folder = Arc::new(folder);
    let options = Arc::new(options);
    let accept = async {
        let mut present = Vec::new();
        while let Some(session) = messenger.accept().await {
            make_way(&mut present, &session);
            present.push(session.clone());
            tokio::spawn(one(session, folder.clone(), options.clone()));
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stop => log("stopping"),
    }
    messenger.shutdown(DRAIN_MAX).await;
    Ok(Exit::Done)
}

/// A client that begins anew, because it was killed or restarted, does not come back to its session of before, which would
/// keep its half-written files to itself for as long as it lives. So those sessions of a newcomer's name end that have no
/// connection at the moment. A copy that was only away for a while, beside another one of the same name, is told so when it
/// comes back, begins a session of its own and goes on.
fn make_way(present: &mut Vec<Session>, newcomer: &Session) {
    let name = newcomer.peer();
    present.retain(|session| {
        if session.peer() == name && matches!(session.status(), Status::Interrupted { .. }) {
            session.abort();
        }
        !matches!(session.status(), Status::Ended(_))
    });
}

/// Serves one client and tells what becomes of it.
async fn one(session: Session, folder: Arc<Folder>, options: Arc<ServeOptions>) {
    let came = Instant::now();
    let peer = session.peer_info();
    let name = peer.name.clone();
    let from = peer.address.as_ref().map_or_else(|| "somewhere".to_owned(), ToString::to_string);
    let mode = session.stats().agreed.map_or_else(String::new, |agreed| format!(", {} mode", agreed.mode));
    let proven = if peer.proven { "" } else { " (so it says)" };
    log(&format!("{name}{proven} came from {from}{mode}"));

    let mut events = session.events();
    let watched = session.peer();
    let watch = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                SessionEvent::Interrupted { cause } => log(&format!("{watched} interrupted: {cause}")),
                SessionEvent::Resumed { replayed, away } => {
                    let away = units::duration(away);
                    let replayed = units::counted(replayed as u64, "message");
                    log(&format!("{watched} resumed after {away}, {replayed} sent again"));
                }
                SessionEvent::Reset { lost } => log(&format!("{watched} began anew, {lost} messages lost")),
                SessionEvent::Connected
                | SessionEvent::AttemptFailed { .. }
                | SessionEvent::Ended(_)
                | SessionEvent::Missed { .. } => {}
                _ => {}
            }
        }
    });
    let served = serve(&session, &folder, &options).await;
    let end = match &served {
        Ok(_) => session.end().map_or_else(|| "over".to_owned(), |end| end.to_string()),
        Err(error) => error.to_string(),
    };
    let done = match &served {
        Ok(served) => account(served),
        Err(_) => String::new(),
    };
    let resumed = session.stats().counters.reconnects;
    let resumed =
        if resumed > 0 { format!("; resumed {}", units::counted(resumed, "time")) } else { String::new() };
    log(&format!("{name} gone after {}: {end}{done}{resumed}", units::duration(came.elapsed())));
    session.abort();
    watch.abort();
}

fn account(served: &Served) -> String {
    let mut text = String::new();
    for (files, bytes, way) in
        [(served.files_in, served.bytes_in, "received"), (served.files_out, served.bytes_out, "sent")]
    {
        if files > 0 || bytes > 0 {
            text.push_str(&format!("; {way} {}, {}", units::counted(files, "file"), units::bytes(bytes)));
        }
    }
    if served.failures > 0 {
        text.push_str(&format!("; {} failed", units::count(served.failures)));
    }
    text
}

/// A line of the server's log, on stderr.
fn log(line: &str) {
    eprintln!("{} {line}", clock::time_of_day());
}

/// Who may come in.
enum Access {
    Everybody,
    Keyring { path: PathBuf, keyring: Keyring, made: Option<EntityName> },
}

impl Access {
    fn new(args: &ServeArgs, dir: &Path, listen: &[Address]) -> Outcome<Self> {
        if args.auth == Some(AuthMethodArg::None) {
            if let Some(open) = listen.iter().find(|address| !address.is_loopback())
                && !args.force
            {
                let message = format!("--auth none on {open} would let in everybody who can reach it");
                return Err(Failure::usage(message)
                    .hint("listen on 127.0.0.1, [::1] or unix:/PATH, use keys, or insist with --force"));
            }
            return Ok(Self::Everybody);
        }
        let file::ServerKeyring { path, keyring, made } = file::open_server(args.keyring.as_deref())?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        if path.starts_with(dir) && !args.force {
            let message = format!(
                "the keyring {} is inside the folder: clients could fetch everybody's key",
                path.display()
            );
            return Err(Failure::usage(message).hint("move it elsewhere (or insist with --force)"));
        }
        Ok(Self::Keyring { path, keyring, made })
    }

    /// Tells how a client comes in; in full when the keyring is new.
    fn announce(&self, bound: &[Address]) {
        let Self::Keyring { path, keyring, made } = self else {
            eprintln!("everybody who can connect may read and write, and nothing is encrypted (--auth none)");
            return;
        };
        let path = path.display();
        let Some(name) = made else {
            let names: Vec<_> = keyring.iter().map(|(name, _)| name.to_string()).take(10).collect();
            let more = keyring.len().saturating_sub(names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            eprintln!("letting in {}{more} ({path})", names.join(", "));
            return;
        };
        let place = bound.first().map_or_else(|| "HOST:".to_owned(), client_place);
        let local = bound.first().map_or_else(|| "localhost:".to_owned(), local_place);
        eprintln!(
            "This is the first start: made {path}, with a key for {name}.\n\
             \n\
             A client on this machine:\n    \
                 outlast copy FILE {local}\n\
             \n\
             A client elsewhere, called CLIENT here; the key goes over ssh:\n    \
                 outlast keyring show {path} {name} --keyring \\\n        \
                     | ssh CLIENT 'umask 077; cat > outlast.keyring'\n    \
                 outlast copy --keyring outlast.keyring FILE {place}\n"
        );
    }
}

/// How a client on another machine writes this server's place.
fn client_place(address: &Address) -> String {
    match address {
        Address::Ip(socket) if socket.ip().is_unspecified() || socket.ip().is_loopback() => {
            format!("{}{}", host_name(), port_and_path(socket.port()))
        }
        Address::Ip(_) | Address::Name { .. } | Address::Unix(_) => local_place(address),
    }
}

/// How a client on this machine does.
fn local_place(address: &Address) -> String {
    match address {
        Address::Ip(socket) if socket.ip().is_unspecified() => {
            format!("localhost{}", port_and_path(socket.port()))
        }
        Address::Ip(socket) if socket.port() == DEFAULT_PORT => match socket.ip() {
            std::net::IpAddr::V4(ip) => format!("{ip}:"),
            std::net::IpAddr::V6(ip) => format!("[{ip}]:"),
        },
        Address::Ip(_) | Address::Name { .. } | Address::Unix(_) => format!("{address}:"),
    }
}

fn port_and_path(port: u16) -> String {
    if port == DEFAULT_PORT { ":".to_owned() } else { format!(":{port}:") }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "HOST".to_owned() } else { name }
}
