use std::time::{Duration, Instant};

use crate::error::Step;

/// The longest time by which a PINGREQ leaves before it has to: what a slow link may delay it.
const MAX_MARGIN: Duration = Duration::from_secs(5);

/// The client's half of the keep alive: bytes count, not packets, in both directions.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    /// `None` sends no PINGREQ.
    every: Option<Duration>,
    answer_within: Duration,
    last_sent: Instant,
    last_received: Instant,
    ping: Ping,
    /// Since when the transport has taken no byte although there are some.
    stalled: Option<Instant>,
}

/// How far the PINGREQ is.
#[derive(Debug)]
enum Ping {
    /// There is none, or it is answered.
    Answered,
    /// It is to be sent, maybe behind a message that takes long.
    Due,
    /// The transport has taken it.
    Sent(Instant),
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    Dead(Step),
}

impl KeepAlive {
    pub(crate) fn new(keep_alive: Duration, answer_within: Duration, now: Instant) -> Self {
        let margin = (keep_alive / 4).min(MAX_MARGIN);
        Self {
            every: (!keep_alive.is_zero()).then(|| keep_alive - margin),
            answer_within,
            last_sent: now,
            last_received: now,
            ping: Ping::Answered,
            stalled: None,
        }
    }

    /// Any byte shows that the peer is there, also one of a large packet that is not complete.
    pub(crate) fn handle_received(&mut self, now: Instant) {
        self.last_received = now;
        self.ping = Ping::Answered;
    }

    /// The transport took bytes, and has more to take or not.
    pub(crate) fn handle_sent(&mut self, now: Instant, more: bool) {
        self.last_sent = now;
        if matches!(self.ping, Ping::Due) && !more {
            self.ping = Ping::Sent(now);
        }
        self.stalled = more.then_some(now);
    }

    /// There are bytes to be taken.
    pub(crate) fn handle_pending(&mut self, now: Instant) {
        self.stalled.get_or_insert(now);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ping = match self.ping {
            Ping::Answered => {
                self.every.map(|every| self.last_sent.min(self.last_received) + every)
            }
            // Until then, it is the transport that has to take bytes.
            Ping::Due => None,
            Ping::Sent(sent) => Some(sent + self.answer_within),
        };
        let stalled = self.stalled.map(|since| since + self.answer_within);
        [ping, stalled].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.stalled.is_some_and(|since| since + self.answer_within <= now) {
            return Due::Dead(Step::Write);
        }
        match (&self.ping, self.every) {
            (Ping::Sent(sent), _) if *sent + self.answer_within <= now => {
                Due::Dead(Step::PingResponse)
            }
            (Ping::Answered, Some(every))
                if self.last_sent.min(self.last_received) + every <= now =>
            {
                self.ping = Ping::Due;
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(8);
    const ANSWER: Duration = Duration::from_secs(3);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    // MQTT-3.1.2-23
    #[test]
    fn a_ping_is_sent_before_the_time_is_up_also_while_only_receiving() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(KEEP_ALIVE, ANSWER, start);
        keep_alive.handle_received(start + seconds(5));
        assert_eq!(keep_alive.deadline(), Some(start + seconds(6)));
        assert_eq!(keep_alive.handle_timeout(start + seconds(5)), Due::Nothing);
        assert_eq!(keep_alive.handle_timeout(start + seconds(6)), Due::Ping);
    }

    #[test]
    fn a_ping_is_sent_while_only_sending_and_any_byte_answers_it() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(KEEP_ALIVE, ANSWER, start);
        keep_alive.handle_sent(start + seconds(5), false);
        assert_eq!(keep_alive.handle_timeout(start + seconds(6)), Due::Ping);
        keep_alive.handle_sent(start + seconds(6), false);
        assert_eq!(keep_alive.deadline(), Some(start + seconds(9)));
        keep_alive.handle_received(start + seconds(8));
        assert_eq!(keep_alive.handle_timeout(start + seconds(9)), Due::Nothing);
        assert_eq!(keep_alive.handle_timeout(start + seconds(12)), Due::Ping);
        keep_alive.handle_sent(start + seconds(12), false);
        assert_eq!(keep_alive.handle_timeout(start + seconds(15)), Due::Dead(Step::PingResponse));
    }

    // A message that takes longer to send than the keep alive would be begun again for ever.
    #[test]
    fn a_ping_behind_a_long_message_has_its_time_when_it_is_sent() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(KEEP_ALIVE, ANSWER, start);
        keep_alive.handle_pending(start);
        for n in 1..20 {
            keep_alive.handle_sent(start + seconds(n), true);
            let due = if n == 6 { Due::Ping } else { Due::Nothing };
            assert_eq!(keep_alive.handle_timeout(start + seconds(n)), due, "after {n} s");
        }
        assert_eq!(keep_alive.deadline(), Some(start + seconds(19) + ANSWER), "it takes nothing");
        keep_alive.handle_sent(start + seconds(20), false);
        assert_eq!(keep_alive.deadline(), Some(start + seconds(20) + ANSWER), "no answer");
        assert_eq!(keep_alive.handle_timeout(start + seconds(22)), Due::Nothing);
        assert_eq!(keep_alive.handle_timeout(start + seconds(23)), Due::Dead(Step::PingResponse));
    }

    #[test]
    fn a_transport_that_takes_nothing_is_dead_also_without_keep_alive() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(Duration::ZERO, ANSWER, start);
        assert_eq!(keep_alive.deadline(), None);
        keep_alive.handle_pending(start);
        keep_alive.handle_sent(start + seconds(2), true);
        assert_eq!(keep_alive.handle_timeout(start + seconds(4)), Due::Nothing);
        assert_eq!(keep_alive.handle_timeout(start + seconds(5)), Due::Dead(Step::Write));
        keep_alive.handle_sent(start + seconds(5), false);
        assert_eq!(keep_alive.deadline(), None);
    }
}
