//! Ceph's keyring files.
//!
//! ```text
//! [client.admin]
//!         key = AQDwdQBrNtCrFRAAgle6ZHnzJH5KbSW8lGA+2A==
//!         caps mon = "allow *"
//! ```
//!
//! The format is that of Ceph's configuration files (`src/common/ConfUtils.cc`, `src/auth/KeyRing.cc`): a section for
//! each entity; `#` and `;` begin comments; a backslash at the end of a line continues it; in the name of a field an
//! underscore is as good as a space; a value may stand in quotes; and a backslash escapes any character.
//!
//! What is written is what `ceph-authtool` writes, byte for byte, except that `\\`, `#` and `;` in capabilities are
//! escaped as well as quotes. It forgets that, and then cannot read its own file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fmt::Write as _;

use zeroize::Zeroizing;

use crate::server::Keys;
use crate::{EntityName, EntityNameError, EntityType, Key, KeyError};

/// The longest keyring that is read, in bytes: many thousand entities.
pub const KEYRING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most entities in a keyring that is read.
pub const KEYRING_ENTITIES_MAX: usize = 16_384;

/// The keys of entities, with what each may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    entries: BTreeMap<EntityName, Entry>,
}

/// What a keyring says of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    key: Option<Key>,
    caps: BTreeMap<String, String>,
    unknown: Vec<UnknownLine>,
}

/// A field that this crate does not know. It is kept, and written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLine {
    /// The number of its line in the file it was read from, from 1.
    pub line: usize,
    /// The name of the field.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A text is not a keyring. The user's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the keyring: {problem}")]
pub struct KeyringError {
    /// The number of the line, from 1; of the first one when a line is continued.
    pub line: usize,
    /// What is wrong there.
    pub problem: KeyringProblem,
}

/// What can be wrong in a keyring. No message shows the text itself, which may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringProblem {
    /// The file is longer than [`KEYRING_BYTES_MAX`].
    #[error("a keyring has at most {KEYRING_BYTES_MAX} bytes")]
    TooLong,
    /// There are more entities than [`KEYRING_ENTITIES_MAX`].
    #[error("a keyring has at most {KEYRING_ENTITIES_MAX} entities")]
    TooMany,
    /// The file is not UTF-8.
    #[error("a keyring is UTF-8 text")]
    Utf8,
    /// A section's bracket is not closed, or something stands behind it.
    #[error("a section is written [TYPE.ID]")]
    Section,
    /// A section's name is not that of an entity.
    #[error(transparent)]
    Name(#[from] EntityNameError),
    /// A line is neither a section nor a field.
    #[error("a field is written NAME = VALUE")]
    Field,
    /// A field stands before the first section.
    #[error("a field belongs to an entity, and no [TYPE.ID] stands before this one")]
    NoSection,
    /// A quote is not closed, or something stands behind it.
    #[error("a quoted value ends with the quote it began with")]
    Quote,
    /// The value of `key` is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Entry {
    /// An entry with a key, and no right to anything.
    pub fn new(key: Key) -> Self {
        Entry { key: Some(key), ..Self::empty() }
    }

    fn empty() -> Self {
        Entry { key: None, caps: BTreeMap::new(), unknown: Vec::new() }
    }

    /// The key, if there is one; a section may list capabilities only.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// What the entity may do at a service, by the service's name (`mon`, `osd`).
    pub fn caps(&self) -> impl Iterator<Item = (&str, &str)> {
        self.caps.iter().map(|(service, caps)| (service.as_str(), caps.as_str()))
    }

    /// Sets what the entity may do at a service. Line ends become spaces, since a value has one line.
    #[must_use]
    pub fn with_caps(mut self, service: &str, caps: &str) -> Self {
        let one_line = |text: &str| text.replace(['\n', '\r'], " ");
        self.caps.insert(one_line(service), one_line(caps));
        self
    }

    /// The fields that were not understood.
    pub fn unknown(&self) -> &[UnknownLine] {
        &self.unknown
    }
}

