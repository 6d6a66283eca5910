//! What the device switches.

mod file;
#[cfg(feature = "gpio")]
mod gpio;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

pub use file::FileLed;
#[cfg(feature = "gpio")]
pub use gpio::GpioLed;

/// An LED.
pub trait Led: Send {
    /// Switches it.
    ///
    /// # Errors
    /// If it cannot be switched. The device says so and goes on.
    fn set(&mut self, is_on: bool) -> io::Result<()>;
}

/// An LED that is drawn or printed, where nothing else needs to be switched.
pub struct DrawnLed;

impl Led for DrawnLed {
    fn set(&mut self, _is_on: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Which LED, as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedChoice {
    /// `term`: only on the screen.
    Term,
    /// `file:PATH`: 1 or 0 in a file.
    File(PathBuf),
    /// `gpio:LINE`.
    Gpio(u32),
    /// `none`: the screen has none either.
    None,
}

impl FromStr for LedChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "term" => Ok(Self::Term),
            None if text == "none" => Ok(Self::None),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("gpio", line)) => {
                line.parse().map(Self::Gpio).map_err(|_| "gpio:LINE takes a number".into())
            }
            _ => Err("one of term, file:PATH, gpio:LINE, none".into()),
        }
    }
}

impl LedChoice {
    /// Opens the LED; `chip` is the GPIO device, if it needs it.
    ///
    /// # Errors
    /// If it is not there, or this program was built without it.
    pub fn open(&self, chip: &str) -> io::Result<Box<dyn Led>> {
        match self {
            Self::Term | Self::None => Ok(Box::new(DrawnLed)),
            Self::File(path) => Ok(Box::new(FileLed::open(path)?)),
            Self::Gpio(line) => gpio_led(chip, *line),
        }
    }
}

#[cfg(feature = "gpio")]
fn gpio_led(chip: &str, line: u32) -> io::Result<Box<dyn Led>> {
    Ok(Box::new(GpioLed::open(chip, line)?))
}

#[cfg(not(feature = "gpio"))]
fn gpio_led(_chip: &str, _line: u32) -> io::Result<Box<dyn Led>> {
    Err(io::Error::other("built without GPIO: cargo build needs `-p mqtt-nightlight -F gpio`"))
}
