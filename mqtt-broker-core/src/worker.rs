use std::task::Waker;

use crate::hooks::DropReason;
use crate::router::{Route, Walk};
use crate::send_buffer::SendBuffer;
use crate::session::Session;
use crate::stats::{Counters, Tally};
use crate::sync::Arc;

/// What connections that run on one thread share while they handle a batch: scratch space, counts,
/// and the tasks to wake afterwards.
///
/// A driver passes one to each call; which one does not matter. The core itself has no
/// thread-locals, so that a simulation owns everything that it runs on.
#[derive(Debug, Default)]
pub struct Worker {
    /// Receivers of the message at hand.
    pub(crate) routes: Vec<Route>,
    /// For finding them.
    pub(crate) walk: Walk,
    /// Receivers that want no more for now.
    pub(crate) congested: Vec<Arc<Session>>,
    /// What the hooks are told of the message at hand, when no lock is held.
    pub(crate) reports: Vec<Report>,
    /// Woken at the end of the batch, when no lock is held.
    pub(crate) wakes: Vec<Waker>,
    pub(crate) tally: Tally,
    /// Written and empty buffers, to be used again.
    #[expect(clippy::vec_box, reason = "buffers pass from hand to hand: one word each time")]
    spare: Vec<Box<SendBuffer>>,
    /// For the driver: where it reads to.
    #[cfg(feature = "tokio")]
    pub(crate) scratch: Vec<u8>,
}

/// What became of a message at one receiver, or, without one, in the retained store.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) receiver: Option<Arc<Session>>,
    /// `None` when the receiver's session owns it.
    pub(crate) dropped: Option<DropReason>,
}

/// Buffers kept for use again, and the largest that is: 16 MiB in all.
const MAX_SPARE: usize = 64;
const MAX_SPARE_CAPACITY: usize = 256 << 10;

impl Worker {
    /// A worker with nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes back a buffer that is written.
    pub fn recycle(&mut self, buffer: Box<SendBuffer>) {
        let fits = buffer.is_empty() && buffer.capacity() <= MAX_SPARE_CAPACITY;
        if fits && self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Box<SendBuffer> {
        self.spare.pop().unwrap_or_default()
    }

    /// Ends a batch: adds its counts and wakes who has something to take.
    pub(crate) fn finish(&mut self, counters: &Counters) {
        counters.add(&mut self.tally);
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }
}
