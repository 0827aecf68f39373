//! A tree to try a copy with: files of every size, odd names, links, modes and times; the same from the same seed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Sum of the files' sizes, in bytes; met exactly.
    pub bytes: u64,
    /// The same seed (and size) gives the same tree, on every machine.
    pub seed: u64,
}

impl Default for GenerateOptions {
    /// 1 GiB.
    fn default() -> Self {
        Self { bytes: 1 << 30, seed: 1 }
    }
}

/// What was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generated {
    /// Files.
    pub files: u64,
    /// Directories, the top one not counted.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Sum of the files' sizes, in bytes.
    pub bytes: u64,
}

/// What could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {error}")]
pub struct GenerateError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub error: io::Error,
}

/// Bytes generated and written at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Names that trip programs up. Each directory gets one of them.
const ODD_NAMES: [&[u8]; 16] = [
    b"with space",
    b" leading and trailing ",
    b"-rf",
    b"--help",
    b"new\nline",
    b"tab\there",
    b"quote\"'`$(x)",
    b"back\\slash",
    b"...",
    b"..hidden",
    b"colon:name",
    b"\xff\xfe not utf-8 \x80",
    "gr\u{fc}\u{df}e".as_bytes(),
    "gru\u{308}\u{df}e".as_bytes(),
    "\u{65e5}\u{672c}\u{8a9e} \u{1f980}".as_bytes(),
    b"*?[a]{b}",
];

/// Modes of the files; the owner can always read them.
const FILE_MODES: [u32; 8] = [0o644, 0o644, 0o644, 0o600, 0o664, 0o755, 0o444, 0o400];
/// Modes of the directories; the owner can always remove what is in them.
const DIRECTORY_MODES: [u32; 4] = [0o755, 0o755, 0o750, 0o700];

/// Oldest time given, in seconds since 1970 (2001), and the span above it (some 20 years).
const TIME_SECONDS_MIN: u64 = 1_000_000_000;
const TIME_SECONDS_SPAN: u64 = 640_000_000;

/// Of the bytes, the part of each class: the size of its files, from and to (exclusive), and its share of a
/// thousand. What is left becomes one file more.
const CLASSES: [(u64, u64, u64); 5] = [
    (1, 4 << 10, 1),
    (4 << 10, 64 << 10, 12),
    (64 << 10, 1 << 20, 120),
    (1 << 20, 16 << 20, 350),
    (16 << 20, 96 << 20, 517),
];

/// Files of the smallest class that one directory holds on average.
const FILES_PER_DIRECTORY: u64 = 40;

/// xoshiro256++ by Blackman and Vigna (public domain, <https://prng.di.unimi.it/>), seeded by their splitmix64. Not a
/// library's small generator, because those may change from one release to the next.
struct Random([u64; 4]);

