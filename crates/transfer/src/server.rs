//! The end that is asked: serves one session, one copy after the other.

use tokio::task::spawn_blocking;

use crate::client::{Links, Sync, start};
use crate::error::{FileError, FileErrorKind, Refusal, TransferError, Violation};
use crate::fs::Folder;
use crate::link::{Conversation, Ended, Interrupt, Link, Role, farewell, refuse};
use crate::name::{Name, RelativePath};
use crate::place::{Base, NoTarget, Wanted, targets};
use crate::progress::{Progress, Tally};
use crate::source::Start;
use crate::wire::{Direction, Flags, Item, Message, Request, VERSION_MAX, VERSION_MIN};
use crate::{sink, source};

/// What clients may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServeOptions {
    /// Nothing may be written.
    pub read_only: bool,
    /// What is done with symbolic links, in both directions. A client can ask for less, not for more.
    pub links: Links,
    /// Whether what arrives is made durable. A client can ask for less.
    pub sync: Sync,
}

/// What was done on one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Served {
    /// Copies that were begun.
    pub copies: u64,
    /// Files received and in place, unchanged ones not counted.
    pub files_in: u64,
    /// Files sent that the client has in place.
    pub files_out: u64,
    /// Content received, in bytes.
    pub bytes_in: u64,
    /// Content sent, in bytes.
    pub bytes_out: u64,
    /// Files, directories and links that failed.
    pub failures: u64,
}

/// What a copy needs here.
enum Part {
    Source(source::Assignment),
    Sink(sink::Assignment),
}

/// Serves any link until it ends.
pub(crate) async fn run<L: Link>(
    link: &L,
    folder: &Folder,
    options: &ServeOptions,
) -> Result<Served, TransferError> {
    let mut server =
        Server { link, folder, options, served: Served::default(), welcomed: false, last_copy: 0 };
    match server.run().await {
        Err(TransferError::SessionEnded(reason)) => {
            tracing::debug!(reason, "the session that was served is over");
            Ok(server.served)
        }
        Err(error) => {
            if let Some(refusal) = farewell(&error) {
                refuse(link, 0, refusal).await;
            }
            Err(error)
        }
        Ok(never) => match never {},
    }
}

/// The loop of a server has no end of its own.
enum Never {}

struct Server<'a, L> {
    link: &'a L,
    folder: &'a Folder,
    options: &'a ServeOptions,
    served: Served,
    /// The versions were agreed on.
    welcomed: bool,
    last_copy: u32,
}

