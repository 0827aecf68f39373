//! A laptop with a server far away, between them a router, each in a network namespace of its own: cables are pulled and
//! addresses change while files are copied in both directions.
//!
//! Needs root and iproute2. Where namespaces, forwarding or traffic shaping are not to be had, the tests say so and skip.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test waits for processes")]

mod common;

use common::{Home, Ran, Server, skip, wait_for};
use outlast_transfer::{GenerateOptions, compare, generate};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is copied in each direction: at [`RATE`] it takes longer than all that happens meanwhile.
const TREE_BYTES: u64 = 80 << 20;
/// Of each link of the laptop, in each direction.
const RATE: &str = "48mbit";
/// So much more has passed in a direction when the copy is said to go on there.
const STEP_BYTES: u64 = 2 << 20;
/// How long a link is down.
const DOWN: Duration = Duration::from_millis(1500);
/// How long the laptop is between two networks.
const BETWEEN: Duration = Duration::from_millis(800);
/// A machine that has another address must notice that by itself: the peer's silence alone is believed after 20 s.
const NOTICED_MAX: Duration = Duration::from_secs(12);

#[test]
fn a_copy_over_ipv4_goes_on_while_the_network_goes_away_and_the_address_changes() {
    goes_on(Family::V4);
}

#[test]
fn a_copy_over_ipv6_goes_on_while_the_network_goes_away_and_the_address_changes() {
    goes_on(Family::V6);
}

fn goes_on(family: Family) {
    let lab = match Lab::new(family) {
        Ok(lab) => lab,
        Err(reason) => return skip(&reason),
    };
    let home = Home::new();
    for (tree, seed) in [("tree", 1), ("served/there", 2)] {
        generate(&home.file(tree), &GenerateOptions { bytes: TREE_BYTES, seed }).unwrap();
    }
    let mut server = serve(&lab, &home);
    let mut up = Copy::start(&lab, &home, &["tree", &server.at("up")]);
    let mut down = Copy::start(&lab, &home, &[&server.at("there"), "down"]);

    let goes_on = |lab: &Lab, what: &str| {
        let started = Instant::now();
        lab.both_directions(what);
        eprintln!("{family:?}, {what}: {:.1} s", started.elapsed().as_secs_f64());
        started.elapsed()
    };
    let moved = |lab: &Lab, what: &str| {
        let took = goes_on(lab, what);
        assert!(took < NOTICED_MAX, "{what}: {took:?} until both copies went on");
    };
    goes_on(&lab, "the copies are under way");

    lab.carrier(Network::Cable, false);
    sleep(DOWN);
    lab.carrier(Network::Cable, true);
    goes_on(&lab, "the cable was pulled and put back");

    lab.forget(Network::Cable, 2);
    sleep(BETWEEN);
    lab.join(Network::Wifi, 2);
    moved(&lab, "from the cable to the wireless network");

    lab.interface(Network::Wifi, "down");
    sleep(DOWN);
    lab.join(Network::Wifi, 2);
    goes_on(&lab, "the interface was down, and has its address again");

    lab.forget(Network::Wifi, 2);
    lab.join(Network::Wifi, 3);
    moved(&lab, "another address in the same network");

    // Nobody takes the old address away: packets from it are lost somewhere.
    lab.carrier(Network::Wifi, false);
    lab.join(Network::Cable, 4);
    moved(&lab, "back at the cable");

    for (copy, from, to) in [(&mut up, "tree", "served/up"), (&mut down, "served/there", "down")] {
        let account = copy.end().expect(0).json();
        let number = |name: &str| account[name].as_u64().unwrap_or_else(|| panic!("{name} in {account}"));
        assert!(number("resumptions") >= 3 && number("interruptions") >= 3, "{account}");
        assert_eq!((number("sessions"), number("bytes_copied"), number("files_failed")), (1, TREE_BYTES, 0));
        assert_eq!(account["complete"], true, "{account}");
        // Partial files left over would be differences.
        let compared = compare(&home.file(from), &home.file(to), None).unwrap();
        assert!(compared.is_same() && compared.bytes == TREE_BYTES, "{compared:?}");
    }
    home.write("small", b"and one more");
    let mut another = Copy::start(&lab, &home, &["small", &server.at("")]);
    assert_eq!(another.end().expect(0).json()["complete"], true);
    assert_eq!(fs::read(home.file("served/small")).unwrap(), b"and one more");
    assert_eq!(server.child.try_wait().unwrap(), None);
}

