use std::io;

use gpiocdev::Request;
use gpiocdev::line::Value;

use super::LightSensor;
use crate::lesson::BRIGHTEST;

/// A light sensor module with a digital output, at a line of the Linux GPIO character device. It
/// knows dark and bright only: 0, or the brightest there is. An analog sensor at an ADC is a file;
/// see [`FileSensor`](super::FileSensor).
pub struct GpioSensor {
    request: Request,
    line: u32,
}

impl GpioSensor {
    /// Asks for a line of a chip, such as `/dev/gpiochip0`.
    ///
    /// # Errors
    /// If there is no such line, or another program has it.
    pub fn open(chip: &str, line: u32) -> io::Result<Self> {
        let request = Request::builder()
            .on_chip(chip)
            .with_consumer("nightlight")
            .with_line(line)
            .as_input()
            .request()
            .map_err(|error| io::Error::other(format!("line {line} of {chip}: {error}")))?;
        Ok(Self { request, line })
    }
}

impl LightSensor for GpioSensor {
    fn read(&mut self) -> io::Result<u16> {
        match self.request.value(self.line).map_err(io::Error::other)? {
            Value::Active => Ok(BRIGHTEST),
            Value::Inactive => Ok(0),
        }
    }

    fn is_live(&self) -> bool {
        true
    }
}
