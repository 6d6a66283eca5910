//! What the handles and the task share: the machine behind one lock, and who waits for it.

mod inbox;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use mqtt_codec::TopicFilterBuf;
use slab::Slab;
use tokio::sync::{Notify, watch};

pub(crate) use self::inbox::{Handed, Inbox, InboxLimit};

use crate::error::{ConnectionError, SubscribeError};
use crate::machine::{Config, Event, Machine, StreamId};
use crate::receipt::Slot;
use crate::status::{Leftover, Status};
use crate::store::Writer;

/// How long a client whose last handle was dropped goes on to deliver what it accepted.
const LINGER: Duration = Duration::from_secs(5);

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Somebody who waits for room in the queue may try again.
    pub(crate) room: Notify,
    /// The broker has answered an UNSUBSCRIBE, or there is no need for one.
    pub(crate) unsubscribed: Notify,
    pub(crate) status: watch::Sender<Status>,
    /// The task waits, and does not look at what the streams have handed out.
    is_waiting: AtomicBool,
}

pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) receipts: Slab<Slot>,
    pub(crate) inboxes: Slab<Inbox>,
    /// The streams that have a batch of messages.
    lending: Vec<StreamId>,
    /// The task, while it waits for something to do.
    pub(crate) driver: Option<Waker>,
    /// To be woken when the lock is released.
    wakers: Vec<Waker>,
    has_unsubscribed: bool,
    /// How many wait for room in the queue.
    pub(crate) waiting_for_room: usize,
    pub(crate) stop: Stop,
    restored: Option<bool>,
    /// There has been a connection, if only for a moment.
    pub(crate) has_connected: bool,
    pub(crate) leftover: Leftover,
    pub(crate) is_stopped: bool,
    pub(crate) inbox_limit: InboxLimit,
    pub(crate) store: Option<Writer>,
    /// The task is to be woken when messages are taken.
    pub(crate) is_read_paused: bool,
    /// What was handed out waits for the transport or the store, which wake the task: until then,
    /// more to send is nothing to do.
    pub(crate) is_write_blocked: bool,
}

/// Whether the client is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    #[default]
    No,
    /// When everything is delivered, or at this time.
    By(Instant),
    /// Now, without DISCONNECT.
    Abort,
}

impl Shared {
    pub(crate) fn new(config: Config, now: Instant) -> Self {
        let state = State {
            machine: Machine::new(config, now),
            receipts: Slab::new(),
            inboxes: Slab::new(),
            lending: Vec::new(),
            driver: None,
            wakers: Vec::new(),
            has_unsubscribed: false,
            waiting_for_room: 0,
            stop: Stop::No,
            restored: None,
            has_connected: false,
            leftover: Leftover::default(),
            is_stopped: false,
            store: None,
            is_read_paused: false,
            is_write_blocked: false,
            inbox_limit: InboxLimit { messages: 64 << 10, bytes: 4 << 20 },
        };
        let status = watch::Sender::new(Status::Connecting { attempt: 1 });
        let is_waiting = AtomicBool::new(false);
        let (room, unsubscribed) = (Notify::new(), Notify::new());
        Self { state: Mutex::new(state), room, unsubscribed, status, is_waiting }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two steps: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a step, and wakes who is concerned after the lock is released.
    pub(crate) fn with<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = step(&mut state);
        self.release(state);
        result
    }

    /// The task is about to wait, or has begun to work.
    pub(crate) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    /// A stream has handed out a message that is to be acknowledged. The task looks at that itself,
    /// unless it waits: then it is woken, once for all that are handed out until it runs.
    pub(crate) fn note_handed(&self) {
        if self.is_waiting.load(Ordering::SeqCst) && self.is_waiting.swap(false, Ordering::SeqCst) {
            let driver = self.lock().driver.take();
            driver.into_iter().for_each(Waker::wake);
        }
    }

    /// Ready when the broker has confirmed that nothing more comes for these filters, or the client has
    /// ended.
    pub(crate) async fn wait_for_unsubscribed(&self, filters: &[TopicFilterBuf]) {
        loop {
            let answered = self.unsubscribed.notified();
            let is_over = {
                let state = self.lock();
                let machine = &state.machine;
                state.is_stopped || filters.iter().all(|filter| machine.is_unsubscribed(filter))
            };
            if is_over {
                return;
            }
            answered.await;
        }
    }

    /// Begins the end of a client that nobody has any more.
    pub(crate) fn linger(&self) {
        self.with(|state| {
            if state.stop == Stop::No {
                state.stop = Stop::By(tokio::time::Instant::now().into_std() + LINGER);
            }
            state.machine.shut_down();
            state.wake_driver();
        });
    }

    /// Tells the state of the connection to whoever watches it.
    pub(crate) fn tell(&self, status: Status) {
        #[cfg(feature = "tracing")]
        match &status {
            Status::Connecting { attempt } => tracing::debug!(attempt, "connecting"),
            Status::Connected { session_present } => tracing::info!(session_present, "connected"),
            Status::Waiting { retry_in, cause } => {
                tracing::warn!(%cause, ?retry_in, "not connected");
            }
            Status::Stopped(Some(cause)) => tracing::error!(%cause, "stopped"),
            Status::Stopped(None) => tracing::debug!("stopped"),
        }
        self.status.send_replace(status);
    }

