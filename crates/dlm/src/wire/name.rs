//! The names of resources.

use core::fmt;

use super::error::DecodeError;

/// The longest name of a resource, in bytes (`DLM_RESNAME_MAXLEN`).
pub const NAME_BYTES_MAX: usize = 64;

/// The user's name is empty or longer than [`NAME_BYTES_MAX`]; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a resource name has 1 to {NAME_BYTES_MAX} bytes, this one {len}")]
pub struct NameError {
    /// Its length in bytes.
    pub len: usize,
}

/// The name of a resource: 1 to [`NAME_BYTES_MAX`] bytes of any value. GFS2's are text padded with spaces, others
/// hold binary numbers.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    // What is behind the name is 0, so that comparing the whole compares the names, shorter ones first.
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl Name {
    /// A name of these bytes.
    ///
    /// # Errors
    /// [`NameError`] when they are none or too many.
    pub fn new(name: &[u8]) -> Result<Self, NameError> {
        let mut bytes = [0; NAME_BYTES_MAX];
        match (name.is_empty(), bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (false, Some(place), Ok(len)) => {
                place.copy_from_slice(name);
                Ok(Self { bytes, len })
            }
            _ => Err(NameError { len: name.len() }),
        }
    }

    pub(super) fn from_wire(name: &[u8]) -> Result<Self, DecodeError> {
        Self::new(name).map_err(|error| DecodeError::NameLength(error.len))
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    /// As text if it is text, else with its bytes escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match core::str::from_utf8(self.as_bytes()) {
            Ok(text) if !text.chars().any(char::is_control) => f.pad(text),
            Ok(_) | Err(_) => f.pad(&self.as_bytes().escape_ascii().to_string()),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
