use std::io;
use std::path::{Path, PathBuf};

use super::Led;

/// 1 or 0 in a file: the LEDs that Linux knows by name are files such as
/// `/sys/class/leds/ACT/brightness`.
pub struct FileLed {
    path: PathBuf,
}

impl FileLed {
    /// Switches it off.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut led = Self { path: path.to_owned() };
        led.set(false)?;
        Ok(led)
    }
}

impl Led for FileLed {
    fn set(&mut self, is_on: bool) -> io::Result<()> {
        std::fs::write(&self.path, if is_on { "1\n" } else { "0\n" })
            .map_err(|error| io::Error::other(format!("{}: {error}", self.path.display())))
    }
}