// ---------------------------------------------------------------------------------------- the programs

/// Serves from the namespace of the server.
fn serve(lab: &Lab, home: &Home) -> Server {
    let at = lab.family.bracketed(SERVER_NETWORK, 2);
    let serve = home.outlast(&["serve", "--dir", "served", "--listen", &format!("{at}:0"), "--no-sync"]);
    let log = fs::File::create(home.file("serve.log")).unwrap();
    let mut child = lab.within(&lab.server, &serve).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once(" on ").map(|(_, address)| address.to_owned());
    let server = Server { child, address: address.unwrap_or_default() };
    assert!(
        server.address.starts_with(&at),
        "{line}: {}",
        fs::read_to_string(home.file("serve.log")).unwrap()
    );
    server
}

/// A copy that runs on the laptop; killed if the test ends before it.
struct Copy {
    child: Option<Child>,
    arguments: Vec<String>,
}

impl Copy {
    fn start(lab: &Lab, home: &Home, places: &[&str]) -> Self {
        let mut arguments = vec!["copy", "--json", "--no-sync", "-v"];
        arguments.extend(places);
        let copy = home.outlast(&arguments);
        let child =
            lab.within(&lab.laptop, &copy).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child), arguments: arguments.into_iter().map(str::to_owned).collect() }
    }

    /// Waits for it. What it says is a few lines, which the pipes hold.
    fn end(&mut self) -> Ran {
        let child = self.child.as_mut().unwrap();
        wait_for("the end of the copy", || child.try_wait().unwrap());
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        Ran::new(self.child.take().unwrap().wait_with_output().unwrap(), &arguments)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let output = child.wait_with_output();
            eprintln!("{:?}: {output:?}", self.arguments);
        }
    }
}

// ---------------------------------------------------------------------------------------- the networks

/// IPv4 or IPv6, and how their addresses look: network, then host.
#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn option(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }

    fn address(self, network: u8, host: u8) -> String {
        match self {
            Self::V4 => format!("10.77.{network}.{host}"),
            Self::V6 => format!("fd77:0:0:{network}::{host}"),
        }
    }

    fn with_prefix(self, network: u8, host: u8) -> String {
        let address = self.address(network, host);
        match self {
            Self::V4 => format!("{address}/24"),
            Self::V6 => format!("{address}/64"),
        }
    }

    fn bracketed(self, network: u8, host: u8) -> String {
        let address = self.address(network, host);
        match self {
            Self::V4 => address,
            Self::V6 => format!("[{address}]"),
        }
    }
}

/// The networks that the laptop can be in.
#[derive(Debug, Clone, Copy)]
enum Network {
    Cable,
    Wifi,
}

impl Network {
    fn number(self) -> u8 {
        match self {
            Self::Cable => 1,
            Self::Wifi => 2,
        }
    }

    /// The interface, at the laptop and at the router.
    fn interface(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Wifi => "wifi",
        }
    }
}

/// The network between the router (host 1 in every network) and the server.
const SERVER_NETWORK: u8 = 9;
const SERVER_INTERFACE: &str = "server";

/// The namespaces; they go with this, and everything in them goes with them.
struct Lab {
    family: Family,
    laptop: String,
    router: String,
    server: String,
}

