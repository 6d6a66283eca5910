use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// When to try again after a connection failed or ended.
///
/// The delay is drawn evenly from 0 to a bound that doubles with each failure ("full jitter"), so
/// that a thousand clients of a restarted broker do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The bound of the first delay. Default 500 ms.
    pub min: Duration,
    /// The largest bound. Default 60 s.
    pub max: Duration,
    /// How long a connection must have held before the bound begins at `min` again; the first
    /// attempt after such a connection is made at once. Default 10 s.
    pub stable: Duration,
    /// Give up after so many failures in a row. Default: never.
    pub give_up_after: Option<u32>,
    /// Whether to go on, with the longest delay, after the broker refused the client id or the
    /// credentials, or a certificate was refused. Default yes, because a lapsed token or a broker
    /// that is being set up may be right again later. It never applies to the first connection.
    pub retry_refused: bool,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(500),
            max: Duration::from_secs(60),
            stable: Duration::from_secs(10),
            give_up_after: None,
            retry_refused: true,
        }
    }
}

impl Reconnect {
    /// The bound of the delay after `failures` in a row.
    pub(crate) fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }

    /// A delay from 0 to `bound`.
    pub(crate) fn jitter(bound: Duration) -> Duration {
        // The keys of a hash map are the randomness that the standard library has.
        let random = RandomState::new().hash_one(0);
        bound.mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_largest() {
        let reconnect = Reconnect::default();
        let bounds: Vec<_> = (1..=9).map(|n| reconnect.bound(n).as_millis()).collect();
        assert_eq!(bounds, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(reconnect.bound(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let bound = Duration::from_secs(1);
        let delays: Vec<_> = (0..1000).map(|_| Reconnect::jitter(bound)).collect();
        assert!(delays.iter().all(|delay| *delay <= bound));
        let low = delays.iter().filter(|delay| **delay < bound / 2).count();
        assert!((300..700).contains(&low), "{low} of 1000 in the lower half");
    }
}
