//! What the tests have in common: two ends with keys or without.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod relay;

use outlast::{
    Address, Auth, BackoffConfig, Builder, ConnectOptions, EntityName, EntityType, Jitter, Keyring,
    KeyringEntry, Message, Messenger, Session, generate_key,
};
use std::time::Duration;

/// Every wait in these tests ends here at the latest.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How both ends authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Crc,
    Secure,
}

pub fn client_name() -> EntityName {
    EntityName::new(EntityType::Client, "copy")
}

pub fn server_name() -> EntityName {
    EntityName::new(EntityType::Client, "server")
}

/// A keyring with the client in it.
pub fn keyring() -> Keyring {
    let mut keyring = Keyring::new();
    keyring.insert(client_name(), KeyringEntry::new(generate_key().expect("randomness")));
    keyring
}

pub fn server(mode: Mode, keyring: &Keyring) -> Builder {
    Messenger::builder(server_name()).auth(match mode {
        Mode::Crc => Auth::none(),
        Mode::Secure => Auth::keyring(keyring.clone()),
    })
}

pub fn client(mode: Mode, keyring: &Keyring) -> Builder {
    Messenger::builder(client_name()).auth(match mode {
        Mode::Crc => Auth::none(),
        Mode::Secure => Auth::keyring(keyring.clone()),
    })
}

/// Tries again quickly: the tests have no time for the usual pauses.
pub fn quick() -> BackoffConfig {
    BackoffConfig {
        first: Duration::from_millis(5),
        max: Duration::from_millis(50),
        jitter: Jitter::NONE,
        ..BackoffConfig::default()
    }
}

pub fn lossless() -> ConnectOptions {
    ConnectOptions::lossless().backoff(quick())
}

pub fn loopback() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

/// Two ends of one session.
pub struct Pair {
    pub server: Messenger,
    pub client: Messenger,
    pub ours: Session,
    pub theirs: Session,
    pub address: Address,
}

pub async fn pair(mode: Mode) -> Pair {
    let keyring = keyring();
    let server = server(mode, &keyring).build().expect("a server");
    let client = client(mode, &keyring).build().expect("a client");
    pair_of(server, client, loopback(), lossless()).await
}

pub async fn pair_of(server: Messenger, client: Messenger, at: Address, options: ConnectOptions) -> Pair {
    let address = server.listen(at).await.expect("listening");
    let ours = within(client.connect(std::slice::from_ref(&address), options)).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    Pair { server, client, ours, theirs, address }
}

/// Not for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// The message with this number.
pub fn numbered(number: u64) -> Message {
    Message::new(7).front(number.to_le_bytes().to_vec())
}

pub fn number_of(message: &Message) -> u64 {
    u64::from_le_bytes(message.front[..8].try_into().expect("eight bytes"))
}

/// A server that can be killed: its sockets close without a word, and it remembers nothing.
pub struct Process {
    pub address: Address,
    pub server: Messenger,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Process {
    /// Starts one and lets it take sessions, which it keeps, and messages, which it leaves where they are.
    pub fn serve(mode: Mode, keyring: &Keyring, at: Address) -> Self {
        Self::start(server(mode, keyring).build().expect("valid"), at)
    }

    pub fn start(server: Messenger, at: Address) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listening = server.clone();
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            // The port may still be held by the server that was killed.
            let mut bound = listening.listen(at.clone()).await;
            for _ in 0..200 {
                if bound.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                bound = listening.listen(at.clone()).await;
            }
            tell.send(bound.expect("listening")).expect("somebody waits");
            let mut sessions = Vec::new();
            while let Some(session) = listening.accept().await {
                sessions.push(session);
            }
        });
        let address = told.recv_timeout(PATIENCE).expect("listening");
        Self { address, server, runtime: Some(runtime) }
    }

    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Until it is so.
pub async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
