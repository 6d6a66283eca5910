//! What must survive a restart, on its way to a store: batches of changes with rising numbers, and
//! who waits for which number.

mod batch;
mod recovered;
mod transaction;

use std::task::{Context, Poll, Waker};

use thiserror::Error;

use crate::Message;
use crate::session::Session;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
pub use batch::{Batch, InFlight, MessageId, Progress, Receiver, Record, SessionId};
pub use recovered::{Recovered, RecoveredMessage, RecoveredSession, RecoveredSubscription};
pub(crate) use transaction::{Recorder, Transaction, Unrecorded};

/// Bytes that wait to be durable before clients that wait for it are not read any more. Many commits'
/// worth, and little beside the queues.
const MAX_BACKLOG: usize = 16 << 20;

/// Where batches are made durable: a file, or what a program of its own needs.
pub trait Store {
    /// Makes a batch durable, all of it or nothing. When this returns `Ok`, a power cut loses none
    /// of it.
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError>;

    /// Reads messages again that wait for a session, with its QoS and RETAIN flag, in the order of
    /// `ids`. Those that are not durable yet are left out.
    fn load(
        &mut self,
        session: SessionId,
        ids: &[MessageId],
    ) -> Result<Vec<(MessageId, Message)>, CommitError>;

    /// Puts the store in order when there is nothing else to do for a second, such as giving back
    /// room that it does not need.
    fn tidy(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    /// Whether what is left of its room is for clients that come, read and go. Messages that are to
    /// be kept are not acknowledged until there is more.
    fn is_short_of_room(&self) -> bool {
        false
    }
}

/// Why a batch is not durable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is no room. Nothing is lost: the batch is kept, and committed again later.
    #[error("no room left in the store: {0}")]
    Full(Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot say what of the batch is durable, and never will: a failed sync, for
    /// instance, which may not be tried again. Nothing is acknowledged from now on.
    #[error("the store has failed: {0}")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// The committer's end of a broker's journal: [`Broker::restore`](crate::Broker::restore) makes it.
///
/// Acknowledgements whose effect has to survive a restart leave only when [`commit`](Self::commit)
/// has made the batch durable that holds it. Whatever waits goes into one batch: the longer a commit
/// takes, the more the next one holds, and there is no timer.
#[derive(Debug)]
pub struct Journal {
    log: Arc<Log>,
    /// The batch that is being committed.
    batch: Batch,
    loads: Vec<Load>,
}

/// Messages that a session wants to have back in memory.
#[derive(Debug)]
struct Load {
    session: Arc<Session>,
    ids: Vec<MessageId>,
    /// The batch that makes them durable, or a later one.
    after: u64,
}

impl Journal {
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log, batch: Batch::default(), loads: Vec::new() }
    }

    /// Commits what waits, if something does, and reads what sessions want to have back. After
    /// [`CommitError::Full`] the same batch is tried again with the next call, with what has come
    /// since at its end; after [`CommitError::Failed`] calling it again is of no use.
    ///
    /// True when there was something to do.
    pub fn commit(&mut self, store: &mut impl Store) -> Result<bool, CommitError> {
        self.log.take(&mut self.batch, &mut self.loads);
        if self.is_idle() {
            return Ok(false);
        }
        let result = self.work(store);
        self.conclude(store, &result);
        result.map(|()| true)
    }

    /// Lets the store [tidy up](Store::tidy): to be called when there was nothing to commit for a
    /// second.
    pub fn tidy(&mut self, store: &mut impl Store) -> Result<(), CommitError> {
        let result = store.tidy();
        self.conclude(store, &result);
        result
    }

    fn conclude(&self, store: &impl Store, result: &Result<(), CommitError>) {
        if let Err(CommitError::Failed(_)) = result {
            self.log.set_failed();
        }
        self.log.set_short(store.is_short_of_room());
    }

    fn work(&mut self, store: &mut impl Store) -> Result<(), CommitError> {
        // What is durable can be read even when nothing can be written.
        self.load(store)?;
        if !self.batch.is_empty() {
            store.commit(&self.batch)?;
            let (number, bytes) = (self.batch.number, self.batch.bytes);
            self.batch.clear();
            self.log.set_durable(number, bytes);
        }
        self.load(store)?;
        // What is not there now has to come with a later batch, unless the session is over.
        self.loads.retain(Load::is_wanted);
        match self.loads.iter().find(|load| self.log.is_durable(load.after)) {
            None => Ok(()),
            Some(load) => {
                let error = format!("messages {:?} are missing", load.ids);
                Err(CommitError::Failed(error.into()))
            }
        }
    }

