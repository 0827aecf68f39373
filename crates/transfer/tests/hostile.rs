//! Peers that do not keep to the rules, each speaking the protocol by hand: nothing outside the folder is read or written,
//! nobody hangs, and whoever is honest is told what the other did.
#![allow(clippy::wildcard_enum_match_arm, reason = "what is not expected fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::by_hand::*;
use common::*;
use outlast_transfer::limits::{ENTRIES_IN_FLIGHT_REFUSED, ENTRIES_PER_MESSAGE_MAX, STREAMS_OPEN_MAX};
use outlast_transfer::wire::{Answer, BundleFile, Entry, Item, Message, Packet, Place, VERSION_MAX};
use outlast_transfer::{Direction, Fault, FileErrorKind, Refusal, ServeOptions, TransferError};

/// A served folder with something precious beside it, and a link that leads there.
fn folder(temp: &TempDir) -> std::path::PathBuf {
    let root = temp.mkdir("root");
    write(&temp.join("outside/precious"), b"precious");
    fs::create_dir(root.join("sub")).expect("made");
    symlink("../outside", root.join("way-out")).expect("made");
    symlink(temp.join("outside"), root.join("sub/way-out")).expect("made");
    symlink("sub", root.join("way-in")).expect("made");
    root
}

fn assert_outside_untouched(temp: &TempDir) {
    assert_eq!(listing(&temp.join("outside")), [Path::new("precious")]);
    assert_eq!(fs::read(temp.join("outside/precious")).expect("there"), b"precious");
}

async fn hand(root: &Path) -> (Served2, ByHand) {
    let served = serving(root).await;
    let hand = ByHand(served.pair.ours.clone());
    (served, hand)
}

