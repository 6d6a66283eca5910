use std::io;

use gpiocdev::Request;
use gpiocdev::line::Value;

use super::Led;

/// An LED at a line of the Linux GPIO character device.
pub struct GpioLed {
    request: Request,
    line: u32,
}

impl GpioLed {
    /// Asks for a line of a chip, such as `/dev/gpiochip0`; the LED is off then.
    ///
    /// # Errors
    /// If there is no such line, or another program has it.
    pub fn open(chip: &str, line: u32) -> io::Result<Self> {
        let request = Request::builder()
            .on_chip(chip)
            .with_consumer("nightlight")
            .with_line(line)
            .as_output(Value::Inactive)
            .request()
            .map_err(|error| io::Error::other(format!("line {line} of {chip}: {error}")))?;
        Ok(Self { request, line })
    }
}

impl Led for GpioLed {
    fn set(&mut self, is_on: bool) -> io::Result<()> {
        let value = if is_on { Value::Active } else { Value::Inactive };
        self.request.set_value(self.line, value).map_err(io::Error::other)?;
        Ok(())
    }
}
