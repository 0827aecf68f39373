//! Which thing on this file system a request means: where each item of a copy begins, and where it goes.
//!
//! The rules, for both directions and both ends (those of `cp -r`, and of rsync for the trailing slash):
//!
//! | asked for | what exists | result |
//! | --- | --- | --- |
//! | `a` to `b` | `b` is a directory | `b/a` |
//! | `a` to `b` | `b` is not a directory, or does not exist | `a` becomes `b`; the directory of `b` must exist |
//! | `a/` (or `a/.`, `.`, `..`) to `b` | | what is in `a` goes into `b`, which is made if it is missing |
//! | `a` to `b/`, or several to `b` | | `b` is a directory, made if it is missing, and gets `b/a` |

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::{FileError, FileErrorKind};
use crate::fs::{Directory, Folder, open_local};
use crate::name::{Name, RelativePath};

/// A path and the root that it is beneath.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// Below a served folder, where nothing leads out.
    Served(Folder, RelativePath),
    /// A path of the person who runs this process.
    Local(PathBuf),
}

impl Base {
    /// Whether the path says that it means the contents of a directory.
    pub(crate) fn says_contents(&self) -> bool {
        match self {
            Self::Served(_, path) => path.contents(),
            Self::Local(path) => says_contents(path),
        }
    }

    /// The path as it was given, for a person.
    pub(crate) fn display(&self) -> Vec<u8> {
        match self {
            Self::Served(_, path) => path.names().iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/'),
            Self::Local(path) => path.as_os_str().as_bytes().to_vec(),
        }
    }

    /// Opens it as a directory. A link at the end counts as one for a local path only.
    fn open(&self) -> Result<Directory, FileError> {
        match self {
            Self::Served(folder, path) => folder.resolve(path.names()),
            Self::Local(path) => open_local(path),
        }
    }

    /// Opens the directory that it is in, and says what it is called there.
    fn open_parent(&self) -> Result<(Directory, Name), FileError> {
        match self {
            Self::Served(folder, path) => {
                let (last, above) = path.split_last().ok_or(FileErrorKind::IsADirectory)?;
                Ok((folder.resolve(above)?, last.clone()))
            }
            Self::Local(path) => {
                let last = path.file_name().ok_or(FileErrorKind::IsADirectory)?;
                let name = Name::new(last.as_bytes())?;
                Ok((open_local(path.parent().unwrap_or(Path::new("")))?, name))
            }
        }
    }

    /// Makes the directory that it names; the one above must exist.
    fn make(&self) -> Result<Directory, FileError> {
        let (parent, name) = self.open_parent()?;
        parent.make_plain_directory(&name)
    }
}

/// Whether a local path means the contents of a directory: it ends in `/`, `/.` or `..`, or is `.`.
pub(crate) fn says_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.is_empty()
        || bytes.ends_with(b"/")
        || bytes.ends_with(b"/.")
        || bytes == b"."
        || matches!(path.components().next_back(), None | Some(Component::ParentDir | Component::RootDir))
}

/// The name that a local path has in its directory.
pub(crate) fn local_name(path: &Path) -> Result<Name, FileErrorKind> {
    Name::new(path.file_name().unwrap_or(OsStr::new("")).as_bytes())
}

/// Where an item of a copy begins.
#[derive(Debug)]
pub(crate) enum Origin {
    /// What is in this directory.
    Contents(Directory),
    /// What goes by this name.
    Named(Directory, Name),
}

/// Finds where an item begins.
pub(crate) fn origin(base: &Base, contents: bool) -> Result<Origin, FileError> {
    if contents {
        return base.open().map(Origin::Contents);
    }
    let (parent, name) = base.open_parent()?;
    Ok(Origin::Named(parent, name))
}

/// Where an item of a copy goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// It is a directory, and this is to be it.
    Contents(Arc<Directory>),
    /// It gets this name there.
    Named(Arc<Directory>, Name),
}

/// Where all items of a copy go.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    /// One for each item, all in the same directory.
    pub(crate) targets: Vec<Target>,
    /// How that directory is called, for a person.
    pub(crate) path: Vec<u8>,
}

/// An item, as far as its destination depends on it.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The contents of a directory.
    Contents,
    /// A thing of this name.
    Named(Name),
}

/// Why no destination can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTarget {
    /// Something is the matter with the path.
    Path(FileError),
    /// It is no directory, and it would have to be one.
    NeedsDirectory,
}

impl From<FileError> for NoTarget {
    fn from(error: FileError) -> Self {
        Self::Path(error)
    }
}

