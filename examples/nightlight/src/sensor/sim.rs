use std::f64::consts::TAU;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::{Key, LightSensor};
use crate::lesson::BRIGHTEST;

/// What one press of an arrow changes.
const STEP: u16 = 25;

/// The length of a simulated day: one evening fits a coffee.
const DAY: Duration = Duration::from_secs(60);

/// How far the random walk goes in a second at most, from one reading to the next. It crosses the
/// range in some minutes.
const WALK: f64 = 120.0;

/// A sensor without a sensor: keys set its value, or it changes by itself.
pub struct SimSensor {
    mode: Mode,
    light: f64,
    /// When it was read last.
    at: Instant,
    /// Where the day was at `at`, from 0 for the darkest moment to 1 for the next one.
    time_of_day: f64,
}

/// How the value moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only by keys.
    Keys,
    /// A random walk.
    Walk,
    /// From night to day and back, once in a minute.
    Day,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "by keys",
            Self::Walk => "random walk",
            Self::Day => "day and night",
        })
    }
}

impl SimSensor {
    /// Begins in the middle of the range, in the morning.
    pub fn new(mode: Mode) -> Self {
        Self { mode, light: f64::from(BRIGHTEST) / 2.0, at: Instant::now(), time_of_day: 0.25 }
    }

    /// The value at a time, which is not before that of the last call.
    pub fn light_at(&mut self, now: Instant) -> u16 {
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        let brightest = f64::from(BRIGHTEST);
        match self.mode {
            Mode::Keys => {}
            Mode::Walk => {
                // The spread of a random walk grows with the square root of time, so that the pace
                // does not depend on how often it is read.
                let step = (fastrand::f64() - 0.5) * 2.0 * WALK * passed.as_secs_f64().sqrt();
                self.light = (self.light + step).clamp(0.0, brightest);
            }
            Mode::Day => {
                let days = passed.as_secs_f64() / DAY.as_secs_f64();
                self.time_of_day = (self.time_of_day + days).fract();
                self.light = (1.0 - (self.time_of_day * TAU).cos()) / 2.0 * brightest;
            }
        }
        // In range by construction.
        self.light.round() as u16
    }

    fn set(&mut self, light: u16) {
        self.mode = Mode::Keys;
        self.light = f64::from(light.min(BRIGHTEST));
    }
}

impl LightSensor for SimSensor {
    fn read(&mut self) -> io::Result<u16> {
        Ok(self.light_at(Instant::now()))
    }

    fn is_live(&self) -> bool {
        true
    }

    /// Arrows change it a little, 0 to 9 set it to so many ninths of the range, `r` lets it walk, `d`
    /// lets the days pass.
    fn handle_key(&mut self, key: Key) {
        let light = self.light.round() as u16;
        match key {
            Key::Up => self.set(light + STEP),
            Key::Down => self.set(light.saturating_sub(STEP)),
            Key::Letter(digit @ '0'..='9') => {
                let ninths = digit.to_digit(10).unwrap_or_default() as u16;
                self.set(BRIGHTEST * ninths / 9);
            }
            Key::Letter('r') => self.mode = Mode::Walk,
            Key::Letter('d') => self.mode = Mode::Day,
            Key::Letter(_) => {}
        }
    }

    fn mode(&self) -> Option<Mode> {
        Some(self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_set_the_light_within_its_range() {
        let mut sensor = SimSensor::new(Mode::Day);
        for (key, light) in [('0', 0), ('2', 227), ('5', 568), ('9', BRIGHTEST)] {
            sensor.handle_key(Key::Letter(key));
            assert_eq!(sensor.read().unwrap(), light, "{key}");
        }
        sensor.handle_key(Key::Up);
        assert_eq!(sensor.read().unwrap(), BRIGHTEST);
        (0..100).for_each(|_| sensor.handle_key(Key::Down));
        assert_eq!((sensor.read().unwrap(), sensor.mode()), (0, Some(Mode::Keys)));
    }

    #[test]
    fn a_day_has_a_dark_night_and_a_bright_noon() {
        let mut sensor = SimSensor::new(Mode::Day);
        let start = sensor.at;
        let day: Vec<_> = (0..=60).map(|s| sensor.light_at(start + s * (DAY / 60))).collect();
        assert_eq!((day[15], day[45]), (BRIGHTEST, 0));
        assert!(day[0].abs_diff(day[60]) <= 1, "{} and {}", day[0], day[60]);
    }

    #[test]
    fn the_walk_stays_in_range() {
        let mut sensor = SimSensor::new(Mode::Walk);
        let start = sensor.at;
        let walk: Vec<_> =
            (0..10_000).map(|s| sensor.light_at(start + Duration::from_secs(s))).collect();
        assert!(walk.iter().all(|light| *light <= BRIGHTEST));
        assert!(walk.iter().any(|light| *light < 300) && walk.iter().any(|light| *light > 700));
    }
}
