//! The end that asks: what a person wants copied, from the first message to the account.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::{Duration, timeout};

use crate::error::{FileError, TransferError, Violation};
use crate::limits::{ANSWER_SECONDS_MAX, ITEMS_MAX};
use crate::link::{Conversation, Ended, Heard, Link, Role, farewell, refuse};
use crate::name::RelativePath;
use crate::place::{Base, NoTarget, Targets, Wanted, local_name, origin, says_contents, targets};
use crate::progress::{Progress, Shown, Summary, Tally};
use crate::source::Start;
use crate::wire::{Direction, Flags, Item, Message, Request, VERSION_MAX, VERSION_MIN};
use crate::{sink, source};

/// What is done with symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Links {
    /// They are copied as what they are, whatever they point to. They are never followed.
    #[default]
    Copy,
    /// They are left out, and the account says so.
    Skip,
}

/// Whether what arrives is made durable before it counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sync {
    /// A file that counts as done survives a power failure.
    #[default]
    Durable,
    /// That is left to the system. A file is still never seen half while the system runs.
    None,
}

/// How to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CopyOptions {
    /// Find out what is unchanged by comparing contents; otherwise the same size and time of modification are enough.
    pub checksum: bool,
    /// What is done with symbolic links.
    pub links: Links,
    /// Whether what arrives is made durable.
    pub sync: Sync,
}

/// What to copy from where to where. What becomes of `sources` at `destination` is told in the
/// [crate's documentation](crate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// From where to where.
    pub direction: Direction,
    /// What: local paths of an upload, paths below the served folder of a download. From one to [`ITEMS_MAX`].
    pub sources: Vec<PathBuf>,
    /// Where to: a path below the served folder of an upload, a local one of a download.
    pub destination: PathBuf,
    /// How.
    pub options: CopyOptions,
}

impl CopyRequest {
    /// From here to the server.
    pub fn upload(sources: impl IntoIterator<Item = PathBuf>, destination: impl Into<PathBuf>) -> Self {
        Self {
            direction: Direction::Upload,
            sources: sources.into_iter().collect(),
            destination: destination.into(),
            options: CopyOptions::default(),
        }
    }

    /// From the server to here.
    pub fn download(sources: impl IntoIterator<Item = PathBuf>, destination: impl Into<PathBuf>) -> Self {
        Self { direction: Direction::Download, ..Self::upload(sources, destination) }
    }
}

/// One end's part of a copy, ready to begin.
enum Part {
    Source(source::Assignment),
    Sink(sink::Assignment),
}

/// Copies over any link.
pub(crate) async fn run<L: Link>(
    link: &L,
    request: &CopyRequest,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    if request.sources.is_empty() || request.sources.len() > ITEMS_MAX {
        return Err(TransferError::Items(request.sources.len()));
    }
    let (wanted, part) = {
        let request = request.clone();
        spawn_blocking(move || prepare(&request)).await.map_err(|_| TransferError::Worker)??
    };
    let result = converse(link, wanted, part, progress).await;
    if let Err(error) = &result
        && let Some(refusal) = farewell(error)
    {
        refuse(link, 0, refusal).await;
    }
    result
}

/// Works out what to ask the server for and what to do here. Looks at the disk.
fn prepare(request: &CopyRequest) -> Result<(Request, Part), TransferError> {
    let options = request.options;
    let destination = request.destination.as_os_str().as_bytes();
    let flags = Flags {
        checksum: options.checksum,
        no_sync: options.sync == Sync::None,
        skip_links: options.links == Links::Skip,
        into_directory: request.sources.len() > 1 || says_contents(&request.destination),
    };
    match request.direction {
        Direction::Upload => {
            let mut items = Vec::new();
            for source in &request.sources {
                let contents = says_contents(source);
                let path = if contents {
                    Vec::new()
                } else {
                    let name = local_name(source).map_err(|kind| local(source.clone(), kind.into()))?;
                    name.as_bytes().to_vec()
                };
                items.push(Item { path, contents });
            }
            let starts = || request.sources.iter().map(|source| start(Base::Local(source.clone()))).collect();
            let part = Part::Source(source::Assignment {
                starts: starts(),
                to_count: starts(),
                skip_links: flags.skip_links,
            });
            let destination = destination.to_vec();
            Ok((Request { direction: Direction::Upload, flags, destination, items }, part))
        }
        Direction::Download => {
            let (mut items, mut wanted) = (Vec::new(), Vec::new());
            for source in &request.sources {
                let bytes = source.as_os_str().as_bytes();
                let path = RelativePath::parse(bytes).map_err(|error| local(source.clone(), error))?;
                // The names of what arrives are ours and not the server's to choose.
                wanted.push(match path.split_last() {
                    Some((name, _)) if !path.contents() => Wanted::Named(name.clone()),
                    Some(_) | None => Wanted::Contents,
                });
                items.push(Item { path: bytes.to_vec(), contents: path.contents() });
            }
            let targets = resolve(&Base::Local(request.destination.clone()), &wanted, flags.into_directory)?;
            let part = Part::Sink(sink::Assignment {
                targets,
                checksum: flags.checksum,
                skip_links: flags.skip_links,
                sync: !flags.no_sync,
            });
            let destination = Vec::new();
            Ok((Request { direction: Direction::Download, flags, destination, items }, part))
        }
    }
}

