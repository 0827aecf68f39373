//! Ctrl-C and its relatives.

use crate::exit::Exit;
use std::task::Poll;
use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody wants this program to end: SIGINT or SIGTERM. Says with which exit code it then ends. The signals
/// are caught from this call on, not from the first time that the future is polled.
pub(crate) fn stop() -> impl Future<Output = Exit> {
    caught(&[(SignalKind::interrupt(), Exit::Interrupted), (SignalKind::terminate(), Exit::Terminated)])
}

/// As [`stop`], and the terminal going away, which a server may be told to survive (`nohup`).
pub(crate) fn stop_or_hang_up() -> impl Future<Output = Exit> {
    caught(&[
        (SignalKind::interrupt(), Exit::Interrupted),
        (SignalKind::terminate(), Exit::Terminated),
        (SignalKind::hangup(), Exit::Terminated),
    ])
}

fn caught(kinds: &[(SignalKind, Exit)]) -> impl Future<Output = Exit> + use<> {
    // Without a handler a signal ends the program by itself.
    let mut signals: Vec<_> =
        kinds.iter().filter_map(|&(kind, exit)| signal(kind).ok().map(|signal| (signal, exit))).collect();
    std::future::poll_fn(move |cx| {
        for (signal, exit) in &mut signals {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*exit);
            }
        }
        Poll::Pending
    })
}
