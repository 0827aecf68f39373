//! `outlast probe`: what does this endpoint speak?

mod dialogue;
mod report;
mod wire;

use crate::exit::{Exit, Failure, Outcome};
use crate::keyring::file;
use crate::term::{self, Paint};
use crate::units;
use clap::{Args, ValueEnum};
use dialogue::{Credential, Dialogue, Target};
use outlast_cephx::EntityName;
use outlast_msgr2::wire::{ConnectionMode, EntityAddr};
use outlast_net::Address;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

/// The port of Ceph's monitors for msgr2.
const MONITOR_PORT: u16 = 3300;

const LONG_HELP: &str = "\
Connects to any msgr2 endpoint, of Ceph or of Outlast, and says what it speaks: the features in its banner, what it is, how \
it sees us, which methods and modes it lets anybody in by, and how long each step took.

With a key it logs in, and says in which mode, with which types of keys and tickets, whether compression was granted, and \
what the peer calls itself. Nothing stays behind at the peer: the session is a lossy one.

Monitors (and Outlast) take keys. Ceph's other daemons take tickets, which only a monitor gives: name one with --mon. They \
also want to be called by their full name, nonce included: write ADDR as `ceph osd dump` does.";

const EXAMPLES: &str = "\
Examples:
    outlast probe 10.0.0.1
    outlast probe 10.0.0.1:3300 --keyring /etc/ceph/ceph.client.admin.keyring
    outlast probe v2:10.0.0.5:6802/1187436 --mon 10.0.0.1 --keyring admin.keyring
    outlast probe localhost:13300 --json | jq .login.mode

Exit codes: 0 learnt everything that the credential allows; 1 the peer broke off or does not speak msgr2;
4 the peer refused the credential; 5 nobody there. What was learnt until then is printed in any case.";

/// Say what a msgr2 endpoint speaks, of Ceph or of Outlast
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// `HOST[:PORT]`, `[IPV6][:PORT]`, unix:/PATH, or an address with its nonce as Ceph prints it; the port is 3300 unless said
    #[arg(value_name = "ADDR", value_parser = parse_place)]
    address: Place,
    /// Log in with a key from this keyring
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Whose key (the only client's in the keyring, else client.admin)
    #[arg(long, value_name = "TYPE.ID", requires = "keyring")]
    name: Option<EntityName>,
    /// Log in at this monitor first, and show the peer the ticket that it gives
    #[arg(long, value_name = "ADDR", requires = "keyring", value_parser = parse_place)]
    mon: Option<Place>,
    /// The mode to ask for; any: secure if the peer allows it
    #[arg(long, value_enum, default_value = "any")]
    mode: Modes,
    /// Do not offer msgr2.1: see how the peer speaks msgr2.0
    #[arg(long)]
    revision_0: bool,
    /// How long the peer may take for each step
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_time)]
    timeout: Duration,
    /// For scripts: a JSON object; what stayed unknown is left out
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Modes {
    Any,
    Secure,
    Crc,
}

/// An address, and the full name of whoever is there if the user wrote one.
#[derive(Debug, Clone)]
struct Place {
    address: Address,
    named: Option<EntityAddr>,
}

fn parse_place(text: &str) -> Result<Place, String> {
    if text.starts_with("v2:")
        || text.starts_with("any:")
        || (text.contains('/') && !text.starts_with("unix:"))
    {
        let named: EntityAddr = text.parse().map_err(|e| format!("{e}"))?;
        let address = named.socket_addr().ok_or("this address has no host and port")?;
        return Ok(Place { address: Address::Ip(address), named: Some(named) });
    }
    let address = Address::parse_with_port(text, MONITOR_PORT).map_err(|e| e.to_string())?;
    Ok(Place { address, named: None })
}

impl ProbeArgs {
    fn target(&self, place: &Place) -> Target {
        let modes = match self.mode {
            Modes::Any => vec![ConnectionMode::SECURE, ConnectionMode::CRC],
            Modes::Secure => vec![ConnectionMode::SECURE],
            Modes::Crc => vec![ConnectionMode::CRC],
        };
        Target {
            address: place.address.clone(),
            named: place.named,
            modes,
            revision_1: !self.revision_0,
            patience: self.timeout,
        }
    }
}

pub(crate) async fn run(args: ProbeArgs) -> Outcome {
    let mut credential = match &args.keyring {
        None => Credential::Nothing,
        Some(path) => {
            let keyring = file::read(path)?;
            file::warn_if_open(path);
            let (name, key) = file::choose(&keyring, path, args.name.as_ref())?;
            Credential::Key(name, key)
        }
    };
    if let (Some(mon), Credential::Key(name, _)) = (&args.mon, &credential) {
        let name = name.clone();
        let target = args.target(mon);
        let (report, exit, tickets) = Dialogue::run(&target, &credential).await;
        let Some(tickets) = tickets else {
            let reason =
                report.stopped.map_or_else(|| "it gave no tickets".to_owned(), |stopped| stopped.reason);
            let exit = if exit == Exit::Done { Exit::Failed } else { exit };
            return Err(Failure::new(exit, format!("the monitor {}: {reason}", mon.address)));
        };
        credential = Credential::Tickets(name, Box::new(tickets));
    }
    let target = args.target(&args.address);
    let (report, exit, _) = Dialogue::run(&target, &credential).await;
    if args.json {
        term::print_json(&report);
    } else {
        let paint = Paint::new(term::colours(std::io::stdout().is_terminal()));
        term::print_line(report.text(paint).trim_end());
        if report.stopped.is_none() && report.login.is_none() {
            term::print_line("  More is told to who logs in: --keyring FILE");
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_and_as_ceph_write_them() {
        let plain = parse_place("10.0.0.1").unwrap();
        assert_eq!((plain.address.to_string().as_str(), plain.named), ("10.0.0.1:3300", None));
        let full = parse_place("v2:10.0.0.5:6802/77").unwrap();
        assert_eq!(full.address.to_string(), "10.0.0.5:6802");
        assert_eq!(full.named.unwrap().nonce, 77);
        assert_eq!(parse_place("unix:/run/x").unwrap().address.to_string(), "unix:/run/x");
        assert!(parse_place("v2:nowhere").is_err());
    }
}
