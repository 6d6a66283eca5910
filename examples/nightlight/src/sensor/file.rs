use std::io;
use std::path::{Path, PathBuf};

use super::{LightSensor, parse_reading};

/// The number in a file, which another program or the kernel writes: sensors behind an ADC are files
/// such as `/sys/bus/iio/devices/iio:device0/in_voltage0_raw` on Linux.
pub struct FileSensor {
    path: PathBuf,
}

impl FileSensor {
    /// The file is opened anew for each reading, so it may come and go.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl LightSensor for FileSensor {
    fn read(&mut self) -> io::Result<u16> {
        let text = std::fs::read_to_string(&self.path);
        text.and_then(|text| parse_reading(&text))
            .map_err(|error| io::Error::other(format!("{}: {error}", self.path.display())))
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reading_is_what_the_file_says_then() {
        let path = std::env::temp_dir().join(format!("light-{}", std::process::id()));
        let mut sensor = FileSensor::new(&path);
        assert!(sensor.read().unwrap_err().to_string().contains("light-"), "the file is named");
        for light in [12, 700] {
            std::fs::write(&path, format!("{light}\n")).unwrap();
            assert_eq!(sensor.read().unwrap(), light);
        }
        std::fs::remove_file(path).unwrap();
    }
}
