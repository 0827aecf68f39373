//! The folder that a server serves, and the local paths of a person.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::directory::{Directory, directory_flags};
use crate::error::FileError;
use crate::name::Name;

/// How often `openat2` is tried when it says that a rename somewhere disturbed it (EAGAIN, openat2(2)).
const RESOLVE_TRIES_MAX: u32 = 16;

/// Set once `openat2` turned out not to exist here.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// A directory, open, that everything is beneath: what a server serves. See the [module](crate::fs) for what that means.
#[derive(Clone, Debug)]
pub struct Folder {
    directory: Arc<Directory>,
    path: PathBuf,
}

impl Folder {
    /// Opens the directory at `path`, as its owner says it: links on the way to it are followed.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Ok(Self { directory: Arc::new(open_local(path)?), path: path.to_owned() })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory beneath it.
    pub(crate) fn resolve(&self, names: &[Name]) -> Result<Directory, FileError> {
        if names.is_empty() {
            return self.directory.duplicate();
        }
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            match resolve_at_once(&self.directory, names) {
                // EPERM is what sandboxes say that know no better.
                Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
                Ok(directory) => return Ok(directory),
                Err(e) => return Err(e.into()),
            }
        }
        resolve_by_component(&self.directory, names)
    }
}

/// Lets the kernel walk the path.
fn resolve_at_once(directory: &Directory, names: &[Name]) -> Result<Directory, Errno> {
    let path = names.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/');
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        tries += 1;
        match fs::openat2(directory, &path[..], directory_flags(), Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < RESOLVE_TRIES_MAX => {}
            result => return result.map(Directory::from_fd),
        }
    }
}

/// Walks the path a component at a time, never through a link.
fn resolve_by_component(directory: &Directory, names: &[Name]) -> Result<Directory, FileError> {
    let mut current = directory.duplicate()?;
    for name in names {
        current = current.open_directory(name)?;
    }
    Ok(current)
}

/// Opens a directory by a path of the person who runs this process: links on the way are followed, as everywhere.
pub(crate) fn open_local(path: &Path) -> Result<Directory, FileError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let fd = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // What is no directory fails above; this is for file systems that take O_DIRECTORY lightly.
    let directory = Directory::from_fd(fd);
    let _ = directory.as_fd();
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::FileErrorKind;
    use crate::name::RelativePath;
    use crate::testing::TempDir;

    type Resolver = fn(&Directory, &[Name]) -> Result<Directory, FileError>;

    fn resolvers() -> [(&'static str, Resolver); 2] {
        [
            ("openat2", |d, n| resolve_at_once(d, n).map_err(FileError::from)),
            ("by component", resolve_by_component),
        ]
    }

    fn names(path: &str) -> Vec<Name> {
        RelativePath::parse(path.as_bytes()).unwrap().names().to_vec()
    }

    #[test]
    fn a_link_anywhere_in_the_path_is_refused() {
        let temp = TempDir::new("folder-links");
        std::fs::create_dir_all(temp.path().join("root/real/deep")).unwrap();
        std::fs::create_dir_all(temp.path().join("outside/deep")).unwrap();
        symlink("../outside", temp.path().join("root/up")).unwrap();
        symlink(temp.path().join("outside"), temp.path().join("root/absolute")).unwrap();
        symlink("real", temp.path().join("root/inside")).unwrap();
        symlink("/proc/self/root", temp.path().join("root/magic")).unwrap();
        let folder = Folder::open(&temp.path().join("root")).unwrap();
        for (which, resolve) in resolvers() {
            for bad in
                ["up", "up/deep", "absolute", "absolute/deep", "inside", "inside/deep", "magic", "magic/etc"]
            {
                let error = resolve(&folder.directory, &names(bad)).unwrap_err();
                let expected = [FileErrorKind::SymbolicLink, FileErrorKind::NotADirectory];
                assert!(expected.contains(&error.kind), "{which}: {bad}: {error:?}");
            }
            resolve(&folder.directory, &names("real/deep")).unwrap();
            let missing = resolve(&folder.directory, &names("real/none")).unwrap_err();
            assert_eq!(missing.kind, FileErrorKind::NotFound, "{which}");
        }
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_in_a_loop_never_leads_outside() {
        let temp = TempDir::new("folder-swap");
        let root = temp.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(temp.path().join("outside/b")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        let outside = open_local(&temp.path().join("outside/b")).unwrap().metadata().unwrap().inode;
        let folder = Folder::open(&root).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let swapper = std::thread::spawn({
            let (stop, root) = (Arc::clone(&stop), folder.directory.duplicate().unwrap());
            move || {
                let mut swaps = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    fs::renameat_with(&root, "a", &root, "link", fs::RenameFlags::EXCHANGE).unwrap();
                    swaps += 1;
                }
                swaps
            }
        });
        let (mut opened, mut refused) = (0u32, 0u32);
        for round in 0..40_000 {
            let (_, resolve) = resolvers()[round % 2];
            match resolve(&folder.directory, &names("a/b")) {
                Ok(directory) => {
                    opened += 1;
                    assert_ne!(directory.metadata().unwrap().inode, outside, "round {round}");
                }
                Err(error) => {
                    refused += 1;
                    let expected = [FileErrorKind::SymbolicLink, FileErrorKind::NotADirectory];
                    assert!(expected.contains(&error.kind), "{error:?}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let swaps = swapper.join().unwrap();
        // The race took place, and both sides of it were met.
        assert!(
            swaps > 1000 && opened > 100 && refused > 100,
            "{swaps} swaps, {opened} opened, {refused} refused"
        );
    }

    #[test]
    fn the_folder_stays_the_same_directory_when_its_name_goes_elsewhere() {
        let temp = TempDir::new("folder-moved");
        std::fs::create_dir_all(temp.path().join("root/in")).unwrap();
        let folder = Folder::open(&temp.path().join("root")).unwrap();
        std::fs::rename(temp.path().join("root"), temp.path().join("moved")).unwrap();
        symlink("/", temp.path().join("root")).unwrap();
        folder.resolve(&names("in")).unwrap();
        assert_eq!(folder.resolve(&names("etc")).unwrap_err().kind, FileErrorKind::NotFound);
    }
}
