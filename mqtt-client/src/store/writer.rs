use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::task::Waker;

use tokio::sync::oneshot;

use super::{Change, Store};
use crate::shared::Shared;

/// Changes carried out at once, so that one batch takes a bounded time and memory.
const BATCH: usize = 4096;

/// The way to a store, which works on a thread of its own: everything that comes while it writes
/// becomes one batch.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `None` once the client is closed.
    to_thread: Option<Sender<(u64, Vec<Change>)>>,
    /// Number of the last changes that were handed over.
    pub(crate) submitted: u64,
    /// Number of the last changes that are durable.
    pub(crate) durable: u64,
    pub(crate) failed: Option<Arc<io::Error>>,
    waiting: Vec<Waker>,
}

impl Writer {
    /// Starts the thread. It ends when the writer is closed and all is written; the receiver hears
    /// of that.
    pub(crate) fn start(
        mut store: Box<dyn Store>,
        shared: Weak<Shared>,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let (to_thread, changes) = channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("mqtt-store".to_owned()).spawn(move || {
            serve(&mut *store, &changes, &shared);
            drop(store);
            // Nobody may wait for it.
            let _ = end.send(());
        })?;
        let waiting = Vec::new();
        let to_thread = Some(to_thread);
        Ok((Self { to_thread, submitted: 0, durable: 0, failed: None, waiting }, ended))
    }

    pub(crate) fn submit(&mut self, changes: Vec<Change>) {
        self.submitted += 1;
        // The thread only ends early when it failed, which is told otherwise.
        let _ = self.to_thread.as_ref().map(|thread| thread.send((self.submitted, changes)));
    }

    /// Lets the thread end when all is written. What is durable, and whether it failed, can still be
    /// asked: a publish may be waiting for it.
    pub(crate) fn close(&mut self) {
        self.to_thread = None;
    }

    /// Wakes this task when more is durable.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        self.waiting.push(waker.clone());
    }
}

fn serve(store: &mut dyn Store, changes: &Receiver<(u64, Vec<Change>)>, shared: &Weak<Shared>) {
    while let Ok((mut number, mut batch)) = changes.recv() {
        while batch.len() < BATCH
            && let Ok((next, more)) = changes.try_recv()
        {
            number = next;
            batch.extend(more);
        }
        let written = catch_unwind(AssertUnwindSafe(|| store.write(&batch)))
            .unwrap_or_else(|_| Err(io::Error::other("the store panicked")));
        let failed = written.is_err();
        if let Some(shared) = shared.upgrade() {
            shared.with(|state| {
                let Some(writer) = &mut state.store else { return };
                match written {
                    Ok(()) => writer.durable = number,
                    Err(error) => writer.failed = Some(Arc::new(error)),
                }
                let waiting = std::mem::take(&mut writer.waiting);
                state.wake_all(waiting);
                state.wake_driver();
            });
        }
        if failed {
            return;
        }
    }
}