impl Keyring {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the contents of a keyring file. A section `[global]` is passed over, as Ceph does. When a field is given
    /// twice, the later one counts.
    ///
    /// # Errors
    ///
    /// The user's fault, with the number of the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let at_start = |problem| KeyringError { line: 1, problem };
        if bytes.len() > KEYRING_BYTES_MAX {
            return Err(at_start(KeyringProblem::TooLong));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| at_start(KeyringProblem::Utf8))?;
        let mut parser = Parser { keyring: Keyring::new(), section: Section::None };
        for (line, text) in logical_lines(text) {
            parser.line(line, text.trim()).map_err(|problem| KeyringError { line, problem })?;
        }
        Ok(parser.keyring)
    }

    /// The file, as `ceph-authtool` would write it. It holds secrets, and is wiped from memory when dropped.
    ///
    /// # Errors
    ///
    /// The user's fault: a name was put in that no keyring can hold ([`EntityName::check`]).
    pub fn to_text(&self) -> Result<Zeroizing<String>, EntityNameError> {
        let mut text = Zeroizing::new(String::new());
        // Writing to a string cannot fail.
        for (name, entry) in &self.entries {
            name.check()?;
            let _ = writeln!(text, "[{name}]");
            if let Some(key) = &entry.key {
                let _ = writeln!(text, "\tkey = {}", *key.to_base64());
            }
            for (service, caps) in &entry.caps {
                let _ = writeln!(text, "\tcaps {service} = {}", quoted(caps));
            }
            for UnknownLine { name, value, .. } in &entry.unknown {
                let _ = writeln!(text, "\t{name} = {}", quoted(value));
            }
        }
        Ok(text)
    }

    /// Puts an entry in, in place of an earlier one of the same entity, which comes back.
    pub fn insert(&mut self, name: EntityName, entry: Entry) -> Option<Entry> {
        self.entries.insert(name, entry)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: &EntityName) -> Option<Entry> {
        self.entries.remove(name)
    }

    /// What is known of this entity.
    pub fn get(&self, name: &EntityName) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All entities, by type and id.
    pub fn iter(&self) -> impl Iterator<Item = (&EntityName, &Entry)> {
        self.entries.iter()
    }

    /// How many entities there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Keys for Keyring {
    fn key(&self, name: &EntityName) -> Option<&Key> {
        self.get(name)?.key()
    }

    fn caps(&self, name: &EntityName, service: EntityType) -> Option<&str> {
        self.get(name)?.caps.get(service.name()).map(String::as_str)
    }
}

/// Lines with their numbers, a backslash at the end joining one to the next.
fn logical_lines(text: &str) -> impl Iterator<Item = (usize, Zeroizing<String>)> {
    let mut lines = text.lines().enumerate();
    std::iter::from_fn(move || {
        let (index, first) = lines.next()?;
        let mut joined = Zeroizing::new(first.to_owned());
        while is_continued(&joined) {
            joined.pop();
            match lines.next() {
                Some((_, next)) => joined.push_str(next),
                None => break,
            }
        }
        Some((index + 1, joined))
    })
}

/// Whether the last character is a backslash that no other one escapes.
fn is_continued(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

enum Section {
    /// Before the first one.
    None,
    /// One that says nothing of keys.
    Ignored,
    Entity(EntityName),
}

struct Parser {
    keyring: Keyring,
    section: Section,
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) -> Result<(), KeyringProblem> {
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix('[') {
            return self.begin(rest);
        }
        let (name, value) = line.split_once('=').ok_or(KeyringProblem::Field)?;
        let name = name.replace('_', " ");
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        // One that begins like a section or a comment would be read as that once it was written again.
        if name.is_empty() || name.starts_with(['[', '#', ';']) {
            return Err(KeyringProblem::Field);
        }
        let value = unquoted(value.trim())?;
        let entity = match &self.section {
            Section::None => return Err(KeyringProblem::NoSection),
            Section::Ignored => return Ok(()),
            Section::Entity(entity) => entity,
        };
        let entry = self.keyring.entries.entry(entity.clone()).or_insert_with(Entry::empty);
        if name == "key" {
            entry.key = Some(Key::from_base64(&value)?);
        } else if let Some(service) = name.strip_prefix("caps ") {
            entry.caps.insert(service.to_owned(), value.to_string());
        } else {
            entry.unknown.push(UnknownLine { line: number, name, value: value.to_string() });
        }
        Ok(())
    }

    fn begin(&mut self, rest: &str) -> Result<(), KeyringProblem> {
        let (name, behind) = rest.split_once(']').ok_or(KeyringProblem::Section)?;
        if !is_blank_or_comment(behind) {
            return Err(KeyringProblem::Section);
        }
        let name = name.trim();
        if name == "global" {
            self.section = Section::Ignored;
            return Ok(());
        }
        let name: EntityName = name.parse()?;
        let count = self.keyring.entries.len();
        if let MapEntry::Vacant(vacant) = self.keyring.entries.entry(name.clone()) {
            if count >= KEYRING_ENTITIES_MAX {
                return Err(KeyringProblem::TooMany);
            }
            vacant.insert(Entry::empty());
        }
        self.section = Section::Entity(name);
        Ok(())
    }
}

fn is_blank_or_comment(text: &str) -> bool {
    let text = text.trim_start();
    text.is_empty() || text.starts_with(['#', ';'])
}

/// A value without its quotes, its escapes, and the comment behind it.
///
/// Ceph wants `#` and `;` escaped between quotes, too, and refuses the file else, also one that `ceph-authtool` wrote;
/// here they are taken for what they say.
fn unquoted(value: &str) -> Result<Zeroizing<String>, KeyringProblem> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let mut text = Zeroizing::new(String::with_capacity(value.len()));
    // How much of the text may not be trimmed away at its end.
    let mut solid = 0;
    let mut chars = value[quote.map_or(0, char::len_utf8)..].chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(quote) if c == quote => {
                return if is_blank_or_comment(chars.as_str()) {
                    Ok(text)
                } else {
                    Err(KeyringProblem::Quote)
                };
            }
            None if matches!(c, '#' | ';') => break,
            Some(_) | None => {}
        }
        match c {
            '\\' => text.extend(chars.next()),
            _ => text.push(c),
        }
        if !c.is_whitespace() {
            solid = text.len();
        }
    }
    if quote.is_some() {
        return Err(KeyringProblem::Quote);
    }
    text.truncate(solid);
    Ok(text)
}

fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        if matches!(c, '\\' | '"' | '#' | ';') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQDwdQBrNtCrFRAAgle6ZHnzJH5KbSW8lGA+2A==";

    fn name(text: &str) -> EntityName {
        text.parse().unwrap()
    }

    fn problem(text: &str) -> (usize, KeyringProblem) {
        let error = Keyring::parse(text.as_bytes()).unwrap_err();
        (error.line, error.problem)
    }

    #[test]
    fn what_a_user_may_write_is_read() {
        let text = format!(
            "# a comment\n; another\n[global]\nfoo = bar\n\n [client.q]  # why\n  key={KEY}   # tail\n \
             caps_mon = allow r ; x\n\tcaps   osd = 'allow \"q\"'\n caps mds = \"a\\\\b\\\"\\c # d\"  # foo\n\
             caps mgr = allow \\\n  r\n blah = 3\n"
        );
        let keyring = Keyring::parse(text.as_bytes()).unwrap();
        let entry = keyring.get(&name("client.q")).unwrap();
        assert_eq!(*entry.key().unwrap().to_base64(), KEY);
        let caps: Vec<_> = entry.caps().collect();
        assert_eq!(
            caps,
            [("mds", "a\\b\"c # d"), ("mgr", "allow   r"), ("mon", "allow r"), ("osd", "allow \"q\"")]
        );
        let unknown = UnknownLine { line: 13, name: "blah".into(), value: "3".into() };
        assert_eq!(entry.unknown(), [unknown]);
        assert_eq!(keyring.len(), 1);

        let again = Keyring::parse(keyring.to_text().unwrap().as_bytes()).unwrap();
        assert_eq!(again.get(&name("client.q")).unwrap().caps, entry.caps);
        assert_eq!(again.get(&name("client.q")).unwrap().unknown[0].name, "blah");
    }

    #[test]
    fn written_as_ceph_authtool_writes() {
        let text = format!(
            "[mon.]\n\tkey = {KEY}\n\tcaps mon = \"allow *\"\n[osd.0]\n\tkey = {KEY}\n[client.x]\n\tkey = {KEY}\n\
             \tcaps mon = \"allow *\"\n\tcaps osd = \"allow rwx pool=\\\"a b\\\"\"\n"
        );
        let keyring = Keyring::parse(text.as_bytes()).unwrap();
        assert_eq!(*keyring.to_text().unwrap(), text);
        assert_eq!(keyring.caps(&name("client.x"), EntityType::Osd), Some("allow rwx pool=\"a b\""));
        assert_eq!(keyring.caps(&name("osd.0"), EntityType::Osd), None);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert_eq!(problem("\nkey = x\n"), (2, KeyringProblem::NoSection));
        assert_eq!(problem("[client.a\n"), (1, KeyringProblem::Section));
        assert_eq!(problem("[client.a] x\n"), (1, KeyringProblem::Section));
        assert_eq!(problem("[a]\n"), (1, KeyringProblem::Name(EntityNameError::NoDot)));
        assert_eq!(problem("[client.a]\n\nwhat\n"), (3, KeyringProblem::Field));
        assert_eq!(problem("[client.a]\n= 3\n"), (2, KeyringProblem::Field));
        assert_eq!(problem("[client.a]\n_[client.b] = 3\n"), (2, KeyringProblem::Field));
        assert_eq!(problem("[client.a]\n_#key = 3\n"), (2, KeyringProblem::Field));
        assert_eq!(problem("[client.a]\nkey = ??\n"), (2, KeyringProblem::Key(KeyError::Base64)));
        assert_eq!(problem("[client.a]\ncaps mon = \"allow\n"), (2, KeyringProblem::Quote));
        assert_eq!(problem("[client.a]\ncaps mon = \"allow\" *\n"), (2, KeyringProblem::Quote));
        assert_eq!(problem("[client.a]\n\\\nx\\\n"), (2, KeyringProblem::Field));
        let error = Keyring::parse(b"\xff").unwrap_err();
        assert_eq!(error.problem, KeyringProblem::Utf8);
        let error = Keyring::parse(&vec![b'#'; KEYRING_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(error.problem, KeyringProblem::TooLong);
    }

    #[test]
    fn too_many_entities_are_refused() {
        let text: String = (0..=KEYRING_ENTITIES_MAX).map(|n| format!("[osd.{n}]\n")).collect();
        assert_eq!(problem(&text), (KEYRING_ENTITIES_MAX + 1, KeyringProblem::TooMany));
    }

    #[test]
    fn a_name_no_file_can_hold_is_not_written() {
        let mut keyring = Keyring::new();
        let key = Key::from_base64(KEY).unwrap();
        keyring.insert(EntityName::new(EntityType::Client, "a]\n[client.b"), Entry::new(key));
        assert_eq!(keyring.to_text(), Err(EntityNameError::Character));
    }
}
