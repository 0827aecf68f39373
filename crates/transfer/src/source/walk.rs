//! Walking what is to be sent: depth first, one directory entry at a time, never through a link.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{FileError, FileErrorKind};
use crate::fs::{Directory, Kind, Metadata, is_part_name};
use crate::limits::DEPTH_MAX;
use crate::name::Name;
use crate::place::Origin;
use crate::wire::{Entry, Place};

/// A directory of the source, open as long as something in it may still be read.
#[derive(Debug)]
pub(crate) struct SourceDirectory {
    directory: Directory,
    /// For a person: as it was asked for, and down from there.
    path: Vec<u8>,
    /// The sink could not make it: what is below need not be walked.
    failed: AtomicBool,
}

impl SourceDirectory {
    pub(crate) fn new(directory: Directory, path: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { directory, path, failed: AtomicBool::new(false) })
    }

    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn path_of(&self, name: Option<&Name>) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&join(&self.path, name.map_or(b"", Name::as_bytes))))
    }
}

/// A file of the source.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) parent: Arc<SourceDirectory>,
    pub(crate) name: Name,
    /// What it was when it was announced.
    pub(crate) announced: Metadata,
    /// The sink wants no more of it.
    pub(crate) cancelled: AtomicBool,
}

impl SourceFile {
    pub(crate) fn open(&self) -> Result<(std::fs::File, Metadata), FileError> {
        self.parent.directory.open_file(&self.name)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.parent.path_of(Some(&self.name))
    }
}

/// What the source itself has to remember of an entry.
#[derive(Debug)]
pub(crate) enum Record {
    File(Arc<SourceFile>),
    Directory(Arc<SourceDirectory>),
    Link {
        parent: Arc<SourceDirectory>,
        name: Name,
    },
    /// Of the end of a directory: nothing.
    End,
}

/// Something that was found, in the order in which it is to be announced.
#[derive(Debug)]
pub(crate) enum Found {
    Entry(Entry, Record),
    /// Something that will never be an entry.
    Report {
        path: PathBuf,
        error: FileError,
    },
}

/// Nobody wants to hear more.
pub(crate) struct Stopped;

/// Who hears what is found.
pub(crate) trait Visitor {
    fn found(&mut self, found: Found) -> Result<(), Stopped>;
}

/// One thing that was asked for: where it begins, or why that cannot be had, and how it is called in messages.
pub(crate) struct Start {
    pub(crate) origin: Result<Origin, FileError>,
    pub(crate) path: Vec<u8>,
}

struct Level {
    stream: rustix::fs::Dir,
    directory: Arc<SourceDirectory>,
    id: u64,
}

struct Walk<'a, V> {
    visitor: &'a mut V,
    skip_links: bool,
    next_id: u64,
    stack: Vec<Level>,
}

/// Walks all that was asked for and tells `visitor`. Entries are numbered as they are found.
pub(crate) fn walk(starts: Vec<Start>, skip_links: bool, visitor: &mut impl Visitor) -> Result<(), Stopped> {
    let mut walk = Walk { visitor, skip_links, next_id: 0, stack: Vec::new() };
    for (index, start) in starts.into_iter().enumerate() {
        let place = Place::Item(u32::try_from(index).unwrap_or(u32::MAX));
        match start.origin {
            Ok(Origin::Contents(directory)) => {
                walk.enter(place, SourceDirectory::new(directory, start.path))?;
            }
            Ok(Origin::Named(directory, name)) => {
                // Its path is that of the item, so the directory's is what stands before the name.
                let above = start.path.strip_suffix(name.as_bytes()).unwrap_or_default();
                walk.visit(place, &SourceDirectory::new(directory, above.to_vec()), &name)?;
            }
            Err(error) => walk.report(PathBuf::from(OsStr::from_bytes(&start.path)), error)?,
        }
        walk.down()?;
    }
    Ok(())
}

impl<V: Visitor> Walk<'_, V> {
    fn number(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn report(&mut self, path: PathBuf, error: FileError) -> Result<(), Stopped> {
        self.visitor.found(Found::Report { path, error })
    }

    /// Announces a directory and begins to list it.
    fn enter(&mut self, place: Place, directory: Arc<SourceDirectory>) -> Result<(), Stopped> {
        if self.stack.len() == DEPTH_MAX {
            return self.report(directory.path_of(None), FileErrorKind::TooDeep.into());
        }
        let opened = directory.directory.metadata().and_then(|m| Ok((m, directory.directory.entries()?)));
        let (metadata, stream) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.report(directory.path_of(None), error),
        };
        let id = self.number();
        let entry = Entry::Directory { id, place, attributes: metadata.attributes };
        self.visitor.found(Found::Entry(entry, Record::Directory(Arc::clone(&directory))))?;
        self.stack.push(Level { stream, directory, id });
        Ok(())
    }

    /// Announces whatever goes by `name`.
    fn visit(&mut self, place: Place, parent: &Arc<SourceDirectory>, name: &Name) -> Result<(), Stopped> {
        let path = || parent.path_of(Some(name));
        let metadata = match parent.directory.stat(name) {
            Ok(metadata) => metadata,
            Err(error) => return self.report(path(), error),
        };
        match metadata.kind {
            Kind::File => {
                let id = self.number();
                let file = SourceFile {
                    parent: Arc::clone(parent),
                    name: name.clone(),
                    announced: metadata,
                    cancelled: AtomicBool::new(false),
                };
                let entry = Entry::File { id, place, size: metadata.size, attributes: metadata.attributes };
                self.visitor.found(Found::Entry(entry, Record::File(Arc::new(file))))
            }
            Kind::Directory => match parent.directory.open_directory(name) {
                Ok(directory) => {
                    let path = join(&parent.path, name.as_bytes());
                    self.enter(place, SourceDirectory::new(directory, path))
                }
                Err(error) => self.report(path(), error),
            },
            Kind::Link if self.skip_links => self.report(path(), FileErrorKind::LinkSkipped.into()),
            Kind::Link => match parent.directory.read_link(name) {
                Ok(target) => {
                    let id = self.number();
                    let entry = Entry::Link { id, place, target, modified: metadata.attributes.modified };
                    let record = Record::Link { parent: Arc::clone(parent), name: name.clone() };
                    self.visitor.found(Found::Entry(entry, record))
                }
                Err(error) => self.report(path(), error),
            },
            Kind::Special => self.report(path(), FileErrorKind::Special.into()),
        }
    }

    /// Lists what was entered, and what is entered on the way, to the end.
    fn down(&mut self) -> Result<(), Stopped> {
        while let Some(level) = self.stack.last_mut() {
            let entry =
                if level.directory.failed.load(Ordering::Relaxed) { None } else { level.stream.read() };
            let (parent, directory) = (Arc::clone(&level.directory), level.id);
            match entry {
                Some(Ok(entry)) => {
                    // `.` and `..` are no names. Partial files are not part of anybody's tree.
                    let Ok(name) = Name::new(entry.file_name().to_bytes()) else { continue };
                    if !is_part_name(&name) {
                        self.visit(Place::In { directory, name: name.clone() }, &parent, &name)?;
                    }
                }
                ended => {
                    if let Some(Err(error)) = ended {
                        self.report(parent.path_of(None), error.into())?;
                    }
                    self.stack.pop();
                    self.visitor.found(Found::Entry(Entry::End { id: directory }, Record::End))?;
                }
            }
        }
        Ok(())
    }
}

/// A path for a person to read; it is never opened.
pub(crate) fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = above.to_vec();
    if !path.is_empty() && !path.ends_with(b"/") && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
