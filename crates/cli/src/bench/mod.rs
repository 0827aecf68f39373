//! `outlast bench`: how fast are sessions between these two places?

mod client;
mod protocol;
mod server;

use crate::access::{self, AuthMethodArg, ClientAuthArgs};
use crate::exit::{Context as _, Exit, Failure, Outcome};
use crate::keyring::{file, make_entry};
use crate::process::{self, Child, Reporter};
use crate::{term, units};
use clap::{Args, ValueEnum};
use client::{Load, Measured, Test};
use outlast::{
    Address, Auth, ConnectOptions, EntityName, EntityType, KeyType, Keyring, Messenger, Mode, Session,
};
use protocol::SIZE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

const LONG_HELP: &str = "\
Measures sessions as programs use them: through the library's public interface, with receipts, acknowledgements and checksums \
on. Without --listen or --connect both ends run on this machine, in two processes that this one starts.

  stream    one-way: messages as fast as they go; its latency is the time until a message is acknowledged
  call      a request of the given size and a reply of 64 bytes; its latency is the round trip

CPU is what both processes used together, as the system counts it, for 10^9 bytes of payload.";

const EXAMPLES: &str = "\
Examples:
    outlast bench
    outlast bench --test call --size 4K --concurrency 1,32 --mode crc
    outlast bench --json > today.json

  Between two machines:
    server$  outlast bench --listen 0.0.0.0:13300 --keyring server.keyring
    client$  outlast bench --connect server --keyring outlast.keyring";

/// Measure sessions: streams and calls, latency and CPU
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(long = "test", value_enum, value_delimiter = ',', default_value = "stream,call")]
    tests: Vec<Test>,
    /// Sizes of the messages
    #[arg(long = "size", value_name = "SIZE", value_delimiter = ',', default_value = "64,4K,64K,1M",
          value_parser = parse_size)]
    sizes: Vec<u64>,
    /// Calls under way at a time, or tasks that send
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Vec<u32>,
    /// Encrypted, or with checksums only
    #[arg(long = "mode", value_enum, value_delimiter = ',', default_value = "secure,crc")]
    modes: Vec<ModeArg>,
    /// How long each measurement takes
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_time)]
    time: Duration,
    /// Be the accepting end for a benchmark on another machine
    #[arg(long, value_name = "ADDR", conflicts_with = "connect", value_parser = access::parse_address)]
    listen: Option<Address>,
    /// Measure towards a machine where `outlast bench --listen` runs
    #[arg(long, value_name = "ADDR", value_parser = access::parse_address)]
    connect: Option<Address>,
    #[command(flatten)]
    auth: ClientAuthArgs,
    /// For scripts: a JSON array of all measurements
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeArg {
    Secure,
    Crc,
}

impl ModeArg {
    const fn mode(self) -> Mode {
        match self {
            Self::Secure => Mode::SECURE,
            Self::Crc => Mode::CRC,
        }
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let size = units::parse_bytes(text)?;
    if size > SIZE_BYTES_MAX {
        return Err(format!("at most {}", units::bytes(SIZE_BYTES_MAX)));
    }
    Ok(size)
}

/// What the accepting process is told.
#[derive(Serialize, Deserialize)]
pub(super) struct ServerTask {
    keyring: Zeroizing<String>,
}

/// What the dialling process is told.
#[derive(Serialize, Deserialize)]
pub(super) struct ClientTask {
    keyring: Zeroizing<String>,
    server: String,
    mode: ModeArg,
    loads: Vec<Load>,
}

/// The name that a benchmark on one machine dials with.
fn own_name() -> EntityName {
    EntityName::new(EntityType::Client, "bench")
}

fn options() -> ConnectOptions {
    ConnectOptions::lossless()
}

pub(crate) async fn run(args: BenchArgs) -> Outcome {
    if let Some(address) = &args.listen {
        return listen(&args, address).await;
    }
    let mut all = Vec::new();
    for mode in &args.modes {
        match &args.connect {
            Some(address) => {
                let builder = args.auth.builder()?;
                let messenger = builder.modes([mode.mode()]).build().context("cannot start")?;
                let session = messenger
                    .connect(std::slice::from_ref(address), options())
                    .await
                    .map_err(|e| access::connect_failure(address, &e))?;
                for load in args.loads() {
                    let measured = client::measure(&session, load).await?;
                    args.show(&measured, all.is_empty());
                    all.push(measured);
                }
                session.close().await;
            }
            None => args.here(*mode, &mut all).await?,
        }
    }
    if args.json {
        term::print_json(&all);
    }
    Ok(Exit::Done)
}

impl BenchArgs {
    fn loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for &test in &self.tests {
            for &concurrency in &self.concurrency {
                for &size in &self.sizes {
                    loads.push(Load { test, size, concurrency, time: self.time });
                }
            }
        }
        loads
    }

