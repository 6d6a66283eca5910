use std::time::Duration;

use crate::error::ConnectionError;

/// The state of the connection: [`Client::status`](crate::Client::status).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// An attempt is under way.
    Connecting {
        /// 1 for the first since the last connection.
        attempt: u32,
    },
    /// Connected, and every subscription is restored.
    Connected {
        /// Whether the broker still had the session.
        session_present: bool,
    },
    /// Waiting before the next attempt.
    Waiting {
        /// How long from when this was said.
        retry_in: Duration,
        /// Why there is no connection.
        cause: ConnectionError,
    },
    /// The client is shut down, or it gave up for this reason.
    Stopped(Option<ConnectionError>),
}

/// What a shutdown had to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Messages that were never sent.
    pub queued: usize,
    /// Messages that were sent and not acknowledged to the end.
    pub unacknowledged: usize,
}

impl Leftover {
    /// Whether everything was delivered.
    pub fn is_empty(&self) -> bool {
        self.queued == 0 && self.unacknowledged == 0
    }
}
