use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::journal::{CommitError, Journal, Store};

/// Between two attempts to write to a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// What becomes of a store, for a log: [`serve_journal`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreState {
    /// There is no room. What should be durable waits, and is not acknowledged.
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
    let mut is_full = false;
    loop {
        match journal.poll_ready(&mut cx) {
            Poll::Ready(false) => return Ok(()),
            Poll::Pending => thread::park(),
            Poll::Ready(true) => match journal.commit(store) {
                Ok(_) => {
                    if std::mem::take(&mut is_full) {
                        report(&StoreState::Recovered);
                    }
                }
                Err(CommitError::Full(error)) => {
                    if !std::mem::replace(&mut is_full, true) {
                        report(&StoreState::Full(error.to_string()));
                    }
                    thread::sleep(RETRY);
                }
                Err(error) => {
                    report(&StoreState::Failed(error.to_string()));
                    return Err(error);
                }
            },
        }
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
            Self::Full(error) => write!(f, "{error}; nothing is acknowledged until there is room"),
            Self::Recovered => f.write_str("there is room again"),
            Self::Failed(error) => write!(f, "{error}; nothing is acknowledged any more"),
        }
    }
}
