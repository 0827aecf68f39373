//! What `cargo xtask capture dlm` records: kernels that lock. Writes `*.pcap` into the folder that it is given.
#![allow(clippy::disallowed_methods, reason = "it waits for kernels")]

use outlast_kernel_harness::protocol::{Mode, flags, status};
use outlast_kernel_harness::{
    Ast, DLM_PORT, Event, Guest, Lab, PATIENCE, Process, change_members, join_all, leave,
};
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

type Done = Result<(), Box<dyn Error>>;

const LOCKSPACE: &str = "golden";
const NUMBER: u32 = 0x00c0_ffee;
/// So many resources, with names so long that they do not fit into one message.
const NAME_COUNT: u64 = 600;
/// Tags of the many locks.
const MANY: u64 = 1000;
/// How often, and how far apart, a lock left behind is purged.
const PURGES: u32 = 20;
const PURGE_PAUSE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(5);
/// Numbers of `fs/dlm/dlm_internal.h`.
const RCOM: u8 = 2;
const STATUS: u8 = 1;
const NAMES: u8 = 2;
/// Any number that stays.
const OUR_RECOVERY: u64 = 9;

fn main() -> Done {
    let folder = std::env::args().nth(1).ok_or("dlm_script FOLDER")?;
    let folder = Path::new(&folder);
    session(folder)?;
    kinds(folder)?;
    version_3_1(folder)
}

fn two_kernels(lab: &Lab) -> Result<Vec<Guest>, Box<dyn Error>> {
    let guests = lab.boot_all(&[1, 2])?;
    for guest in &guests {
        guest.cluster(&[1, 2], &[])?;
    }
    Ok(guests)
}

fn session(folder: &Path) -> Done {
    let lab = Lab::new()?;
    let guests = two_kernels(&lab)?;
    let [one, two] = &guests[..] else { return Err("two kernels".into()) };
    let capture = lab.capture()?;
    join_all(&guests, LOCKSPACE, NUMBER)?;
    let (mut first, mut second) = (one.process(LOCKSPACE)?, two.process(LOCKSPACE)?);
    first.lock(1, "resource", Mode::EX, flags::VALBLK)?;
    granted(&mut first, 1)?;
    second.lock(1, "resource", Mode::PR, flags::VALBLK)?;
    first.bast(1)?;
    first.unlock(1, flags::VALBLK, b"a value")?;
    granted(&mut second, 1)?;
    second.unlock(1, 0, &[])?;
    ended(&mut second, 1, status::UNLOCKED)?;
    drop((first, second));
    leave(two, LOCKSPACE, &[one])?;
    one.leave(LOCKSPACE)?;
    Ok(std::fs::write(folder.join("session.pcap"), capture.stop()?)?)
}

fn kinds(folder: &Path) -> Done {
    let lab = Lab::new()?;
    let mut guests = lab.boot_all(&[1, 2, 3])?;
    for guest in &guests {
        guest.cluster(&[1, 2, 3], &[("toss_secs", "1")])?;
    }
    let capture = lab.capture()?;
    join_all(&guests[..2], LOCKSPACE, NUMBER)?;
    let (mut first, mut second) = (guests[0].process(LOCKSPACE)?, guests[1].process(LOCKSPACE)?);
    // On several resources: whose directory is where is for the kernels to say.
    for number in 0..6 {
        contend(&mut first, &mut second, &format!("resource {number}"))?;
    }
    left_behind(&guests, &mut first)?;
    all_dropped(&guests[..2])?;
    recovery(&mut guests, &mut first, &mut second)?;
    drop((first, second));
    leave(&guests[1], LOCKSPACE, &[&guests[0]])?;
    guests[0].leave(LOCKSPACE)?;
    Ok(std::fs::write(folder.join("kinds.pcap"), capture.stop()?)?)
}