/// Finds, and if need be makes, the place for each item. `into_directory`: the person said so by a trailing slash.
pub(crate) fn targets(base: &Base, items: &[Wanted], into_directory: bool) -> Result<Targets, NoTarget> {
    let must_be_directory = into_directory
        || base.says_contents()
        || items.len() > 1
        || items.iter().any(|i| matches!(i, Wanted::Contents));
    let directory = match base.open() {
        Ok(directory) => Some(directory),
        Err(e) if e.kind == FileErrorKind::NotFound => {
            if must_be_directory {
                Some(base.make()?)
            } else {
                None
            }
        }
        Err(e) if e.kind == FileErrorKind::NotADirectory || e.kind == FileErrorKind::SymbolicLink => {
            if must_be_directory {
                // Several things that need a place, or one that needs another place: say which of the two.
                return Err(if items.len() > 1 { NoTarget::NeedsDirectory } else { NoTarget::Path(e) });
            }
            None
        }
        Err(e) => return Err(e.into()),
    };
    if let Some(directory) = directory {
        let directory = Arc::new(directory);
        let targets = items
            .iter()
            .map(|item| match item {
                Wanted::Contents => Target::Contents(Arc::clone(&directory)),
                Wanted::Named(name) => Target::Named(Arc::clone(&directory), name.clone()),
            })
            .collect();
        return Ok(Targets { targets, path: base.display() });
    }
    let (parent, name) = base.open_parent()?;
    let parent = Arc::new(parent);
    let targets = items.iter().map(|_| Target::Named(Arc::clone(&parent), name.clone())).collect();
    let mut path = base.display();
    if path.ends_with(name.as_bytes()) {
        path.truncate(path.len() - name.as_bytes().len());
    }
    Ok(Targets { targets, path })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::TempDir;

    fn named(name: &str) -> Wanted {
        Wanted::Named(Name::new(name.as_bytes()).unwrap())
    }

    /// Where the first item goes: the inode of the directory and the name.
    fn first(base: &Base, items: &[Wanted], into: bool) -> Result<(u64, Option<String>), NoTarget> {
        let targets = targets(base, items, into)?.targets;
        assert_eq!(targets.len(), items.len());
        Ok(match &targets[0] {
            Target::Contents(d) => (d.metadata().unwrap().inode, None),
            Target::Named(d, n) => {
                (d.metadata().unwrap().inode, Some(String::from_utf8(n.as_bytes().to_vec()).unwrap()))
            }
        })
    }

    #[test]
    fn what_goes_where_follows_the_table() {
        let temp = TempDir::new("place");
        let at = |path: &str| temp.path().join(path);
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("file"), b"").unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(at(path)).unwrap());
        let served = |path: &str| Base::Served(folder.clone(), RelativePath::parse(path.as_bytes()).unwrap());
        let local = |path: &str| {
            let mut bytes = temp.path().as_os_str().as_bytes().to_vec();
            bytes.push(b'/');
            bytes.extend(path.as_bytes());
            Base::Local(PathBuf::from(OsStr::from_bytes(&bytes)))
        };
        for (which, base) in
            [("served", &served as &dyn Fn(&str) -> Base), ("local", &local as &dyn Fn(&str) -> Base)]
        {
            let some = |name: &str| Some(name.to_owned());
            assert_eq!(first(&base("dir"), &[named("a")], false), Ok((inode("dir"), some("a"))), "{which}");
            assert_eq!(first(&base("new"), &[named("a")], false), Ok((inode("."), some("new"))), "{which}");
            assert_eq!(first(&base("file"), &[named("a")], false), Ok((inode("."), some("file"))), "{which}");
            assert_eq!(first(&base("dir"), &[Wanted::Contents], false), Ok((inode("dir"), None)), "{which}");
            assert!(!at("made").exists());
            let made = first(&base("made"), &[Wanted::Contents], false).unwrap();
            assert_eq!(made, (inode("made"), None), "{which}");
            std::fs::remove_dir(at("made")).unwrap();
            let made = first(&base("made/"), &[named("a")], false).unwrap();
            assert_eq!(made, (inode("made"), some("a")), "{which}");
            std::fs::remove_dir(at("made")).unwrap();
            let made = first(&base("made"), &[named("a"), named("b")], false).unwrap();
            assert_eq!(made, (inode("made"), some("a")), "{which}");
            std::fs::remove_dir(at("made")).unwrap();
            let several = first(&base("file"), &[named("a"), named("b")], false);
            assert_eq!(several, Err(NoTarget::NeedsDirectory), "{which}");
            let kind = |result: Result<_, NoTarget>| match result {
                Err(NoTarget::Path(e)) => e.kind,
                other => panic!("{which}: {other:?}"),
            };
            assert_eq!(kind(first(&base("file"), &[named("a")], true)), FileErrorKind::NotADirectory);
            assert_eq!(kind(first(&base("none/new"), &[named("a")], false)), FileErrorKind::NotFound);
            assert_eq!(kind(first(&base("none/new/"), &[named("a")], false)), FileErrorKind::NotFound);
            assert_eq!(first(&base(""), &[named("a")], false), Ok((inode("."), some("a"))), "{which}");
        }
    }

    #[test]
    fn a_link_to_a_directory_is_one_for_its_owner_only() {
        let temp = TempDir::new("place-link");
        std::fs::create_dir(temp.path().join("dir")).unwrap();
        symlink("dir", temp.path().join("link")).unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let served = Base::Served(folder, RelativePath::parse(b"link").unwrap());
        let local = Base::Local(temp.path().join("link"));
        // The server would replace the link itself, and goes nowhere through it.
        assert!(matches!(&targets(&served, &[named("a")], false).unwrap().targets[0],
            Target::Named(_, name) if name.as_bytes() == b"link"));
        assert!(matches!(targets(&served, &[Wanted::Contents], false), Err(NoTarget::Path(e))
            if e.kind == FileErrorKind::SymbolicLink || e.kind == FileErrorKind::NotADirectory));
        assert!(matches!(&targets(&local, &[named("a")], false).unwrap().targets[0],
            Target::Named(_, name) if name.as_bytes() == b"a"));
    }

    #[test]
    fn a_local_path_means_contents_by_how_it_ends() {
        for (path, contents) in [
            ("a", false),
            ("a/", true),
            ("a/.", true),
            (".", true),
            ("..", true),
            ("a/..", true),
            ("/", true),
            ("/a", false),
            ("", true),
        ] {
            assert_eq!(says_contents(Path::new(path)), contents, "{path:?}");
        }
    }
}
