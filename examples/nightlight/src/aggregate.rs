//! One decision about many devices, such as all lights of a stadium.

use std::collections::BTreeMap;
use std::str::FromStr;

/// How many readings become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The one in the middle: a bird on one sensor changes nothing.
    Median,
    /// The darkest: light for all as soon as one needs it.
    Any,
}

impl FromStr for Aggregate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "median" => Ok(Self::Median),
            "any" => Ok(Self::Any),
            _ => Err("one of median, any".into()),
        }
    }
}

/// The last reading of each device in a span of time.
#[derive(Debug, Default)]
pub struct Window {
    lights: BTreeMap<String, f64>,
}

impl Window {
    /// A reading; a later one of the same device takes its place.
    pub fn insert(&mut self, id: &str, light: f64) {
        self.lights.insert(id.to_owned(), light);
    }

    /// Ends the span: the devices that sent something, and the light that counts for all. `None` if
    /// none did.
    pub fn take(&mut self, aggregate: Aggregate) -> Option<(Vec<String>, f64)> {
        let (ids, mut lights): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lights).into_iter().unzip();
        lights.sort_by(f64::total_cmp);
        let light = match aggregate {
            Aggregate::Any => *lights.first()?,
            Aggregate::Median => {
                let upper = *lights.get(lights.len() / 2)?;
                let lower = *lights.get((lights.len() - 1) / 2)?;
                f64::midpoint(lower, upper)
            }
        };
        Some((ids, light))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn light(aggregate: Aggregate, lights: &[f64]) -> Option<f64> {
        let mut window = Window::default();
        for (index, light) in lights.iter().enumerate() {
            window.insert(&index.to_string(), *light);
        }
        window.take(aggregate).map(|(_, light)| light)
    }

    #[test]
    fn the_median_is_in_the_middle_and_any_is_the_darkest() {
        for (lights, median, any) in [
            (&[7.0][..], 7.0, 7.0),
            (&[900.0, 5.0, 400.0], 400.0, 5.0),
            (&[900.0, 5.0, 400.0, 100.0], 250.0, 5.0),
        ] {
            assert_eq!(light(Aggregate::Median, lights), Some(median));
            assert_eq!(light(Aggregate::Any, lights), Some(any));
        }
        assert_eq!(light(Aggregate::Median, &[]), None);
    }

    #[test]
    fn a_device_counts_once_with_its_last_reading_and_only_in_its_window() {
        let mut window = Window::default();
        for (id, light) in [("a", 1.0), ("b", 5.0), ("a", 9.0), ("a", 8.0)] {
            window.insert(id, light);
        }
        assert_eq!(window.take(Aggregate::Any), Some((vec!["a".into(), "b".into()], 5.0)));
        assert_eq!(window.take(Aggregate::Any), None);
    }
}
