use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is remembered: long enough to see a day of the simulation.
pub(super) const SPAN: Duration = Duration::from_secs(60);

/// Readings closer together than this are one point: no terminal has more.
const STEP: Duration = Duration::from_millis(100);

/// The light of the last minute.
#[derive(Debug, Default)]
pub(super) struct History {
    lights: VecDeque<(Instant, u16)>,
}

impl History {
    pub(super) fn insert(&mut self, light: u16, now: Instant) {
        if self.lights.back().is_some_and(|(at, _)| now < *at + STEP) {
            return;
        }
        self.lights.push_back((now, light));
        while self.lights.front().is_some_and(|(at, _)| *at + SPAN < now) {
            self.lights.pop_front();
        }
    }

    /// Points of a plot: seconds before now, as negative numbers, and the light then.
    pub(super) fn points(&self, now: Instant) -> Vec<(f64, f64)> {
        let seconds = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        self.lights.iter().map(|(at, light)| (-seconds(*at), f64::from(*light))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_remembered() {
        let start = Instant::now();
        let mut history = History::default();
        for step in 0..2000 {
            history.insert(step, start + u32::from(step) * (STEP / 2));
        }
        let now = start + 1999 * (STEP / 2);
        let points = history.points(now);
        assert_eq!(points.len(), 601, "a point each step");
        assert!(points.iter().all(|(x, _)| (-60.1..=0.0).contains(x)));
        assert_eq!(points.last().unwrap().1, 1998.0);
    }
}
