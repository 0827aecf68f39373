//! Making files durable and putting them in their places, many at a time.
//!
//! While one batch is being synced the next one gathers, so a single file waits for nobody and thousands of small ones
//! share a sync. In a batch:
//!
//! 1. the contents, modes and times are made durable: each by `fsync`, or from [`COMMIT_SYNC_EACH_MAX`] files up all by
//!    one `syncfs` (which also writes what others have dirty on that file system);
//! 2. each part is renamed into its place;
//! 3. the directories are synced, in the same two ways;
//! 4. the source is told.
//!
//! So a file is never seen half, not even after the power failed; and a file of which the source was told is there after
//! a power failure. Directories and links are durable at the latest when the copy is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::tree::{Expected, Shared};
use crate::error::FileError;
use crate::fs::{Directory, Part};
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_FILES_MAX, COMMIT_SYNC_EACH_MAX};

/// A file that is whole, verified, and not in its place.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) file: Expected,
    pub(super) part: Part,
    pub(super) resumed: bool,
}

/// Commits until the queue is closed, and then what is left in it: it is whole.
pub(super) fn run(shared: &Arc<Shared>, mut queue: mpsc::Receiver<Commit>) {
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.file.size;
        let mut batch = vec![first];
        while batch.len() < COMMIT_FILES_MAX && bytes < COMMIT_BYTES_MAX {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.file.size;
            batch.push(next);
        }
        commit(shared, batch);
    }
}

fn commit(shared: &Shared, mut batch: Vec<Commit>) {
    if shared.sync {
        batch = sync_contents(shared, batch);
    }
    let mut batch = keep(shared, batch, |c| c.part.put_in_place(&c.file.name));
    if shared.sync {
        batch = sync_directories(shared, batch);
    }
    for Commit { file, resumed, .. } in batch {
        shared.tally.file_done(resumed);
        shared.done(file.id, false);
    }
}

/// Does something to each; what fails is told and left out.
fn keep(
    shared: &Shared,
    batch: Vec<Commit>,
    mut work: impl FnMut(&mut Commit) -> Result<(), FileError>,
) -> Vec<Commit> {
    let mut kept = Vec::with_capacity(batch.len());
    for mut commit in batch {
        match work(&mut commit) {
            Ok(()) => kept.push(commit),
            Err(error) => {
                commit.part.discard();
                shared.failed(commit.file.id, commit.file.path(), error);
            }
        }
    }
    kept
}

fn sync_contents(shared: &Shared, batch: Vec<Commit>) -> Vec<Commit> {
    if batch.len() > COMMIT_SYNC_EACH_MAX && sync_file_systems(&batch).is_ok() {
        return batch;
    }
    // Few, or somebody's data cannot be written: find out whose.
    keep(shared, batch, |c| c.part.sync())
}

fn sync_directories(shared: &Shared, batch: Vec<Commit>) -> Vec<Commit> {
    let directories: BTreeSet<_> =
        batch.iter().map(|commit| Arc::as_ptr(&commit.file.parent.directory)).collect();
    if directories.len() > COMMIT_SYNC_EACH_MAX && sync_file_systems(&batch).is_ok() {
        return batch;
    }
    let mut synced: BTreeMap<*const Directory, Result<(), FileError>> = BTreeMap::new();
    keep(shared, batch, |c| {
        let directory = &c.file.parent.directory;
        *synced.entry(Arc::as_ptr(directory)).or_insert_with(|| directory.sync())
    })
}

/// Syncs each file system that something of the batch is on.
fn sync_file_systems(batch: &[Commit]) -> Result<(), FileError> {
    let mut devices = BTreeMap::new();
    for commit in batch {
        devices.insert(commit.file.parent.device, &commit.file.parent.directory);
    }
    devices.values().try_for_each(|directory| directory.sync_file_system())
}
