//! What changes of a session.

use std::task::Waker;

use super::deliveries::Deliveries;
use super::subscriptions::Subscriptions;
use super::{Ended, Queued, Session, Will};
use crate::journal::{Record, Recorder};
use crate::moment::Moment;
use crate::qos::{AckedQoS, Unfinished};
use crate::router::Group;
use crate::send_buffer::SendBuffer;
use crate::sync::Arc;
use crate::{Client, Closed, Config, ConnectionError};

/// What the lock of a [`Session`] guards.
#[derive(Debug)]
pub(crate) struct State {
    /// Rises with each connection, so that one that was taken over finds out.
    pub(crate) epoch: u64,
    pub(crate) link: Link,
    /// Bytes for the client that its transport has not taken yet.
    pub(super) outbox: Option<Box<SendBuffer>>,
    /// Of the task that takes them.
    waker: Option<Waker>,
    /// The transport takes nothing: the task is woken to end, and not for more bytes.
    is_stalled: bool,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) deliveries: Deliveries,
    pub(crate) will: Option<Box<Will>>,
    /// Who is or was connected last.
    pub(crate) owner: Option<Arc<Client>>,
    /// The session's own connection is held back for others: it reads no acknowledgements, so nobody
    /// may wait for its queue.
    pub(crate) is_held: bool,
    /// A connection has the session and is about to begin: its client is not away.
    pub(crate) is_awaited: bool,
    /// Deliveries have come further than the journal knows.
    pub(crate) has_progressed: bool,
    /// The next batch of the journal will say how far they are.
    pub(crate) is_touched: bool,
}

/// How messages leave a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The client is away, since then.
    Absent(Moment),
    /// A connection takes bytes.
    Connected,
    /// The same, and it has to end.
    Closing(Result<Closed, ConnectionError>),
    /// The broker's own program takes messages.
    Local,
    /// The session is over; its handle is held by somebody who does not know yet.
    Ended,
}

impl State {
    pub(crate) fn new(link: Link, config: &Config) -> Self {
        Self {
            epoch: 0,
            link,
            outbox: None,
            waker: None,
            is_stalled: false,
            subscriptions: Subscriptions::default(),
            deliveries: Deliveries::new(config),
            will: None,
            owner: None,
            is_held: false,
            is_awaited: false,
            has_progressed: false,
            is_touched: false,
        }
    }

    /// Leaves the waker that is to be called when the connection has to end, or, unless the
    /// transport is stalled, when there is something to take.
    pub(crate) fn register(&mut self, waker: &Waker, is_stalled: bool) {
        self.is_stalled = is_stalled;
        match &mut self.waker {
            Some(old) if old.will_wake(waker) => {}
            old => *old = Some(waker.clone()),
        }
    }

    /// Leaves the waker of a publisher that waits for the queue.
    pub(crate) fn hold_back(&mut self, waker: &Waker) {
        if !self.deliveries.held_back.iter().any(|held| held.will_wake(waker)) {
            self.deliveries.held_back.push(waker.clone());
        }
    }

    /// Whether publishers should wait: from a full queue until it is half empty.
    pub(crate) fn is_congested(&self, config: &Config) -> bool {
        let waits = self.has_taker() && !self.is_held;
        waits && self.deliveries.queue.is_over_half(config)
    }

    /// Collects who has to be woken, to be called when no lock is held: the task that takes the
    /// messages, and publishers that waited for room.
    pub(crate) fn wake(&mut self, config: &Config, wakes: &mut Vec<Waker>) {
        wakes.extend(self.take_waker());
        self.release(config, wakes);
    }

    /// Asks the connection to end, and collects who has to be woken for it.
    pub(crate) fn close(
        &mut self,
        reason: Result<Closed, ConnectionError>,
        wakes: &mut Vec<Waker>,
    ) {
        self.link = Link::Closing(reason);
        wakes.extend(self.waker.take());
        self.deliveries.let_publishers_go(wakes);
    }

    /// Takes the connection's hold off the session, and collects who has to be woken for it.
    pub(crate) fn detach(&mut self, link: Link, wakes: &mut Vec<Waker>) {
        self.link = link;
        self.has_progressed = true;
        // Bytes that nobody takes are let go of. What was sent and not acknowledged stays.
        self.outbox = None;
        self.is_held = false;
        self.is_awaited = false;
        wakes.extend(self.waker.take());
        self.deliveries.let_publishers_go(wakes);
        self.deliveries.settle();
    }

    /// Collects the publishers that waited for room, if there is some.
    pub(crate) fn release(&mut self, config: &Config, wakes: &mut Vec<Waker>) {
        if !self.deliveries.held_back.is_empty() && !self.is_congested(config) {
            self.deliveries.let_publishers_go(wakes);
        }
    }

    /// The groups that unfinished messages of the session belong to, each once.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        let in_flight =
            self.deliveries.sender.unfinished().filter_map(|unfinished| match unfinished {
                Unfinished::Publish { item, .. } => item.group.as_ref(),
                Unfinished::Release { .. } => None,
            });
        let mut groups: Vec<_> = self.deliveries.queue.groups().chain(in_flight).cloned().collect();
        groups.sort_unstable_by_key(|group| group.id());
        groups.dedup_by_key(|group| group.id());
        groups
    }

    /// Takes out the messages of a group, or of all groups, that another member may have: not QoS 2
    /// messages on the way to a client that may come back, since it may have them.
    pub(crate) fn take_shared(&mut self, group: Option<&Group>, comes_back: bool) -> Vec<Queued> {
        self.has_progressed = true;
        let mut taken = self.deliveries.withdraw(|qos, queued| {
            queued.is_of(group) && !(comes_back && qos == AckedQoS::ExactlyOnce)
        });
        if !self.deliveries.queue.is_empty() {
            taken.append(&mut self.deliveries.queue.take_shared(group));
        }
        taken
    }

    /// The same for a client that may come back, unless it has.
    pub(crate) fn take_shared_if_absent(&mut self, group: &Group) -> Vec<Queued> {
        match self.link {
            Link::Absent(_) => self.take_shared(Some(group), true),
            _ => Vec::new(),
        }
    }

    /// Whether a message would be sent at once, or nearly.
    pub(crate) fn is_ready(&self, config: &Config) -> bool {
        self.has_taker() && !self.deliveries.queue.is_over(0, config, 1)
    }

    /// The session is over. What it held is let go of at once.
    pub(crate) fn end(
        &mut self,
        session: &Arc<Session>,
        wakes: &mut Vec<Waker>,
        tx: &mut impl Recorder,
    ) -> Ended {
        self.detach(Link::Ended, wakes);
        if session.is_kept() {
            self.numbers().for_each(|number| tx.record(Record::Done { id: number }));
            tx.record(Record::SessionEnd { session: session.id().into() });
        }
        let shared = self.take_shared(None, false);
        self.deliveries.clear();
        let subscriptions = std::mem::take(&mut self.subscriptions);
        Ended { session: Arc::clone(session), subscriptions, shared }
    }

    /// The waker of the task that takes messages: there are some.
    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        if self.is_stalled { None } else { self.waker.take() }
    }

    /// Takes the waker of the connection's task, to have it look at the time.
    #[cfg(feature = "tokio")]
    pub(crate) fn ring(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Whether somebody is there to take messages, or nearly.
    pub(super) fn has_taker(&self) -> bool {
        matches!(self.link, Link::Connected | Link::Local) || self.is_awaited
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Connected)
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.link, Link::Ended)
    }

    /// Bytes that the transport has not taken.
    pub(super) fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }
}
