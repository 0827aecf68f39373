//! Copies that were cut off: what the next one finds, and what it makes of it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use outlast::{Address, Auth, ConnectOptions, EntityName, EntityType, Messenger, Mode};
use outlast_transfer::{
    CopyRequest, Direction, FileErrorKind, Folder, Progress, ServeOptions, Side, TransferError, copy, serve,
};

const SIZE: usize = 48 << 20;

/// The partial files in a directory.
fn parts(directory: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<_> = fs::read_dir(directory)
        .expect("listed")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "part"))
        .collect();
    parts.sort();
    parts
}

/// Begins a copy and drops everything of both ends once `bytes` are at their destination `to`. Under load this comes too
/// late now and then; then what arrived goes, and it is tried again.
async fn cut_off(root: &Path, request: &CopyRequest, to: &Path, bytes: u64) {
    for _ in 0..20 {
        let before = if to.is_dir() { listing(to) } else { Vec::new() };
        let served = serving(root).await;
        let task = tokio::spawn({
            let (session, request) = (served.pair.ours.clone(), request.clone());
            async move { copy(&session, &request, &Progress::new()).await }
        });
        within(async {
            while !task.is_finished() && (!to.is_dir() || arrived(to) < bytes) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        })
        .await;
        task.abort();
        served.task.abort();
        let _ = task.await;
        served.pair.ours.abort();
        served.pair.theirs.abort();
        // The threads finish what they are at; then nobody holds a part any more.
        until("the end of the threads", || to.is_dir() && parts(to).iter().all(|part| is_free(part))).await;
        if !parts(to).is_empty() {
            return;
        }
        for new in listing(to).into_iter().rev().filter(|path| !before.contains(path)) {
            fs::remove_file(to.join(new)).expect("removed");
        }
    }
    panic!("never in time");
}

