//! What the tests have in common: directories of their own, two ends of a session, and a copy over it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod by_hand;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use outlast::{Address, Auth, ConnectOptions, EntityName, EntityType, Messenger, Mode, Session};
use outlast_transfer::{
    CopyRequest, Folder, Progress, ServeOptions, Served, Summary, TransferError, compare, copy, serve,
};
use tokio::task::JoinHandle;

/// Every wait in these tests ends here at the latest.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A directory that goes with the test.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(situation: &str) -> Self {
        Self::below(&std::env::temp_dir(), situation)
    }

    /// For very many files, where there is a file system in memory: not every disk removes them quickly.
    pub fn in_memory(situation: &str) -> Self {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() { Self::below(shm, situation) } else { Self::new(situation) }
    }

    pub fn below(parent: &Path, situation: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("outlast-{situation}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// A directory in it.
    pub fn mkdir(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.join(path);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A thread of a copy that was cut off may just be making something.
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Two ends of one session over loopback TCP.
pub struct Pair {
    pub server: Messenger,
    pub client: Messenger,
    pub ours: Session,
    pub theirs: Session,
}

pub async fn pair() -> Pair {
    let name = |id| EntityName::new(EntityType::Client, id);
    let build =
        |id| Messenger::builder(name(id)).auth(Auth::none()).modes([Mode::CRC]).build().expect("a messenger");
    let (server, client) = (build("server"), build("copy"));
    let loopback: Address = "127.0.0.1:0".parse().expect("an address");
    let address = server.listen(loopback).await.expect("listening");
    let ours = within(client.connect(&[address], ConnectOptions::lossless())).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    Pair { server, client, ours, theirs }
}

/// Not for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Serves a folder on the far end of a pair.
pub fn serve_on(
    theirs: &Session,
    root: &Path,
    options: ServeOptions,
) -> JoinHandle<Result<Served, TransferError>> {
    let (theirs, folder) = (theirs.clone(), Folder::open(root).expect("a folder"));
    tokio::spawn(async move { serve(&theirs, &folder, &options).await })
}

/// A session whose far end serves `root`.
pub struct Served2 {
    pub pair: Pair,
    pub task: JoinHandle<Result<Served, TransferError>>,
}

pub async fn serving(root: &Path) -> Served2 {
    serving_with(root, ServeOptions::default()).await
}

pub async fn serving_with(root: &Path, options: ServeOptions) -> Served2 {
    let pair = pair().await;
    let task = serve_on(&pair.theirs, root, options);
    Served2 { pair, task }
}

impl Served2 {
    pub async fn copy(&self, request: &CopyRequest) -> Result<Summary, TransferError> {
        self.copy_showing(request, &Progress::new()).await
    }

    pub async fn copy_showing(
        &self,
        request: &CopyRequest,
        progress: &Arc<Progress>,
    ) -> Result<Summary, TransferError> {
        within(copy(&self.pair.ours, request, progress)).await
    }

    /// Ends the session in order and says what was served.
    pub async fn end(self) -> Result<Served, TransferError> {
        within(self.pair.ours.close()).await;
        within(self.task).await.expect("no panic")
    }
}

/// One copy over a session of its own.
pub async fn copy_once(root: &Path, request: &CopyRequest) -> Result<Summary, TransferError> {
    let served = serving(root).await;
    let result = served.copy(request).await;
    served.end().await.expect("served to the end");
    result
}

/// Uploads one source.
pub fn upload(source: impl Into<PathBuf>, destination: &str) -> CopyRequest {
    CopyRequest::upload([source.into()], destination)
}

/// Downloads one source.
pub fn download(source: &str, destination: impl Into<PathBuf>) -> CopyRequest {
    CopyRequest::download([source.into()], destination.into())
}

/// Everything that is in a tree, by name.
pub fn listing(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut stack = vec![top.to_owned()];
    while let Some(directory) = stack.pop() {
        for entry in std::fs::read_dir(&directory).expect("listed") {
            let entry = entry.expect("an entry");
            found.push(entry.path().strip_prefix(top).expect("below").to_owned());
            if entry.file_type().expect("a type").is_dir() {
                stack.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// No difference between two trees, and nothing left over.
pub fn assert_same(a: &Path, b: &Path) {
    let comparison = compare(a, b, None).expect("both trees open");
    assert_eq!(comparison.differences, [], "{a:?} and {b:?}");
}

/// Something to fill files with that no two files have in common.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len];
    for piece in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
    }
    bytes
}

/// Writes a file, with the directories above it.
pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    std::fs::write(path, bytes).expect("written");
}

/// A time of last modification.
pub fn set_modified(path: &Path, seconds: u64, nanoseconds: u32) {
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    std::fs::File::open(path).expect("opened").set_modified(time).expect("set");
}

/// Tells that a test could not be what it is here, so that whoever runs the tests can hold it against the list.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(path) = std::env::var_os("OUTLAST_SKIP_LOG") {
        use std::io::Write;
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the log");
        writeln!(log, "{test}: {reason}").expect("the log takes it");
    }
}
