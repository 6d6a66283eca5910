//! What the device reads.

mod file;
#[cfg(feature = "gpio")]
mod gpio;
mod random;
mod sim;
mod stdin;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

pub use file::FileSensor;
#[cfg(feature = "gpio")]
pub use gpio::GpioSensor;
pub use random::RandomSensor;
pub use sim::{Mode, SimSensor};
pub use stdin::StdinSensor;

/// A light sensor: larger is brighter, usually 0 to 1023.
pub trait LightSensor: Send {
    /// What it says now.
    ///
    /// # Errors
    /// If it cannot be read. The device says so and tries again at the next reading.
    fn read(&mut self) -> io::Result<u16>;

    /// Whether it changes by itself or by keys, so that it is worth reading more often than its
    /// readings are sent.
    fn is_live(&self) -> bool {
        false
    }

    /// A key that was pressed in the terminal. Real sensors have none.
    fn handle_key(&mut self, _key: Key) {}

    /// How it moves at the moment, for a person to read. Real sensors do not tell.
    fn mode(&self) -> Option<Mode> {
        None
    }
}

/// The keys of virtual sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Brighter.
    Up,
    /// Darker.
    Down,
    /// A letter or digit.
    Letter(char),
}

/// Which sensor, as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SensorChoice {
    /// `sim`: keys, a random walk, or a day of a minute.
    Sim,
    /// `day`: the simulation, which begins with the day.
    Day,
    /// `walk`: the simulation, which begins with the random walk.
    Walk,
    /// `random:MIN:MAX`: each reading anew.
    Random(u16, u16),
    /// `file:PATH`: the number in a file, read anew each time.
    File(PathBuf),
    /// `stdin`: a number a line, one for each reading.
    Stdin,
    /// `gpio:LINE`: a module with a digital output.
    Gpio(u32),
}

impl FromStr for SensorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("sim", "") => Ok(Self::Sim),
            ("day", "") => Ok(Self::Day),
            ("walk", "") => Ok(Self::Walk),
            ("stdin", "") => Ok(Self::Stdin),
            ("file", path) if !path.is_empty() => Ok(Self::File(path.into())),
            ("random", range) => {
                let range = range.split_once(':');
                let range =
                    range.and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
                match range {
                    Some((min, max)) if min <= max => Ok(Self::Random(min, max)),
                    _ => Err("random:MIN:MAX takes two numbers, the smaller first".into()),
                }
            }
            ("gpio", line) => match line.parse() {
                Ok(line) => Ok(Self::Gpio(line)),
                Err(_) => Err("gpio:LINE takes the number of a line".into()),
            },
            _ => Err("one of sim, day, walk, random:MIN:MAX, file:PATH, stdin, gpio:LINE".into()),
        }
    }
}

impl SensorChoice {
    /// Opens the sensor; `chip` is the GPIO device, for those that need it.
    ///
    /// # Errors
    /// If it is not there, or this program was built without it.
    pub fn open(&self, chip: &str) -> io::Result<Box<dyn LightSensor>> {
        Ok(match self {
            Self::Sim => Box::new(SimSensor::new(Mode::Keys)),
            Self::Day => Box::new(SimSensor::new(Mode::Day)),
            Self::Walk => Box::new(SimSensor::new(Mode::Walk)),
            Self::Random(min, max) => Box::new(RandomSensor::new(*min, *max)),
            Self::File(path) => Box::new(FileSensor::new(path)),
            Self::Stdin => Box::new(StdinSensor::new()),
            Self::Gpio(line) => gpio_sensor(chip, *line)?,
        })
    }
}

#[cfg(feature = "gpio")]
fn gpio_sensor(chip: &str, line: u32) -> io::Result<Box<dyn LightSensor>> {
    Ok(Box::new(GpioSensor::open(chip, line)?))
}

#[cfg(not(feature = "gpio"))]
fn gpio_sensor(_chip: &str, _line: u32) -> io::Result<Box<dyn LightSensor>> {
    Err(io::Error::other("built without GPIO: cargo build needs `-p mqtt-nightlight -F gpio`"))
}

/// A number as files and lines have it, with spaces and line ends around it. What is beyond the
/// range of a sensor is its nearest value.
fn parse_reading(text: &str) -> io::Result<u16> {
    let text = text.trim();
    let number: f64 =
        text.parse().map_err(|_| io::Error::other(format!("{text:?} is not a number")))?;
    // `as` rounds towards 0 and saturates, and takes NaN for 0.
    Ok(number.round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_are_chosen_by_words() {
        assert_eq!("sim".parse(), Ok(SensorChoice::Sim));
        assert_eq!("random:0:1023".parse(), Ok(SensorChoice::Random(0, 1023)));
        assert_eq!("file:/sys/a:b".parse(), Ok(SensorChoice::File("/sys/a:b".into())));
        assert_eq!("gpio:17".parse(), Ok(SensorChoice::Gpio(17)));
        for wrong in ["", "lux", "sim:1", "random", "random:9:1", "file:", "gpio:x", "random:1:2:3"]
        {
            assert!(wrong.parse::<SensorChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn readings_may_have_spaces_and_decimals() {
        for (text, number) in [("300", 300), (" 12.6\n", 13), ("-4", 0), ("1e9", u16::MAX)] {
            assert_eq!(parse_reading(text).unwrap(), number, "{text:?}");
        }
        assert_eq!(parse_reading("dark\n").unwrap_err().to_string(), "\"dark\" is not a number");
    }
}
