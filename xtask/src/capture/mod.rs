//! `cargo xtask capture`: records what real Ceph says on the wire, for the tests to decode and encode again.
//!
//! Daemons and clients run on loopback under `tcpdump`; the streams of the connections worth keeping go to
//! `crates/msgr2/tests/golden/CASE/CONNECTION/{client,server}.bin`, and all that is needed to read them (the
//! release, the command, the keys) to `CASE/about.txt`. The keys belong to clusters that lived for seconds.
//!
//! The case `dlm` is another: what real kernels say to each other (`capture/dlm.rs`).

mod dlm;
mod frames;
mod pcap;

use crate::command::{self, Failure};
use frames::{Rest, Revision, Stream};
use pcap::Connection;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

/// No stream is kept beyond this: the first messages show every field.
const STREAM_BYTES_MAX: usize = 64 * 1024;
/// Nor a connection with an interesting beginning beyond this.
const ANSWERED_BYTES_MAX: usize = 24 * 1024;
/// `tcpdump` reads from the kernel once a second.
const CAPTURE_DELAY: Duration = Duration::from_millis(1500);
const GOLDEN: &str = "crates/msgr2/tests/golden";

/// `ceph_entity_type` of HELLO; Ceph's `src/include/msgr.h`.
const MON: u8 = 1;
const MDS: u8 = 2;
const OSD: u8 = 4;
const CLIENT: u8 = 8;

/// Frame tags, from `src/msg/async/frames_v2.h`.
const TAG_SESSION_RESET: u8 = 12;
const TAG_SESSION_RETRY: u8 = 13;
const TAG_SESSION_RETRY_GLOBAL: u8 = 14;
const TAG_SESSION_RECONNECT_OK: u8 = 15;
const TAG_WAIT: u8 = 16;
/// What may answer a SESSION_RECONNECT.
const SESSION_ANSWERS: RangeInclusive<u8> = TAG_SESSION_RESET..=TAG_WAIT;

struct Case {
    name: &'static str,
    release: &'static str,
    /// Options of `peers/ceph start`.
    cluster: &'static [&'static str],
    client: Client,
    keep: &'static [Keep],
}

enum Client {
    Objects,
    Mount,
    /// Enough traffic for injected faults to hit it.
    Bench,
    /// A client of ours that does not offer revision 1: no setting of these Cephs withholds it.
    OursOfRevision0,
}

/// Which connection of a case to keep.
struct Keep {
    name: &'static str,
    /// Entity types of both ends, as they say in HELLO.
    between: (u8, u8),
    which: Which,
}

enum Which {
    /// The last one dialled: a client tries out the monitor twice before the connection that it uses.
    Last,
    /// The one with the most bytes: the others of two OSDs carry heartbeats.
    Largest,
    /// One in which a RECONNECT was answered with this tag, with as much of what followed as is still small. What
    /// faults bring about is chance: there may be none.
    Answered(u8),
}

const MON_AND_OSD: &[Keep] = &[
    Keep { name: "mon", between: (CLIENT, MON), which: Which::Last },
    Keep { name: "osd", between: (CLIENT, OSD), which: Which::Last },
];
const BETWEEN_OSDS: &[Keep] = &[Keep { name: "osd-osd", between: (OSD, OSD), which: Which::Largest }];

const fn objects(name: &'static str, release: &'static str, cluster: &'static [&'static str]) -> Case {
    Case { name, release, cluster, client: Client::Objects, keep: MON_AND_OSD }
}

const fn compressed(name: &'static str, cluster: &'static [&'static str]) -> Case {
    Case { name, release: "18", cluster, client: Client::Objects, keep: BETWEEN_OSDS }
}

const fn of_revision_0(name: &'static str, release: &'static str, mode: &'static [&'static str]) -> Case {
    Case { name, release, cluster: mode, client: Client::OursOfRevision0, keep: MON_AND_OSD }
}

const fn answered(name: &'static str, tag: u8) -> Keep {
    Keep { name, between: (OSD, OSD), which: Which::Answered(tag) }
}

/// A cluster of two OSDs that copy to each other, without authentication.
macro_rules! two_osds {
    ($($option:literal),*) => {
        &["--auth", "none", "--mode", "crc", "--osds", "2", "--size", "2", $($option),*]
    };
}

