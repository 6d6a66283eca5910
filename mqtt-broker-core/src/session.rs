//! A session: what the broker knows of one client id, connected or not.

mod deliveries;
mod flow;
mod queue;
mod recovery;
mod registry;
mod state;
mod subscriptions;

use mqtt_codec::{PacketId, QoS, TopicFilterBuf, TopicNameBuf};

use crate::hooks::DropReason;
use crate::journal::{MessageId, Record, Recorder};
use crate::router::{Group, ReceiverId, Router};
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::{Client, Message};
pub(crate) use registry::{Displaced, Ended, Registry};
pub(crate) use state::{Link, State};

/// What there is to know of a session: [`Broker::sessions`](crate::Broker::sessions).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its client id.
    pub client_id: String,
    /// Who is or was connected last. `None` for a subscription of the broker's own program.
    pub client: Option<Arc<Client>>,
    /// Whether its client is connected.
    pub is_connected: bool,
    /// Whether it ends with its connection.
    pub is_clean: bool,
    /// Filters and the QoS granted, in the order in which they were made.
    pub subscriptions: Vec<(TopicFilterBuf, QoS)>,
    /// Messages that wait behind the window or for the client.
    pub queued: usize,
    /// Their topics and payloads in bytes.
    pub queued_bytes: usize,
    /// QoS 1 and 2 messages that are sent and not through.
    pub in_flight: usize,
    /// QoS 2 messages of the client that are received and not released.
    pub unreleased: usize,
    /// Bytes that the client's transport has not taken from the broker.
    pub unsent_bytes: usize,
}

/// One client id and its state, behind one lock.
#[derive(Debug)]
pub(crate) struct Session {
    id: ReceiverId,
    /// Who made it. Whoever came later has the same client id, which is stored with the client.
    founder: Arc<Client>,
    /// Ends with its connection [MQTT-3.1.2-6].
    is_clean: bool,
    subscribing: Mutex<()>,
    state: Mutex<State>,
}

/// A message that a session keeps until it is delivered.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    /// The group whose turn it was: another member gets it when this one is gone.
    pub(crate) group: Option<Arc<Group>>,
    /// In the journal, if it survives a restart.
    pub(crate) number: Option<MessageId>,
}

/// How a session gets a message.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The lower one of the message's QoS and the subscription's [MQTT-3.8.4-6].
    pub(crate) qos: QoS,
    pub(crate) group: Option<&'a Arc<Group>>,
    pub(crate) number: Option<MessageId>,
}

/// What is published when a connection ends without DISCONNECT [MQTT-3.1.2-8].
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: Message,
    /// Whose it is: the right to publish is asked for when it is published.
    pub(crate) client: Arc<Client>,
}

/// How far the retained messages of a new subscription are sent. They are sent as the client takes
/// them, so that a filter over a million topics needs no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilterBuf,
    pub(crate) qos: QoS,
    pub(crate) after: Option<TopicNameBuf>,
}

/// What became of a message at one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session owns it.
    Accepted,
    /// The session owns it and wants no more for now: hold the publisher back.
    Congested,
    /// QoS 0 and the client is away, or the session is over.
    NotMeant,
    Dropped(DropReason),
}

/// A QoS 2 message that has come to a session from the connection of `epoch`.
pub(crate) struct Received<'a> {
    pub(crate) session: &'a Arc<Session>,
    pub(crate) epoch: u64,
    pub(crate) id: PacketId,
}

impl Received<'_> {
    /// Whether the session is still the connection's. With a journal nobody takes it over before the
    /// transaction ends.
    pub(crate) fn counts(&self, tx: &mut impl Recorder) -> bool {
        if self.session.is_kept() {
            tx.open();
        }
        self.session.lock_for(self.epoch).is_some()
    }

    /// Remembers its id, in the transaction that hands it to its receivers.
    pub(crate) fn note(self, tx: &mut impl Recorder) {
        let Some(mut state) = self.session.lock_for(self.epoch) else { return };
        // It was looked up before, and ids of this connection come to nobody else.
        let _ = state.deliveries.receiver.handle_publish(self.id);
        state.has_progressed = true;
        tx.touch(self.session, &mut state);
    }
}

impl Queued {
    /// Whether it belongs to this group, or to any.
    fn is_of(&self, group: Option<&Group>) -> bool {
        self.group.as_ref().is_some_and(|own| group.is_none_or(|group| group.id() == own.id()))
    }
}

impl Session {
    pub(crate) fn new(id: ReceiverId, founder: Arc<Client>, is_clean: bool, state: State) -> Self {
        Self { id, founder, is_clean, subscribing: Mutex::default(), state: Mutex::new(state) }
    }

    pub(crate) fn id(&self) -> ReceiverId {
        self.id
    }

    pub(crate) fn client_id(&self) -> &str {
        self.founder.client_id()
    }

    /// Whether it outlives its connections.
    pub(crate) fn is_kept(&self) -> bool {
        !self.is_clean
    }

    /// What the journal is told of its client and will.
    pub(crate) fn record(&self, state: &State) -> Record {
        Record::Session {
            session: self.id.into(),
            client_id: self.client_id().into(),
            user_name: state.owner.as_ref().and_then(|owner| owner.user_name()).map(Into::into),
            will: state.will.as_ref().map(|will| will.message.clone()),
        }
    }

    /// To be held while a subscription changes in the session and then in the router, so that the
    /// two agree whoever takes the session over in between. It comes before their locks.
    pub(crate) fn lock_subscriptions(&self) -> MutexGuard<'_, ()> {
        self.subscribing.lock()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The same for a connection, if the session is still its own: another thread may have taken it
    /// over since the last packet.
    pub(crate) fn lock_for(&self, epoch: u64) -> Option<MutexGuard<'_, State>> {
        let state = self.lock();
        (state.epoch == epoch && !state.is_ended()).then_some(state)
    }

    /// What there is to know of it. `None` when it is over.
    pub(crate) fn info(&self, router: &Router) -> Option<SessionInfo> {
        let _unchanged = self.lock_subscriptions();
        let (info, subscriptions) = {
            let state = self.lock();
            if state.is_ended() {
                return None;
            }
            let info = SessionInfo {
                client_id: self.client_id().to_owned(),
                client: state.owner.clone(),
                is_connected: matches!(state.link, Link::Connected | Link::Closing(_)),
                is_clean: self.is_clean,
                subscriptions: Vec::new(),
                queued: state.deliveries.queue.len(),
                queued_bytes: state.deliveries.queue.bytes(),
                in_flight: state.deliveries.sender.in_flight(),
                unreleased: state.deliveries.receiver.open(),
                unsent_bytes: state.unsent(),
            };
            (info, state.subscriptions.clone())
        };
        Some(SessionInfo { subscriptions: router.filters(subscriptions.as_slice(), self), ..info })
    }
}
