//! Whole trees, in both directions: what arrives, and where.

mod common;

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use common::*;
use outlast_transfer::{
    CopyOptions, CopyRequest, FileErrorKind, GenerateOptions, Links, Progress, ServeOptions, Side, Sync,
    generate,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_tree_arrives_whole_in_both_directions() {
    let temp = TempDir::new("generated");
    let made = generate(&temp.join("src"), &GenerateOptions { bytes: 48 << 20, seed: 5 }).unwrap();
    let root = temp.mkdir("root");
    let served = serving(&root).await;

    let progress = Progress::new();
    let up = served.copy_showing(&upload(temp.join("src"), "up"), &progress).await.unwrap();
    assert!(up.is_complete(), "{:?}", up.failures);
    assert_eq!((up.files_copied, up.files_unchanged), (made.files, 0));
    assert_eq!((up.directories, up.links), (made.directories + 1, made.links));
    assert_eq!(up.bytes_copied, made.bytes);
    let snapshot = progress.snapshot();
    assert_eq!((snapshot.files_total, snapshot.bytes_total), (made.files, made.bytes));
    assert_eq!((snapshot.files_done, snapshot.bytes_done), (made.files, made.bytes));
    assert!(snapshot.totals_complete && snapshot.current.is_empty());
    assert_same(&temp.join("src"), &root.join("up"));

    let progress = Progress::new();
    let down = served.copy_showing(&download("up", temp.join("down")), &progress).await.unwrap();
    assert!(down.is_complete(), "{:?}", down.failures);
    assert_eq!((down.files_copied, down.bytes_copied), (made.files, made.bytes));
    assert_eq!((down.directories, down.links), (made.directories + 1, made.links));
    let snapshot = progress.snapshot();
    assert_eq!((snapshot.files_total, snapshot.bytes_total), (made.files, made.bytes));
    assert!(snapshot.totals_complete && snapshot.current.is_empty());
    assert_same(&temp.join("src"), &temp.join("down"));

    let total = served.end().await.unwrap();
    assert_eq!((total.copies, total.failures), (2, 0));
    assert_eq!((total.files_in, total.bytes_in), (made.files, made.bytes));
    assert_eq!((total.files_out, total.bytes_out), (made.files, made.bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unchanged_is_skipped() {
    let temp = TempDir::new("unchanged");
    let made = generate(&temp.join("src"), &GenerateOptions { bytes: 4 << 20, seed: 6 }).unwrap();
    let root = temp.mkdir("root");
    let served = serving(&root).await;
    for request in [upload(temp.join("src"), "t"), download("t", temp.join("back"))] {
        let first = served.copy(&request).await.unwrap();
        assert_eq!((first.files_copied, first.files_unchanged), (made.files, 0));
        // The destination exists now, so its contents are asked for.
        let again = match request.direction {
            outlast_transfer::Direction::Upload => upload(temp.join("src/"), "t"),
            outlast_transfer::Direction::Download => download("t/", temp.join("back")),
        };
        let second = served.copy(&again).await.unwrap();
        assert!(second.is_complete(), "{:?}", second.failures);
        assert_eq!((second.files_copied, second.files_unchanged), (0, made.files));
        assert_eq!((second.bytes_copied, second.bytes_unchanged), (0, made.bytes));
    }
    assert_same(&temp.join("src"), &root.join("t"));
    assert_same(&temp.join("src"), &temp.join("back"));

    // Only a mode differs: it is set, and nothing is sent.
    let file = temp.join("src/only-mode");
    write(&file, b"same");
    served.copy(&upload(temp.join("src/"), "t")).await.unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let third = served.copy(&upload(temp.join("src/"), "t")).await.unwrap();
    assert_eq!(third.bytes_copied, 0);
    assert_same(&temp.join("src"), &root.join("t"));
    served.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_checksum_contents_decide_and_times_do_not() {
    let temp = TempDir::new("checksum");
    let root = temp.mkdir("root");
    for (name, len) in [("small", 1000), ("large", 3 << 20)] {
        // Same size and time, other content.
        write(&temp.join(format!("src/differs-{name}")), &noise(len, 1));
        write(&root.join(format!("src/differs-{name}")), &noise(len, 2));
        // Same content, other time.
        write(&temp.join(format!("src/same-{name}")), &noise(len, 3));
        write(&root.join(format!("src/same-{name}")), &noise(len, 3));
        for (path, time) in [
            (temp.join(format!("src/differs-{name}")), 1_000_000),
            (root.join(format!("src/differs-{name}")), 1_000_000),
            (temp.join(format!("src/same-{name}")), 2_000_000),
            (root.join(format!("src/same-{name}")), 3_000_000),
        ] {
            set_modified(&path, time, 5);
        }
    }
    let inode = |name: &str| fs::metadata(root.join("src").join(name)).unwrap().ino();
    let inodes = [inode("same-small"), inode("same-large")];
    let mut request = upload(temp.join("src"), "");
    request.options.checksum = true;
    let summary = copy_once(&root, &request).await.unwrap();
    assert!(summary.is_complete(), "{:?}", summary.failures);
    assert_eq!((summary.files_copied, summary.files_unchanged), (2, 2));
    assert_eq!(summary.bytes_copied, 1000 + (3 << 20));
    assert_same(&temp.join("src"), &root.join("src"));
    assert_eq!(inodes, [inode("same-small"), inode("same-large")], "the same files, with another time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_where_is_the_same_in_both_directions() {
    // (source, destination, what is there before, what is there after)
    let cases: [(&str, &str, &[&str], &[&str]); 10] = [
        ("a", "new", &[], &["new", "new/f"]),
        ("a", "b", &["b/"], &["b", "b/a", "b/a/f"]),
        ("a/", "b", &["b/"], &["b", "b/f"]),
        ("a/", "new", &[], &["new", "new/f"]),
        ("a/.", "new", &[], &["new", "new/f"]),
        ("a", "new/", &[], &["new", "new/a", "new/a/f"]),
        ("a/f", "new", &[], &["new"]),
        ("a/f", "b", &["b/"], &["b", "b/f"]),
        ("a/f", "new/", &[], &["new", "new/f"]),
        ("a/f", "", &[], &["f"]),
    ];
    for (source, destination, before, after) in cases {
        for up in [true, false] {
            let temp = TempDir::new("where");
            let (from, to) = (temp.mkdir("from"), temp.mkdir("to"));
            write(&from.join("a/f"), b"content");
            for path in before {
                fs::create_dir(to.join(path)).unwrap();
            }
            // `join` drops no trailing slash; an empty path gives one.
            let summary = if up {
                copy_once(&to, &upload(from.join(source), destination)).await.unwrap()
            } else {
                copy_once(&from, &download(source, to.join(destination))).await.unwrap()
            };
            assert!(summary.is_complete(), "{:?}", summary.failures);
            let after: Vec<_> = after.iter().map(std::path::PathBuf::from).collect();
            assert_eq!(listing(&to), after, "{source:?} to {destination:?}, upload: {up}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sources_go_into_one_directory() {
    let temp = TempDir::new("several");
    let root = temp.mkdir("root");
    for name in ["one", "two/inner", "three"] {
        write(&temp.join(name), name.as_bytes());
    }
    let served = serving(&root).await;
    let sources = ["one", "two", "three"];
    let request = CopyRequest::upload(sources.map(|s| temp.join(s)), "all");
    assert!(served.copy(&request).await.unwrap().is_complete());
    let expected = ["one", "three", "two", "two/inner"].map(std::path::PathBuf::from);
    assert_eq!(listing(&root.join("all")), expected);
    let request = CopyRequest::download(sources.map(|s| format!("all/{s}").into()), temp.join("back"));
    assert!(served.copy(&request).await.unwrap().is_complete());
    assert_eq!(listing(&temp.join("back")), expected);
    served.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_no_text_empty_files_and_empty_directories_arrive() {
    let temp = TempDir::new("odd");
    let (src, root) = (temp.mkdir("src"), temp.mkdir("root"));
    for bytes in
        [&b"\xff\xfe\x80"[..], b"new\nline", b"-rf", b" ", b"\x01\x1b[31m", &[b'n'; 255], &[0xc3; 255]]
    {
        let name = std::ffi::OsString::from_vec(bytes.to_vec());
        write(&src.join("files").join(&name), b"");
        fs::create_dir_all(src.join("directories").join(&name)).unwrap();
        // Large enough to be streamed: its partial file needs a name as well.
        write(&src.join("large").join(&name), &noise(300_000, bytes.len() as u64));
    }
    let served = serving(&root).await;
    let up = served.copy(&upload(src.clone(), "up")).await.unwrap();
    assert!(up.is_complete(), "{:?}", up.failures);
    assert_eq!((up.files_copied, up.directories), (14, 11));
    let down = served.copy(&download("up", temp.join("down"))).await.unwrap();
    assert!(down.is_complete(), "{:?}", down.failures);
    served.end().await.unwrap();
    assert_same(&src, &root.join("up"));
    assert_same(&src, &temp.join("down"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modes_and_times_are_kept_to_the_nanosecond() {
    let temp = TempDir::new("attributes");
    let (src, root) = (temp.mkdir("src"), temp.mkdir("root"));
    for mode in [0o000, 0o111, 0o400, 0o444, 0o600, 0o644, 0o755, 0o777] {
        let file = src.join(format!("file-{mode:o}"));
        write(&file, b"x");
        set_modified(&file, 1_234_567_890, 987_654_321);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    // Directories that cannot be written to once they are done.
    write(&src.join("read-only/inner/file"), b"y");
    for directory in ["read-only/inner", "read-only"] {
        set_modified(&src.join(directory), 1_000_000_001, 1);
        fs::set_permissions(src.join(directory), fs::Permissions::from_mode(0o555)).unwrap();
    }
    // Set-user-id does not travel.
    write(&src.join("setuid"), b"z");
    fs::set_permissions(src.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    // Before 1970.
    let old = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::new(1000, 5);
    fs::File::open(src.join("setuid")).unwrap().set_modified(old).unwrap();

    let served = serving(&root).await;
    for _ in 0..2 {
        // Twice: the second time, the read-only directories are there.
        let summary = served.copy(&upload(src.join(""), "up")).await.unwrap();
        assert!(summary.is_complete(), "{:?}", summary.failures);
        assert_same(&src, &root.join("up"));
        write(&src.join("another"), b"!");
    }
    served.end().await.unwrap();
    assert_eq!(fs::metadata(root.join("up/setuid")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(root.join("up/setuid")).unwrap().modified().unwrap(), old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_copied_as_links_or_left_out_and_special_files_are_told_of() {
    let temp = TempDir::new("links");
    let (src, root) = (temp.mkdir("src"), temp.mkdir("root"));
    write(&src.join("file"), b"content");
    for (name, target) in
        [("in", "file"), ("out", "/etc/hostname"), ("loop", "loop"), ("dangling", "nowhere")]
    {
        symlink(target, src.join(name)).unwrap();
    }
    let fifo = rustix::fs::CWD;
    rustix::fs::mknodat(fifo, src.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(src.join("socket")).unwrap();
    assert!(fs::symlink_metadata(src.join("pipe")).unwrap().file_type().is_fifo());

    let served = serving(&root).await;
    let up = served.copy(&upload(src.clone(), "up")).await.unwrap();
    assert!(up.is_complete(), "what is left out by rule is no failure: {:?}", up.failures);
    assert_eq!((up.files_copied, up.links, up.skipped), (1, 4, 2));
    let mut skips: Vec<_> = up.skips.iter().map(|s| (s.path.clone(), s.side, s.error.kind)).collect();
    skips.sort_by(|a, b| a.0.cmp(&b.0));
    let skipped = |name: &str| (src.join(name), Side::Local, FileErrorKind::Special);
    assert_eq!(skips, [skipped("pipe"), skipped("socket")]);
    for name in ["in", "out", "loop", "dangling"] {
        assert_eq!(
            fs::read_link(root.join("up").join(name)).unwrap(),
            fs::read_link(src.join(name)).unwrap()
        );
    }

    // A link is replaced as a link, never written through.
    fs::remove_file(root.join("up/in")).unwrap();
    write(&root.join("victim"), b"precious");
    symlink("../victim", root.join("up/in")).unwrap();
    fs::remove_file(root.join("up/file")).unwrap();
    symlink("../victim", root.join("up/file")).unwrap();
    let again = served.copy(&upload(src.join(""), "up")).await.unwrap();
    assert!(again.is_complete(), "{:?}", again.failures);
    assert_eq!(fs::read(root.join("victim")).unwrap(), b"precious");
    assert_eq!(fs::read(root.join("up/file")).unwrap(), b"content");
    assert_eq!(fs::read_link(root.join("up/in")).unwrap(), std::path::Path::new("file"));

    let mut without = upload(src.clone(), "without");
    without.options = CopyOptions { links: Links::Skip, sync: Sync::None, ..CopyOptions::default() };
    let summary = served.copy(&without).await.unwrap();
    assert_eq!((summary.links, summary.skipped), (0, 6));
    assert_eq!(listing(&root.join("without")), [std::path::PathBuf::from("file")]);
    served.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_links_gets_none_and_the_client_is_told() {
    let temp = TempDir::new("no-links");
    let (src, root) = (temp.mkdir("src"), temp.mkdir("root"));
    symlink("/etc", src.join("etc")).unwrap();
    let options = ServeOptions { links: Links::Skip, ..ServeOptions::default() };
    let served = serving_with(&root, options).await;
    let summary = served.copy(&upload(src.clone(), "up")).await.unwrap();
    assert_eq!((summary.links, summary.skipped), (0, 1));
    assert_eq!(
        (summary.skips[0].side, summary.skips[0].error.kind),
        (Side::Remote, FileErrorKind::LinkSkipped)
    );
    served.end().await.unwrap();
    assert!(listing(&root.join("up")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_small_files_and_a_thousand_directories_arrive() {
    let temp = TempDir::in_memory("many");
    let (src, root) = (temp.mkdir("src"), temp.mkdir("root"));
    for directory in 0..1000 {
        let path = src.join(format!("{directory}"));
        fs::create_dir(&path).unwrap();
        for file in 0..20 {
            fs::write(path.join(format!("{file}")), format!("{directory}/{file}")).unwrap();
        }
    }
    let served = serving(&root).await;
    let up = served.copy(&upload(src.clone(), "up")).await.unwrap();
    assert!(up.is_complete(), "{:?}", up.failures);
    assert_eq!((up.files_copied, up.directories), (20_000, 1001));
    let down = served.copy(&download("up", temp.join("down"))).await.unwrap();
    assert_eq!((down.files_copied, down.directories), (20_000, 1001));
    served.end().await.unwrap();
    assert_same(&src, &root.join("up"));
    assert_same(&src, &temp.join("down"));
}
