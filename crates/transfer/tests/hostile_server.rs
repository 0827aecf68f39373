//! Servers that do not keep to the rules: a client writes nothing but what it asked for to where it said, and says what
//! was wrong.
#![allow(clippy::wildcard_enum_match_arm, reason = "what is not expected fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::by_hand::*;
use common::*;
use outlast_transfer::wire::{Answer, Entry, Item, Message, Place};
use outlast_transfer::{
    CopyRequest, Direction, FileErrorKind, Progress, Summary, TransferError, Violation, copy,
};

/// What a hostile server does once the copy has begun.
async fn hostile_server(
    request: Message,
    play: impl AsyncFnOnce(&ByHand),
    client: CopyRequest,
) -> Result<Summary, TransferError> {
    let pair = pair().await;
    let server = ByHand(pair.theirs.clone());
    let (ours, progress) = (pair.ours.clone(), Progress::new());
    let task = tokio::spawn(async move { within(copy(&ours, &client, &progress)).await });
    assert_eq!(server.hear().await, Message::Hello { min: 1, max: 1 });
    server.say(Message::Welcome { version: 1 }).await;
    let start = server.hear().await;
    assert_eq!(std::mem::discriminant(&start), std::mem::discriminant(&request));
    server.say(Message::Started { copy: 1 }).await;
    play(&server).await;
    within(task).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_cannot_choose_the_names_that_it_writes_to() {
    let temp = TempDir::new("server-names");
    let home = temp.mkdir("home");
    write(&home.join(".profile"), b"mine");
    let start = || Message::Start {
        copy: 1,
        request: request(Direction::Download, "", vec![Item { path: vec![], contents: true }]),
    };

    // The one item that was asked for arrives by the name that the client knows; a second one is a breach.
    let result = hostile_server(
        start(),
        async |server: &ByHand| {
            let files = vec![file(0, Place::Item(0), 4), file(1, Place::Item(1), 4)];
            server.entries(files).await;
            server.hear_breach().await;
        },
        download("notes", home.clone()),
    )
    .await;
    assert_eq!(result, Err(Violation::UnknownItem(1).into()));

    // An entry beside the item, for which there is no directory.
    let result = hostile_server(
        start(),
        async |server: &ByHand| {
            server.entries(vec![file(0, Place::Item(0), 4), file(1, inside(0, ".profile"), 4)]).await;
            server.hear_breach().await;
        },
        download("notes", home.clone()),
    )
    .await;
    assert_eq!(result, Err(Violation::UnknownParent { id: 1, parent: 0 }.into()));

    // A link and then something through it.
    symlink(&home, home.join("notes")).expect("made");
    let result = hostile_server(
        start(),
        async |server: &ByHand| {
            server.entries(vec![directory(0, Place::Item(0)), file(1, inside(0, ".profile"), 4)]).await;
            let answers = server.hear_answers(2).await;
            assert!(answers.iter().all(|a| matches!(a, Answer::Failed { .. })), "{answers:?}");
            server.entries(vec![Entry::End { id: 0 }]).await;
            server.say(Message::Finish { copy: 1 }).await;
            assert_eq!(server.hear().await, Message::Finished { copy: 1 });
        },
        download("notes", home.clone()),
    )
    .await
    .expect("a failure of entries");
    assert_eq!(result.failures.len(), 1);
    assert_eq!(fs::read(home.join(".profile")).expect("there"), b"mine");
    assert_eq!(listing(&home), [Path::new(".profile"), Path::new("notes")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_what_was_not_asked_is_caught() {
    let plays: [(&str, Vec<Answer>); 5] = [
        ("done with what was not sent", vec![Answer::Done { id: 0, unchanged: false }]),
        ("an entry that never was", vec![Answer::Want { id: 9 }]),
        ("the same file twice", vec![Answer::Want { id: 0 }, Answer::Want { id: 0 }]),
        ("unknown and done", vec![Answer::Done { id: 3, unchanged: true }]),
        (
            "failed twice",
            vec![
                Answer::Failed { id: 0, error: FileErrorKind::NoSpace.into() },
                Answer::Failed { id: 0, error: FileErrorKind::NoSpace.into() },
            ],
        ),
    ];
    for (what, answers) in plays {
        let temp = TempDir::new("server-answers");
        write(&temp.join("src"), b"content");
        let result = hostile_server(
            Message::Start {
                copy: 1,
                request: request(
                    Direction::Upload,
                    "",
                    vec![Item { path: b"src".to_vec(), contents: false }],
                ),
            },
            async |server: &ByHand| {
                loop {
                    if let Message::Entries { .. } = server.hear().await {
                        break;
                    }
                }
                server.say(Message::Answers { copy: 1, answers: answers.clone() }).await;
            },
            upload(temp.join("src"), ""),
        )
        .await;
        let error = result.expect_err(what);
        assert!(matches!(error, TransferError::Violation(Violation::UnknownEntry { .. })), "{what}: {error}");
    }
}
