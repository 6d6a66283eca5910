use std::time::Duration;

/// The spans of the averages, by their names in the tree.
const SPANS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// How fast a counter rises: per minute, averaged over three spans of time, in which older minutes
/// count less and less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    count: u64,
    averages: [f64; 3],
}

impl Load {
    /// Takes the counter's new value, `elapsed` after the one before.
    pub(super) fn update(&mut self, count: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an average needs no 53 bits")]
        let rate = count.saturating_sub(self.count) as f64 * 60.0 / seconds;
        self.count = count;
        for (average, (_, span)) in self.averages.iter_mut().zip(SPANS) {
            let weight = (-seconds / span).exp();
            *average = rate + weight * (*average - rate);
        }
    }

    /// The averages with the names of their spans.
    pub(super) fn averages(&self) -> impl Iterator<Item = (&'static str, f64)> {
        SPANS.iter().map(|(name, _)| *name).zip(self.averages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_what_the_averages_come_to() {
        let mut load = Load::default();
        for step in 1..=600 {
            load.update(step * 100, Duration::from_secs(10));
        }
        for (span, average) in load.averages() {
            assert!((average - 600.0).abs() < 1.0, "{span}: {average}");
        }
    }

    #[test]
    fn shorter_spans_forget_sooner() {
        let mut load = Load::default();
        load.update(1000, Duration::from_secs(10));
        load.update(1000, Duration::from_secs(60));
        let averages: Vec<_> = load.averages().map(|(_, average)| average).collect();
        // 6,000 a minute for 10 s, then nothing for a minute.
        assert!(
            (averages[0] - 6000.0 * (1.0 - (-1.0f64 / 6.0).exp()) * (-1.0f64).exp()).abs() < 1e-6
        );
        assert!(averages[0] / 921.0 < averages[1] / 196.0);
        let before = averages.clone();
        load.update(1000, Duration::ZERO);
        assert_eq!(load.averages().map(|(_, average)| average).collect::<Vec<_>>(), before);
    }
}
