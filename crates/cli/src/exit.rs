//! How the command ends: the exit codes, and failures that say what to do about them.

use std::fmt;
use std::process::ExitCode;

/// What `--help` says about exit codes. Scripts rely on them: they do not change.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  done
    1  failed; the message says why
    2  the command line makes no sense
    3  copied in part: some files could not be read or written, all others are there
    4  refused: the other end does not take the key or the name, or allows no method
       and mode that this end does
    5  nobody there: no connection within the time allowed, or none within the
       session's lifetime
    6  the data differ, or the demo was not put to the test (no resumption)
  130  stopped by Ctrl-C (143: by SIGTERM)";

/// The exit codes, see [`EXIT_CODES_HELP`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Partial = 3,
    Refused = 4,
    Unreachable = 5,
    Differs = 6,
    Interrupted = 130,
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: one line that says what happened, and, where there is something to be done, one that says what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure that ends the program with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// One with the general exit code.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// What the user asked for cannot be meant.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outlast: {}", self.message)?;
        for line in self.hint.iter().flat_map(|hint| hint.lines()) {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// How a command ends.
pub(crate) type Outcome<T = Exit> = Result<T, Failure>;

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Turns the error into a failure: `what: the error`.
    fn context(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|e| Failure::failed(format!("{what}: {e}")))
    }
}
