use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A time in half of the room that an [`Instant`] takes: nanoseconds since the broker was asked to serve
/// its first connection. They last for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// What the moments of a broker are counted from.
#[derive(Debug, Default)]
pub(crate) struct Origin(OnceLock<Instant>);

impl Origin {
    /// The first one is the origin itself; what is earlier counts as that.
    pub(crate) fn moment(&self, time: Instant) -> Moment {
        let origin = *self.0.get_or_init(|| time);
        Moment(nanos(time.saturating_duration_since(origin)))
    }

    /// The time of a moment that it has given, or of a later one.
    pub(crate) fn time(&self, Moment(nanos): Moment) -> Option<Instant> {
        self.0.get().map(|origin| *origin + Duration::from_nanos(nanos))
    }
}

impl Moment {
    /// `None` when that is never.
    pub(crate) fn after(self, time: Duration) -> Option<Self> {
        self.0.checked_add(nanos(time)).map(Self)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn nanos(self) -> u64 {
        self.0
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}
