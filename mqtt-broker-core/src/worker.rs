use std::task::Waker;

use crate::Message;
use crate::hooks::DropReason;
use crate::router::RouteCache;
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
    /// Who gets the messages of topics that came lately.
    pub(crate) routes: RouteCache,
    /// Receivers that want no more for now.
    pub(crate) congested: Vec<Arc<Session>>,
    /// What the hooks are told of the message at hand, when no lock is held.
    pub(crate) reports: Vec<Report>,
    /// What receivers keep of the run at hand.
    pub(crate) kept: Vec<Message>,
    /// Woken at the end of the batch, when no lock is held.
    pub(crate) wakes: Vec<Waker>,
    /// For the driver: somebody was woken since it looked.
    pub(crate) has_woken: bool,
    pub(crate) tally: Tally,
    /// Written and empty buffers, to be used again.
    #[expect(clippy::vec_box, reason = "buffers pass from hand to hand: one word each time")]
    spare: Vec<Box<SendBuffer>>,
    /// Memory that they hold.
    spare_bytes: usize,
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

/// Memory of buffers that are kept for use again. A full outbox is a MiB by default: to get and give
/// back its pages for each batch was half of the cost of messages of 4 KiB.
const MAX_SPARE: usize = 16 << 20;

impl Worker {
    /// A worker with nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes back a buffer that is written.
    pub fn recycle(&mut self, buffer: Box<SendBuffer>) {
        let bytes = self.spare_bytes + size_of::<SendBuffer>() + buffer.capacity();
        if buffer.is_empty() && bytes <= MAX_SPARE {
            self.spare_bytes = bytes;
            self.spare.push(buffer);
        }
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Box<SendBuffer> {
        let Some(buffer) = self.spare.pop() else { return Box::default() };
        self.spare_bytes -= size_of::<SendBuffer>() + buffer.capacity();
        buffer
    }

    /// Ends a batch: adds its counts and wakes who has something to take.
    pub(crate) fn finish(&mut self, counters: &Counters) {
        counters.add(&mut self.tally);
        self.has_woken |= !self.wakes.is_empty();
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
    }
}
