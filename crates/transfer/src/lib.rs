#![forbid(unsafe_code)]
//! Files and trees between machines over an Outlast session, in both directions: [`copy`] asks, [`serve`] is asked.
//!
//! ```no_run
//! # async fn example(session: outlast::Session) -> Result<(), Box<dyn std::error::Error>> {
//! use outlast_transfer::{CopyRequest, Progress, copy};
//!
//! let progress = Progress::new(); // give a clone to whoever displays it
//! let request = CopyRequest::upload(["photos".into()], "backup/");
//! let summary = copy(&session, &request, &progress).await?;
//! for failure in &summary.failures {
//!     eprintln!("{failure}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What goes where
//!
//! As with `cp -r`, and with rsync's trailing slash; the same in both directions.
//!
//! | asked for | what exists | result |
//! | --- | --- | --- |
//! | `a` to `b` | `b` is a directory | `b/a` |
//! | `a` to `b` | `b` is not a directory, or does not exist | `a` becomes `b`; the directory of `b` must exist |
//! | `a/` (or `a/.`, `.`, `..`) to `b` | | what is in `a` goes into `b`, which is made if it is missing |
//! | `a` to `b/`, or several to `b` | | `b` is a directory, made if it is missing, and gets `b/a` |
//!
//! Paths at the server are relative to the served folder, which is `.` or nothing at all; absolute ones and those with `..`
//! are refused, and no link is followed in them. Local paths are the person's own and mean what they mean elsewhere.
//!
//! A directory that is there is added to, never emptied. A file or link that is there is replaced if it differs. A
//! directory is never replaced by a file, nor a file or link by a directory: that is a failure of this entry.
//!
//! # What is kept
//!
//! Content, permission bits (`0o777`) and time of last modification to the nanosecond, of files and directories; target
//! and time of symbolic links, which are copied as links and never followed. Not kept: owner and group, set-user-id,
//! set-group-id and sticky bits, access times, extended attributes, access control lists, holes, and that two names are
//! one file. Devices, pipes and sockets are left out and told of. Partial files (`.NAME.outlast-TAG.part`) are not copied.
//!
//! # What is promised
//!
//! - **Whole or not at all.** A file arrives beside its place, is compared with its BLAKE3 hash, which the source took from the
//!   same bytes as it read them, is synced and then renamed. What stood there before stays until then.
//! - **As it was at one moment.** A file that changes while it is read is begun anew, up to
//!   [`CHANGED_RETRIES_MAX`](limits::CHANGED_RETRIES_MAX) times; then it is a failure. (A change that alters neither size
//!   nor any time, as a program may write through a mapping, is not noticed.)
//! - **Confirmed.** The source counts a file as done when the sink has renamed it, and, unless [`Sync::None`] was asked
//!   for, its content, mode, time and name survive a power failure. Thousands of small files share one sync. Directories and
//!   links are durable when the copy is over.
//! - **It goes on.** When the connection goes, the session waits and resumes; when the session or a process dies, the same
//!   copy asked for again skips what is whole (same size and time, or with [`CopyOptions::checksum`] the same content)
//!   and goes on in the middle of large files, once the source has confirmed the hash of what is there. Files up to
//!   [`SMALL_FILE_BYTES_MAX`](limits::SMALL_FILE_BYTES_MAX) begin anew.
//! - **One failure is one failure.** What cannot be read or written is told, with its path, its side and who is to look for
//!   the cause, and the copy goes on.
//! - **Nothing outside the served folder** is read or written, whatever the client sends and whatever is renamed meanwhile,
//!   and a server cannot make a client write anything but what was asked for into the place that was named: see
//!   [`fs`] for how, and for what a person with rights on the server's file system can do.
//!
//! Everything that is bounded is bounded by a constant in [`limits`]. The protocol is described in `PROTOCOL.md`
//! beside this crate's manifest. Linux only.

mod claims;
mod client;
mod compare;
pub mod error;
pub mod fs;
mod generate;
pub mod limits;
mod link;
pub mod name;
mod place;
mod progress;
mod server;
mod session;
mod sink;
mod source;
#[cfg(test)]
mod testing;
mod threads;
pub mod wire;

use std::sync::Arc;

pub use client::{CopyOptions, CopyRequest, Links, Sync};
pub use compare::{Comparison, Difference, Differs, compare};
pub use error::{Failure, Fault, FileError, FileErrorKind, Refusal, Side, TransferError, Violation};
pub use fs::{Folder, raise_open_files_limit};
pub use generate::{GenerateError, GenerateOptions, Generated, generate};
pub use progress::{Progress, Snapshot, Summary};
pub use server::{ServeOptions, Served};
pub use wire::Direction;

use session::SessionLink;

/// Copies files and trees over a session to or from whoever [`serve`]s at its other end.
///
/// Everything that waits is in the returned future: dropped, the copy stops, and what arrived stays for a later one.
/// One copy at a time on one session. The threads that read and write end by themselves.
///
/// # Errors
///
/// A [`TransferError`] is the end of the whole copy, with what arrived until then in place. What goes wrong with
/// single files is no error but told in the [`Summary`].
///
/// # Panics
///
/// Outside of a tokio runtime with time enabled.
pub async fn copy(
    session: &outlast::Session,
    request: &CopyRequest,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    client::run(&SessionLink::new(session), request, progress).await
}

/// Serves `folder` to the client at the other end of a session, until the session ends: any number of copies, one after
/// the other.
///
/// # Errors
///
/// A [`TransferError`] if the client broke the protocol (it is told so), if it forgot the session, or if this process
/// has no threads left. The session is closed then. What a client may not do, or asks for in
/// vain, is told to it and is no error here.
///
/// # Panics
///
/// Outside of a tokio runtime with time enabled.
pub async fn serve(
    session: &outlast::Session,
    folder: &Folder,
    options: &ServeOptions,
) -> Result<Served, TransferError> {
    let result = server::run(&SessionLink::new(session), folder, options).await;
    if result.is_err() {
        // Nobody listens any more: the client shall not wait for answers.
        session.close().await;
    }
    result
}
