//! A relay that cuts the connections through it, at positions that a seed decides.

use super::Address;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Stands between two ends, and forwards so many bytes on each connection, in both directions together, before it
/// cuts it.
pub struct Relay {
    pub address: Address,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    connections: AtomicU64,
    cuts: AtomicU64,
    stopped: AtomicBool,
    closed: AtomicBool,
    muted: AtomicBool,
}

impl Relay {
    /// Forwards to `to`; cuts `cuts_max` times, then no more.
    pub async fn new(to: &Address, seed: u64, bytes: Range<u64>, cuts_max: u64) -> Self {
        let to = to.ip().expect("TCP");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = Address::Ip(listener.local_addr().expect("its address"));
        let state = Arc::new(State::default());
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut planned = 0;
                loop {
                    let Ok((from, _)) = listener.accept().await else { return };
                    if state.closed.load(Ordering::Relaxed) {
                        continue;
                    }
                    state.connections.fetch_add(1, Ordering::Relaxed);
                    let cuts = planned < cuts_max;
                    let budget = if cuts { rng.random_range(bytes.clone()) } else { u64::MAX };
                    planned += u64::from(cuts);
                    let state = Arc::clone(&state);
                    tokio::spawn(async move {
                        if let Ok(to) = TcpStream::connect(to).await {
                            forward(from, to, budget, &state).await;
                        }
                    });
                }
            }
        });
        Self { address, state, task }
    }

    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Takes newcomers and closes them, and cuts what there is.
    pub fn close(&self) {
        self.state.closed.store(true, Ordering::Relaxed);
    }

    /// Swallows what comes back, until it is opened again.
    pub fn mute(&self) {
        self.state.muted.store(true, Ordering::Relaxed);
    }

    /// Lets newcomers through again.
    pub fn open(&self) {
        self.state.muted.store(false, Ordering::Relaxed);
        self.state.closed.store(false, Ordering::Relaxed);
    }

    /// Lets nothing through any more, without a word.
    pub fn stall(&self) {
        self.state.stopped.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut from: TcpStream, mut to: TcpStream, mut budget: u64, state: &State) {
    let (mut there, mut back) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        if state.stopped.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let (result, buffer, out, answers) = tokio::select! {
            result = from.read(&mut there) => (result, &there, &mut to, false),
            result = to.read(&mut back) => (result, &back, &mut from, true),
            () = tokio::time::sleep(std::time::Duration::from_millis(5)), if state.closed.load(Ordering::Relaxed) => {
                state.cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => continue,
        };
        let muted = answers && state.muted.load(Ordering::Relaxed);
        let Ok(len @ 1..) = result else {
            if muted {
                // Not even its end is heard: the line goes dead.
                while !state.closed.load(Ordering::Relaxed) {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                state.cuts.fetch_add(1, Ordering::Relaxed);
            }
            return;
        };
        if muted {
            continue;
        }
        let len = len.min(usize::try_from(budget).unwrap_or(usize::MAX));
        if out.write_all(&buffer[..len]).await.is_err() {
            return;
        }
        budget -= len as u64;
        if budget == 0 {
            state.cuts.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}