const CASES: &[Case] = &[
    objects("none-crc-16", "16", &["--auth", "none", "--mode", "crc"]),
    objects("none-crc-18", "18", &["--auth", "none", "--mode", "crc"]),
    objects("cephx-crc-16", "16", &["--mode", "crc"]),
    objects("cephx-crc-18", "18", &["--mode", "crc"]),
    objects("cephx-crc-20-aes256k", "20", &["--mode", "crc", "--keys", "aes256k"]),
    objects("cephx-secure-16", "16", &["--mode", "secure"]),
    objects("cephx-secure-18", "18", &["--mode", "secure"]),
    objects("cephx-secure-20-aes", "20", &["--mode", "secure", "--keys", "aes"]),
    objects("cephx-secure-20-aes256k", "20", &["--mode", "secure", "--keys", "aes256k"]),
    objects("cephx-secure-20-mixed", "20", &["--mode", "secure", "--keys", "mixed"]),
    of_revision_0("rev0-crc-16", "16", &["--mode", "crc"]),
    of_revision_0("rev0-crc-18", "18", &["--mode", "crc"]),
    of_revision_0("rev0-secure-16", "16", &["--mode", "secure"]),
    of_revision_0("rev0-secure-18", "18", &["--mode", "secure"]),
    compressed("compressed-snappy-18", two_osds!("--compress", "snappy")),
    compressed("compressed-zlib-18", two_osds!("--compress", "zlib")),
    compressed("compressed-zstd-18", two_osds!("--compress", "zstd")),
    compressed("compressed-lz4-18", two_osds!("--compress", "lz4")),
    Case {
        name: "mds-none-crc-16",
        release: "16",
        cluster: &["--auth", "none", "--mode", "crc", "--mds"],
        client: Client::Mount,
        keep: &[Keep { name: "mds", between: (CLIENT, MDS), which: Which::Last }],
    },
    Case {
        name: "faults-none-crc-16",
        release: "16",
        cluster: two_osds!("--inject", "150"),
        client: Client::Bench,
        keep: &[
            answered("reset", TAG_SESSION_RESET),
            answered("retry", TAG_SESSION_RETRY),
            answered("retry-global", TAG_SESSION_RETRY_GLOBAL),
            answered("reconnect-ok", TAG_SESSION_RECONNECT_OK),
            answered("wait", TAG_WAIT),
        ],
    },
];

/// Captures the named cases anew, or all of them.
pub(crate) fn capture(names: &[String]) -> Result<(), Failure> {
    let known: Vec<_> = CASES.iter().map(|case| case.name).chain([dlm::CASE]).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no case {unknown}; there are {}", known.join(", ")));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    command::need_program("tcpdump", "tcpdump")?;
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        println!("{}", case.name);
        case.capture().map_err(|failure| format!("{}: {failure}", case.name))?;
    }
    if wanted(dlm::CASE) {
        println!("{}", dlm::CASE);
        let scratch = Scratch::new()?;
        dlm::capture(&scratch.path("")).map_err(|failure| format!("{}: {failure}", dlm::CASE))?;
    }
    Ok(())
}

impl Case {
    fn capture(&self) -> Result<(), Failure> {
        command::run(command::peers_ceph(&["install", self.release]))?;
        let scratch = Scratch::new()?;
        let recorder = Recorder::start(&scratch.path("pcap"))?;
        let cluster = Cluster::start(self, &scratch)?;
        let client = self.client.arguments();
        match self.client {
            Client::Objects | Client::Mount | Client::Bench => drop(cluster.exec(&client)?),
            Client::OursOfRevision0 => cluster.run_ours(&client)?,
        }
        let version = cluster.exec(&["ceph-mon", "--version"])?;
        let file = recorder.stop()?;
        drop(cluster);

        let talks: Vec<Talk> = pcap::connections(&file)?.into_iter().filter_map(Talk::new).collect();
        let golden = command::root().join(GOLDEN).join(self.name);
        if golden.exists() {
            fs::remove_dir_all(&golden).map_err(|error| format!("{}: {error}", golden.display()))?;
        }
        let mut about = self.about(&version, &client, &scratch)?;
        for keep in self.keep {
            let Some(talk) = keep.choose(&talks, self.revision()) else {
                if let Which::Answered(_) = keep.which {
                    println!("  {}: did not happen this time", keep.name);
                    continue;
                }
                return Err(format!("no connection for {}", keep.name));
            };
            talk.check(self)?;
            let (client, server) =
                (kept(&talk.connection.client, &talk.client), kept(&talk.connection.server, &talk.server));
            write(&golden.join(keep.name).join("client.bin"), client)?;
            write(&golden.join(keep.name).join("server.bin"), server)?;
            let cut =
                client.len() < talk.connection.client.len() || server.len() < talk.connection.server.len();
            writeln!(about, "connection {}: {}", keep.name, talk.describe(client, server, cut))
                .expect("a String takes everything");
        }
        write(&golden.join("about.txt"), about.as_bytes())
    }