/// All that one lock can do to another. `first` has it first, so its kernel is the master.
fn contend(first: &mut Process, second: &mut Process, name: &str) -> Done {
    first.lock(1, name, Mode::EX, flags::VALBLK)?;
    granted(first, 1)?;
    second.lock(2, name, Mode::PR, flags::NOQUEUE)?;
    ended(second, 2, status::AGAIN)?;
    // Waits, and is taken back. The stronger wish comes later: a holder is not told of a weaker one again.
    second.lock(3, name, Mode::PR, 0)?;
    first.bast(1)?;
    second.cancel(3)?;
    ended(second, 3, status::CANCELLED)?;
    // Waits, and is granted with the value of the other.
    second.lock(4, name, Mode::EX, flags::VALBLK)?;
    first.bast(1)?;
    first.convert(1, Mode::NL, flags::VALBLK, b"from the master")?;
    granted(first, 1)?;
    granted(second, 4)?;
    // Conversions: granted at once, refused, taken back, waiting.
    second.convert(4, Mode::PR, flags::VALBLK, b"in between")?;
    granted(second, 4)?;
    second.convert(4, Mode::EX, flags::VALBLK, &[])?;
    granted(second, 4)?;
    first.convert(1, Mode::PR, flags::VALBLK, &[])?;
    second.bast(4)?;
    second.convert(4, Mode::NL, flags::VALBLK, b"from the other")?;
    granted(second, 4)?;
    granted(first, 1)?;
    second.convert(4, Mode::EX, flags::NOQUEUE | flags::VALBLK, &[])?;
    ended(second, 4, status::AGAIN)?;
    second.convert(4, Mode::CW, flags::VALBLK, &[])?;
    first.bast(1)?;
    second.cancel(4)?;
    ended(second, 4, status::CANCELLED)?;
    second.convert(4, Mode::EX, flags::VALBLK, &[])?;
    first.bast(1)?;
    first.unlock(1, 0, &[])?;
    ended(first, 1, status::UNLOCKED)?;
    granted(second, 4)?;
    second.unlock(4, flags::VALBLK, b"the last word")?;
    ended(second, 4, status::UNLOCKED)
}

/// A lock that outlives its process, and its end by another node's request.
fn left_behind(guests: &[Guest], first: &mut Process) -> Done {
    let mut dying = guests[1].process(LOCKSPACE)?;
    dying.lock(1, "left behind", Mode::EX, flags::PERSISTENT)?;
    granted(&mut dying, 1)?;
    drop(dying);
    first.lock(7, "left behind", Mode::EX, 0)?;
    // Again, should the process have been dying still.
    for _ in 0..PURGES {
        first.purge(2, 0)?;
        if let Some(event) = first.event(PURGE_PAUSE)? {
            let Event::Ast(Ast { tag: 7, status: status::GRANTED, .. }) = event else {
                return Err(format!("{event:?} instead of a lock").into());
            };
            break;
        }
    }
    first.unlock(7, 0, &[])?;
    ended(first, 7, status::UNLOCKED)
}

