//! Every bound of this crate, with its unit in its name and its reason beside it.
//!
//! What a peer can make us hold is the sum of these: at most [`ENTRIES_IN_FLIGHT_MAX`] entries of a few hundred
//! bytes, [`DIRECTORIES_OPEN_MAX`] and [`STREAMS_OPEN_MAX`] descriptors, and the few messages of
//! [`MESSAGE_DATA_BYTES_MAX`] that the queues between the threads hold.

/// Longest name of one directory entry, in bytes: Linux's `NAME_MAX`.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest path that a request may carry, in bytes: Linux's `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4096;

/// Longest target of a symbolic link, in bytes: Linux takes `PATH_MAX` with the final NUL.
pub const LINK_TARGET_BYTES_MAX: usize = 4095;

/// How many directories deep a tree may be, counted from what is copied.
///
/// Each level of a walk holds two descriptors at the source and one at the sink, and a process has 1024 by default.
pub const DEPTH_MAX: usize = 128;

/// Files, directories or links named in one request.
pub const ITEMS_MAX: usize = 1024;

/// Entries that the source may have announced and not yet heard the end of.
///
/// At 50 µs a file this hides 200 ms of round trip; each costs a few hundred bytes at both ends.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 4096;

/// What the sink tolerates beyond [`ENTRIES_IN_FLIGHT_MAX`] before it calls the source a liar: an answer of the sink
/// and a new entry of the source may cross.
pub const ENTRIES_IN_FLIGHT_REFUSED: usize = 2 * ENTRIES_IN_FLIGHT_MAX;

/// Directories that may be unfinished at the sink at a time, those above included; each holds a descriptor at both ends.
pub const DIRECTORIES_OPEN_MAX: usize = 256;

/// What the sink tolerates beyond [`DIRECTORIES_OPEN_MAX`], as [`ENTRIES_IN_FLIGHT_REFUSED`].
pub const DIRECTORIES_OPEN_REFUSED: usize = 2 * DIRECTORIES_OPEN_MAX;

/// Files whose content may be half-way over at a time: each holds a descriptor at the sink.
pub const STREAMS_OPEN_MAX: usize = 16;

/// Partial files of an earlier copy that each writer of the sink keeps open between its offer to go on from them and
/// the source's answer. Beyond this a file begins anew: its bytes are sent again, no harm else.
pub const RESUMES_OPEN_MAX: usize = 32;

/// Entries in one `Entries` message.
pub const ENTRIES_PER_MESSAGE_MAX: usize = 512;

/// Answers in one `Answers` message.
pub const ANSWERS_PER_MESSAGE_MAX: usize = 1024;

/// Files in one `Bundle` message.
pub const BUNDLE_FILES_MAX: usize = 128;

/// Content of the files in one `Bundle` message that a source of ours fills, in bytes.
pub const BUNDLE_BYTES_TARGET: usize = 512 << 10;

/// Content in one `Data` message of ours, in bytes: hashing and disk work in pieces that fit a core's L2 cache, and
/// small enough that a cut connection repeats little.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Content in any message that is accepted, in bytes.
pub const MESSAGE_DATA_BYTES_MAX: usize = 4 << 20;

/// Header of any message that is accepted, in bytes: enough for the largest batch of [`ITEMS_MAX`] paths.
pub const MESSAGE_FRONT_BYTES_MAX: usize = 5 << 20;

/// Header at which a batch of entries or answers is sent, full or not, in bytes.
pub const BATCH_FRONT_BYTES_TARGET: usize = 64 << 10;

/// Files up to this size travel in bundles and begin anew after an interruption; larger ones are streamed and go on
/// where they were. In bytes.
pub const SMALL_FILE_BYTES_MAX: u64 = 128 << 10;

/// How often a file that changes while it is read is begun anew before that is reported.
pub const CHANGED_RETRIES_MAX: u32 = 3;

/// Files that are made durable and renamed together.
pub const COMMIT_FILES_MAX: usize = 128;

/// Files in a batch up to which each is synced by itself; above, one `syncfs` does it for all.
pub const COMMIT_SYNC_EACH_MAX: usize = 8;

/// Bytes that are made durable together: bounds how long the first of a batch waits for the last.
pub const COMMIT_BYTES_MAX: u64 = 256 << 20;

/// Failures and skips of which a summary keeps the text; all are counted.
pub const FAILURES_KEPT_MAX: usize = 1000;

/// Longest text that a peer may send us to show, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Directory entries that are looked at for partial files left by earlier copies, per directory.
pub const SWEEP_ENTRIES_MAX: usize = 200_000;

/// Age from which a partial file that nobody writes to is removed though its file never arrived, in seconds.
pub const PART_AGE_SECONDS_MAX: i64 = 14 * 24 * 3600;

/// How long a writer waits for another process (or a copy of its own that is just ending) to let go of a partial
/// file, in milliseconds, and how often it looks.
pub const PART_LOCK_WAIT_MS_MAX: u64 = 2000;
/// See [`PART_LOCK_WAIT_MS_MAX`].
pub const PART_LOCK_POLL_MS: u64 = 20;

/// Threads that read files at a source, and that write them at a sink.
pub const READERS: usize = 2;
/// See [`READERS`].
pub const WRITERS: usize = 2;

/// Pieces of work that may wait for one writer at the sink. Each holds at most [`MESSAGE_DATA_BYTES_MAX`].
pub const WRITER_QUEUE_JOBS: usize = 8;

/// Messages that the readers of a source may have ready before the session takes them.
pub const OUTGOING_QUEUE_MESSAGES: usize = 4;

/// How long the peer may take to answer the first message and a request, in seconds: it is counted while the session
/// lives, which may be without a connection, and a server looks at its disk before it answers.
pub const ANSWER_SECONDS_MAX: u64 = 300;
