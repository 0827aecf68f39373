//! Ctrl-C and its relatives.

use crate::exit::Exit;
use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody wants this program to end: SIGINT or SIGTERM. Says with which exit code it then ends.
pub(crate) async fn stop() -> Exit {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals end the program by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
    }
}

/// As [`stop`], and the terminal going away, which a server may be told to survive (`nohup`).
pub(crate) async fn stop_or_hang_up() -> Exit {
    let Ok(mut hang_up) = signal(SignalKind::hangup()) else { return stop().await };
    tokio::select! {
        exit = stop() => exit,
        _ = hang_up.recv() => Exit::Terminated,
    }
}