    /// Carries out the loads of which at least the first message is there.
    fn load(&mut self, store: &mut impl Store) -> Result<(), CommitError> {
        let mut result = Ok(());
        self.loads.retain(|load| {
            if result.is_err() {
                return true;
            }
            match store.load(load.session.id().into(), &load.ids) {
                Ok(messages) if messages.is_empty() => true,
                Ok(messages) => {
                    load.fill(messages);
                    false
                }
                Err(error) => {
                    // A store that is full can be read again later.
                    result = Err(error);
                    true
                }
            }
        });
        result
    }

    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.loads.is_empty()
    }

    /// Ready with true when there is something to commit, and with false when the broker is gone and
    /// everything is committed.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.is_idle() {
            return Poll::Ready(true);
        }
        let mut pending = self.log.pending.lock();
        if !pending.is_idle() {
            return Poll::Ready(true);
        }
        if self.log.is_closed.load(Ordering::Acquire) {
            return Poll::Ready(false);
        }
        pending.committer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Load {
    fn fill(&self, messages: Vec<(MessageId, Message)>) {
        let waker = {
            let mut state = self.session.lock();
            state.fill(messages);
            state.take_waker()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn is_wanted(&self) -> bool {
        self.ids.first().is_some_and(|id| self.session.lock().waits_for(*id))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Nobody commits any more: what waits, waits in vain.
        self.log.set_failed();
    }
}

/// The broker's end. Its lock comes before all others, and is held for the whole of a change, so
/// that a batch never ends in the middle of one.
#[derive(Debug)]
pub(crate) struct Log {
    pending: Mutex<Pending>,
    /// The last batch that is durable.
    durable: AtomicU64,
    /// Bytes in batches that are not durable.
    backlog: AtomicU64,
    /// No batch will become durable any more.
    has_failed: AtomicBool,
    /// What is left of the store's room is not for messages.
    is_short: AtomicBool,
    /// The broker is gone.
    is_closed: AtomicBool,
    /// Tasks that wait for a batch.
    waits: Mutex<Vec<(u64, Waker)>>,
}

/// Somebody who waits for a batch to be durable.
#[derive(Debug)]
pub(crate) struct Wait {
    number: u64,
    /// For the taking over of a message, which has to wait for room as well.
    acknowledges: bool,
    /// What the log knows: what is waited for, and whom to wake.
    known: Option<(u64, Waker)>,
}

impl Wait {
    pub(crate) fn new(number: u64, acknowledges: bool) -> Self {
        Self { number, acknowledges, known: None }
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_none(&self) -> bool {
        self.number == 0
    }
}

/// Stands in the list of waits for a batch that never comes: for room.
const ROOM: u64 = u64::MAX;

/// The batch that is being filled.
#[derive(Debug)]
struct Pending {
    batch: Batch,
    /// Sessions whose [`Progress`] is to be part of it.
    touched: Vec<Arc<Session>>,
    loads: Vec<Load>,
    next_message: MessageId,
    /// The batch in which a session has ended last.
    last_end: u64,
    /// To be woken when there is something to commit.
    committer: Option<Waker>,
}

impl Log {
    /// A journal whose messages are numbered from `next_message` on.
    pub(crate) fn new(next_message: MessageId) -> Self {
        let batch = Batch { number: 1, ..Batch::default() };
        let pending = Pending {
            batch,
            touched: Vec::new(),
            loads: Vec::new(),
            next_message,
            last_end: 0,
            committer: None,
        };
        Self {
            pending: Mutex::new(pending),
            durable: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            waits: Mutex::default(),
        }
    }

    /// Whether batch `number` and all before it are durable. 0 waits for nothing.
    pub(crate) fn is_durable(&self, number: u64) -> bool {
        number <= self.durable.load(Ordering::Acquire)
    }

    /// Whether a batch is durable; if not, the task is woken when it is.
    pub(crate) fn poll_durable(&self, wait: &mut Wait, cx: &Context<'_>) -> Poll<()> {
        let mut registered = None;
        loop {
            let Some(obstacle) = self.obstacle(wait) else { return Poll::Ready(()) };
            if registered == Some(obstacle) {
                return Poll::Pending;
            }
            // Not asked again in this call: a clone of a waker need not say that it wakes the same.
            registered = Some(obstacle);
            let is_known = wait
                .known
                .as_ref()
                .is_some_and(|(known, waker)| *known == obstacle && waker.will_wake(cx.waker()));
            if !is_known {
                // The obstacle may go away before the waker is there, so it is looked at again.
                wait.known = Some((obstacle, cx.waker().clone()));
                self.waits.lock().push((obstacle, cx.waker().clone()));
            }
        }
    }

    fn obstacle(&self, wait: &Wait) -> Option<u64> {
        if !self.is_durable(wait.number) {
            Some(wait.number)
        } else if wait.acknowledges && self.is_short.load(Ordering::Acquire) {
            Some(ROOM)
        } else {
            None
        }
    }

    /// The number that everything recorded so far waits for.
    pub(crate) fn last(&self) -> u64 {
        self.pending.lock().last()
    }

    /// Whether who waits for this should publish no more for now.
    pub(crate) fn is_congested(&self, wait: &Wait) -> bool {
        self.is_behind() || wait.acknowledges && self.is_short.load(Ordering::Relaxed)
    }

    /// Whether waiting is in vain.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The broker is gone: the committer ends when it has committed the rest.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let committer = self.pending.lock().committer.take();
        committer.into_iter().for_each(Waker::wake);
    }

    /// Hands over what there is to do: the batch, in place of an empty one, and what is to be read.
    fn take(&self, batch: &mut Batch, loads: &mut Vec<Load>) {
        let mut pending = self.pending.lock();
        loads.append(&mut pending.loads);
        pending.note_progress();
        if pending.batch.is_empty() {
            return;
        }
        if batch.is_empty() {
            batch.number = pending.batch.number + 1;
            std::mem::swap(batch, &mut pending.batch);
        } else {
            // It was refused. What has come since may be what makes room for it.
            let number = pending.batch.number;
            batch.append(&mut pending.batch);
            pending.batch.number = number + 1;
        }
    }

    /// Whether there is room for sessions that are to be kept: while clients only publish less, those
    /// that come can still come.
    pub(crate) fn takes_sessions(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) <= 2 * MAX_BACKLOG as u64
    }

    /// Whether clients that publish should wait although nobody asks for an answer.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > MAX_BACKLOG as u64
    }

    /// Counts what waits to be durable.
    fn add_to_backlog(&self, bytes: usize) {
        self.backlog.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn set_durable(&self, number: u64, bytes: usize) {
        self.durable.store(number, Ordering::Release);
        self.backlog.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.wake(|waited_for| waited_for <= number);
    }

    fn set_short(&self, is_short: bool) {
        if self.is_short.load(Ordering::Relaxed) != is_short {
            self.is_short.store(is_short, Ordering::Release);
            self.wake(|waited_for| waited_for == ROOM);
        }
    }

    /// Nothing will be durable any more.
    fn set_failed(&self) {
        self.has_failed.store(true, Ordering::Release);
        self.wake(|_| true);
    }

    fn wake(&self, is_meant: impl Fn(u64) -> bool) {
        let woken: Vec<_> =
            self.waits.lock().extract_if(.., |(number, _)| is_meant(*number)).collect();
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.touched.is_empty()
    }

    /// Whether there is nothing for the committer to do.
    fn is_idle(&self) -> bool {
        self.is_empty() && self.loads.is_empty()
    }

    fn last(&self) -> u64 {
        if self.is_empty() { self.batch.number - 1 } else { self.batch.number }
    }

    /// Adds how far the touched sessions are: what they say holds for the batch as it is now.
    fn note_progress(&mut self) {
        let next_message = self.next_message;
        for session in self.touched.drain(..) {
            if let Some(progress) = session.lock().progress(next_message) {
                self.batch
                    .records
                    .push(Record::Progress { session: session.id().into(), progress });
            }
        }
    }
}
