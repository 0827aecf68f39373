//! Names and paths as they come from a peer or a person, checked once and carried as what they were found to be.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::error::{FileError, FileErrorKind};
use crate::limits::{DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX};

/// The name of one directory entry: not empty, not `.` nor `..`, without `/` and NUL, at most
/// [`NAME_BYTES_MAX`] bytes. Any other bytes are allowed; names are not text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes`.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::InvalidName`] or [`FileErrorKind::NameTooLong`].
    pub fn new(bytes: &[u8]) -> Result<Self, FileErrorKind> {
        if bytes.is_empty() || bytes == b"." || bytes == b".." {
            return Err(FileErrorKind::InvalidName);
        }
        if bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(FileErrorKind::InvalidName);
        }
        if bytes.len() > NAME_BYTES_MAX {
            return Err(FileErrorKind::NameTooLong);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For the standard library and the operating system.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_os_str().fmt(f)
    }
}

/// A path that can only lead down: a list of [`Name`]s, at most [`DEPTH_MAX`] of them.
///
/// `.` and doubled slashes are dropped. A trailing slash (or `/.`, or an empty path) is remembered: it names the
/// *contents* of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelativePath {
    names: Vec<Name>,
    contents: bool,
}

impl RelativePath {
    /// Checks the bytes of a path.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::OutsideRoot`] if it is absolute or contains `..` (even where that would stay inside: after a
    /// concurrent rename it might not), [`FileErrorKind::InvalidName`] for a NUL, [`FileErrorKind::NameTooLong`] and
    /// [`FileErrorKind::TooDeep`] for what exceeds the limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(FileErrorKind::NameTooLong.into());
        }
        if bytes.first() == Some(&b'/') {
            return Err(FileErrorKind::OutsideRoot.into());
        }
        let mut names = Vec::new();
        let mut contents = true;
        for part in bytes.split(|&b| b == b'/') {
            contents = part.is_empty() || part == b".";
            if contents {
                continue;
            }
            if part == b".." {
                return Err(FileErrorKind::OutsideRoot.into());
            }
            if names.len() == DEPTH_MAX {
                return Err(FileErrorKind::TooDeep.into());
            }
            names.push(Name::new(part)?);
        }
        Ok(Self { names, contents })
    }

    /// The names, from the top down.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// Whether the path names the contents of a directory: it is empty, or ends in `/` or `/.`.
    #[must_use]
    pub fn contents(&self) -> bool {
        self.contents
    }

    /// The last name and those above it; `None` for the root itself.
    #[must_use]
    pub fn split_last(&self) -> Option<(&Name, &[Name])> {
        self.names.split_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_no_names_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert_eq!(Name::new(bad), Err(FileErrorKind::InvalidName), "{bad:?}");
        }
        assert_eq!(Name::new(&[b'a'; 256]), Err(FileErrorKind::NameTooLong));
        for good in [&b"a"[..], b"...", b"..a", b"\xff\xfe", b" ", b"-rf", b"a\nb", &[b'a'; 255]] {
            assert_eq!(Name::new(good).map(|n| n.as_bytes().to_vec()), Ok(good.to_vec()));
        }
    }

    #[test]
    fn paths_that_could_leave_the_folder_are_refused() {
        for bad in ["/", "/etc/passwd", "..", "../x", "a/..", "a/../b", "a/../../b", "./..", "a//..//"] {
            assert_eq!(RelativePath::parse(bad.as_bytes()), Err(FileErrorKind::OutsideRoot.into()), "{bad}");
        }
        assert_eq!(RelativePath::parse(b"a/b\0/c"), Err(FileErrorKind::InvalidName.into()));
        let deep = vec!["d"; DEPTH_MAX + 1].join("/");
        assert_eq!(RelativePath::parse(deep.as_bytes()), Err(FileErrorKind::TooDeep.into()));
        let long = vec!["d"; PATH_BYTES_MAX].join("/");
        assert_eq!(RelativePath::parse(long.as_bytes()), Err(FileErrorKind::NameTooLong.into()));
    }

    #[test]
    fn a_trailing_slash_means_the_contents() {
        for (path, names, contents) in [
            ("", 0, true),
            (".", 0, true),
            ("./", 0, true),
            ("a", 1, false),
            ("./a", 1, false),
            ("a/", 1, true),
            ("a/.", 1, true),
            ("a//b", 2, false),
            ("a/./b//", 2, true),
        ] {
            let parsed = RelativePath::parse(path.as_bytes()).unwrap();
            assert_eq!((parsed.names().len(), parsed.contents()), (names, contents), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_only_leads_down(bytes in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(0u8), Just(b'a'), any::<u8>()], 0..64)) {
            if let Ok(path) = RelativePath::parse(&bytes) {
                prop_assert_ne!(bytes.first(), Some(&b'/'));
                for name in path.names() {
                    prop_assert!(name.as_bytes() != b".." && name.as_bytes() != b"." && !name.as_bytes().is_empty());
                    prop_assert!(!name.as_bytes().contains(&b'/') && !name.as_bytes().contains(&0));
                }
            }
        }
    }
}