/// Whether nobody writes to a part.
fn is_free(part: &Path) -> bool {
    let Ok(file) = fs::File::open(part) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_on_where_it_was_in_both_directions() {
    let temp = TempDir::new("resume");
    write(&temp.join("from/large"), &noise(SIZE, 1));
    for direction in [Direction::Upload, Direction::Download] {
        for (number, cut) in [1 << 20, 20 << 20, 40 << 20].into_iter().enumerate() {
            let to = temp.mkdir(format!("to-{direction:?}-{number}"));
            let (root, request) = match direction {
                Direction::Upload => (to.clone(), upload(temp.join("from/large"), "")),
                Direction::Download => (temp.join("from"), download("large", to.join(""))),
            };
            cut_off(&root, &request, &to, cut).await;
            assert!(!to.join("large").exists(), "never seen half");
            let summary = copy_once(&root, &request).await.expect("the rest");
            assert!(summary.is_complete(), "{:?}", summary.failures);
            assert_eq!((summary.files_copied, summary.files_resumed), (1, 1), "{direction:?} {cut}");
            assert!(summary.bytes_resumed > 0, "{direction:?} {cut}");
            assert_eq!(summary.bytes_copied + summary.bytes_resumed, SIZE as u64);
            assert_eq!(listing(&to), [Path::new("large")]);
            assert!(fs::read(to.join("large")).expect("there") == noise(SIZE, 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_trusted_but_compared() {
    let temp = TempDir::new("tampered");
    let (root, source) = (temp.mkdir("root"), temp.join("large"));
    write(&source, &noise(SIZE, 2));
    let request = upload(&source, "");
    cut_off(&root, &request, &root, 10 << 20).await;
    let part = parts(&root).pop().expect("a part");
    let mut bytes = fs::read(&part).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, bytes).expect("written");
    let summary = copy_once(&root, &request).await.expect("copied");
    assert_eq!((summary.files_copied, summary.files_resumed, summary.bytes_resumed), (1, 0, 0));
    assert_eq!(summary.bytes_copied, SIZE as u64);
    assert!(fs::read(root.join("large")).expect("there") == noise(SIZE, 2));
    assert_eq!(listing(&root), [Path::new("large")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_already_whole_only_needs_its_name() {
    let temp = TempDir::new("whole-part");
    let (root, source) = (temp.mkdir("root"), temp.join("large"));
    write(&source, &noise(SIZE, 3));
    let request = upload(&source, "");
    cut_off(&root, &request, &root, 1 << 20).await;
    let part = parts(&root).pop().expect("a part");
    fs::write(&part, noise(SIZE, 3)).expect("written");
    let summary = copy_once(&root, &request).await.expect("copied");
    assert_eq!((summary.files_resumed, summary.bytes_copied), (1, 0));
    assert_eq!(summary.bytes_resumed, SIZE as u64);
    assert!(fs::read(root.join("large")).expect("there") == noise(SIZE, 3));
    assert_eq!(listing(&root), [Path::new("large")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changed_meanwhile_begins_anew_and_the_old_part_goes() {
    let temp = TempDir::new("changed-between");
    let (root, source) = (temp.mkdir("root"), temp.join("large"));
    write(&source, &noise(SIZE, 4));
    let request = upload(&source, "");
    cut_off(&root, &request, &root, 10 << 20).await;
    assert_eq!(parts(&root).len(), 1);
    write(&source, &noise(SIZE, 5));
    let summary = copy_once(&root, &request).await.expect("copied");
    assert_eq!((summary.files_resumed, summary.bytes_copied), (0, SIZE as u64));
    assert!(fs::read(root.join("large")).expect("there") == noise(SIZE, 5));
    assert_eq!(listing(&root), [Path::new("large")], "the stale part is swept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_is_cut_off_again_and_again_is_whole_in_the_end() {
    let temp = TempDir::new("again-and-again");
    for (name, len) in [("a/one", 9 << 20), ("a/two", 9 << 20), ("b/three", 9 << 20)] {
        write(&temp.join("src").join(name), &noise(len, len as u64));
    }
    for i in 0..300 {
        write(&temp.join(format!("src/small/{i}")), &noise(1000, i));
    }
    for direction in [Direction::Upload, Direction::Download] {
        let to = temp.mkdir(format!("to-{direction:?}"));
        let (root, request) = match direction {
            Direction::Upload => (to.clone(), upload(temp.join("src"), "tree/")),
            Direction::Download => (temp.path().to_owned(), download("src", to.join("tree/"))),
        };
        for cut in [1, 2 << 20, 3 << 20, 4 << 20] {
            cut_off(&root, &request, &to.join("tree/src/a"), cut).await;
        }
        let summary = copy_once(&root, &request).await.expect("the rest");
        assert!(summary.is_complete(), "{:?}", summary.failures);
        assert!(summary.files_resumed > 0 || summary.files_unchanged > 0);
        assert_same(&temp.join("src"), &to.join("tree/src"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_session_is_an_error_that_is_worth_another_try() {
    let temp = TempDir::new("session-end");
    let root = temp.mkdir("root");
    write(&temp.join("large"), &noise(SIZE, 6));
    let served = serving(&root).await;
    let progress = Progress::new();
    let task = tokio::spawn({
        let (session, progress) = (served.pair.ours.clone(), Arc::clone(&progress));
        let request = upload(temp.join("large"), "");
        async move { copy(&session, &request, &progress).await }
    });
    within(async {
        while progress.snapshot().bytes_moved < 5 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    served.pair.ours.abort();
    let error = within(task).await.expect("no panic").expect_err("cut off");
    assert!(matches!(error, TransferError::SessionEnded(_)), "{error}");
    assert!(error.is_worth_another_try());
    assert!(progress.snapshot().current.is_empty(), "no name stays on the display");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_of_one_file_at_a_time_do_not_mix() {
    let temp = TempDir::new("two");
    let root = temp.mkdir("root");
    write(&temp.join("large"), &noise(SIZE, 7));
    let (one, two) = (serving(&root).await, serving(&root).await);
    let request = upload(temp.join("large"), "");
    let (first, second) = tokio::join!(one.copy(&request), two.copy(&request));
    let mut whole = 0;
    for summary in [first.expect("copied"), second.expect("copied")] {
        match summary.failures.first() {
            None => whole += 1,
            Some(failure) => {
                assert_eq!((failure.side, failure.error.kind), (Side::Remote, FileErrorKind::Busy));
            }
        }
    }
    assert!(whole >= 1);
    assert!(fs::read(root.join("large")).expect("there") == noise(SIZE, 7));
    assert_eq!(listing(&root), [Path::new("large")]);
    one.end().await.expect("served");
    two.end().await.expect("served");
}

/// The test that starts itself once more.
const KILLED_TEST: &str = "the_death_of_either_process_loses_nothing_that_arrived";
/// What a child process of it is to do: its environment says.
const CHILD: &str = "OUTLAST_TRANSFER_TEST_CHILD";

fn messenger(id: &str) -> Messenger {
    let name = EntityName::new(EntityType::Client, id);
    Messenger::builder(name).auth(Auth::none()).modes([Mode::CRC]).build().expect("a messenger")
}

/// What the children of the test below do, one serving and one copying.
async fn work(task: &str) {
    let words: Vec<_> = task.split('|').collect();
    match words[..] {
        ["serve", root, tell] => {
            let messenger = messenger("server");
            let address =
                messenger.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listening");
            fs::write(format!("{tell}.new"), address.to_string()).expect("told");
            fs::rename(format!("{tell}.new"), tell).expect("told");
            let folder = Folder::open(Path::new(root)).expect("a folder");
            while let Some(session) = messenger.accept().await {
                let folder = folder.clone();
                tokio::spawn(async move { serve(&session, &folder, &ServeOptions::default()).await });
            }
        }
        ["copy", address, source] => {
            let messenger = messenger("copy");
            let address: Address = address.parse().expect("an address");
            let session = messenger.connect(&[address], ConnectOptions::lossless()).await.expect("connected");
            let summary = copy(&session, &upload(source, ""), &Progress::new()).await.expect("copied");
            assert!(summary.is_complete());
        }
        _ => panic!("{task}"),
    }
}

struct Killed(Child);

impl Killed {
    /// Starts the test that calls this once more, with a task.
    fn start(task: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .args(["--exact", KILLED_TEST, "--test-threads", "1"])
            .env(CHILD, task)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("a child"))
    }

    /// With SIGKILL.
    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is there.
async fn until(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if there() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what} never came");
}

/// Content in the partial files of a directory.
fn arrived(root: &Path) -> u64 {
    parts(root).iter().filter_map(|p| fs::metadata(p).ok()).map(|m| m.len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_either_process_loses_nothing_that_arrived() {
    if let Some(task) = std::env::var_os(CHILD) {
        return work(task.to_str().expect("text")).await;
    }
    let temp = TempDir::new("killed");
    let root = temp.mkdir("root");
    let size = 192 << 20;
    write(&temp.join("large"), &noise(size, 8));
    let serve_task = format!("serve|{}|{}", root.display(), temp.join("address").display());

    // The server dies in the middle.
    let mut server = Killed::start(&serve_task);
    until("the server", || temp.join("address").exists()).await;
    let address = fs::read_to_string(temp.join("address")).expect("told");
    let copy_task = |address: &str| format!("copy|{address}|{}", temp.join("large").display());
    let mut client = Killed::start(&copy_task(&address));
    until("some of it", || arrived(&root) > 8 << 20).await;
    server.kill();
    client.kill();
    let after_first = arrived(&root);
    assert!(!root.join("large").exists() && after_first > 8 << 20);

    // Then, on a new server, the client.
    fs::remove_file(temp.join("address")).expect("removed");
    let _server = Killed::start(&serve_task);
    until("the server", || temp.join("address").exists()).await;
    let address = fs::read_to_string(temp.join("address")).expect("told");
    let mut client = Killed::start(&copy_task(&address));
    until("more of it", || arrived(&root) > after_first + (8 << 20)).await;
    client.kill();
    assert!(!root.join("large").exists());

    // The rest, by a client that stays.
    let messenger = messenger("copy");
    let address: Address = address.parse().expect("an address");
    let session = within(messenger.connect(&[address], ConnectOptions::lossless())).await.expect("connected");
    let summary =
        within(copy(&session, &upload(temp.join("large"), ""), &Progress::new())).await.expect("copied");
    assert!(summary.is_complete(), "{:?}", summary.failures);
    assert_eq!(summary.files_resumed, 1);
    assert!(summary.bytes_resumed > after_first + (8 << 20), "what came before both deaths was kept");
    assert_eq!(summary.bytes_copied + summary.bytes_resumed, size as u64);
    assert!(fs::read(root.join("large")).expect("there") == noise(size, 8));
    assert_eq!(listing(&root), [Path::new("large")]);
}
