//! Ten thousand strangers who begin a handshake and do not end it: what they cost a listener, and for how long.
//!
//! The listener runs in a process of its own, this test started once more, so that its memory can be measured as the
//! system counts it.

// A test of memory and deadlines measures time.
#![allow(clippy::disallowed_methods)]

use outlast::{
    Address, Auth, ConnectOptions, EntityName, EntityType, Keyring, KeyringEntry, Message, Messenger,
    generate_key,
};
use outlast_cephx::client::MonitorLogin;
use outlast_cephx::{Key, ServiceMask};
use outlast_msgr2::frame::{FrameEncoder, OutBuf, Revision, Tag};
use outlast_msgr2::wire::{
    AuthMethod, AuthRequest, Banner, ConnectionMode, EntityAddr, FEATURE_REVISION_1, Hello,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const STRANGERS: usize = 10_000;
/// Descriptors that each of the two processes needs, with room for what else it has open.
const DESCRIPTORS: u64 = STRANGERS as u64 + 500;
/// What a stranger may cost on average. Seen: 7.1 KiB for the mix below.
const KIB_EACH_MAX: usize = 10;
/// The listener's patience, long enough that all of them are there together on a slow machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// After that they are gone, or this test fails.
const GRACE: Duration = Duration::from_secs(20);
/// The listener reads its key from here, and is the listener because of it.
const KEY_VARIABLE: &str = "OUTLAST_HALF_OPEN_KEY";
/// Lines of the listener's log that are kept: three for each stranger.
const LOG_LINES_KEPT: usize = 3 * STRANGERS;
/// Strangers, and last lines of the log, that a failure shows.
const STRANGERS_DESCRIBED: usize = 20;
/// Before the address, on a line of its own.
const LISTENING: &str = "listening on ";

fn name() -> EntityName {
    EntityName::new(EntityType::Client, "copy")
}

#[test]
fn ten_thousand_half_open_connections_cost_a_few_kib_each_and_time_out() {
    if let Ok(key) = std::env::var(KEY_VARIABLE) {
        return listen(key.parse().expect("the key that was given"));
    }
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < DESCRIPTORS) {
        return skip("the limit of open files is too low and cannot be raised");
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the maximum");

    let key = generate_key().expect("randomness");
    let (mut listener, address, log) = start(&key);
    let speech = Speech::new(&key);
    // The first ones bring what is made once.
    assert!(exchange(&address, &key), "an honest client comes through before");
    let before = resident_kib(&listener);
    let began = Instant::now();
    let mut strangers: Vec<_> = (0..STRANGERS).map(|index| Stranger::new(address, index, &speech)).collect();
    // Each has heard our banner: the listener has taken it in and knows of it.
    for stranger in &mut strangers {
        stranger.hear_banner();
    }
    for stranger in &mut strangers {
        stranger.speak(&speech);
    }
    std::thread::sleep(Duration::from_secs(1));
    let held = resident_kib(&listener).saturating_sub(before);
    assert!(began.elapsed() < HANDSHAKE_TIMEOUT, "this machine is too slow to have all of them at once");
    let gone = strangers.iter_mut().map(Stranger::is_gone).filter(|gone| *gone).count();
    assert_eq!(gone, 0, "all of them are there");
    println!("{} bytes for each of {STRANGERS}", held * 1024 / STRANGERS);
    assert!(held <= STRANGERS * KIB_EACH_MAX, "{held} KiB are held for {STRANGERS} connections");
    assert!(held > 0, "measured");

    assert!(exchange(&address, &key), "an honest client comes through while they are there");

    // Those who are slow go on being slow: a byte now and then buys no time.
    let end = Instant::now() + HANDSHAKE_TIMEOUT + GRACE;
    while !strangers.is_empty() {
        if Instant::now() >= end {
            panic!("{}", describe(&strangers, &log));
        }
        strangers.retain_mut(|stranger| !stranger.is_gone());
        for stranger in &mut strangers {
            stranger.drip(&speech);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(exchange(&address, &key), "an honest client comes through when they are gone");
    let after = resident_kib(&listener).saturating_sub(before);
    assert!(after <= STRANGERS * KIB_EACH_MAX, "{after} KiB are held for nobody");
    drop(listener.stdin.take());
    assert!(listener.wait().expect("the listener").success(), "it ends when it is told to");
}

// ---------------------------------------------------------------------- the listener

fn listen(key: Key) {
    // The test keeps what is said here, for the case that it fails.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .init();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the maximum");
    let mut keyring = Keyring::new();
    keyring.insert(name(), KeyringEntry::new(key));
    let messenger = Messenger::builder(EntityName::new(EntityType::Client, "server"))
        .auth(Auth::keyring(keyring))
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .build()
        .expect("a listener");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async {
            let address =
                messenger.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listening");
            println!("\n{LISTENING}{address}");
            let accepting = messenger.clone();
            tokio::spawn(async move {
                while let Some(session) = accepting.accept().await {
                    tokio::spawn(async move {
                        while let Some(request) = session.recv().await {
                            let _ = session.reply(&request, Message::new(2)).await;
                        }
                    });
                }
            });
            // The test holds the other end.
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
                .await
                .expect("to its end")
        })
        .expect("standard input");
    runtime.shutdown_background();
}

/// The listener, where it listens, and what it says from then on.
fn start(key: &Key) -> (Child, SocketAddr, Arc<Mutex<VecDeque<String>>>) {
    let thread = std::thread::current();
    let own_name = thread.name().expect("libtest names its threads");
    let mut listener = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", own_name, "--nocapture", "--test-threads", "1"])
        .env(KEY_VARIABLE, &*key.to_base64())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut lines = BufReader::new(listener.stdout.take().expect("piped")).lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix(LISTENING).map(|address| address.parse().expect("an address")))
        .expect("it says where it listens");
    let log = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let mut kept = kept.lock().expect("nobody panics with it");
            if kept.len() == LOG_LINES_KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    });
    (listener, address, log)
}

