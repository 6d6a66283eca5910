use mqtt_codec::{QoS, TopicFilterBuf};

use super::{MessageId, Progress, SessionId};
use crate::Message;

/// What a store has kept of an earlier life of the broker: [`Broker::restore`](crate::Broker::restore).
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The sessions, in any order.
    pub sessions: Vec<RecoveredSession>,
    /// The retained messages, in any order, each with its own QoS.
    pub retained: Vec<Message>,
    /// A number behind those of all messages that were ever committed.
    pub next_message: MessageId,
    /// A number behind those of all sessions that ever began.
    pub next_session: SessionId,
}

/// A session and what waits for its client.
#[derive(Clone, Debug)]
pub struct RecoveredSession {
    /// Its number.
    pub session: SessionId,
    /// Its client id.
    pub client_id: Box<str>,
    /// The user name of who was connected last.
    pub user_name: Option<String>,
    /// Published now: its client is gone without a word.
    pub will: Option<Message>,
    /// Its subscriptions.
    pub subscriptions: Vec<RecoveredSubscription>,
    /// How far its deliveries were.
    pub progress: Progress,
    /// The messages that [it holds](Progress::holds), by number.
    pub messages: Vec<RecoveredMessage>,
}

/// A subscription of a recovered session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredSubscription {
    /// Its filter.
    pub filter: TopicFilterBuf,
    /// The QoS granted.
    pub qos: QoS,
    /// Whether what was retained when it was made has been queued.
    pub is_replayed: bool,
}

/// A message of a recovered session.
#[derive(Clone, Debug)]
pub struct RecoveredMessage {
    /// Its number.
    pub id: MessageId,
    /// The QoS at which the session gets it.
    pub qos: QoS,
    /// Bytes of topic and payload.
    pub size: usize,
    /// Topic, payload, and the receiver's QoS and RETAIN flag. It may be left out when the message
    /// [waits](Progress::queued_from), and not for a group: it is [loaded](super::Store::load) when
    /// its turn comes.
    pub message: Option<Message>,
    /// The filter of the shared subscription whose turn it was.
    pub group: Option<TopicFilterBuf>,
}

impl Default for Recovered {
    /// Nothing: the first life.
    fn default() -> Self {
        Self {
            sessions: Vec::new(),
            retained: Vec::new(),
            next_message: MessageId::FIRST,
            next_session: SessionId::FIRST,
        }
    }
}

impl Progress {
    /// Whether a message to the session is still needed.
    pub fn holds(&self, id: MessageId) -> bool {
        id >= self.queued_from
            || self.in_flight.iter().any(|in_flight| in_flight.message == Some(id))
    }
}
