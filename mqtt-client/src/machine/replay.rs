use std::time::{Duration, Instant};

/// Time that may be made up for when messages left late: more than a timer of the runtime is late,
/// and too little for a flood.
const SLACK: Duration = Duration::from_millis(100);

/// The pace at which messages leave that waited for a connection.
#[derive(Debug)]
pub(super) struct Replay {
    interval: Duration,
    /// When the next one may leave.
    next: Instant,
    /// One was to leave, and has to wait for that.
    is_early: bool,
}

impl Replay {
    /// So many messages a second, of which the first leaves now.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { interval: Duration::from_secs(1) / rate.max(1), next: now, is_early: false }
    }

    pub(super) fn is_early(&self) -> bool {
        self.is_early
    }

    /// Whether a message may leave.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        self.is_early = now < self.next;
        !self.is_early
    }

    /// One has left.
    pub(super) fn count(&mut self, now: Instant) {
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        self.next = self.next.max(earliest) + self.interval;
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_early.then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_leave_than_the_rate_allows_and_a_late_timer_is_made_up_for() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut replay = Replay::new(100, start);
        let mut leave = |now| {
            let mut count = 0;
            while replay.allows(now) {
                replay.count(now);
                count += 1;
            }
            (count, replay.deadline())
        };
        assert_eq!(leave(at(0)), (1, Some(at(10))));
        assert_eq!(leave(at(9)), (0, Some(at(10))));
        assert_eq!(leave(at(35)), (3, Some(at(40))), "due at 10, 20 and 30");
        assert_eq!(leave(at(5000)), (11, Some(at(5010))), "100 ms of what was missed");
    }
}
