//! What `cargo xtask bench dlm` measures: kernels, and our nodes in the same guests, lock what the other node is the master of.
//! Writes a line of JSON for each run into the file that it is given, as many rounds as it is told.
#![allow(clippy::disallowed_methods, reason = "it waits for kernels")]

use outlast_kernel_harness::load::{Load, LoadReport, resource};
use outlast_kernel_harness::protocol::{Mode, flags, status};
use outlast_kernel_harness::{Guest, Lab, Options, Process, address, change_members, static_example};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn Error>;

const LOCKSPACE: &str = "load";
const NUMBER: u32 = 0x10ad;
/// The master of all, and who locks.
const SERVER: u8 = 1;
const CLIENT: u8 = 2;
const RESOURCES: u32 = 512;
/// Operations one at a time, and many; the same in the guests for both.
const LOADS: [Load; 2] = [
    Load { resources: RESOURCES, depth: 1, warm_up: 600, operations: 2000 },
    Load { resources: RESOURCES, depth: 32, warm_up: 600, operations: 8000 },
];
/// On the machine itself all is so much faster.
const LOOPBACK_FACTOR: u32 = 10;
/// Where the two processes run without guests. Left to the system it is now this, now that, and they differ threefold:
/// a core that sleeps is to be woken for each message.
const PLACES: [(&str, [&str; 2]); 2] = [("ours on one core", ["0", "0"]), ("ours on two cores", ["0", "1"])];
/// Of all loads of a run, which take some seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// A guest on an emulated processor may die of that: such a run is noted, and made again.
const ATTEMPTS_MAX: u32 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, rounds] = &words[..] else { return Err("dlm_load FILE ROUNDS".into()) };
    let program = static_example("outlast-lockspace", "remote_locks")?;
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(file)?;
    for round in 1..=rounds.parse()? {
        // A load that another process puts on the machine for a while meets all three.
        note(&mut file, round, "kernel", LOADS, kernels)?;
        note(&mut file, round, "ours", LOADS, || ours(&program))?;
        let loads = LOADS.map(|load| Load { operations: load.operations * LOOPBACK_FACTOR, ..load });
        for (who, cores) in PLACES {
            note(&mut file, round, who, loads, || loopback(&program, loads, cores))?;
        }
    }
    Ok(())
}