    /// Releases the lock after a step, and wakes who is concerned.
    pub(crate) fn release(&self, mut state: MutexGuard<'_, State>) {
        state.take_events();
        state.submit_changes();
        let wakers = std::mem::take(&mut state.wakers);
        let driver = state.has_work().then(|| state.driver.take()).flatten();
        let has_room = state.waiting_for_room > 0 && state.machine.has_queue_room();
        let restored = state.restored.take();
        let has_unsubscribed = std::mem::take(&mut state.has_unsubscribed);
        drop(state);
        if has_room {
            self.room.notify_one();
        }
        if has_unsubscribed {
            self.unsubscribed.notify_waiters();
        }
        if let Some(session_present) = restored {
            self.tell(Status::Connected { session_present });
        }
        if !wakers.is_empty() {
            wakers.into_iter().for_each(Waker::wake);
        }
        driver.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.is_write_blocked && self.machine.wants_transmit()
    }

    pub(crate) fn wake_all(&mut self, wakers: Vec<Waker>) {
        self.wakers.extend(wakers);
    }

    /// Hands what has changed to the store.
    pub(crate) fn submit_changes(&mut self) {
        if let Some(store) = &mut self.store {
            let changes = self.machine.take_journal();
            if !changes.is_empty() {
                store.submit(changes);
            }
        }
    }

    /// Whether everything up to these changes is durable; if not, the task is woken when more is.
    pub(crate) fn is_durable(
        &mut self,
        number: u64,
        waker: &Waker,
    ) -> Result<bool, Arc<io::Error>> {
        let Some(store) = &mut self.store else { return Ok(true) };
        if let Some(error) = &store.failed {
            return Err(error.clone());
        }
        if store.durable < number {
            store.wait(waker);
        }
        Ok(store.durable >= number)
    }

    /// Wakes the task when the lock is released, whatever there is to do.
    pub(crate) fn wake_driver(&mut self) {
        self.wakers.extend(self.driver.take());
    }

    fn take_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Deliver { stream, message, number } => {
                    self.deliver(stream, message, number);
                }
                Event::Ended { token, outcome } => {
                    let Some(slot) = self.receipts.get_mut(token.slot) else { continue };
                    match std::mem::replace(slot, Slot::Over(outcome)) {
                        Slot::Waited(waker) => self.wakers.push(waker),
                        Slot::Dropped => drop(self.receipts.remove(token.slot)),
                        Slot::Open | Slot::Over(_) => {}
                    }
                }
                Event::Granted { stream, filter, qos } => {
                    self.note_grant(stream, &filter, &Ok(qos));
                }
                Event::SubscriptionRefused { stream, filter } => {
                    self.note_grant(stream, &filter, &Err(SubscribeError::Refused));
                }
                Event::Unsubscribed => self.has_unsubscribed = true,
                Event::Restored { session_present } => {
                    self.restored = Some(session_present);
                    self.has_connected = true;
                }
            }
        }
    }

    /// Ends everything: the task is over.
    pub(crate) fn finish(&mut self) {
        if self.is_stopped {
            return;
        }
        self.is_stopped = true;
        self.machine.handle_close();
        self.leftover = self.machine.give_up();
        for (_, inbox) in &mut self.inboxes {
            inbox.ended.get_or_insert(SubscribeError::Closed);
            self.wakers.extend(inbox.waker.take());
        }
        self.has_unsubscribed = true;
    }
}

/// Ends the client when it is dropped, so that nobody waits for ever: with the task, even if that has
/// never run, or with a builder that made none.
pub(crate) struct Finish {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cause: Option<ConnectionError>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.shared.with(State::finish);
        self.shared.room.notify_waiters();
        self.shared.tell(Status::Stopped(self.cause.take()));
    }
}

/// Held by all clones of a client and by its streams. Without any, the client comes to its end.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.linger();
    }
}

/// Acknowledges one message that was handed to the application, once.
pub(crate) struct AckHandle {
    shared: Arc<Shared>,
    /// `None` when it is done.
    number: Option<u64>,
}

impl AckHandle {
    pub(crate) fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number: Some(number) }
    }

    pub(crate) fn acknowledge(mut self) {
        if let Some(number) = self.number.take() {
            self.shared.with(|state| state.machine.acknowledge(number));
        }
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.shared.lock();
        if !state.is_stopped && state.machine.note_never_acknowledged(number) {
            let dropped = state.machine.counters.never_acknowledged;
            drop(state);
            warn_of_dropped_messages(dropped);
        }
    }
}

#[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "it is only for the log"))]
fn warn_of_dropped_messages(dropped: u64) {
    // Often enough to be seen, and not for each.
    #[cfg(feature = "tracing")]
    if dropped.is_power_of_two() {
        tracing::warn!(dropped, "messages are dropped without ack(): the broker waits");
    }
}
