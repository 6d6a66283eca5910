use std::fmt;
use std::mem::discriminant;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::journal::{CommitError, Journal, Store};

/// Between two attempts to write to a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// When nobody has wanted anything for so long, the store has time for itself.
const IDLE: Duration = Duration::from_secs(1);

/// What becomes of a store, for a log: [`serve_journal`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreState {
    /// Little room is left, and messages that are to be kept are not acknowledged. Clients may come,
    /// read what waits for them, and go.
    Short,
    /// There is no room at all. What should be durable waits, and is not acknowledged. When 32 MiB wait,
    /// clients whose sessions are to be kept are refused with return code 3.
    Full(String),
    /// There is room again.
    Recovered,
    /// Nothing is acknowledged any more: start the broker again when the disk works.
    Failed(String),
}

/// Commits to a store until the broker is gone and everything is durable, or the store has failed.
/// It waits for most of its time, and for the disk, so give it a thread of its own.
///
/// When the store is full it tries again each second. `report` is called when the store's state
/// changes.
///
/// # Errors
/// When the store has failed, which `report` was told.
pub fn serve_journal(
    journal: &mut Journal,
    store: &mut impl Store,
    mut report: impl FnMut(&StoreState),
) -> Result<(), CommitError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut last = StoreState::Recovered;
    let mut is_tidy = false;
    loop {
        let result = match journal.poll_ready(&mut cx) {
            Poll::Ready(false) => return Ok(()),
            Poll::Ready(true) => {
                is_tidy = false;
                journal.commit(store).map(drop)
            }
            Poll::Pending if is_tidy => {
                thread::park();
                continue;
            }
            Poll::Pending => {
                thread::park_timeout(IDLE);
                if journal.poll_ready(&mut cx).is_ready() {
                    continue;
                }
                let result = journal.tidy(store);
                is_tidy = !store.is_short_of_room();
                result
            }
        };
        let state = match &result {
            Ok(()) if store.is_short_of_room() => StoreState::Short,
            Ok(()) => StoreState::Recovered,
            Err(CommitError::Full(error)) => StoreState::Full(error.to_string()),
            Err(error) => StoreState::Failed(error.to_string()),
        };
        if discriminant(&state) != discriminant(&last) {
            report(&state);
        }
        match &state {
            StoreState::Failed(_) => return result,
            StoreState::Full(_) => thread::sleep(RETRY),
            _ => {}
        }
        last = state;
    }
}

/// Wakes the committer's thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl fmt::Display for StoreState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str(
                "little room is left; messages are not acknowledged until there is more",
            ),
            Self::Full(error) => write!(f, "{error}; nothing is acknowledged until there is room"),
            Self::Recovered => f.write_str("there is room again"),
            Self::Failed(error) => write!(f, "{error}; nothing is acknowledged any more"),
        }
    }
}