/// What is known of those who should be gone: how far they got, what their sockets say on both ends, and what the listener
/// said of them and at the end.
fn describe(strangers: &[Stranger], log: &Mutex<VecDeque<String>>) -> String {
    let mut text = format!("{} are still there", strangers.len());
    let log = log.lock().expect("nobody panics with it");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    for stranger in strangers.iter().take(STRANGERS_DESCRIBED) {
        let own = stranger.stream.local_addr();
        let unread = rustix::io::ioctl_fionread(&stranger.stream);
        let error = stranger.stream.take_error();
        let Stranger { index, manner, said, heard, .. } = stranger;
        text += &format!(
            "\n- number {index} at {own:?}: {manner:?}, dripped {said}, heard {heard} bytes; unread {unread:?}, error {error:?}"
        );
        let Ok(own) = own else { continue };
        // The kernel's view of both ends (local, remote, state, send queue:receive queue): 01 is established, 04 and 05 wait
        // for the other end to close, 08 for this one.
        let port = format!(":{:04X} ", own.port());
        for line in sockets.lines().filter(|line| line.contains(&port)) {
            text +=
                &format!("\n    kernel: {}", line.split_whitespace().take(10).collect::<Vec<_>>().join(" "));
        }
        let name = own.to_string();
        let said: Vec<_> = log.iter().filter(|line| line.contains(&name)).collect();
        if said.is_empty() {
            text += "\n    the listener has said nothing of it lately";
        }
        for line in said {
            text += &format!("\n    listener: {line}");
        }
    }
    text += "\nthe listener's last words:";
    for line in log.iter().rev().take(STRANGERS_DESCRIBED).rev() {
        text += &format!("\n    {line}");
    }
    text
}

/// What the system says that it holds.
fn resident_kib(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

// ---------------------------------------------------------------------- its clients

/// A client who means well: one call and its reply.
fn exchange(address: &SocketAddr, key: &Key) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Messenger::builder(name()).auth(Auth::key(key.clone())).build().expect("a client");
        let session =
            client.connect(&[Address::from(*address)], ConnectOptions::lossless()).await.expect("let in");
        let reply = session.call(Message::new(1)).await.is_ok();
        session.close().await;
        reply
    })
}

