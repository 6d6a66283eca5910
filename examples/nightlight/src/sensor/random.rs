use std::io;

use super::LightSensor;

/// A random value for each reading, as the virtual sensors of the lesson can give it.
pub struct RandomSensor {
    min: u16,
    max: u16,
}

impl RandomSensor {
    /// Values from `min` to `max`, both of which occur.
    pub fn new(min: u16, max: u16) -> Self {
        Self { min, max }
    }
}

impl LightSensor for RandomSensor {
    fn read(&mut self) -> io::Result<u16> {
        Ok(fastrand::u16(self.min..=self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_range_occur_and_nothing_beyond() {
        let mut sensor = RandomSensor::new(7, 9);
        let mut seen: Vec<_> = (0..200).map(|_| sensor.read().unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [7, 8, 9]);
    }
}
