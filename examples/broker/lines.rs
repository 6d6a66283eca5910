//! Files of lines: what the configuration, password and ACL files have in common.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::Position;

/// The lines of a text that say something, without the spaces around them, and their numbers from 1.
/// Empty lines and comments do not.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Reads a file line by line, up to the first that is refused; its place comes back with the reason.
pub(crate) fn read<E: From<io::Error>>(
    file: &Path,
    take: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), (Position, E)> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(file, &text, take),
        Err(error) => Err((Position { file: Arc::new(file.to_owned()), line: 0 }, error.into())),
    }
}

/// As [`read`] with the text at hand.
pub(crate) fn parse<E>(
    file: &Path,
    text: &str,
    mut take: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), (Position, E)> {
    let file = Arc::new(file.to_owned());
    numbered(text).try_for_each(|(line, text)| {
        take(text).map_err(|error| (Position { file: Arc::clone(&file), line }, error))
    })
}
