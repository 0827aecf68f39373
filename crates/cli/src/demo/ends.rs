//! The two ends of a demo, each in a process of its own: what `outlast serve` and `outlast copy` do, telling how it goes.

use crate::access;
use crate::exit::{Context as _, Exit, Outcome};
use crate::process::{self, Reporter};
use outlast::{
    Address, Auth, ConnectOptions, EntityName, Keyring, Lifetime, Messenger, Mode, Session, SessionOptions,
    Status,
};
use outlast_transfer::{CopyRequest, Folder, Progress, ServeOptions, copy, raise_open_files_limit, serve};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// How often the parent hears how it goes.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);
/// How long the session lives without a connection. The demo never is without one for long.
const LIFETIME: Lifetime = Lifetime::For(Duration::from_secs(60));
/// How long the end of the session may take.
const CLOSE_MAX: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize)]
pub(crate) struct ServerTask {
    pub(super) keyring: Zeroizing<String>,
    pub(super) dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ClientTask {
    pub(super) keyring: Zeroizing<String>,
    pub(super) name: String,
    /// The relay's address.
    pub(super) address: String,
    pub(super) source: PathBuf,
    pub(super) destination: PathBuf,
}

/// One end's session in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionState {
    pub(super) sessions: u64,
    pub(super) resumptions: u64,
    pub(super) resets: u64,
    pub(super) messages_sent: u64,
    pub(super) messages_received: u64,
    pub(super) replayed: u64,
    pub(super) duplicates_dropped: u64,
    pub(super) lost: u64,
}

impl SessionState {
    fn of(session: &Session) -> Self {
        let counters = session.stats().counters;
        Self {
            sessions: 1,
            resumptions: counters.reconnects,
            resets: counters.resets,
            messages_sent: counters.messages_sent,
            messages_received: counters.messages_received,
            replayed: counters.replayed,
            duplicates_dropped: counters.duplicates_dropped,
            lost: counters.lost,
        }
    }

    fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.resumptions += other.resumptions;
        self.resets += other.resets;
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.replayed += other.replayed;
        self.duplicates_dropped += other.duplicates_dropped;
        self.lost += other.lost;
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerReport {
    Listening(String),
    State(SessionState),
}

/// How far the copy is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopyState {
    pub(super) files_total: u64,
    pub(super) files_done: u64,
    pub(super) bytes_total: u64,
    pub(super) bytes_done: u64,
    pub(super) totals_complete: bool,
    pub(super) session: SessionState,
    pub(super) connected: bool,
    pub(super) mode: String,
    pub(super) key_type: String,
}

/// How the copy ended, as its client sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopyEnd {
    pub(super) complete: bool,
    pub(super) failures: Vec<String>,
    pub(super) skipped: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientReport {
    State(CopyState),
    Done(CopyEnd),
}

/// The server's process.
pub(crate) async fn server(task: ServerTask, reporter: Reporter) -> Outcome {
    raise_open_files_limit();
    let keyring = Keyring::parse(task.keyring.as_bytes()).context("the keyring")?;
    let folder = Folder::open(&task.dir).context(task.dir.display())?;
    let messenger = Messenger::builder(access::server_name())
        .auth(Auth::keyring(keyring))
        .modes([Mode::SECURE])
        .accepted(SessionOptions::server().lifetime(LIFETIME))
        .build()
        .context("cannot start")?;
    let loopback = Address::Ip((std::net::Ipv4Addr::LOCALHOST, 0).into());
    let bound = messenger.listen(loopback).await.context("cannot listen")?;
    reporter.send(&ServerReport::Listening(bound.to_string()));

    let mut served = tokio::task::JoinSet::new();
    let mut sessions: Vec<Session> = Vec::new();
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    let mut last = None;
    let stop = process::parent_gone();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = messenger.accept() => {
                let Some(session) = accepted else { return Ok(Exit::Done) };
                sessions.push(session.clone());
                let folder = folder.clone();
                served.spawn(async move { serve(&session, &folder, &ServeOptions::default()).await });
            }
            _ = ticks.tick() => {
                let mut all = SessionState::default();
                sessions.iter().for_each(|session| all.add(SessionState::of(session)));
                if last.replace(all) != Some(all) {
                    reporter.send(&ServerReport::State(all));
                }
            }
            () = &mut stop => return Ok(Exit::Done),
        }
    }
}

/// The client's process.
pub(crate) async fn client(task: ClientTask, reporter: Reporter) -> Outcome {
    let keyring = Keyring::parse(task.keyring.as_bytes()).context("the keyring")?;
    let name: EntityName = task.name.parse().context("the name")?;
    let address: Address = task.address.parse().context("the relay's address")?;
    let messenger = Messenger::builder(name).auth(Auth::keyring(keyring)).build().context("cannot start")?;
    let work = async {
        let options = ConnectOptions::lossless().lifetime(LIFETIME);
        let connected = messenger.connect(std::slice::from_ref(&address), options).await;
        let session = connected.map_err(|e| access::connect_failure(&address, &e))?;
        let request = CopyRequest::upload([task.source], task.destination);
        let progress = Progress::new();
        let copying = copy(&session, &request, &progress);
        tokio::pin!(copying);
        let mut ticks = tokio::time::interval(REPORT_INTERVAL);
        let summary = loop {
            tokio::select! {
                summary = &mut copying => break summary.context("the copy")?,
                _ = ticks.tick() => reporter.send(&ClientReport::State(state(&session, &progress))),
            }
        };
        session.close_within(CLOSE_MAX).await;
        messenger.shutdown(CLOSE_MAX).await;
        reporter.send(&ClientReport::State(state(&session, &progress)));
        reporter.send(&ClientReport::Done(CopyEnd {
            complete: summary.is_complete(),
            failures: summary.failures.iter().map(ToString::to_string).collect(),
            skipped: summary.skipped,
        }));
        Ok(())
    };
    tokio::select! {
        done = work => done?,
        () = process::parent_gone() => return Ok(Exit::Done),
    }
    process::parent_gone().await;
    Ok(Exit::Done)
}

fn state(session: &Session, progress: &Progress) -> CopyState {
    let snapshot = progress.snapshot();
    let stats = session.stats();
    let agreed = stats.agreed.as_ref();
    CopyState {
        files_total: snapshot.files_total,
        files_done: snapshot.files_done,
        bytes_total: snapshot.bytes_total,
        bytes_done: snapshot.bytes_done,
        totals_complete: snapshot.totals_complete,
        session: SessionState::of(session),
        connected: stats.status == Status::Connected,
        mode: agreed.map_or_else(String::new, |agreed| agreed.mode.to_string()),
        key_type: agreed.and_then(|agreed| agreed.key_type).map_or_else(String::new, |key| key.to_string()),
    }
}