/// Every way out that a path can name, and what is said to it.
const WAYS_OUT: [(&str, &[FileErrorKind]); 13] = [
    ("..", &[FileErrorKind::OutsideRoot]),
    ("../outside", &[FileErrorKind::OutsideRoot]),
    ("sub/../../outside", &[FileErrorKind::OutsideRoot]),
    ("sub/..", &[FileErrorKind::OutsideRoot]),
    ("./../outside", &[FileErrorKind::OutsideRoot]),
    ("/", &[FileErrorKind::OutsideRoot]),
    ("/etc", &[FileErrorKind::OutsideRoot]),
    ("//etc", &[FileErrorKind::OutsideRoot]),
    ("way-out/x", &[FileErrorKind::SymbolicLink, FileErrorKind::NotADirectory]),
    ("way-out/", &[FileErrorKind::SymbolicLink, FileErrorKind::NotADirectory]),
    ("sub/way-out/x", &[FileErrorKind::SymbolicLink, FileErrorKind::NotADirectory]),
    ("way-in/x", &[FileErrorKind::SymbolicLink, FileErrorKind::NotADirectory]),
    ("sub\0/x", &[FileErrorKind::InvalidName]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_destination_leads_out_of_the_folder() {
    let temp = TempDir::new("out-up");
    let root = folder(&temp);
    for (path, kinds) in WAYS_OUT {
        let (served, hand) = hand(&root).await;
        match hand.start_upload(path, "name").await {
            Message::Refused { copy: 1, refusal: Refusal::Path { path: said, error } } => {
                assert_eq!(said, path.as_bytes());
                assert!(kinds.contains(&error.kind), "{path:?}: {error:?}");
            }
            other => panic!("{path:?}: {other:?}"),
        }
        served.end().await.expect("a refusal is no error of the server");
    }
    // A name that is a path, in the request itself.
    for name in ["..", "a/b", "/etc/passwd", "."] {
        let (served, hand) = hand(&root).await;
        let answer = hand.start_upload("", name).await;
        assert!(
            matches!(&answer, Message::Refused { refusal: Refusal::Path { error, .. }, .. }
                if error.kind == FileErrorKind::InvalidName),
            "{name:?}: {answer:?}"
        );
        served.end().await.expect("served");
    }
    assert_outside_untouched(&temp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outside_the_folder_can_be_asked_for() {
    let temp = TempDir::new("out-down");
    let root = folder(&temp);
    for (path, kinds) in WAYS_OUT {
        let (served, hand) = hand(&root).await;
        hand.hello().await;
        let contents = path.ends_with('/') || path.ends_with("/.");
        let items = vec![Item { path: path.into(), contents }];
        hand.say(Message::Start { copy: 1, request: request(Direction::Download, "", items) }).await;
        assert_eq!(hand.hear().await, Message::Started { copy: 1 });
        let mut reported = 0;
        loop {
            match hand.hear().await {
                Message::Report { error, .. } => {
                    reported += 1;
                    assert!(kinds.contains(&error.kind), "{path:?}: {error:?}");
                }
                Message::Totals { files, bytes, .. } => assert_eq!((files, bytes), (0, 0), "{path:?}"),
                Message::Finish { .. } => break,
                other => panic!("{path:?}: {other:?}"),
            }
        }
        assert_eq!(reported, 1, "{path:?}");
        hand.say(Message::Finished { copy: 1 }).await;
        served.end().await.expect("served");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_the_client_brought_itself_is_no_way_out() {
    let temp = TempDir::new("out-link");
    let root = folder(&temp);
    let (served, hand) = hand(&root).await;
    assert_eq!(hand.start_upload("up", "").await, Message::Started { copy: 1 });
    let link = Entry::Link {
        id: 1,
        place: inside(0, "door"),
        target: temp.join("outside").into_os_string().into_encoded_bytes(),
        modified: Default::default(),
    };
    hand.entries(vec![
        directory(0, Place::Item(0)),
        link,
        directory(2, inside(0, "door")),
        file(3, inside(2, "precious"), 3),
        file(4, inside(0, "door"), 3),
    ])
    .await;
    let answers = hand.hear_answers(4).await;
    assert!(answers.contains(&Answer::Done { id: 1, unchanged: false }));
    let failed = |id: u64| {
        answers.iter().find_map(|a| match a {
            Answer::Failed { id: i, error } if *i == id => Some(error.kind),
            _ => None,
        })
    };
    assert_eq!(failed(2), Some(FileErrorKind::SymbolicLink));
    assert_eq!(failed(3), Some(FileErrorKind::ParentFailed));
    assert!(answers.contains(&Answer::Want { id: 4 }), "a file may take the place of a link: {answers:?}");
    let data = Bytes::from_static(b"new");
    let said = BundleFile { id: 4, len: 3, hash: *blake3::hash(&data).as_bytes() };
    hand.say(Message::Bundle { copy: 1, files: vec![said], data }).await;
    assert_eq!(hand.hear_answers(1).await, [Answer::Done { id: 4, unchanged: false }]);
    hand.entries(vec![Entry::End { id: 2 }, Entry::End { id: 0 }]).await;
    assert_eq!(hand.hear_answers(1).await, [Answer::Done { id: 0, unchanged: false }]);
    hand.say(Message::Finish { copy: 1 }).await;
    assert_eq!(hand.hear().await, Message::Finished { copy: 1 });
    assert_eq!(fs::read(root.join("up/door")).expect("there"), b"new");
    served.end().await.expect("served");
    assert_outside_untouched(&temp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_swapped_for_links_during_copies_leak_nothing_either_way() {
    let temp = TempDir::new("swap");
    let root = temp.mkdir("root");
    for i in 0..40 {
        write(&temp.join(format!("outside/deep/secret-{i}")), b"secret");
        write(&root.join(format!("real/deep/public-{i}")), b"public");
        write(&temp.join(format!("src/deep/public-{i}")), b"public");
    }
    symlink(temp.join("outside"), root.join("link")).expect("made");
    let before = listing(&temp.join("outside"));
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, root) = (Arc::clone(&stop), fs::File::open(&root).expect("opened"));
        move || {
            let mut swaps = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&root, "real", &root, "link", exchange).expect("swapped");
                swaps += 1;
                std::thread::sleep(std::time::Duration::from_micros(20));
            }
            swaps
        }
    });
    let served = serving(&root).await;
    let (mut whole, mut refused) = (0, 0);
    for round in 0..60 {
        let back = temp.join(format!("back-{round}"));
        let up = served.copy(&upload(temp.join("src/"), "real/")).await;
        let down = served.copy(&download("real/deep", back.clone())).await;
        for result in [up, down] {
            match result {
                Ok(summary) if summary.is_complete() => whole += 1,
                Ok(_) | Err(TransferError::Refused(Refusal::Path { .. })) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        if back.is_dir() {
            assert!(listing(&back).iter().all(|p| !p.to_string_lossy().contains("secret")));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapper.join().expect("no panic");
    assert!(swaps > 100 && whole > 0 && refused > 0, "{swaps} swaps, {whole} whole, {refused} refused");
    served.end().await.expect("served");
    assert_eq!(listing(&temp.join("outside")), before);
    for path in before.iter().filter(|p| p.to_string_lossy().contains("secret")) {
        assert_eq!(fs::read(temp.join("outside").join(path)).expect("there"), b"secret");
    }
}

/// One breach: what is said after a directory was begun, and what the server finds.
type Breach = (&'static str, fn() -> Vec<Message>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_breach_of_an_uploading_client_is_named_and_ends_the_copy() {
    fn entries(entries: Vec<Entry>) -> Message {
        Message::Entries { copy: 1, entries }
    }
    fn data(id: u64, offset: u64, len: usize) -> Message {
        Message::Data { copy: 1, id, offset, last: None, data: vec![7; len].into() }
    }
    const LARGE: u64 = 1 << 20;
    let breaches: [Breach; 17] = [
        ("a number left out", || vec![entries(vec![file(2, inside(0, "f"), 1)])]),
        ("a number again", || vec![entries(vec![file(0, inside(0, "f"), 1)])]),
        ("a parent that never was", || vec![entries(vec![file(1, inside(9, "f"), 1)])]),
        ("a parent that is a file", || {
            vec![entries(vec![file(1, inside(0, "f"), 1), file(2, inside(1, "g"), 1)])]
        }),
        ("a parent that has ended", || vec![entries(vec![Entry::End { id: 0 }, file(1, inside(0, "f"), 1)])]),
        ("an end of nothing", || vec![entries(vec![Entry::End { id: 7 }])]),
        ("an item twice", || vec![entries(vec![file(1, Place::Item(0), 1)])]),
        ("an item that was not announced", || vec![entries(vec![file(1, Place::Item(1), 1)])]),
        ("content of nothing", || vec![data(5, 0, 1)]),
        ("content not at the beginning", || {
            vec![entries(vec![file(1, inside(0, "f"), LARGE)]), data(1, 10, 1)]
        }),
        ("content with a hole", || {
            vec![entries(vec![file(1, inside(0, "f"), LARGE)]), data(1, 0, 10), data(1, 11, 1)]
        }),
        ("content beyond the end", || {
            vec![
                entries(vec![file(1, inside(0, "f"), 200_000)]),
                data(1, 0, 150_000),
                data(1, 150_000, 50_001),
            ]
        }),
        ("the last piece before the end", || {
            let last = Message::Data { copy: 1, id: 1, offset: 0, last: Some([0; 32]), data: vec![1].into() };
            vec![entries(vec![file(1, inside(0, "f"), LARGE)]), last]
        }),
        ("a bundle of another size", || {
            let files = vec![BundleFile { id: 1, len: 2, hash: [0; 32] }];
            vec![
                entries(vec![file(1, inside(0, "f"), 3)]),
                Message::Bundle { copy: 1, files, data: vec![1, 2].into() },
            ]
        }),
        ("the end with entries open", || vec![Message::Finish { copy: 1 }]),
        ("a message of the other side", || {
            vec![Message::Answers { copy: 1, answers: vec![Answer::Want { id: 0 }] }]
        }),
        ("unchanged, which nobody asked", || {
            vec![entries(vec![file(1, inside(0, "f"), LARGE)]), Message::Unchanged { copy: 1, id: 1 }]
        }),
    ];
    for (what, messages) in breaches {
        let temp = TempDir::new("breach");
        let root = folder(&temp);
        let (served, hand) = hand(&root).await;
        assert_eq!(hand.start_upload("up", "").await, Message::Started { copy: 1 });
        hand.entries(vec![directory(0, Place::Item(0))]).await;
        for message in messages() {
            let needs_want = matches!(
                message,
                Message::Data { offset: 0 | 10, .. } | Message::Bundle { .. } | Message::Unchanged { .. }
            );
            if needs_want && what != "content of nothing" {
                assert_eq!(hand.hear_answers(1).await, [Answer::Want { id: 1 }], "{what}");
            }
            hand.say(message).await;
        }
        let text = hand.hear_breach().await;
        let error = within(served.task).await.expect("no panic").expect_err(what);
        assert_eq!(error.fault(), Fault::Peer, "{what}: {error}");
        assert!(matches!(error, TransferError::Violation(_)), "{what}: {error}");
        assert_eq!(text, error.to_string(), "{what}: the client is told the same");
        assert_outside_untouched(&temp);
        assert!(
            listing(&root.join("up")).iter().all(|p| p.to_string_lossy().contains(".outlast-")),
            "{what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_end_the_session_and_not_the_server() {
    let temp = TempDir::new("bytes");
    let root = folder(&temp);
    let hello = || Message::Hello { min: 1, max: 1 }.encode();
    for packet in [
        Packet { kind: 7, ..hello() },
        Packet { front: Bytes::new(), ..hello() },
        Packet { front: Bytes::from_static(b"OUTLAST\x01\x01\0\x01\0"), ..hello() },
        Packet { data: Bytes::from_static(b"stray"), ..hello() },
        Message::Finish { copy: 1 }.encode(),
        Message::Start {
            copy: 1,
            request: request(Direction::Upload, "", vec![Item { path: b"a".to_vec(), contents: false }]),
        }
        .encode(),
    ] {
        let (served, hand) = hand(&root).await;
        hand.say_packet(packet).await;
        hand.hear_breach().await;
        let error = within(served.task).await.expect("no panic").expect_err("a breach");
        assert_eq!(error.fault(), Fault::Peer, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_do_not_meet_are_told_to_the_client_and_another_may_follow() {
    let temp = TempDir::new("version");
    let root = folder(&temp);
    let (served, hand) = hand(&root).await;
    for (min, max) in [(VERSION_MAX + 1, VERSION_MAX + 5), (0, 0)] {
        hand.say(Message::Hello { min, max }).await;
        let refusal = Refusal::Version { min: 1, max: VERSION_MAX };
        assert_eq!(hand.hear().await, Message::Refused { copy: 0, refusal });
    }
    // A newer client that still speaks ours.
    hand.say(Message::Hello { min: 1, max: u16::MAX }).await;
    assert_eq!(hand.hear().await, Message::Welcome { version: VERSION_MAX });
    served.end().await.expect("served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_announces_without_end_is_stopped() {
    let temp = TempDir::new("flood");
    let root = folder(&temp);
    let (served, hand) = hand(&root).await;
    assert_eq!(hand.start_upload("up", "").await, Message::Started { copy: 1 });
    hand.entries(vec![directory(0, Place::Item(0))]).await;
    let mut id = 1;
    for _ in 0..ENTRIES_IN_FLIGHT_REFUSED / ENTRIES_PER_MESSAGE_MAX + 1 {
        let batch =
            (0..ENTRIES_PER_MESSAGE_MAX as u64).map(|i| file(id + i, inside(0, &format!("{}", id + i)), 1));
        hand.entries(batch.collect()).await;
        id += ENTRIES_PER_MESSAGE_MAX as u64;
    }
    assert!(hand.hear_breach().await.contains("entries in flight"));
    assert!(within(served.task).await.expect("no panic").is_err());

    // The same with directories, each of which holds a descriptor.
    let (served, hand) = common_hand(&root).await;
    assert_eq!(hand.start_upload("up2", "").await, Message::Started { copy: 1 });
    hand.entries(vec![directory(0, Place::Item(0))]).await;
    for batch in 0..4u64 {
        let batch =
            (0..500).map(|i| 1 + batch * 500 + i).map(|id| directory(id, inside(0, &format!("{id}"))));
        hand.entries(batch.collect()).await;
    }
    assert!(hand.hear_breach().await.contains("unfinished directories"));
    assert!(within(served.task).await.expect("no panic").is_err());

    // And with files half-way over.
    let (served, hand) = common_hand(&root).await;
    assert_eq!(hand.start_upload("up3", "").await, Message::Started { copy: 1 });
    hand.entries(vec![directory(0, Place::Item(0))]).await;
    let files = 2 * STREAMS_OPEN_MAX as u64 + 2;
    hand.entries((1..=files).map(|id| file(id, inside(0, &format!("{id}")), 1 << 20)).collect()).await;
    hand.hear_answers(usize::try_from(files).expect("few")).await;
    for id in 1..=files {
        hand.say(Message::Data { copy: 1, id, offset: 0, last: None, data: vec![0; 10].into() }).await;
    }
    assert!(hand.hear_breach().await.contains("files half-way over"));
    assert!(within(served.task).await.expect("no panic").is_err());
}

async fn common_hand(root: &Path) -> (Served2, ByHand) {
    hand(root).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_does_not_match_its_hash_never_gets_its_name() {
    let temp = TempDir::new("hash");
    let root = folder(&temp);
    write(&root.join("up/old"), b"old");
    let (served, hand) = hand(&root).await;
    assert_eq!(hand.start_upload("up", "").await, Message::Started { copy: 1 });
    let large = 300_000;
    hand.entries(vec![
        directory(0, Place::Item(0)),
        file(1, inside(0, "old"), 5),
        file(2, inside(0, "large"), large),
        Entry::End { id: 0 },
    ])
    .await;
    hand.hear_answers(2).await;
    let files = vec![BundleFile { id: 1, len: 5, hash: *blake3::hash(b"12345").as_bytes() }];
    hand.say(Message::Bundle { copy: 1, files, data: Bytes::from_static(b"12346") }).await;
    let data = Bytes::from(vec![1; 300_000]);
    let last = Some(*blake3::hash(&vec![2; 300_000]).as_bytes());
    hand.say(Message::Data { copy: 1, id: 2, offset: 0, last, data }).await;
    let mut answers = hand.hear_answers(3).await;
    answers.sort_by_key(|a| format!("{a:?}"));
    let failed = |id| Answer::Failed { id, error: FileErrorKind::HashMismatch.into() };
    assert_eq!(answers, [Answer::Done { id: 0, unchanged: false }, failed(1), failed(2)]);
    hand.say(Message::Finish { copy: 1 }).await;
    assert_eq!(hand.hear().await, Message::Finished { copy: 1 });
    served.end().await.expect("served");
    assert_eq!(listing(&root.join("up")), [Path::new("old")]);
    assert_eq!(fs::read(root.join("up/old")).expect("there"), b"old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_begins_again_in_the_middle_is_served_again() {
    let temp = TempDir::new("again");
    let root = folder(&temp);
    let (served, hand) = hand(&root).await;
    assert_eq!(hand.start_upload("up", "").await, Message::Started { copy: 1 });
    hand.entries(vec![directory(0, Place::Item(0)), file(1, inside(0, "half"), 1 << 20)]).await;
    hand.hear_answers(1).await;
    hand.say(Message::Data { copy: 1, id: 1, offset: 0, last: None, data: vec![0; 1000].into() }).await;
    // Without a word of goodbye.
    write(&temp.join("src"), b"content");
    let summary = served.copy(&upload(temp.join("src"), "whole")).await.expect("copied");
    assert_eq!(summary.files_copied, 1);
    assert_eq!(fs::read(root.join("whole")).expect("there"), b"content");
    let total = served.end().await.expect("served");
    assert_eq!((total.copies, total.files_in), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_takes_nothing_and_gives_everything() {
    let temp = TempDir::new("read-only");
    let root = folder(&temp);
    write(&root.join("sub/file"), b"content");
    let served = serving_with(&root, ServeOptions { read_only: true, ..ServeOptions::default() }).await;
    let refused = served.copy(&upload(root.join("sub"), "new")).await;
    assert_eq!(refused, Err(TransferError::Refused(Refusal::ReadOnly)));
    assert!(!root.join("new").exists());
    let summary = served.copy(&download("sub/file", temp.join("got"))).await.expect("copied");
    assert_eq!(summary.files_copied, 1);
    assert_eq!(fs::metadata(temp.join("got")).expect("there").size(), 7);
    served.end().await.expect("served");
}
