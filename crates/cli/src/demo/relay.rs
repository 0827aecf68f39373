//! The relay between client and server: it passes bytes on, sees nothing of what they mean, and cuts.

use super::cuts::{Cut, Direction, Manner};
use crate::exit::{Context as _, Exit, Outcome};
use crate::process::{self, Reporter};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is read at once, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// The relay's socket buffers, in bytes: small, so that what it holds is little against what passes.
const SOCKET_BUFFER_BYTES: usize = 256 * 1024;
/// How long an end that sees a close may go on talking to nobody.
const LINGER: Duration = Duration::from_millis(500);
/// How often the parent hears how it goes.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// What the relay is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RelayConfig {
    pub(super) server: SocketAddr,
    pub(super) cuts: Vec<Cut>,
}

/// What the relay tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RelayState {
    pub(super) connections: u64,
    /// All cuts.
    pub(super) cuts: u64,
    /// Those that fell into a handshake.
    pub(super) in_handshake: u64,
    /// Those in the direction from server to client.
    pub(super) backward: u64,
    /// Ends of connections that saw a reset, and those that saw a close.
    pub(super) resets: u64,
    pub(super) closes: u64,
    pub(super) bytes_to_server: u64,
    pub(super) bytes_to_client: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RelayReport {
    Listening(SocketAddr),
    State(RelayState),
}

struct Plan {
    cuts: VecDeque<Cut>,
    /// Cuts a connection in its handshake, `.1` bytes of the client's after it began.
    handshake: Option<(Cut, u64)>,
    /// The cut of the server's direction that is due, and what may still pass of it.
    backward: Option<(Cut, u64)>,
    state: RelayState,
}

type Shared = Arc<Mutex<Plan>>;

fn lock(plan: &Shared) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plan {
    /// How many of `len` bytes pass, and the cut that then falls. `passed` counts this connection's client bytes.
    fn take(&mut self, direction: Direction, len: u64, passed: u64) -> (u64, Option<Cut>) {
        match direction {
            Direction::ToServer => self.take_to_server(len, passed),
            Direction::ToClient => self.take_to_client(len),
        }
    }

    fn take_to_server(&mut self, len: u64, passed: u64) -> (u64, Option<Cut>) {
        if let Some((_, at)) = &self.handshake {
            let left = at.saturating_sub(passed);
            if left > len {
                self.state.bytes_to_server += len;
                return (len, None);
            }
            self.state.bytes_to_server += left;
            return (left, self.handshake.take().map(|(cut, _)| Cut { handshake: None, ..cut }));
        }
        let total = self.state.bytes_to_server;
        let due = self.cuts.front().filter(|cut| self.backward.is_none() && cut.at <= total + len);
        match due.map(|cut| (cut.direction, cut.at.saturating_sub(total))) {
            Some((Direction::ToServer, left)) => {
                self.state.bytes_to_server += left;
                (left, self.cuts.pop_front())
            }
            Some((Direction::ToClient, _)) => {
                self.backward = self.cuts.pop_front().map(|cut| (cut.clone(), cut.more));
                self.state.bytes_to_server += len;
                (len, None)
            }
            None => {
                self.state.bytes_to_server += len;
                (len, None)
            }
        }
    }

    fn take_to_client(&mut self, len: u64) -> (u64, Option<Cut>) {
        if let Some((_, left)) = &mut self.backward {
            if *left <= len {
                let passes = *left;
                self.state.bytes_to_client += passes;
                return (passes, self.backward.take().map(|(cut, _)| cut));
            }
            *left -= len;
        }
        self.state.bytes_to_client += len;
        (len, None)
    }

    fn note(&mut self, cut: &Cut, in_handshake: bool) {
        self.state.cuts += 1;
        self.state.in_handshake += u64::from(in_handshake);
        self.state.backward += u64::from(!in_handshake && cut.direction == Direction::ToClient);
        for manner in [cut.client, cut.server] {
            match manner {
                Manner::Reset => self.state.resets += 1,
                Manner::Close => self.state.closes += 1,
            }
        }
        self.handshake = cut.handshake.map(|at| (cut.clone(), at));
    }
}

