//! Threads for what waits for disks.

use tokio::sync::mpsc;

use crate::error::TransferError;

/// Hears of threads that died of a bug, so that a copy fails instead of waiting for them.
pub(crate) type Deaths = mpsc::UnboundedSender<&'static str>;

struct Obituary {
    what: &'static str,
    deaths: Deaths,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody listens any more: then nobody waits either.
            let _ = self.deaths.send(self.what);
        }
    }
}

/// Starts a thread that works for a copy. It ends by itself when the copy's queues close.
pub(crate) fn spawn(
    what: &'static str,
    deaths: &Deaths,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), TransferError> {
    let obituary = Obituary { what, deaths: deaths.clone() };
    let thread = std::thread::Builder::new().name(format!("outlast-{what}")).spawn(move || {
        let _obituary = obituary;
        work();
    });
    thread.map(drop).map_err(|error| {
        tracing::error!(what, %error, "no thread to be had");
        TransferError::Worker
    })
}