    fn about(&self, version: &str, client: &[&str], scratch: &Scratch) -> Result<String, Failure> {
        let mut about = format!(
            "release: {}\nversion: {}\ncluster: peers/ceph start {} DIR {}\nclient: {}\n",
            self.release,
            version.trim(),
            self.release,
            self.cluster.join(" "),
            match self.client {
                Client::Objects => "python3 xtask/src/capture/client.py".to_owned(),
                Client::Mount => "python3 xtask/src/capture/mount.py".to_owned(),
                Client::Bench => client.join(" "),
                Client::OursOfRevision0 => format!("cargo {}", client.join(" ")),
            },
        );
        let path = scratch.path("cluster/all.keyring");
        let keyring = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut entity = "";
        for line in keyring.lines() {
            if let Some(name) = line.strip_prefix('[') {
                entity = name.trim_end_matches(']');
            } else if let Some((_, key)) = line.split_once("key = ") {
                writeln!(about, "key {entity}: {key}").expect("a String takes everything");
            }
        }
        Ok(about)
    }

    fn revision(&self) -> Revision {
        match self.client {
            Client::Objects | Client::Mount | Client::Bench => Revision::V1,
            Client::OursOfRevision0 => Revision::V0,
        }
    }

    fn is_secure(&self) -> bool {
        self.cluster.windows(2).any(|pair| pair == ["--mode", "secure"])
    }

    fn is_compressed(&self) -> bool {
        self.cluster.contains(&"--compress")
    }
}

impl Client {
    /// The program and its arguments; `/usr/bin/python3` because Ceph's modules are the distribution's.
    fn arguments(&self) -> Vec<&'static str> {
        match self {
            Client::Objects => vec!["/usr/bin/python3", "-c", include_str!("client.py")],
            Client::Mount => vec!["/usr/bin/python3", "-c", include_str!("mount.py")],
            Client::Bench => "rados -p test bench 8 write -b 4096 -t 8 --no-cleanup".split(' ').collect(),
            Client::OursOfRevision0 => "test -q -p outlast --test real_revision_0".split(' ').collect(),
        }
    }
}

/// A connection of two Ceph processes.
struct Talk {
    connection: Connection,
    revision: Revision,
    client: Stream,
    server: Stream,
}

impl Talk {
    /// `None` if it is not msgr2, or ended before both said who they are.
    fn new(connection: Connection) -> Option<Talk> {
        let revision = Revision::of(&connection.client, &connection.server);
        let client = frames::read(&connection.client, revision)?;
        let server = frames::read(&connection.server, revision)?;
        let talk = Talk { connection, revision, client, server };
        talk.ends().map(|_| talk)
    }

    /// The entity types: the first byte of both HELLO frames.
    fn ends(&self) -> Option<(u8, u8)> {
        const AT: usize = 26 + 32;
        Some((*self.connection.client.get(AT)?, *self.connection.server.get(AT)?))
    }

    /// The first frame of the end that accepted with a tag out of `tags`.
    fn first_of(&self, tags: RangeInclusive<u8>) -> Option<u8> {
        self.server.frames.iter().map(|frame| frame.tag).find(|tag| tags.contains(tag))
    }

    fn bytes(&self) -> usize {
        self.connection.client.len() + self.connection.server.len()
    }

    /// Is it what the case is about? A secure connection is readable up to its signature; any other to its end.
    fn check(&self, case: &Case) -> Result<(), Failure> {
        let readable = |stream: &Stream| stream.rest != Rest::NoPreamble;
        if case.is_secure() == (readable(&self.client) || readable(&self.server)) {
            return Err("a frame is not what its connection's mode says".to_owned());
        }
        let compressed = |stream: &Stream| stream.frames.iter().any(|frame| frame.compressed);
        if case.is_compressed() != (compressed(&self.client) && compressed(&self.server)) {
            return Err("compressed frames are not where they should be".to_owned());
        }
        Ok(())
    }

    fn describe(&self, client: &[u8], server: &[u8], cut: bool) -> String {
        let tags = |stream: &Stream, end: usize| {
            let mut runs: Vec<(u8, usize)> = Vec::new();
            for frame in stream.frames.iter().take_while(|frame| frame.end <= end) {
                match runs.last_mut() {
                    Some((tag, count)) if *tag == frame.tag => *count += 1,
                    Some(_) | None => runs.push((frame.tag, 1)),
                }
            }
            let words: Vec<_> = runs
                .iter()
                .map(|(tag, count)| if *count == 1 { tag.to_string() } else { format!("{tag}x{count}") })
                .collect();
            words.join(" ")
        };
        format!(
            "client {} bytes, readable tags {}; server {} bytes, readable tags {}{}",
            client.len(),
            tags(&self.client, client.len()),
            server.len(),
            tags(&self.server, server.len()),
            if cut { "; cut" } else { "" },
        )
    }
}