impl<L: Link> Server<'_, L> {
    async fn run(&mut self) -> Result<Never, TransferError> {
        let mut next = None;
        loop {
            let interrupt = match next.take() {
                Some(interrupt) => interrupt,
                None => match self.between(Message::decode(self.link.recv().await?)?)? {
                    Some(interrupt) => interrupt,
                    None => continue,
                },
            };
            match interrupt {
                Interrupt::Hello { min, max } => self.welcome(min, max).await?,
                Interrupt::Start { copy, request } => {
                    self.last_copy = copy;
                    next = self.copy(copy, request).await?;
                }
                Interrupt::Refused => {}
            }
        }
    }

    /// What a message outside of a copy means; nothing, if it is left over from one.
    fn between(&self, message: Message) -> Result<Option<Interrupt>, Violation> {
        if let Message::Hello { min, max } = message {
            return Ok(Some(Interrupt::Hello { min, max }));
        }
        let (name, copy) = (message.name(), message.copy());
        if !self.welcomed {
            return Err(Violation::Unexpected { name, when: "before Hello" });
        }
        if copy.is_some_and(|copy| copy <= self.last_copy) {
            // What the client had sent of a copy when it was refused.
            return Ok(None);
        }
        if let Message::Start { copy, request } = message {
            return Ok(Some(Interrupt::Start { copy, request }));
        }
        Err(Violation::Unexpected { name, when: "between copies" })
    }

    async fn welcome(&mut self, min: u16, max: u16) -> Result<(), TransferError> {
        let version = max.min(VERSION_MAX);
        if version < min || version < VERSION_MIN {
            // The client knows why; another one may speak next on this session.
            let refusal = Refusal::Version { min: VERSION_MIN, max: VERSION_MAX };
            self.welcomed = false;
            return self.link.send(Message::Refused { copy: 0, refusal }.encode()).await;
        }
        self.welcomed = true;
        self.last_copy = 0;
        self.link.send(Message::Welcome { version }.encode()).await
    }

    /// Does one copy; says what interrupted it, if anything did.
    async fn copy(&mut self, copy: u32, request: Request) -> Result<Option<Interrupt>, TransferError> {
        let conversation = Conversation { link: self.link, copy, role: Role::Server };
        let direction = request.direction;
        let (folder, options) = (self.folder.clone(), *self.options);
        let prepared = spawn_blocking(move || prepare(&folder, &options, &request)).await;
        let part = match prepared.map_err(|_| TransferError::Worker)? {
            Ok(part) => part,
            Err(refusal) => {
                tracing::info!(%refusal, ?direction, "copy refused");
                conversation.send(Message::Refused { copy, refusal }).await?;
                return Ok(None);
            }
        };
        self.served.copies += 1;
        conversation.send(Message::Started { copy }).await?;
        let tally = Tally::new(Progress::new());
        let ended = match part {
            Part::Source(assignment) => source::run(&conversation, assignment, &tally).await,
            Part::Sink(assignment) => sink::run(&conversation, assignment, &tally).await,
        };
        let summary = tally.summary();
        match direction {
            Direction::Upload => {
                self.served.files_in += summary.files_copied;
                self.served.bytes_in += summary.bytes_copied;
            }
            Direction::Download => {
                self.served.files_out += summary.files_copied;
                self.served.bytes_out += summary.bytes_copied;
            }
        }
        self.served.failures += summary.files_failed;
        tracing::info!(
            ?direction,
            files = summary.files_copied,
            bytes = summary.bytes_copied,
            unchanged = summary.files_unchanged,
            failed = summary.files_failed,
            complete = matches!(ended, Ok(Ended::Complete)),
            "copy over"
        );
        match ended? {
            Ended::Complete => Ok(None),
            Ended::Interrupted(interrupt) => Ok(Some(interrupt)),
        }
    }
}

/// Finds what is asked for in the folder. Looks at the disk.
fn prepare(folder: &Folder, options: &ServeOptions, request: &Request) -> Result<Part, Refusal> {
    let Flags { checksum, no_sync, skip_links, into_directory } = request.flags;
    let skip_links = skip_links || options.links == Links::Skip;
    match request.direction {
        Direction::Upload if options.read_only => Err(Refusal::ReadOnly),
        Direction::Upload => {
            let refused = |error| Refusal::Path { path: request.destination.clone(), error };
            let path = RelativePath::parse(&request.destination).map_err(refused)?;
            let wanted = request.items.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
            let base = Base::Served(folder.clone(), path);
            let targets = targets(&base, &wanted, into_directory).map_err(|error| match error {
                NoTarget::Path(error) => refused(error),
                NoTarget::NeedsDirectory => Refusal::NeedsDirectory,
            })?;
            let sync = !no_sync && options.sync == Sync::Durable;
            Ok(Part::Sink(sink::Assignment { targets, checksum, skip_links, sync }))
        }
        Direction::Download => {
            let starts = || request.items.iter().map(|item| served_start(folder, item)).collect();
            Ok(Part::Source(source::Assignment { starts: starts(), to_count: starts(), skip_links }))
        }
    }
}

/// What an uploading client says its item is.
fn wanted(item: &Item) -> Result<Wanted, Refusal> {
    if item.contents {
        return Ok(Wanted::Contents);
    }
    let name = Name::new(&item.path);
    name.map(Wanted::Named).map_err(|kind| Refusal::Path { path: item.path.clone(), error: kind.into() })
}

/// Where an item of a download begins. One that cannot be had is reported, and the others are sent.
fn served_start(folder: &Folder, item: &Item) -> Start {
    let failed = |error: FileError| Start { origin: Err(error), path: item.path.clone() };
    match RelativePath::parse(&item.path) {
        // Both ends read the trailing slash by the same rule; a client that does not is not one of ours.
        Ok(path) if path.contents() != item.contents => failed(FileErrorKind::InvalidName.into()),
        Ok(path) => Start { path: item.path.clone(), ..start(Base::Served(folder.clone(), path)) },
        Err(error) => failed(error),
    }
}
