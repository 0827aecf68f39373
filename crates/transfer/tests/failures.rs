//! What goes wrong with single files: it is told, with its path, its side and its cause, and the rest is copied.

mod common;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use outlast_transfer::limits::DEPTH_MAX;
use outlast_transfer::{
    CopyRequest, Fault, FileErrorKind, Progress, Refusal, Side, Summary, TransferError, copy,
};

/// What failed: by path below `top`, side and cause.
fn failures(summary: &Summary, top: &Path) -> Vec<(String, Side, FileErrorKind)> {
    let mut failures: Vec<_> = summary
        .failures
        .iter()
        .map(|f| {
            let path = f.path.strip_prefix(top).unwrap_or(&f.path);
            (path.to_string_lossy().into_owned(), f.side, f.error.kind)
        })
        .collect();
    failures.sort_by(|a, b| a.0.cmp(&b.0));
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_does_not_exist_is_told_and_the_others_arrive() {
    let temp = TempDir::new("missing");
    let root = temp.mkdir("root");
    write(&temp.join("here"), b"content");
    let served = serving(&root).await;
    let request = CopyRequest::upload([temp.join("gone"), temp.join("here"), temp.join("gone/too")], "up");
    let summary = served.copy(&request).await.expect("copied");
    assert_eq!((summary.files_copied, summary.is_complete()), (1, false));
    let expected = ["gone", "gone/too"].map(|p| (p.to_owned(), Side::Local, FileErrorKind::NotFound));
    assert_eq!(failures(&summary, temp.path()), expected);
    assert_eq!(summary.failures[0].error.fault(), Fault::User);

    let request = CopyRequest::download(["up/gone".into(), "up/here".into()], temp.join("down"));
    let summary = served.copy(&request).await.expect("copied");
    assert_eq!(
        failures(&summary, Path::new("")),
        [("up/gone".to_owned(), Side::Remote, FileErrorKind::NotFound)]
    );
    assert_eq!(listing(&temp.join("down")), [Path::new("here")]);
    served.end().await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_cannot_be_is_refused_before_anything_is_sent() {
    let temp = TempDir::new("no-destination");
    let root = temp.mkdir("root");
    write(&temp.join("a"), b"a");
    write(&temp.join("b"), b"b");
    write(&root.join("file"), b"file");
    let served = serving(&root).await;
    let refused = |result: Result<Summary, TransferError>| match result {
        Err(TransferError::Refused(Refusal::Path { error, .. })) => error.kind,
        other => panic!("{other:?}"),
    };
    let missing = served.copy(&upload(temp.join("a"), "none/new")).await;
    assert_eq!(refused(missing), FileErrorKind::NotFound);
    assert_eq!(refused(served.copy(&upload(temp.join("a"), "file/")).await), FileErrorKind::NotADirectory);
    let several = served.copy(&CopyRequest::upload([temp.join("a"), temp.join("b")], "file")).await;
    assert_eq!(several, Err(TransferError::Refused(Refusal::NeedsDirectory)));
    let local = served.copy(&download("file", temp.join("none/new"))).await.expect_err("no place for it");
    assert!(
        matches!(&local, TransferError::Local { error, .. } if error.kind == FileErrorKind::NotFound),
        "{local}"
    );
    assert_eq!(local.fault(), Fault::User);
    let nothing = served.copy(&CopyRequest::upload([], "x")).await;
    assert_eq!(nothing, Err(TransferError::Items(0)));
    served.end().await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_directories_do_not_replace_each_other() {
    let temp = TempDir::new("kinds");
    let root = temp.mkdir("root");
    write(&temp.join("src/was-directory"), b"now a file");
    write(&temp.join("src/was-file/inner"), b"now in a directory");
    write(&temp.join("src/fine"), b"fine");
    std::os::unix::fs::symlink("x", temp.join("src/link-over-directory")).expect("made");
    write(&root.join("src/was-directory/inner"), b"precious");
    write(&root.join("src/was-file"), b"precious");
    write(&root.join("src/link-over-directory/inner"), b"precious");
    let served = serving(&root).await;
    let summary = served.copy(&upload(temp.join("src"), "")).await.expect("copied");
    let failed = |name: &str, kind| (name.to_owned(), Side::Remote, kind);
    assert_eq!(
        failures(&summary, &temp.join("src")),
        [
            failed("link-over-directory", FileErrorKind::IsADirectory),
            failed("was-directory", FileErrorKind::IsADirectory),
            failed("was-file", FileErrorKind::NotADirectory),
        ]
    );
    assert_eq!(summary.files_copied, 1);
    for precious in ["was-directory/inner", "was-file", "link-over-directory/inner"] {
        assert_eq!(fs::read(root.join("src").join(precious)).expect("there"), b"precious");
    }
    served.end().await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_is_too_deep_is_cut_and_told() {
    let temp = TempDir::new("deep");
    let root = temp.mkdir("root");
    let mut path = temp.join("src");
    for _ in 0..DEPTH_MAX + 4 {
        path = path.join("d");
    }
    write(&path.join("file"), b"deep");
    write(&temp.join("src/file"), b"shallow");
    let served = serving(&root).await;
    let summary = served.copy(&upload(temp.join("src"), "")).await.expect("copied");
    assert_eq!(summary.failures.len(), 1);
    assert_eq!(summary.failures[0].error.kind, FileErrorKind::TooDeep);
    assert_eq!((summary.files_copied, summary.directories), (1, DEPTH_MAX as u64));
    served.end().await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_read_arrives_as_it_was_at_one_moment() {
    let temp = TempDir::new("changes-once");
    let root = temp.mkdir("root");
    let size = 96 << 20;
    let source = temp.join("large");
    write(&source, &noise(size, 1));
    let served = serving(&root).await;
    let progress = Progress::new();
    let task = tokio::spawn({
        let (session, progress) = (served.pair.ours.clone(), Arc::clone(&progress));
        let request = upload(&source, "");
        async move { copy(&session, &request, &progress).await }
    });
    within(async {
        while progress.snapshot().bytes_moved < 8 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // What is read already changes, and the file grows.
    let mut file = fs::OpenOptions::new().write(true).open(&source).expect("opened");
    file.write_all(b"changed").expect("written");
    file.seek(SeekFrom::End(0)).expect("sought");
    file.write_all(b"grown").expect("written");
    drop(file);
    let summary = within(task).await.expect("no panic").expect("copied");
    assert!(summary.is_complete(), "{:?}", summary.failures);
    assert!(summary.bytes_copied > size as u64 + 5, "it was begun anew");
    assert!(fs::read(root.join("large")).expect("there") == fs::read(&source).expect("there"));
    assert_same(&source.parent().expect("above").join("root"), &root);
    assert_eq!(
        fs::metadata(root.join("large")).expect("there").modified().expect("a time"),
        fs::metadata(&source).expect("there").modified().expect("a time")
    );
    assert_eq!(listing(&root), [Path::new("large")]);
    served.end().await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_never_stops_changing_is_given_up_and_the_rest_arrives() {
    let temp = TempDir::new("changes-always");
    let root = temp.mkdir("root");
    // Long enough to read that the writer below gets its turn meanwhile, however busy the machine is.
    write(&temp.join("src/restless"), b"");
    let restless = fs::OpenOptions::new().write(true).open(temp.join("src/restless")).expect("opened");
    restless.set_len(160 << 20).expect("grown");
    write(&temp.join("src/calm"), b"calm");
    write(&root.join("src/restless"), b"older");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, path) = (Arc::clone(&stop), temp.join("src/restless"));
        move || {
            let mut file = fs::OpenOptions::new().write(true).open(path).expect("opened");
            while !stop.load(Ordering::Relaxed) {
                file.seek(SeekFrom::Start(0)).expect("sought");
                file.write_all(b"x").expect("written");
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    });
    let served = serving(&root).await;
    let summary = served.copy(&upload(temp.join("src"), "")).await.expect("copied");
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("no panic");
    let expected = [("restless".to_owned(), Side::Local, FileErrorKind::Changed)];
    assert_eq!(failures(&summary, &temp.join("src")), expected);
    assert_eq!(summary.failures[0].error.fault(), Fault::Environment);
    assert_eq!(summary.files_copied, 1);
    assert_eq!(fs::read(root.join("src/restless")).expect("there"), b"older", "what was there stays");
    served.end().await.expect("served");
}

/// A small file system in memory, as long as this lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, size: &str) -> Result<Self, String> {
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "outlast-test"]).arg(at).output();
        match mount {
            Ok(output) if output.status.success() => Ok(Self(at)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_files_that_do_not_fit_and_leaves_nothing_of_them() {
    let temp = TempDir::new("full");
    let root = temp.mkdir("root");
    let _disk = match SmallDisk::mount(&root, "8m") {
        Ok(disk) => disk,
        Err(reason) => {
            let test = "failures::a_full_disk_fails_the_files_that_do_not_fit_and_leaves_nothing_of_them";
            return skip(test, &format!("cannot mount a small disk: {reason}"));
        }
    };
    write(&temp.join("src/too-large"), &noise(12 << 20, 1));
    write(&temp.join("src/fits"), &noise(5 << 20, 2));
    for i in 0..100 {
        write(&temp.join(format!("src/small/{i}")), &noise(100_000, i));
    }
    let served = serving(&root).await;
    let summary = served.copy(&upload(temp.join("src"), "")).await.expect("copied");
    assert!(!summary.failures.is_empty());
    for failure in &summary.failures {
        let found = (failure.side, failure.error.kind, failure.error.fault());
        assert_eq!(found, (Side::Remote, FileErrorKind::NoSpace, Fault::Environment), "{failure}");
    }
    assert!(summary.failures.iter().any(|f| f.path.ends_with("too-large")));
    assert_eq!(summary.files_copied + summary.files_failed, 102);
    assert!(summary.files_copied > 10, "what fits is there: {}", summary.files_copied);
    assert!(
        !listing(&root).iter().any(|p| p.to_string_lossy().contains(".outlast-")),
        "nothing is left over"
    );

    // Somebody makes room: the same again, and what is there is not sent again.
    fs::remove_file(temp.join("src/too-large")).expect("removed");
    for i in 20..100 {
        fs::remove_file(temp.join(format!("src/small/{i}"))).expect("removed");
        let _ = fs::remove_file(root.join(format!("src/small/{i}")));
    }
    let again = served.copy(&upload(temp.join("src"), "")).await.expect("copied");
    assert!(again.is_complete(), "{:?}", again.failures);
    assert_eq!(again.files_copied + again.files_unchanged, 21);
    served.end().await.expect("served");
    assert_same(&temp.join("src/small"), &root.join("src/small"));

    // And in the other direction: here the disk that is full is ours.
    write(&temp.join("other/large"), &noise(12 << 20, 3));
    write(&temp.join("other/small"), b"small");
    let served = serving(temp.path()).await;
    let down = served.copy(&download("other", root.clone())).await.expect("copied");
    let failed = [("other/large".to_owned(), Side::Local, FileErrorKind::NoSpace)];
    assert_eq!(failures(&down, &root), failed);
    assert_eq!(listing(&root.join("other")), [Path::new("small")]);
    served.end().await.expect("served");
}

/// A user who is nobody here: 65534 on every Linux.
const NOBODY: u32 = 65534;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_read_or_written_is_told_and_the_rest_arrives() {
    let name = "what_may_not_be_read_or_written_is_told_and_the_rest_arrives";
    if rustix::process::geteuid().is_root() {
        // Root may everything: the same test as nobody, from a place where nobody may go.
        let temp = TempDir::new("as-nobody");
        let program = temp.join("test");
        fs::copy(std::env::current_exe().expect("this program"), &program).expect("copied");
        for path in [temp.path(), &program] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
        }
        let output = Command::new(&program)
            .args(["--exact", name, "--nocapture"])
            .env("TMPDIR", temp.path())
            .current_dir(temp.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .output();
        return match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
                assert!(text.contains("1 passed"), "{text}");
            }
            Err(error) => skip(&format!("failures::{name}"), &format!("cannot become nobody: {error}")),
        };
    }
    let temp = TempDir::new("forbidden");
    let root = temp.mkdir("root");
    let forbid = |path: &str, mode| {
        fs::set_permissions(temp.join(path), fs::Permissions::from_mode(mode)).expect("set");
    };
    write(&temp.join("src/fine"), b"fine");
    write(&temp.join("src/unreadable"), b"secret");
    write(&temp.join("src/closed/inner"), b"secret");
    forbid("src/unreadable", 0o000);
    forbid("src/closed", 0o000);
    let served = serving(&root).await;
    let summary = served.copy(&upload(temp.join("src"), "")).await.expect("copied");
    let denied = |path: &str, side| (path.to_owned(), side, FileErrorKind::PermissionDenied);
    let expected = [denied("closed", Side::Local), denied("unreadable", Side::Local)];
    assert_eq!(failures(&summary, &temp.join("src")), expected);
    assert_eq!(summary.failures[0].error.fault(), Fault::User);
    assert_eq!(summary.files_copied, 1);
    assert_eq!(listing(&root), [Path::new("src"), Path::new("src/fine")]);

    // The same at the server's side: what is there cannot be read, what is closed cannot be written to.
    write(&root.join("give/fine"), b"fine");
    write(&root.join("give/unreadable"), b"secret");
    forbid("root/give/unreadable", 0o000);
    let down = served.copy(&download("give", temp.join("got"))).await.expect("copied");
    assert_eq!(failures(&down, &temp.join("got")), [denied("unreadable", Side::Remote)]);
    assert_eq!(listing(&temp.join("got")), [Path::new("fine")]);
    write(&temp.join("more/closed/new"), b"new");
    write(&temp.join("more/open/new"), b"new");
    fs::create_dir_all(root.join("more/closed")).expect("made");
    forbid("root/more/closed", 0o000);
    let up = served.copy(&upload(temp.join("more"), "")).await.expect("copied");
    assert_eq!(failures(&up, &temp.join("more")), [denied("closed", Side::Remote)]);
    assert_eq!(fs::read(root.join("more/open/new")).expect("there"), b"new");
    served.end().await.expect("served");
    for path in ["src/closed", "root/more/closed"] {
        forbid(path, 0o700);
    }
}
