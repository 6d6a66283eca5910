//! When a reading is sent.

use std::time::{Duration, Instant};

/// How often telemetry is sent: often reacts quickly, seldom saves power, bandwidth and storage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// At a steady interval, as in the lesson.
    Steady(Duration),
    /// When the light has changed by so much since the last reading that was sent, and in any case
    /// after a time of silence.
    OnChange {
        /// In the units of the sensor.
        delta: u16,
        /// The longest time without telemetry.
        max_silence: Duration,
    },
}

/// How often the sensor is read to notice a change: faster than an eye notices a lamp's delay.
const LOOK: Duration = Duration::from_millis(100);

impl Pace {
    /// How often to look whether something is to be sent.
    pub fn period(self) -> Duration {
        match self {
            Self::Steady(interval) => interval,
            Self::OnChange { max_silence, .. } => LOOK.min(max_silence),
        }
    }

    /// Whether a reading is to be sent now, at the end of a [`period`](Self::period), after this one
    /// was sent then.
    pub fn is_due(self, light: u16, last: Option<(u16, Instant)>, now: Instant) -> bool {
        match (self, last) {
            (Self::Steady(_), _) | (_, None) => true,
            (Self::OnChange { delta, max_silence }, Some((sent, at))) => {
                light.abs_diff(sent) >= delta.max(1) || now >= at + max_silence
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_change_sends_changes_and_a_sign_of_life() {
        let pace = Pace::OnChange { delta: 10, max_silence: Duration::from_secs(60) };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pace.is_due(500, None, start));
        for (light, seconds, is_due) in
            [(500, 1, false), (509, 2, false), (510, 3, true), (490, 4, true), (500, 60, true)]
        {
            assert_eq!(pace.is_due(light, Some((500, start)), at(seconds)), is_due, "{light}");
        }
    }

    #[test]
    fn a_delta_of_0_does_not_send_what_has_not_changed() {
        let pace = Pace::OnChange { delta: 0, max_silence: Duration::from_secs(60) };
        let now = Instant::now();
        assert!(!pace.is_due(5, Some((5, now)), now));
        assert!(pace.is_due(6, Some((5, now)), now));
    }
}