impl Keep {
    fn choose<'a>(&self, talks: &'a [Talk], revision: Revision) -> Option<&'a Talk> {
        let of_revision = talks.iter().filter(|talk| talk.revision == revision);
        let mut fitting = of_revision.filter(|talk| talk.ends() == Some(self.between));
        match self.which {
            Which::Last => fitting.next_back(),
            Which::Largest => fitting.max_by_key(|talk| talk.bytes()),
            Which::Answered(tag) => fitting
                .filter(|talk| talk.first_of(SESSION_ANSWERS) == Some(tag))
                .filter(|talk| talk.bytes() <= ANSWERED_BYTES_MAX)
                .max_by_key(|talk| talk.bytes()),
        }
    }
}

/// The part of a stream to keep: whole frames as far as they can be read.
fn kept<'a>(bytes: &'a [u8], stream: &Stream) -> &'a [u8] {
    if bytes.len() <= STREAM_BYTES_MAX {
        return bytes;
    }
    let end = match stream.rest {
        Rest::NoPreamble => STREAM_BYTES_MAX,
        Rest::Nothing | Rest::HalfAFrame => {
            let ends = stream.frames.iter().map(|frame| frame.end);
            ends.take_while(|end| *end <= STREAM_BYTES_MAX).last().unwrap_or(STREAM_BYTES_MAX)
        }
    };
    &bytes[..end]
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().expect("every file lies in the folder of its case");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let path = std::env::temp_dir().join(format!("outlast-capture-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that stays behind is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Real Ceph, stopped when dropped.
struct Cluster(String);

impl Cluster {
    fn start(case: &Case, scratch: &Scratch) -> Result<Cluster, Failure> {
        let folder = scratch.path("cluster").to_string_lossy().into_owned();
        let owner = std::process::id().to_string();
        let mut arguments = vec!["start", case.release, &folder, "--owner", &owner];
        arguments.extend(case.cluster);
        command::output(command::peers_ceph(&arguments))?;
        Ok(Cluster(folder))
    }

    fn exec(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut all = vec!["exec", &self.0, "timeout", "60"];
        all.extend(arguments);
        command::output(command::peers_ceph(&all))
    }

    /// A test program of ours as the client.
    fn run_ours(&self, arguments: &[&str]) -> Result<(), Failure> {
        let mut program = command::cargo(arguments);
        program.env("OUTLAST_REAL_PEERS", "1").env("OUTLAST_CLUSTER", &self.0);
        command::run(program)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(failure) = command::run(command::peers_ceph(&["stop", &self.0])) {
            eprintln!("{failure}");
        }
    }
}

/// `tcpdump` on the loopback interface.
struct Recorder {
    tcpdump: Child,
    errors: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Recorder {
    fn start(file: &Path) -> Result<Recorder, Failure> {
        let mut tcpdump =
            command::command("tcpdump", &["-i", "lo", "-s", "0", "-B", "65536", "-Z", "root", "-w"])
                .arg(file)
                // The ports that peers/ceph gives its daemons.
                .arg("tcp portrange 20000-31999")
                .stderr(Stdio::piped())
                .spawn()
                .map_err(|error| format!("tcpdump: {error}"))?;
        let mut errors = BufReader::new(tcpdump.stderr.take().ok_or("tcpdump has no standard error")?);
        let mut said = String::new();
        while !said.contains("listening on") {
            if errors.read_line(&mut said).map_err(|error| format!("tcpdump: {error}"))? == 0 {
                return Err(format!("tcpdump: {said}"));
            }
        }
        Ok(Recorder { tcpdump, errors, file: file.to_owned() })
    }

    fn stop(mut self) -> Result<Vec<u8>, Failure> {
        std::thread::sleep(CAPTURE_DELAY);
        command::run(command::command("kill", &["-INT", &self.tcpdump.id().to_string()]))?;
        let mut said = String::new();
        self.errors.read_to_string(&mut said).map_err(|error| format!("tcpdump: {error}"))?;
        self.tcpdump.wait().map_err(|error| format!("tcpdump: {error}"))?;
        if !said.contains("\n0 packets dropped by kernel") {
            return Err(format!("the capture is incomplete: {said}"));
        }
        fs::read(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // After `stop` both are without effect.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
