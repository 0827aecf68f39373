//! How many locks on another node's resources a second, and how long one takes: `cargo xtask bench dlm` runs it.
//!
//! ```text
//! remote_locks server OUR_NUMBER OUR_ADDRESS THEIR_NUMBER THEIR_ADDRESS RESOURCES
//! remote_locks client OUR_NUMBER OUR_ADDRESS THEIR_NUMBER THEIR_ADDRESS RESOURCES DEPTH WARM_UP OPERATIONS [...]
//! ```
//!
//! The server is alone in the lockspace first and locks each of the resources in mode null, so that it is the master of all;
//! then it takes the client in, says so, and stays until it is killed. The client measures one load after the other (three
//! numbers each), and prints a line of JSON for each.

// A program at a terminal, not a pure crate: it measures how long things take.
#![allow(clippy::disallowed_methods)]

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use outlast_dlm::wire::{LockspaceId, Mode, NodeId};
use outlast_kernel_harness::load::{Load, LoadReport, resource};
use outlast_lockspace::node::{Lockspace, LockspaceConfig, Node, NodeConfig};

const LOCKSPACE: &str = "load";
const NUMBER: LockspaceId = LockspaceId(0x10ad);
const USAGE: &str =
    "remote_locks server|client NUMBER ADDRESS NUMBER ADDRESS RESOURCES [DEPTH WARM_UP OPERATIONS]...";

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [role, our_number, our_address, their_number, their_address, resources, loads @ ..] = &words[..]
    else {
        return Err(USAGE.into());
    };
    let (ours, theirs) = (NodeId(our_number.parse()?), NodeId(their_number.parse()?));
    let (address, their_address): (IpAddr, IpAddr) = (our_address.parse()?, their_address.parse()?);
    let node = Node::start(NodeConfig::new(ours, address).peer(theirs, their_address)).await?;
    let config = LockspaceConfig::new(LOCKSPACE, NUMBER);
    let resources: u32 = resources.parse()?;
    match *role {
        "server" => serve(&node.join(config, &[ours]).await?, [ours, theirs], resources).await,
        "client" => {
            let space = node.join(config, &[ours, theirs]).await?;
            check_master(&space, theirs, resources).await?;
            for load in loads.chunks(3) {
                let [depth, warm_up, operations] = load else { return Err(USAGE.into()) };
                let (depth, warm_up) = (depth.parse()?, warm_up.parse()?);
                let load = Load { resources, depth, warm_up, operations: operations.parse()? };
                println!("{}", measure(&space, load).await?.to_line());
            }
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

async fn serve(space: &Lockspace, members: [NodeId; 2], resources: u32) -> Result<(), Failure> {
    let mut held = Vec::new();
    for number in 0..resources {
        held.push(space.lock(resource(number), Mode::Null).await?);
    }
    println!("ready");
    // The same number of the change as a node says that joins.
    space.set_members(&members, 0)?;
    std::future::pending().await
}

/// Else it would measure something else.
async fn check_master(space: &Lockspace, theirs: NodeId, resources: u32) -> Result<(), Failure> {
    for number in 0..resources {
        let guard = space.lock(resource(number), Mode::Null).await?;
        let found = space.resources()?.into_iter().find(|view| view.name == *guard.name());
        if found.and_then(|view| view.master) != Some(theirs) {
            return Err(format!("{theirs} is not the master of {:?}", guard.name()).into());
        }
        guard.unlock().await?;
    }
    Ok(())
}

async fn measure(space: &Lockspace, load: Load) -> Result<LoadReport, Failure> {
    let next = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> =
        (0..load.depth).map(|_| tokio::spawn(work(space.clone(), load, Arc::clone(&next)))).collect();
    let mut each = Vec::new();
    let mut first: Option<Instant> = None;
    for worker in workers {
        for (begun, took) in worker.await?? {
            first = Some(first.map_or(begun, |first| first.min(begun)));
            each.push(took);
        }
    }
    Ok(LoadReport::of(each, first.map(|first| first.elapsed()).unwrap_or_default()))
}

/// When each measured operation began, and how long it took.
async fn work(
    space: Lockspace,
    load: Load,
    next: Arc<AtomicU32>,
) -> Result<Vec<(Instant, Duration)>, Failure> {
    let mut each = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.all() {
            return Ok(each);
        }
        let begun = Instant::now();
        space.lock(resource(number % load.resources), Mode::Exclusive).await?.unlock().await?;
        if number >= load.warm_up {
            each.push((begun, begun.elapsed()));
        }
    }
}
