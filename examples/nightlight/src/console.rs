//! A device as lines: those of the lesson on standard output, the others on standard error.

use std::fmt;
use std::io::{self, Write};

use crate::connection::Link;
use crate::device::Line;
use crate::life::View;

/// Prints the lines of a device.
pub struct Console {
    prefix: String,
}

impl Console {
    /// For one device, whose lines are exactly those of the lesson.
    pub fn new() -> Self {
        Self { prefix: String::new() }
    }

    /// For one of many devices.
    pub fn with_id(id: &str) -> Self {
        Self { prefix: format!("[{id}] ") }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl View for Console {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let prefix = &self.prefix;
        match line {
            Line::Said(line) => say(format_args!("{prefix}{line}")),
            Line::Noted(line) => note(format_args!("{prefix}{line}")),
        }
    }
}

/// Prints a line to standard output, at once: whoever reads through a pipe wants to see it now.
///
/// # Errors
/// If nobody reads any more.
pub fn say(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Prints a line to standard error.
///
/// # Errors
/// If nobody reads any more.
pub fn note(line: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stderr(), "{line}")
}

/// Tells of the connection: once when it is there, and once for each reason why it is not.
#[derive(Debug, Default)]
pub struct Announcer {
    last: Option<String>,
}

impl Announcer {
    /// Tells what there is to tell about this state.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub fn announce(&mut self, link: &Link) -> io::Result<()> {
        if link.is_connected() {
            self.last = None;
            say(format_args!("MQTT connected!"))?;
        }
        let Some(cause) = link.cause().map(ToString::to_string) else { return Ok(()) };
        if self.last.as_ref() != Some(&cause) {
            note(format_args!("Not connected: {cause}"))?;
            self.last = Some(cause);
        }
        Ok(())
    }
}