impl Lab {
    /// Or why there cannot be one here.
    fn new(family: Family) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root, for network namespaces".to_owned());
        }
        // A process's number comes again, and what a killed one left behind stays.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let us = format!("{}-{:x}-{family:?}", std::process::id(), now.as_micros());
        let name = |part| format!("outlast-{us}-{part}");
        let lab = Self { family, laptop: name("laptop"), router: name("router"), server: name("server") };
        lab.build()?;
        Ok(lab)
    }

    fn build(&self) -> Result<(), String> {
        for namespace in [&self.laptop, &self.router, &self.server] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        // The router keeps its IPv6 addresses when a cable is pulled, as it does with those of IPv4.
        let settings = [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            "net/ipv6/conf/all/keep_addr_on_down",
            "net/ipv6/conf/default/keep_addr_on_down",
        ];
        for setting in settings {
            let script = format!("[ ! -e /proc/sys/{setting} ] || echo 1 > /proc/sys/{setting}");
            run("ip", &["netns", "exec", &self.router, "sh", "-c", &script])?;
        }
        let links = [Network::Cable, Network::Wifi].map(|n| (n.interface(), n.number(), &self.laptop));
        for (name, number, other) in
            links.into_iter().chain([(SERVER_INTERFACE, SERVER_NETWORK, &self.server)])
        {
            let peer = ["type", "veth", "peer", "name", name, "netns", other];
            ip(&[&["-n", &self.router, "link", "add", name][..], &peer].concat())?;
            self.add_address(&self.router, name, number, 1)?;
            for namespace in [&self.router, other] {
                ip(&["-n", namespace, "link", "set", name, "up"])?;
            }
        }
        for (interface, _, _) in links {
            for namespace in [&self.router, &self.laptop] {
                let shape = ["root", "tbf", "rate", RATE, "burst", "64kb", "latency", "100ms"];
                run("tc", &[&["-n", namespace, "qdisc", "add", "dev", interface][..], &shape].concat())?;
            }
        }
        self.add_address(&self.server, SERVER_INTERFACE, SERVER_NETWORK, 2)?;
        self.route(&self.server, SERVER_INTERFACE, SERVER_NETWORK)?;
        self.add_address(&self.laptop, Network::Cable.interface(), Network::Cable.number(), 2)?;
        self.route(&self.laptop, Network::Cable.interface(), Network::Cable.number())
    }

    fn add_address(&self, namespace: &str, interface: &str, network: u8, host: u8) -> Result<(), String> {
        let address = self.family.with_prefix(network, host);
        let mut arguments = vec!["-n", namespace, "addr", "replace", &address, "dev", interface];
        match self.family {
            Family::V4 => {}
            // To be used at once, without asking for a second whether another has it.
            Family::V6 => arguments.push("nodad"),
        }
        ip(&arguments)
    }

    fn route(&self, namespace: &str, interface: &str, network: u8) -> Result<(), String> {
        let (family, router) = (self.family.option(), self.family.address(network, 1));
        ip(&["-n", namespace, family, "route", "replace", "default", "via", &router, "dev", interface])
    }

    /// The laptop gets this address, and its way to the rest of the world there.
    fn join(&self, network: Network, host: u8) {
        self.interface(network, "up");
        self.add_address(&self.laptop, network.interface(), network.number(), host).unwrap();
        self.route(&self.laptop, network.interface(), network.number()).unwrap();
    }

    /// The laptop has this address no more; with its last one its routes there go, too.
    fn forget(&self, network: Network, host: u8) {
        let address = self.family.with_prefix(network.number(), host);
        ip(&["-n", &self.laptop, "addr", "del", &address, "dev", network.interface()]).unwrap();
        let family = self.family.option();
        let route = ["-n", &self.laptop, family, "route", "flush", "default", "dev", network.interface()];
        ip(&route).unwrap();
    }

    /// Switches the laptop's interface.
    fn interface(&self, network: Network, to: &str) {
        ip(&["-n", &self.laptop, "link", "set", network.interface(), to]).unwrap();
    }

    /// Pulls the cable, or puts it back: the laptop sees that, and keeps its address.
    fn carrier(&self, network: Network, there: bool) {
        let to = if there { "up" } else { "down" };
        ip(&["-n", &self.router, "link", "set", network.interface(), to]).unwrap();
    }

    /// Waits until much has passed the router in both directions.
    fn both_directions(&self, what: &str) {
        let before = self.passed();
        let goes_on = |(before, now): (u64, u64)| now >= before + STEP_BYTES;
        wait_for(what, || {
            sleep(Duration::from_millis(20));
            let now = self.passed();
            before.into_iter().zip(now).all(goes_on).then_some(())
        });
    }

    /// Bytes that have passed between router and server in each direction.
    fn passed(&self) -> [u64; 2] {
        let arguments = ["-n", &self.router, "-j", "-s", "link", "show", "dev", SERVER_INTERFACE];
        let link: serde_json::Value = serde_json::from_str(&run("ip", &arguments).unwrap()).unwrap();
        ["rx", "tx"].map(|way| link[0]["stats64"][way]["bytes"].as_u64().unwrap())
    }

    /// The same command, in a namespace. `ip` becomes the program: to kill it is to kill that.
    fn within(&self, namespace: &str, command: &Command) -> Command {
        let mut within = Command::new("ip");
        within.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
        within.stdin(Stdio::null()).current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => within.env(name, value),
                None => within.env_remove(name),
            };
        }
        within
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.laptop, &self.router, &self.server] {
            // Not all are there if there could be no lab.
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments).map(drop)
}

/// What the command says, or why it did not do it.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program} (iproute2): {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}