/// The process: relays until its standard input ends.
pub(crate) async fn run(config: RelayConfig, reporter: Reporter) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the relay cannot listen")?;
    let address = listener.local_addr().context("the relay cannot listen")?;
    reporter.send(&RelayReport::Listening(address));
    let plan = Arc::new(Mutex::new(Plan {
        cuts: config.cuts.into(),
        handshake: None,
        backward: None,
        state: RelayState::default(),
    }));
    let told = plan.clone();
    tokio::spawn(async move {
        let mut last = None;
        loop {
            let state = lock(&told).state;
            if last.replace(state) != Some(state) {
                reporter.send(&RelayReport::State(state));
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
    });
    let stopped = process::parent_gone();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                tokio::spawn(connection(client, config.server, plan.clone()));
            }
            () = &mut stopped => return Ok(Exit::Done),
        }
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, plan: Shared) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        let socket = socket2::SockRef::from(stream);
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    }
    lock(&plan).state.connections += 1;
    let cut = {
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let there = pump(client_in, server_out, Direction::ToServer, &plan);
        let back = pump(server_in, client_out, Direction::ToClient, &plan);
        tokio::pin!(there, back);
        // One direction ending in an orderly way leaves the other some time to end, too.
        let first = tokio::select! {
            end = &mut there => (end, Direction::ToServer),
            end = &mut back => (end, Direction::ToClient),
        };
        match first {
            (Ok(None), Direction::ToServer) => {
                tokio::time::timeout(LINGER, back).await.ok().and_then(Result::ok).flatten()
            }
            (Ok(None), Direction::ToClient) => {
                tokio::time::timeout(LINGER, there).await.ok().and_then(Result::ok).flatten()
            }
            (Ok(cut), _) => cut,
            (Err(_), _) => None,
        }
    };
    if let Some(cut) = cut {
        tokio::join!(end(client, cut.client), end(server, cut.server));
    }
}

/// Passes bytes on until they end (None) or are cut.
async fn pump(
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
    direction: Direction,
    plan: &Shared,
) -> io::Result<Option<Cut>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut passed = 0;
    loop {
        let len = from.read(&mut chunk).await?;
        if len == 0 {
            to.shutdown().await?;
            return Ok(None);
        }
        let (passes, cut) = {
            let mut plan = lock(plan);
            let in_handshake = plan.handshake.is_some() && direction == Direction::ToServer;
            let (passes, cut) = plan.take(direction, len as u64, passed);
            if let Some(cut) = &cut {
                plan.note(cut, in_handshake);
            }
            (passes, cut)
        };
        passed += passes;
        to.write_all(&chunk[..usize::try_from(passes).unwrap_or(len).min(len)]).await?;
        if cut.is_some() {
            return Ok(cut);
        }
    }
}

async fn end(mut stream: TcpStream, manner: Manner) {
    match manner {
        Manner::Reset => {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Manner::Close => {
            let _ = stream.shutdown().await;
            // Closing with unread bytes would be a reset.
            let until = Instant::now() + LINGER;
            let mut ignored = vec![0; CHUNK_BYTES];
            while let Ok(Ok(1..)) = tokio::time::timeout_at(until.into(), stream.read(&mut ignored)).await {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(at: u64, direction: Direction, handshake: Option<u64>) -> Cut {
        Cut { at, direction, more: 10, client: Manner::Reset, server: Manner::Close, handshake }
    }

    fn plan(cuts: &[Cut]) -> Plan {
        let cuts = cuts.iter().cloned().collect();
        Plan { cuts, handshake: None, backward: None, state: RelayState::default() }
    }

    #[test]
    fn a_cut_falls_behind_exactly_its_byte() {
        let mut plan = plan(&[cut(100, Direction::ToServer, None)]);
        assert_eq!(plan.take(Direction::ToServer, 60, 0), (60, None));
        let (passes, fallen) = plan.take(Direction::ToServer, 60, 60);
        assert_eq!((passes, fallen.map(|c| c.at)), (40, Some(100)));
        assert_eq!(plan.take(Direction::ToServer, 60, 0), (60, None));
    }

    #[test]
    fn a_cut_of_the_other_direction_waits_for_the_servers_bytes() {
        let mut plan = plan(&[cut(100, Direction::ToClient, None)]);
        assert_eq!(plan.take(Direction::ToClient, 50, 0), (50, None));
        assert_eq!(plan.take(Direction::ToServer, 120, 0), (120, None));
        assert_eq!(plan.take(Direction::ToClient, 9, 0), (9, None));
        let (passes, fallen) = plan.take(Direction::ToClient, 9, 0);
        assert_eq!((passes, fallen.is_some()), (1, true));
    }

    #[test]
    fn the_connection_after_a_cut_may_be_cut_in_its_handshake() {
        let mut plan = plan(&[cut(100, Direction::ToServer, Some(30))]);
        let (_, fallen) = plan.take(Direction::ToServer, 200, 0);
        plan.note(&fallen.unwrap(), false);
        assert_eq!(plan.take(Direction::ToServer, 20, 0), (20, None));
        let (passes, fallen) = plan.take(Direction::ToServer, 20, 20);
        assert_eq!(passes, 10);
        plan.note(&fallen.unwrap(), true);
        assert_eq!(plan.take(Direction::ToServer, 500, 0), (500, None));
        assert_eq!((plan.state.cuts, plan.state.in_handshake), (2, 1));
        assert_eq!((plan.state.resets, plan.state.closes), (2, 2));
    }
}