/// What strangers say, as far as they get.
struct Speech {
    banner: Vec<u8>,
    hello: Vec<u8>,
    request: Vec<u8>,
    /// A frame as long as may be, of which little follows.
    long: Vec<u8>,
}

impl Speech {
    fn new(key: &Key) -> Self {
        let mut encoder = FrameEncoder::new();
        encoder.set_revision(Revision::V1);
        let mut out = OutBuf::new();
        let mut bytes = |encode: &mut dyn FnMut(&mut FrameEncoder, &mut OutBuf)| {
            encode(&mut encoder, &mut out);
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = out.slices(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            out.advance(bytes.len());
            bytes
        };
        let banner = bytes(&mut |_, out| {
            out.push_raw(&Banner { supported: FEATURE_REVISION_1, required: 0 }.encode());
        });
        let hello = bytes(&mut |encoder, out| {
            let hello = Hello { entity_type: 8, peer_address: EntityAddr::BLANK };
            encoder.encode_payload(&hello, out).expect("a short frame");
        });
        let mut login = MonitorLogin::new(name(), key.clone(), ServiceMask::NONE, None);
        let request = bytes(&mut |encoder, out| {
            let request = AuthRequest {
                method: AuthMethod::CEPHX,
                preferred_modes: vec![ConnectionMode::SECURE],
                payload: login.request(),
            };
            encoder.encode_payload(&request, out).expect("a short frame");
        });
        let long = bytes(&mut |encoder, out| {
            let payload = vec![0; 16 << 10].into();
            let segment = outlast_msgr2::frame::Segment { bytes: &payload, alignment: 8 };
            encoder.encode(Tag::AuthRequest, &[segment], out).expect("as long as may be");
        });
        Self { banner, hello, request, long }
    }
}

/// How far one gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says nothing.
    Silent,
    /// Says its banner and HELLO, byte by byte, and never comes to the end.
    Slow,
    /// Asks to be let in, and leaves the challenge unanswered.
    Challenged,
    /// Announces a long frame and sends the beginning of it.
    Torn,
}

struct Stranger {
    index: usize,
    stream: TcpStream,
    manner: Manner,
    said: usize,
    /// Bytes after the banner.
    heard: usize,
}

impl Stranger {
    fn new(address: SocketAddr, index: usize, speech: &Speech) -> Self {
        let manner = [Manner::Silent, Manner::Slow, Manner::Challenged, Manner::Torn][index % 4];
        let mut stream = TcpStream::connect(address).expect("there is room");
        if manner == Manner::Slow {
            stream.write_all(&speech.banner[..1]).expect("there is room");
        }
        Self { index, stream, manner, said: 1, heard: 0 }
    }

    fn hear_banner(&mut self) {
        self.stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT)).expect("a socket");
        self.stream.read_exact(&mut [0; 26]).expect("the listener says its banner at once");
        self.stream.set_nonblocking(true).expect("a socket");
    }

    fn speak(&mut self, speech: &Speech) {
        let words: &[&[u8]] = match self.manner {
            Manner::Silent | Manner::Slow => &[],
            Manner::Challenged => &[&speech.banner, &speech.hello, &speech.request],
            Manner::Torn => &[&speech.banner, &speech.hello, &speech.long[..1500]],
        };
        self.stream.write_all(&words.concat()).expect("there is room");
    }

    /// The slow ones say one more byte, and never the last one.
    fn drip(&mut self, speech: &Speech) {
        let words = [&speech.banner[..], &speech.hello[..]].concat();
        if self.manner == Manner::Slow && self.said + 1 < words.len() {
            // The listener may be hanging up just now.
            let _ = self.stream.write(&words[self.said..=self.said]);
            self.said += 1;
        }
    }

    /// The listener has hung up.
    fn is_gone(&mut self) -> bool {
        let mut heard = [0; 1024];
        match self.stream.read(&mut heard) {
            Ok(0) => true,
            Ok(len) => {
                self.heard += len;
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

/// Says that this test could not be run here.
fn skip(reason: &str) {
    println!("skipped: {reason}");
    if let Some(path) = std::env::var_os("OUTLAST_SKIP_LOG") {
        let thread = std::thread::current();
        let line = format!("{}: {reason}\n", thread.name().unwrap_or_default());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the log can be written");
    }
}
