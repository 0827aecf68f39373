//! `cargo xtask capture dlm`: what the DLMs of Linux kernels say to each other.
//!
//! An example of `outlast-kernel-harness` boots the kernels and lets them lock while `tcpdump` runs on their bridge.
//! Here the captures become `crates/dlm/tests/golden/*.hex`: one message a line, with a comment before it.

use super::pcap::{self, Connection};
use crate::command::{self, Failure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

pub(crate) const CASE: &str = "dlm";
const GOLDEN: &str = "crates/dlm/tests/golden";
const SCRIPT: &str = "run -q --locked -p outlast-kernel-harness --example dlm_script --";
/// What happens in each capture of the script; of some only messages of kinds not seen before are kept.
const CAPTURES: [(&str, &str, Keep); 3] = [
    ("session", "two kernels join, one waits for the other's lock, both leave; all messages", Keep::All),
    (
        "kinds",
        "three kernels lock, one loses its power, the others leave; a few messages of every kind",
        Keep::Kinds,
    ),
    (
        "version-3.1",
        "a kernel joins node 2, which is ours and announces 3.1, and asks it for masters; all messages",
        Keep::All,
    ),
];
/// So many messages of a kind.
const KIND_MAX: usize = 3;

/// Layouts and numbers: `fs/dlm/dlm_internal.h`.
const HEADER_BYTES: usize = 16;
const MSG_BYTES: usize = 88;
const RCOM_BYTES: usize = 48;
const OPTS_BYTES: usize = 24;
const VERSIONS: [u32; 2] = [0x0003_0001, 0x0003_0002];
const MSG: u8 = 1;
const RCOM: u8 = 2;
const OPTS: u8 = 3;
const ACK: u8 = 4;
const FIN: u8 = 5;
const MSG_TYPES: [&str; 14] = [
    "REQUEST",
    "CONVERT",
    "UNLOCK",
    "CANCEL",
    "REQUEST_REPLY",
    "CONVERT_REPLY",
    "UNLOCK_REPLY",
    "CANCEL_REPLY",
    "GRANT",
    "BAST",
    "LOOKUP",
    "REMOVE",
    "LOOKUP_REPLY",
    "PURGE",
];
const RCOM_TYPES: [&str; 8] =
    ["STATUS", "NAMES", "LOOKUP", "LOCK", "STATUS_REPLY", "NAMES_REPLY", "LOOKUP_REPLY", "LOCK_REPLY"];

/// Types of RCOM by number.
const LOCK: u8 = 4;
const NAMES_REPLY: u8 = 6;
/// `rl_status` in the lock of an RCOM LOCK: whether it is granted, converting or waiting.
const LOCK_STATUS_AT: usize = 38;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    Kinds,
}

/// A message as it was on the wire.
struct Frame<'a> {
    /// After which packet it was there.
    packet: usize,
    /// Last parts of the addresses.
    from: u8,
    to: u8,
    /// Which of the two dialled the connection.
    dialled_by: u8,
    bytes: &'a [u8],
}

/// Captures into `scratch` and writes the files.
pub(crate) fn capture(scratch: &Path) -> Result<(), Failure> {
    let kernel = command::output(command::peer("kernel", &["install"]))?;
    let words: Vec<&str> = SCRIPT.split(' ').collect();
    let mut script = command::cargo(&words);
    script.arg(scratch).env("OUTLAST_REAL_PEERS", "1");
    command::run(script)?;
    let golden = command::root().join(GOLDEN);
    fs::create_dir_all(&golden).map_err(|error| format!("{}: {error}", golden.display()))?;
    for (name, about, keep) in CAPTURES {
        let path = scratch.join(format!("{name}.pcap"));
        let file = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let connections = pcap::connections(&file)?;
        let frames = frames(&connections)?;
        let mut text = format!(
            "# {about}.\n# Captured by: cargo xtask capture {CASE}, from {}\n\
             # A line: FROM>TO, the nodes; which of them dialled the connection; the message.\n",
            kernel.trim().split(',').next().unwrap_or_default(),
        );
        let kept = select(&frames, keep);
        for frame in &kept {
            let Frame { from, to, dialled_by, bytes, .. } = frame;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "\n# {}\n{from}>{to} {dialled_by} {hex}", describe(bytes)?)
                .expect("a String takes everything");
        }
        let path = golden.join(format!("{name}.hex"));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("  {name}: {} messages, kept {}", frames.len(), kept.len());
    }
    Ok(())
}

