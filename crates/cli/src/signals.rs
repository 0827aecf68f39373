//! Ctrl-C and its relatives.

use crate::exit::Exit;
use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody wants this program to end: SIGINT, SIGTERM or SIGHUP. Says with which exit code it then ends.
pub(crate) async fn stop() -> Exit {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        // Without handlers the signals end the program by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
        _ = hang_up.recv() => Exit::Terminated,
    }
}
