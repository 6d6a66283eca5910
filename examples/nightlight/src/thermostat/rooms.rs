use std::time::Duration;

use serde_json::{Map, Value};

/// The fields of the telemetry: three sensors, one message.
pub const ROOMS: [&str; 3] =
    ["thermostat_temperature", "livingroom_temperature", "bedroom_temperature"];

/// Degrees outside: a winter evening.
const OUTSIDE: f64 = 2.0;

/// Degrees that the heating can reach in each room.
const HEATED: [f64; 3] = [27.0, 25.0, 23.0];

/// The time in which a room comes nearer to where it is going by two thirds. A house takes hours;
/// this one does not want to bore.
const PACE: Duration = Duration::from_secs(120);

/// Simulated rooms that cool down, and warm up while the heating is on.
#[derive(Clone, Debug, PartialEq)]
pub struct Rooms {
    degrees: [f64; 3],
    /// Whether the heating is on.
    pub heating_on: bool,
}

impl Rooms {
    /// Somebody has just come home.
    pub fn new() -> Self {
        Self { degrees: [19.5, 20.5, 18.0], heating_on: false }
    }

    /// Lets time pass.
    pub fn advance(&mut self, passed: Duration) {
        let nearer = 1.0 - (-passed.as_secs_f64() / PACE.as_secs_f64()).exp();
        for (degrees, heated) in self.degrees.iter_mut().zip(HEATED) {
            let goal = if self.heating_on { heated } else { OUTSIDE };
            *degrees += (goal - *degrees) * nearer;
        }
    }

    /// The temperature at the thermostat, in degrees.
    pub fn at_thermostat(&self) -> f64 {
        self.degrees[0]
    }

    /// All of them as one message, to a tenth of a degree.
    pub fn telemetry(&self) -> String {
        let fields = ROOMS.iter().zip(self.degrees).map(|(room, degrees)| {
            ((*room).to_owned(), Value::from((degrees * 10.0).round() / 10.0))
        });
        Value::Object(fields.collect::<Map<_, _>>()).to_string()
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_warm_up_and_cool_down_whatever_the_steps_of_time() {
        let mut rooms = Rooms::new();
        rooms.heating_on = true;
        let mut coarse = rooms.clone();
        (0..60).for_each(|_| rooms.advance(Duration::from_secs(1)));
        coarse.advance(Duration::from_secs(60));
        assert!(rooms.at_thermostat() > 19.5);
        assert!((rooms.at_thermostat() - coarse.at_thermostat()).abs() < 1e-9);
        rooms.heating_on = false;
        rooms.advance(Duration::from_secs(3600));
        assert!((rooms.at_thermostat() - OUTSIDE).abs() < 0.1);
    }

    #[test]
    fn three_sensors_are_one_message() {
        assert_eq!(
            Rooms::new().telemetry(),
            r#"{"thermostat_temperature":19.5,"livingroom_temperature":20.5,"bedroom_temperature":18.0}"#
        );
    }
}