/// The messages of all connections in the order in which they came.
fn frames(connections: &[Connection]) -> Result<Vec<Frame<'_>>, Failure> {
    let mut frames = Vec::new();
    for connection in connections {
        let [client, server] = connection.addresses.map(|address| address.octets()[3]);
        let sides = [(client, server, &connection.client), (server, client, &connection.server)];
        for (side, (from, to, bytes)) in sides.into_iter().enumerate() {
            let mut at = 0;
            while let Some(length) = length(&bytes[at..])? {
                // The last one may be cut where a node lost its power.
                let Some(frame) = bytes.get(at..at + length) else { break };
                at += length;
                let packet = connection.packet_of(side, at).ok_or("a message that did not come")?;
                frames.push(Frame { packet, from, to, dialled_by: client, bytes: frame });
            }
        }
    }
    // Those of one packet keep their order.
    frames.sort_by_key(|frame| frame.packet);
    Ok(frames)
}

/// How long the message is that begins here; `None` if its header is not all there.
fn length(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    if bytes.len() < HEADER_BYTES {
        return Ok(None);
    }
    let (version, length) = (u32_at(bytes, 0), usize::from(u16_at(bytes, 12)));
    if !VERSIONS.contains(&version) || length < HEADER_BYTES {
        return Err(format!("no DLM message: version {version:#x}, {length} bytes"));
    }
    Ok(Some(length))
}

fn select<'a, 'b>(frames: &'b [Frame<'a>], keep: Keep) -> Vec<&'b Frame<'a>> {
    let mut seen: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let new_kind = |frame: &&Frame<'_>| {
        let count = seen.entry(kind(frame.bytes)).or_insert(0);
        *count += 1;
        *count <= KIND_MAX
    };
    match keep {
        Keep::All => frames.iter().collect(),
        Keep::Kinds => frames.iter().filter(new_kind).collect(),
    }
}

/// What tells messages apart: command, type, result, and whether there is something behind the fixed part.
fn kind(bytes: &[u8]) -> Vec<u8> {
    let command = bytes[14];
    let mut kind = vec![command];
    match command {
        OPTS if bytes.len() > OPTS_BYTES + HEADER_BYTES => kind.extend(self::kind(&bytes[OPTS_BYTES..])),
        MSG if bytes.len() >= MSG_BYTES => {
            kind.extend(&bytes[16..20]);
            kind.extend(&bytes[MSG_BYTES - 4..MSG_BYTES]);
            kind.push(u8::from(bytes.len() > MSG_BYTES));
        }
        RCOM if bytes.len() >= RCOM_BYTES => {
            kind.extend(&bytes[16..24]);
            let rest = &bytes[RCOM_BYTES..];
            kind.push(u8::from(!rest.is_empty()));
            match (bytes[16], page(rest), rest.get(LOCK_STATUS_AT)) {
                (NAMES_REPLY, Some((names, last)), _) => kind.extend([u8::from(names > 0), u8::from(last)]),
                (LOCK, _, Some(status)) => kind.push(*status),
                _ => {}
            }
        }
        _ => {}
    }
    kind
}

/// How many names a page has, and whether it is the last one. Each has its length before it, big-endian; a length
/// of 0 ends a page, one of 0xffff all pages.
fn page(mut bytes: &[u8]) -> Option<(usize, bool)> {
    let mut names = 0;
    loop {
        let length = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        if length == 0 || length == u16::MAX {
            return Some((names, length == u16::MAX));
        }
        names += 1;
        bytes = bytes.get(2 + usize::from(length)..)?;
    }
}