    fn show(&self, measured: &Measured, first: bool) {
        if !self.json {
            if first {
                print_head();
            }
            print_row(measured);
        }
    }

    /// Both ends on this machine, each in a process of its own.
    async fn here(&self, mode: ModeArg, all: &mut Vec<Measured>) -> Outcome<()> {
        let mut keyring = Keyring::new();
        keyring.insert(own_name(), make_entry(KeyType::default()));
        let keyring = keyring.to_text().context("no keyring")?;
        let mut server: Child<String> =
            Child::start("bench-server", &ServerTask { keyring: keyring.clone() }).await?;
        let address = server.must_report().await?;
        let task = ClientTask { keyring, server: address, mode, loads: self.loads() };
        let wanted = all.len() + task.loads.len();
        let mut client: Child<Measured> = Child::start("bench-client", &task).await?;
        while all.len() < wanted {
            let measured = client.must_report().await?;
            self.show(&measured, all.is_empty());
            all.push(measured);
        }
        client.stop().await;
        server.stop().await;
        Ok(())
    }
}

async fn listen(args: &BenchArgs, address: &Address) -> Outcome {
    let builder = Messenger::builder(access::server_name());
    let builder = if args.auth.auth == Some(AuthMethodArg::None) {
        builder.auth(Auth::none()).modes([Mode::CRC])
    } else {
        let file::ServerKeyring { path, keyring, made } = file::open_server(args.auth.keyring.as_deref())?;
        if let Some(name) = made {
            let path = path.display();
            eprintln!(
                "made {path}, with a key for {name}; a client elsewhere needs it:\n    \
                     outlast keyring show {path} {name} --keyring > client.keyring"
            );
        }
        builder.auth(Auth::keyring(keyring)).modes([Mode::SECURE, Mode::CRC])
    };
    let messenger = builder.build().context("cannot start")?;
    let bound = messenger.listen(address.clone()).await.map_err(|e| Failure::failed(e.to_string()))?;
    eprintln!("waiting for `outlast bench --connect` on {bound}; Ctrl-C ends it");
    tokio::select! {
        () = server::serve(messenger) => Ok(Exit::Done),
        exit = crate::signals::stop() => Ok(exit),
    }
}

/// The accepting process of [`BenchArgs::here`].
pub(crate) async fn server_process(task: ServerTask, reporter: Reporter) -> Outcome {
    let keyring = Keyring::parse(task.keyring.as_bytes()).context("the keyring")?;
    let builder = Messenger::builder(access::server_name()).auth(Auth::keyring(keyring));
    let messenger = builder.modes([Mode::SECURE, Mode::CRC]).build().context("cannot start")?;
    let loopback = Address::Ip((std::net::Ipv4Addr::LOCALHOST, 0).into());
    let bound = messenger.listen(loopback).await.context("cannot listen")?;
    reporter.send(&bound.to_string());
    tokio::select! {
        () = server::serve(messenger) => Ok(Exit::Done),
        () = process::parent_gone() => Ok(Exit::Done),
    }
}

/// The dialling process of [`BenchArgs::here`].
pub(crate) async fn client_process(task: ClientTask, reporter: Reporter) -> Outcome {
    let keyring = Keyring::parse(task.keyring.as_bytes()).context("the keyring")?;
    let address: Address = task.server.parse().context("the server's address")?;
    let builder = Messenger::builder(own_name()).auth(Auth::keyring(keyring));
    let messenger = builder.modes([task.mode.mode()]).build().context("cannot start")?;
    let work = async {
        let connected = messenger.connect(std::slice::from_ref(&address), options()).await;
        let session: Session = connected.map_err(|e| access::connect_failure(&address, &e))?;
        for load in task.loads {
            reporter.send(&client::measure(&session, load).await?);
        }
        session.close().await;
        Ok::<_, Failure>(())
    };
    tokio::select! {
        done = work => done?,
        () = process::parent_gone() => return Ok(Exit::Done),
    }
    process::parent_gone().await;
    Ok(Exit::Done)
}

fn print_head() {
    term::print_line("test    mode      size    x      rate/s       MB/s     p50 us     p99 us   CPU s/GB");
}

fn print_row(measured: &Measured) {
    let Measured { test, mode, size, concurrency, messages_per_second, megabytes_per_second, .. } = measured;
    let test = match test {
        Test::Stream => "stream",
        Test::Call => "call",
    };
    let size = units::bytes(*size).replace(".00", "");
    let (p50, p99, cpu) =
        (measured.p50_microseconds, measured.p99_microseconds, measured.cpu_seconds_per_gigabyte);
    term::print_line(&format!(
        "{test:6}  {mode:6} {size:>8} {concurrency:>4} {messages_per_second:>11.0} {megabytes_per_second:>10.1} \
         {p50:>10.1} {p99:>10.1} {cpu:>10.2}"
    ));
}
