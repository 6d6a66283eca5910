use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::Undelivered;
use crate::shared::Shared;

/// How the delivery of an accepted message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivered {
    /// QoS 0: its last byte was given to the transport.
    Written,
    /// QoS 1: the broker sent PUBACK.
    Acknowledged,
    /// QoS 2: the broker owns it, once.
    Completed,
    /// A newer message of its topic took its place before it was sent
    /// ([`Offline::Latest`](crate::Offline::Latest)).
    Superseded,
}

/// The end of an accepted message, to be awaited.
///
/// It resolves when the delivery is over, one way or the other; also when the client is shut down.
/// Dropping it changes nothing for the message. Awaiting `&mut receipt` is cancel safe.
#[must_use = "await it to know that the message was delivered, or drop it on purpose"]
pub struct Receipt {
    shared: Arc<Shared>,
    /// `None` once the outcome was taken.
    slot: Option<usize>,
}

/// What is known of a message, for its receipt.
#[derive(Debug, Default)]
pub(crate) enum Slot {
    /// Nothing, and nobody waits.
    #[default]
    Open,
    /// Nothing, and this task waits.
    Waited(Waker),
    /// There is no receipt any more.
    Dropped,
    /// It is over.
    Over(Result<Delivered, Undelivered>),
}

impl Receipt {
    pub(crate) fn new(shared: Arc<Shared>, slot: usize) -> Self {
        Self { shared, slot: Some(slot) }
    }
}

impl Future for Receipt {
    type Output = Result<Delivered, Undelivered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled after it was ready: nothing else can come of it.
        let Some(number) = self.slot else { return Poll::Pending };
        let mut state = self.shared.lock();
        let Some(slot) = state.receipts.get_mut(number) else { return Poll::Pending };
        match slot {
            Slot::Over(outcome) => {
                let outcome = *outcome;
                state.receipts.remove(number);
                drop(state);
                self.slot = None;
                Poll::Ready(outcome)
            }
            Slot::Waited(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Slot::Open | Slot::Dropped => {
                *slot = Slot::Waited(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let Some(number) = self.slot else { return };
        let mut state = self.shared.lock();
        match state.receipts.get_mut(number) {
            Some(Slot::Over(_)) => drop(state.receipts.remove(number)),
            Some(slot) => *slot = Slot::Dropped,
            None => {}
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.slot).finish()
    }
}
