use std::num::NonZeroU64;
use std::ops::Range;

use mqtt_codec::{PacketId, QoS, TopicFilterBuf, TopicNameBuf};

use crate::Message;
use crate::router::ReceiverId;

/// The number of a message that is kept: later messages have higher ones, over all sessions and
/// restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(NonZeroU64);

/// The number of a session, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

/// Changes that become durable together or not at all, in the order in which they happened.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) number: u64,
    pub(crate) records: Vec<Record>,
    /// Of all its messages.
    pub(crate) receivers: Vec<Receiver>,
    /// Of texts and payloads.
    pub(crate) bytes: usize,
}

/// One change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// A session begins, or its client or will has changed.
    Session {
        /// Its number.
        session: SessionId,
        /// Its client id.
        client_id: Box<str>,
        /// The user name of who was connected last.
        user_name: Option<String>,
        /// What is to be published when its client does not come back.
        will: Option<Message>,
    },
    /// A session is over, with its subscriptions and its [`Progress`]. Its messages are
    /// [`Done`](Self::Done) apart.
    SessionEnd {
        /// Its number.
        session: SessionId,
    },
    /// A subscription is made, or changes its QoS.
    Subscribe {
        /// Whose it is.
        session: SessionId,
        /// Its filter.
        filter: TopicFilterBuf,
        /// The QoS granted.
        qos: QoS,
    },
    /// All that was retained when a subscription was made has been queued for it. Without this the
    /// subscription gets what is retained again after a restart.
    Replayed {
        /// Whose subscription it is.
        session: SessionId,
        /// Its filter.
        filter: TopicFilterBuf,
    },
    /// A subscription ends.
    Unsubscribe {
        /// Whose it was.
        session: SessionId,
        /// Its filter.
        filter: TopicFilterBuf,
    },
    /// A message waits for sessions.
    Message {
        /// Its number.
        id: MessageId,
        /// Topic and payload. QoS and RETAIN are each receiver's.
        message: Message,
        /// Which of [`Batch::receivers`] are its own.
        receivers: Range<usize>,
    },
    /// One receiver of a message needs it no more.
    Done {
        /// Its number.
        id: MessageId,
    },
    /// One receiver of a message gives it up although others before it wait: it is not a receiver
    /// any more.
    Withdraw {
        /// Its number.
        id: MessageId,
        /// The receiver.
        session: SessionId,
    },
    /// How far a session is.
    Progress {
        /// Its number.
        session: SessionId,
        /// In place of what was said before.
        progress: Progress,
    },
    /// A message is retained, in place of the one of the same topic.
    Retain {
        /// Topic, payload and QoS.
        message: Message,
    },
    /// No message of a topic is retained any more.
    Unretain {
        /// The topic.
        topic: TopicNameBuf,
    },
}

/// A session that a message waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receiver {
    /// Its number.
    pub session: SessionId,
    /// The QoS at which it gets the message: 1 or 2.
    pub qos: QoS,
    /// Whether RETAIN is set for it.
    pub retain: bool,
    /// The filter of the shared subscription whose turn it was.
    pub group: Option<TopicFilterBuf>,
}

/// How far the deliveries of a session are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Messages of QoS 1 up to this one may have been sent although they are not in flight: all of
    /// them, while the client is connected.
    pub may_be_sent: Option<MessageId>,
    /// The id of the next packet.
    pub next_packet_id: PacketId,
    /// Messages to the session from this one on wait in its queue; those before it are in flight or
    /// done.
    pub queued_from: MessageId,
    /// What is sent and not through, in order.
    pub in_flight: Vec<InFlight>,
    /// QoS 2 messages of the client that are received and not released: first and last packet id of
    /// each range.
    pub received: Vec<(PacketId, PacketId)>,
}

/// A message between its PUBLISH and the end of its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight {
    /// The id that it was sent with.
    pub packet_id: PacketId,
    /// Its number; `None` once its PUBREC has come.
    pub message: Option<MessageId>,
}

impl Batch {
    /// Adds a change other than [`Record::Message`], as the test of a store does.
    pub fn push(&mut self, record: Record) {
        self.bytes += record.size();
        self.records.push(record);
    }

    /// Adds a message with its receivers. Its number has to be higher than those before it.
    pub fn push_message(
        &mut self,
        id: MessageId,
        message: Message,
        receivers: impl IntoIterator<Item = Receiver>,
    ) {
        let first = self.receivers.len();
        self.receivers.extend(receivers);
        let receivers = first..self.receivers.len();
        self.push(Record::Message { id, message, receivers });
    }

    /// The changes.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The receivers of one of its messages.
    pub fn receivers(&self, range: &Range<usize>) -> &[Receiver] {
        self.receivers.get(range.clone()).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes over a later batch, with its number.
    pub(crate) fn append(&mut self, later: &mut Self) {
        let before = self.receivers.len();
        self.receivers.append(&mut later.receivers);
        self.records.extend(later.records.drain(..).map(|mut record| {
            if let Record::Message { receivers, .. } = &mut record {
                receivers.start += before;
                receivers.end += before;
            }
            record
        }));
        self.bytes += std::mem::take(&mut later.bytes);
        self.number = later.number;
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.receivers.clear();
        self.bytes = 0;
    }
}

impl Record {
    /// Bytes that it takes while it waits, if a client can make it larger or more of its kind. 0 for
    /// what only follows from messages: these are counted, and bound it.
    pub(crate) fn size(&self) -> usize {
        let texts = match self {
            Self::Session { client_id, user_name, will, .. } => {
                let user_name = user_name.as_ref().map_or(0, String::len);
                client_id.len() + user_name + will.as_ref().map_or(0, Message::size)
            }
            Self::Subscribe { filter, .. } | Self::Unsubscribe { filter, .. } => {
                filter.as_bytes().len()
            }
            Self::Retain { message } => message.size(),
            Self::Unretain { topic } => topic.as_bytes().len(),
            Self::Message { message, .. } => return message.size(),
            Self::SessionEnd { .. }
            | Self::Replayed { .. }
            | Self::Done { .. }
            | Self::Withdraw { .. }
            | Self::Progress { .. } => return 0,
        };
        size_of::<Self>() + texts
    }
}

impl MessageId {
    /// The first message of a store.
    pub const FIRST: Self = Self(NonZeroU64::MIN);
    /// A number that no message has.
    pub const LAST: Self = Self(NonZeroU64::MAX);

    /// From its number; `None` for 0.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The one behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl SessionId {
    /// The first session of a store.
    pub const FIRST: Self = Self(1);

    /// From its number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<ReceiverId> for SessionId {
    fn from(id: ReceiverId) -> Self {
        Self(id.get())
    }
}

impl Receiver {
    /// A receiver, not of a group.
    pub fn new(session: SessionId, qos: QoS, retain: bool) -> Self {
        Self { session, qos, retain, group: None }
    }
}

impl Progress {
    /// How far a session is that nothing was sent to.
    pub fn new(queued_from: MessageId) -> Self {
        Self {
            may_be_sent: None,
            next_packet_id: PacketId::MIN,
            queued_from,
            in_flight: Vec::new(),
            received: Vec::new(),
        }
    }
}

impl InFlight {
    /// A message sent with `packet_id`; `None` when its PUBREC has come.
    pub fn new(packet_id: PacketId, message: Option<MessageId>) -> Self {
        Self { packet_id, message }
    }
}