fn note(
    file: &mut File,
    round: u32,
    who: &str,
    loads: [Load; 2],
    measure: impl Fn() -> Result<Vec<LoadReport>, Failure>,
) -> Result<(), Failure> {
    let mut attempt = 1;
    let reports = loop {
        match measure() {
            Ok(reports) => break reports,
            Err(error) if attempt < ATTEMPTS_MAX => {
                eprintln!("round {round}, {who}: {error}");
                writeln!(file, r#"{{"round":{round},"who":"{who}","failed":true}}"#)?;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    };
    if reports.len() != loads.len() {
        return Err(format!("{who}: {} reports", reports.len()).into());
    }
    for (load, report) in loads.iter().zip(reports) {
        let line = format!(
            r#"{{"round":{round},"who":"{who}","depth":{},"report":{}}}"#,
            load.depth,
            report.to_line()
        );
        println!("{line}");
        writeln!(file, "{line}")?;
    }
    Ok(())
}

/// Two guests of the same make.
fn guests(lab: &Lab, options: &Options) -> Result<[Guest; 2], Failure> {
    std::thread::scope(|scope| {
        let [server, client] = [SERVER, CLIENT].map(|node| scope.spawn(move || lab.boot_with(node, options)));
        let guest = |thread: std::thread::ScopedJoinHandle<'_, _>| -> Result<Guest, Failure> {
            Ok(thread.join().map_err(|_| "a thread panicked")??)
        };
        Ok([guest(server)?, guest(client)?])
    })
}

fn kernels() -> Result<Vec<LoadReport>, Failure> {
    let lab = Lab::new()?;
    let [server, client] = guests(&lab, &Options::default())?;
    for guest in [&server, &client] {
        guest.cluster(&[SERVER, CLIENT], &[])?;
    }
    server.join(LOCKSPACE, NUMBER, &[SERVER])?;
    let mut holder = server.process(LOCKSPACE)?;
    hold_all(&mut holder)?;
    std::thread::scope(|scope| {
        let joining = scope.spawn(|| client.join(LOCKSPACE, NUMBER, &[SERVER, CLIENT]));
        change_members(&[&server], LOCKSPACE, &[SERVER, CLIENT])?;
        joining.join().map_err(|_| "a thread panicked")??;
        Ok::<_, Failure>(())
    })?;
    let reports: Result<_, Failure> =
        LOADS.iter().map(|load| Ok(client.load(LOCKSPACE, *load, LIMIT)?)).collect();
    if reports.is_err() {
        for guest in [&server, &client] {
            eprintln!("--- console of guest {}\n{}", guest.node(), guest.serial_log());
        }
    }
    reports
}

/// Whoever has a lock on a resource first is its master, and stays it.
fn hold_all(holder: &mut Process) -> Result<(), Failure> {
    for number in 0..RESOURCES {
        holder.lock(number.into(), &resource(number), Mode::NL, flags::EXPEDITE)?;
        let ast = holder.ast(number.into())?;
        if ast.status != status::GRANTED {
            return Err(format!("{ast:?}").into());
        }
    }
    Ok(())
}

/// The words of a node of ours, and behind a client's its loads.
fn words(role: &str, ours: (u8, &str), theirs: (u8, &str), loads: &[Load]) -> Vec<String> {
    let mut words: Vec<String> =
        [role, &ours.0.to_string(), ours.1, &theirs.0.to_string(), theirs.1, &RESOURCES.to_string()]
            .map(str::to_owned)
            .into();
    for load in loads {
        words.extend([load.depth, load.warm_up, load.operations].map(|number| number.to_string()));
    }
    words
}

fn reports(said: &str) -> Result<Vec<LoadReport>, Failure> {
    said.lines()
        .map(|line| Ok(LoadReport::from_line(line).map_err(|error| format!("{said}: {error}"))?))
        .collect()
}

fn ours(program: &Path) -> Result<Vec<LoadReport>, Failure> {
    let lab = Lab::new()?;
    let options = Options { files: vec![program.to_owned()], ..Options::default() };
    let [server, client] = guests(&lab, &options)?;
    let [at_server, at_client] = [SERVER, CLIENT].map(|node| address(node).to_string());
    let name = program.file_name().and_then(|name| name.to_str()).ok_or("a program without a name")?;
    let serve = words("server", (SERVER, &at_server), (CLIENT, &at_client), &[]).join(" ");
    server.sh(&format!("/job/{name} {serve} >/tmp/server 2>&1 &"))?;
    let deadline = Instant::now() + LIMIT;
    while !server.sh("cat /tmp/server")?.contains("ready") {
        if Instant::now() > deadline {
            return Err(format!("our server is not ready: {}", server.sh("cat /tmp/server")?).into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let ask = words("client", (CLIENT, &at_client), (SERVER, &at_server), &LOADS).join(" ");
    match client.sh_status(&format!("/job/{name} {ask}"), LIMIT)? {
        (0, said) => reports(&said),
        (code, said) => Err(format!("our client: status {code}: {said}").into()),
    }
}

/// Without guests: two processes on this machine.
fn loopback(program: &Path, loads: [Load; 2], cores: [&str; 2]) -> Result<Vec<LoadReport>, Failure> {
    /// Ends with the run, however that went.
    struct Server(Child);
    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let lab = Lab::new()?;
    let [at_server, at_client] = ["127.0.0.1", "127.0.0.2"];
    let on_core = |core: &str| {
        // Each becomes the next: to kill it is to kill the program.
        let mut command = lab.namespace().command("taskset");
        command.args(["--cpu-list", core]).arg(program);
        command
    };
    let mut command = on_core(cores[0]);
    command.args(words("server", (SERVER, at_server), (CLIENT, at_client), &[])).stdout(Stdio::piped());
    let mut server = Server(command.spawn()?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    if line.trim() != "ready" {
        return Err(format!("our server said: {line}").into());
    }
    let mut client = on_core(cores[1]);
    client.args(words("client", (CLIENT, at_client), (SERVER, at_server), &loads));
    let output = client.output()?;
    if !output.status.success() {
        return Err(
            format!("our client: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    reports(&String::from_utf8_lossy(&output.stdout))
}