/// Where an item begins.
pub(crate) fn start(base: Base) -> Start {
    let contents = base.says_contents();
    let path = base.display();
    Start { origin: origin(&base, contents), path }
}

fn local(path: PathBuf, error: FileError) -> TransferError {
    TransferError::Local { path, error }
}

fn resolve(base: &Base, wanted: &[Wanted], into_directory: bool) -> Result<Targets, TransferError> {
    targets(base, wanted, into_directory).map_err(|error| match error {
        NoTarget::Path(error) => local(PathBuf::from(std::ffi::OsStr::from_bytes(&base.display())), error),
        NoTarget::NeedsDirectory => TransferError::NeedsDirectory,
    })
}

/// The number of the only copy of a conversation.
const COPY: u32 = 1;

async fn converse<L: Link>(
    link: &L,
    request: Request,
    part: Part,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    let hello = Message::Hello { min: VERSION_MIN, max: VERSION_MAX };
    link.send(hello.encode()).await?;
    let version = patiently(link, "Hello", welcome(link)).await?;
    tracing::debug!(version, "transfer protocol agreed");

    let conversation = Conversation { link, copy: COPY, role: Role::Client };
    conversation.send(Message::Start { copy: COPY, request }).await?;
    patiently(link, "Start", started(&conversation)).await?;

    let tally = Tally::new(Arc::clone(progress));
    let _shown = Shown(&tally);
    let ended = match part {
        Part::Source(assignment) => source::run(&conversation, assignment, &tally).await?,
        Part::Sink(assignment) => sink::run(&conversation, assignment, &tally).await?,
    };
    match ended {
        Ended::Complete => Ok(tally.summary()),
        // Only a server is interrupted so.
        Ended::Interrupted(_) => Err(Violation::Unexpected { name: "Start", when: "from a server" }.into()),
    }
}

/// Waits for an answer as long as a peer that is there may take for it; without a connection the session's lifetime
/// decides how long to wait.
async fn patiently<L: Link, T>(
    link: &L,
    what: &'static str,
    answer: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    let mut answer = std::pin::pin!(answer);
    loop {
        match timeout(Duration::from_secs(ANSWER_SECONDS_MAX), &mut answer).await {
            Ok(answer) => return answer,
            Err(_) if link.is_connected() => return Err(TransferError::NoAnswer(what)),
            Err(_) => {}
        }
    }
}

/// Waits for the version that both speak; what is left of an earlier conversation on this session is dropped.
async fn welcome<L: Link>(link: &L) -> Result<u16, TransferError> {
    loop {
        let message = Message::decode(link.recv().await?)?;
        if let Message::Welcome { version } = message {
            let ours = (VERSION_MIN..=VERSION_MAX).contains(&version);
            let when = "with that version";
            return if ours {
                Ok(version)
            } else {
                Err(Violation::Unexpected { name: "Welcome", when }.into())
            };
        }
        if let Message::Refused { copy: 0, refusal } = message {
            return Err(TransferError::Refused(refusal));
        }
        tracing::trace!(name = message.name(), "of an earlier conversation");
    }
}

async fn started<L: Link>(conversation: &Conversation<'_, L>) -> Result<(), TransferError> {
    match conversation.recv().await? {
        Heard::Message(Message::Started { .. }) => Ok(()),
        Heard::Message(other) => {
            Err(Violation::Unexpected { name: other.name(), when: "before Started" }.into())
        }
        Heard::Interrupt(_) => Err(Violation::Unexpected { name: "Start", when: "from a server" }.into()),
    }
}