/// The comment.
fn describe(bytes: &[u8]) -> Result<String, Failure> {
    let (version, number, command) = (u32_at(bytes, 0), u32_at(bytes, 4), bytes[14]);
    let version = format!("{}.{}", version >> 16, version & 0xffff);
    let fixed = match command {
        MSG => MSG_BYTES,
        RCOM => RCOM_BYTES,
        OPTS => OPTS_BYTES,
        _ => HEADER_BYTES,
    };
    if bytes.len() < fixed {
        return Err(format!("a message of command {command} with {} bytes", bytes.len()));
    }
    let rest = &bytes[fixed..];
    Ok(match command {
        MSG => {
            let word = |index: usize| u32_at(bytes, 16 + 4 * index);
            let name = MSG_TYPES.get((word(0) as usize).wrapping_sub(1)).copied().unwrap_or("?");
            format!(
                "MSG {name} {version}, lockspace {number}: lkid {:#x}, remid {:#x}, exflags {:#x}, status {}, \
                 granted {}, requested {}, result {}, {} more bytes{}",
                word(3),
                word(4),
                word(7),
                word(12),
                word(13).cast_signed(),
                word(14).cast_signed(),
                word(17).cast_signed(),
                rest.len(),
                text(rest),
            )
        }
        RCOM => {
            let name = RCOM_TYPES.get((u32_at(bytes, 16) as usize).wrapping_sub(1)).copied().unwrap_or("?");
            let result = u32_at(bytes, 20);
            let page = match page(rest) {
                Some((names, true)) if bytes[16] == NAMES_REPLY => format!(", {names} names and no more"),
                Some((names, false)) if bytes[16] == NAMES_REPLY => format!(", {names} names"),
                _ => String::new(),
            };
            format!(
                "RCOM {name} {version}, lockspace {number}: result {result:#x}, {} more bytes{page}",
                rest.len()
            )
        }
        OPTS => {
            let options = usize::from(u16_at(bytes, 18));
            let inner = rest.get(options..).filter(|inner| inner.len() >= HEADER_BYTES);
            format!("OPTS {version}, number {number}: {}", describe(inner.ok_or("an empty OPTS")?)?)
        }
        ACK => format!("ACK {version}, next number {number}"),
        FIN => format!("FIN {version}"),
        _ => return Err(format!("a message of command {command}")),
    })
}

/// A name, where it is one.
fn text(bytes: &[u8]) -> String {
    let readable = !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    if readable { format!(": {}", String::from_utf8_lossy(bytes)) } else { String::new() }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_described_by_its_number() {
        let ack = [2, 0, 3, 0, 9, 0, 0, 0, 1, 0, 0, 0, 16, 0, ACK, 0];
        assert_eq!(length(&ack), Ok(Some(16)));
        assert_eq!(describe(&ack).as_deref(), Ok("ACK 3.2, next number 9"));
        assert_eq!(length(&ack[..15]), Ok(None));
    }

    #[test]
    fn a_stream_of_something_else_is_an_error() {
        assert!(length(&[0; 16]).is_err());
    }

    #[test]
    fn pages_of_names_are_told_apart() {
        assert_eq!(page(&[0xff, 0xff, 0]), Some((0, true)));
        assert_eq!(page(&[0, 1, b'a', 0, 2, b'b', b'c', 0, 0, 9]), Some((2, false)));
        assert_eq!(page(&[0, 1]), None);
        assert_eq!(page(&[0, 9, b'a']), None);
    }

    #[test]
    fn an_envelope_is_described_with_what_is_in_it() {
        let mut fin = vec![2, 0, 3, 0, 4, 0, 0, 0, 1, 0, 0, 0, 40, 0, OPTS, 0, FIN, 0, 0, 0, 0, 0, 0, 0];
        fin.extend([2, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 16, 0, FIN, 0]);
        assert_eq!(describe(&fin).as_deref(), Ok("OPTS 3.2, number 4: FIN 3.2"));
        assert!(describe(&fin[..24]).is_err());
    }
}