impl Random {
    fn new(mut seed: u64) -> Self {
        Self([(); 4].map(|()| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number from `min` up to below `max`, near enough to uniform for a demonstration.
    fn range(&mut self, min: u64, max: u64) -> u64 {
        min + self.next() % (max - min).max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.range(0, from.len() as u64);
        from[usize::try_from(index).unwrap_or(0)]
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

struct Generator {
    random: Random,
    buffer: Vec<u8>,
    /// Directories with the mode and time that they get at the end, parents first.
    directories: Vec<(PathBuf, u32, SystemTime)>,
    made: Generated,
}

/// Makes a tree in `directory`, which is made as well if it is missing. Blocks.
///
/// # Errors
///
/// What the operating system says. What was made until then stays.
pub fn generate(directory: &Path, options: &GenerateOptions) -> Result<Generated, GenerateError> {
    let mut generator = Generator {
        random: Random::new(options.seed),
        buffer: vec![0; PIECE_BYTES],
        directories: Vec::new(),
        made: Generated::default(),
    };
    generator.tree(directory, options.bytes).map_err(|(path, error)| GenerateError { path, error })?;
    Ok(generator.made)
}

type Failed = (PathBuf, io::Error);

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, Failed> {
    result.map_err(|error| (path.to_owned(), error))
}

impl Generator {
    fn tree(&mut self, top: &Path, bytes: u64) -> Result<(), Failed> {
        at(top, fs::create_dir_all(top))?;
        self.note_directory(top);
        let mut sizes = self.sizes(bytes);
        let count = 4 + sizes.len() as u64 / FILES_PER_DIRECTORY;
        let mut places = vec![top.to_owned()];
        for number in 0..count {
            let parent =
                places[usize::try_from(self.random.range(0, places.len() as u64)).unwrap_or(0)].clone();
            let path = parent.join(format!("dir-{number:03}"));
            at(&path, fs::create_dir(&path))?;
            self.made.directories += 1;
            self.note_directory(&path);
            places.push(path);
        }
        // The last one stays empty.
        places.pop();
        // Large and small mixed, as they are in life.
        for i in (1..sizes.len()).rev() {
            let j = usize::try_from(self.random.range(0, i as u64 + 1)).unwrap_or(i);
            sizes.swap(i, j);
        }
        for (number, size) in sizes.into_iter().enumerate() {
            let place = self.random.pick(&places.iter().collect::<Vec<_>>()).clone();
            self.file(&place.join(format!("file-{number:05}.bin")), size)?;
        }
        self.oddities(&places)?;
        // From the bottom up: making something in a directory changes its time.
        while let Some((path, mode, time)) = self.directories.pop() {
            let directory = at(&path, File::open(&path))?;
            at(&path, directory.set_permissions(Permissions::from_mode(mode)))?;
            at(&path, directory.set_modified(time))?;
        }
        Ok(())
    }

    /// The sizes of all files: each class its share, summing up to `bytes`.
    fn sizes(&mut self, bytes: u64) -> Vec<u64> {
        let mut sizes = Vec::new();
        let mut left = bytes;
        for (min, max, per_mille) in CLASSES {
            let mut share = (bytes / 1000 * per_mille).min(left);
            while share >= min {
                // Every magnitude as likely as the others within a class.
                let width = self.random.range(min.ilog2().into(), u64::from((max - 1).ilog2()) + 1);
                let size = self.random.range(1 << width, 2 << width).clamp(min, max - 1).min(share);
                sizes.push(size);
                share -= size;
                left -= size;
            }
        }
        if left > 0 {
            sizes.push(left);
        }
        sizes
    }

    fn time(&mut self) -> SystemTime {
        let seconds = TIME_SECONDS_MIN + self.random.range(0, TIME_SECONDS_SPAN);
        let nanoseconds = u32::try_from(self.random.range(0, 1_000_000_000)).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }

    fn note_directory(&mut self, path: &Path) {
        let (mode, time) = (self.random.pick(&DIRECTORY_MODES), self.time());
        self.directories.push((path.to_owned(), mode, time));
    }

    fn file(&mut self, path: &Path, size: u64) -> Result<(), Failed> {
        let mut file = at(path, File::create_new(path))?;
        let mut left = size;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.random.fill(&mut self.buffer[..piece]);
            at(path, file.write_all(&self.buffer[..piece]))?;
            left -= piece as u64;
        }
        let (mode, time) = (self.random.pick(&FILE_MODES), self.time());
        at(path, file.set_permissions(Permissions::from_mode(mode)))?;
        at(path, file.set_modified(time))?;
        self.made.files += 1;
        self.made.bytes += size;
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &str) -> Result<(), Failed> {
        at(path, symlink(target, path))?;
        let since = self.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = Timespec {
            tv_sec: i64::try_from(since.as_secs()).unwrap_or(0),
            tv_nsec: since.subsec_nanos().into(),
        };
        let times = Timestamps { last_access: time, last_modification: time };
        at(path, utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from))?;
        self.made.links += 1;
        Ok(())
    }

    /// What breaks programs that were only tried with what is usual.
    fn oddities(&mut self, places: &[PathBuf]) -> Result<(), Failed> {
        let odd = places[0].join("odd names");
        at(&odd, fs::create_dir(&odd))?;
        self.made.directories += 1;
        self.note_directory(&odd);
        for name in ODD_NAMES {
            self.file(&odd.join(std::ffi::OsStr::from_bytes(name)), 0)?;
        }
        self.file(&odd.join("n".repeat(255)), 0)?;
        let links = places[0].join("links");
        at(&links, fs::create_dir(&links))?;
        self.made.directories += 1;
        self.note_directory(&links);
        for (name, target) in [
            ("to a directory", "../odd names"),
            ("to itself", "to itself"),
            ("to nothing", "no/such/thing"),
            ("to the outside", "/etc/hostname"),
            ("up and away", "../../../../../../../.."),
        ] {
            self.link(&links.join(name), target)?;
        }
        let mut deep = places[0].join("deep");
        for level in 0..24 {
            at(&deep, fs::create_dir(&deep))?;
            self.made.directories += 1;
            self.note_directory(&deep);
            self.file(&deep.join("f"), 0)?;
            deep = deep.join(format!("level-{level}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare;
    use crate::testing::TempDir;

    #[test]
    fn the_same_seed_gives_the_same_tree_and_another_one_another() {
        let temp = TempDir::new("generate");
        let options = GenerateOptions { bytes: 20_000_000, seed: 7 };
        let made = ["a", "b"].map(|which| generate(&temp.path().join(which), &options).unwrap());
        assert_eq!(made[0], made[1]);
        assert_eq!(made[0].bytes, 20_000_000);
        assert!(made[0].files > 40 && made[0].directories > 20 && made[0].links == 5, "{:?}", made[0]);
        let same = compare(&temp.path().join("a"), &temp.path().join("b"), None).unwrap();
        assert_eq!(same.differences, []);
        assert_eq!(
            (same.files, same.directories, same.links),
            (made[0].files, made[0].directories, made[0].links)
        );
        let other = GenerateOptions { seed: 8, ..options };
        generate(&temp.path().join("c"), &other).unwrap();
        assert!(!compare(&temp.path().join("a"), &temp.path().join("c"), None).unwrap().is_same());
    }

    #[test]
    fn any_size_is_met_exactly() {
        let mut generator = Generator {
            random: Random::new(3),
            buffer: Vec::new(),
            directories: Vec::new(),
            made: Generated::default(),
        };
        for bytes in [0, 1, 999, 1000, 4097, 1 << 20, 1 << 30, 7 << 30] {
            assert_eq!(generator.sizes(bytes).iter().sum::<u64>(), bytes);
        }
        assert!(generator.sizes(1 << 30).len() > 1000);
    }
}