/// Waits until the kernels have forgotten all resources, for which they ask each other.
fn all_dropped(guests: &[Guest]) -> Done {
    let deadline = Instant::now() + PATIENCE;
    let command = format!("cat /sys/kernel/debug/dlm/{LOCKSPACE}_toss /sys/kernel/debug/dlm/{LOCKSPACE}_all");
    for guest in guests {
        while guest.sh(&command)?.lines().any(|line| line.starts_with("rsb ") && !line.contains(" ptr ")) {
            if Instant::now() > deadline {
                return Err("the kernels keep resources".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// Many names, a third node that comes, masters some of them, and loses its power.
fn recovery(guests: &mut [Guest], first: &mut Process, second: &mut Process) -> Done {
    let name = |tag: u64| format!("{tag:05} of many names that together are too long");
    for (process, tags) in
        [(&mut *first, MANY..MANY + NAME_COUNT), (&mut *second, MANY + NAME_COUNT..MANY + 2 * NAME_COUNT)]
    {
        for tag in tags.clone() {
            process.lock(tag, &name(tag), Mode::PR, 0)?;
        }
        for tag in tags {
            granted(process, tag)?;
        }
    }
    std::thread::scope(|scope| {
        let joining = scope.spawn(|| guests[2].join(LOCKSPACE, NUMBER, &[1, 2, 3]));
        change_members(&[&guests[0], &guests[1]], LOCKSPACE, &[1, 2, 3])?;
        joining.join().map_err(|_| "the thread that joins died")??;
        Done::Ok(())
    })?;
    let mut third = guests[2].process(LOCKSPACE)?;
    for tag in 0..12 {
        let name = format!("mastered by the third {tag}");
        third.lock(tag, &name, Mode::PR, flags::VALBLK)?;
        granted(&mut third, tag)?;
        // Holders, and those that wait.
        first.lock(100 + tag, &name, Mode::PR, flags::VALBLK)?;
        granted(first, 100 + tag)?;
        second.lock(100 + tag, &name, Mode::EX, flags::VALBLK)?;
        first.bast(100 + tag)?;
    }
    guests[2].power_off()?;
    change_members(&[&guests[0], &guests[1]], LOCKSPACE, &[1, 2])?;
    for tag in 100..112 {
        first.unlock(tag, 0, &[])?;
        ended(first, tag, status::UNLOCKED)?;
        granted(second, tag)?;
    }
    for guest in &guests[..2] {
        guest.forget(3)?;
    }
    Ok(())
}

/// A node of ours that speaks 3.1, as far as the kernel needs for a join and for asking it for masters.
fn version_3_1(folder: &Path) -> Done {
    let lab = Lab::new()?;
    let guest = lab.boot(1)?;
    let machine = lab.machine(2)?;
    guest.cluster(&[1, 2], &[])?;
    let capture = lab.capture()?;
    let listener = machine.within(|| std::net::TcpListener::bind(("0.0.0.0", DLM_PORT)))??;
    listener.set_nonblocking(true)?;
    let over = AtomicBool::new(false);
    let lookups = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let node = scope.spawn(|| old_node(&listener, &over, &lookups).map_err(|error| error.to_string()));
        let asked = ask_old_node(&guest, &lookups).map_err(|error| error.to_string());
        over.store(true, Ordering::Relaxed);
        node.join().map_err(|_| "the node of ours died")??;
        Done::Ok(asked?)
    })?;
    drop(guest);
    Ok(std::fs::write(folder.join("version-3.1.pcap"), capture.stop()?)?)
}

/// The kernel joins, and asks the other node where it is that one's business.
fn ask_old_node(guest: &Guest, lookups: &AtomicUsize) -> Done {
    guest.join(LOCKSPACE, NUMBER, &[1, 2])?;
    let mut process = guest.process(LOCKSPACE)?;
    for tag in 0..4 {
        process.lock(tag, &format!("resource {tag}"), Mode::EX, flags::VALBLK)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while lookups.load(Ordering::Relaxed) == 0 {
        if Instant::now() > deadline {
            return Err("the kernel asks for no master".into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Answers STATUS and NAMES, and counts the rest.
fn old_node(listener: &TcpListener, over: &AtomicBool, lookups: &AtomicUsize) -> Done {
    let mut streams: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            streams.push((stream, Vec::new()));
        }
        for (stream, bytes) in &mut streams {
            let mut buffer = [0; 4096];
            if let Ok(read) = stream.read(&mut buffer) {
                bytes.extend(&buffer[..read]);
            }
            while let Some(frame) = take_frame(bytes) {
                match answer_3_1(&frame) {
                    // A few hundred bytes, which the socket has room for.
                    Some(answer) => stream.write_all(&answer)?,
                    None => drop(lookups.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn take_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes([*bytes.get(12)?, *bytes.get(13)?]));
    (length >= 16 && bytes.len() >= length).then(|| bytes.drain(..length).collect())
}

/// The reply to an RCOM STATUS or NAMES: type plus 4, its number, our own and its number of the recovery.
fn answer_3_1(frame: &[u8]) -> Option<Vec<u8>> {
    let (command, kind) = (*frame.get(14)?, *frame.get(16)?);
    let (result, body) = match (command, kind) {
        // All is done here. The configuration: 32 bytes of value, no flags, no slots.
        (RCOM, STATUS) => (0xff, [&32_u32.to_le_bytes()[..], &[0; 28]].concat()),
        // No names, and no more of them.
        (RCOM, NAMES) => (0, vec![0xff, 0xff]),
        _ => return None,
    };
    let mut answer = Vec::new();
    let length = u32::try_from(48 + body.len()).ok()?;
    for word in [0x0003_0001, NUMBER, 2, length | u32::from(RCOM) << 16, u32::from(kind) + 4, result] {
        answer.extend(word.to_le_bytes());
    }
    answer.extend(frame.get(24..32)?);
    answer.extend(OUR_RECOVERY.to_le_bytes());
    answer.extend(frame.get(32..40)?);
    answer.extend(body);
    Some(answer)
}

fn granted(process: &mut Process, tag: u64) -> Done {
    ended(process, tag, status::GRANTED)
}

fn ended(process: &mut Process, tag: u64, status: i32) -> Done {
    let ast = process.ast(tag)?;
    if ast.status == status { Ok(()) } else { Err(format!("{ast:?} instead of status {status}").into()) }
}
