//! What goes to a terminal, and what goes elsewhere.

use serde::Serialize;
use std::fmt;
use std::io::{IsTerminal as _, Write as _};

/// Prints a value for a script: JSON on standard output, with line breaks and a final line end.
pub(crate) fn print_json(value: &impl Serialize) {
    // These are our own types, with text for keys: they can always be written as JSON.
    if let Ok(text) = serde_json::to_string_pretty(value) {
        print_line(&text);
    }
}

/// Prints a line on standard output. When nobody reads it (`| head`), that is no failure.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Whether colours and moving lines are welcome on stderr.
pub(crate) fn stderr_is_live() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether colours are welcome on this stream, which is a terminal or not (see <https://no-color.org>).
pub(crate) fn colours(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How a word stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Dim,
    Good,
    Bad,
}

/// Text that is styled where colours are welcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    pub(crate) const fn new(on: bool) -> Self {
        Self { on }
    }

    /// The text, styled.
    pub(crate) fn with<T: fmt::Display>(self, style: Style, text: T) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31;1",
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
