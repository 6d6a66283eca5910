//! A device as lines: those of the lesson on standard output, the others on standard error.

use std::io::{self, Write};

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
            // Flushed: whoever reads through a pipe wants to see it now.
            Line::Said(line) => {
                let mut stdout = io::stdout().lock();
                writeln!(stdout, "{prefix}{line}")?;
                stdout.flush()
            }
            Line::Noted(line) => writeln!(io::stderr(), "{prefix}{line}"),
        }
    }
}
