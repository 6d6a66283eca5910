use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use mqtt_codec::{PacketId, PublishBuf, QoS, TopicError, TopicName, TopicNameBuf};

use crate::offline::Offline;
use crate::shared::AckHandle;

/// A message to publish.
///
/// ```
/// use mqtt_client::{Publish, QoS};
/// use std::time::Duration;
///
/// let message = Publish::new("lights/hall", "on")
///     .qos(QoS::AtLeastOnce)
///     .retain(true)
///     .expires_after(Duration::from_secs(30));
/// # let _ = message;
/// ```
#[derive(Clone, Debug)]
pub struct Publish {
    pub(crate) topic: Result<TopicNameBuf, TopicError>,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expires_after: Option<Duration>,
    pub(crate) offline: Option<Offline>,
}

impl Publish {
    /// A message with QoS 0, not retained. An invalid topic shows when it is published.
    ///
    /// A [`TopicNameBuf`] that is made once and cloned spares checking and copying the topic each
    /// time.
    pub fn new<T>(topic: T, payload: impl Into<Bytes>) -> Self
    where
        T: TryInto<TopicNameBuf>,
        TopicError: From<T::Error>,
    {
        Self {
            topic: topic.try_into().map_err(TopicError::from),
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            expires_after: None,
            offline: None,
        }
    }

    /// How sure the delivery is to be.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// Whether the broker keeps it for those who subscribe later (section 3.3.1.3).
    #[must_use]
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// How long it may wait to be sent; after that it is dropped and its receipt says
    /// [`Undelivered::Expired`](crate::Undelivered::Expired). Once sent, it does not expire.
    #[must_use]
    pub fn expires_after(mut self, limit: Duration) -> Self {
        self.expires_after = Some(limit);
        self
    }

    /// What to do with it while there is no connection, in place of the client's policy.
    #[must_use]
    pub fn offline(mut self, policy: Offline) -> Self {
        self.offline = Some(policy);
        self
    }
}

impl<T, P> From<(T, P)> for Publish
where
    T: TryInto<TopicNameBuf>,
    TopicError: From<T::Error>,
    P: Into<Bytes>,
{
    fn from((topic, payload): (T, P)) -> Self {
        Self::new(topic, payload)
    }
}

/// A message that was received.
///
/// Messages that came together share one block of memory of up to 4 KiB (a longer message has its
/// own). One that is kept for long keeps the block: copy what is to stay in a cache.
///
/// Under [`AckMode::Manual`](crate::AckMode::Manual) it is acknowledged by [`ack`](Self::ack) only;
/// one that is dropped without stays unacknowledged until the connection ends.
pub struct Message {
    frame: PublishBuf,
    ack: Option<AckHandle>,
}

impl Message {
    pub(crate) fn new(frame: PublishBuf, ack: Option<AckHandle>) -> Self {
        Self { frame, ack }
    }

    /// The topic it was published to.
    pub fn topic(&self) -> TopicName<'_> {
        self.frame.topic()
    }

    /// What was published.
    pub fn payload(&self) -> &[u8] {
        self.frame.payload()
    }

    /// The payload as shared bytes, without copying. They keep the block of the message.
    pub fn payload_bytes(&self) -> Bytes {
        self.frame.payload_bytes()
    }

    /// The QoS that it came with: the lower one of the publisher's and the subscription's.
    pub fn qos(&self) -> QoS {
        self.frame.qos()
    }

    /// The packet id that it came with, for QoS 1 and 2. For logs: it says nothing to the outside of
    /// the connection.
    pub fn packet_id(&self) -> Option<PacketId> {
        self.frame.publish().packet_id()
    }

    /// Whether it is a retained message that came because of a new subscription `[MQTT-3.3.1-8]`.
    pub fn retain(&self) -> bool {
        self.frame.retain()
    }

    /// Whether the broker sent it before, as far as it knows (section 3.3.1.1).
    pub fn dup(&self) -> bool {
        self.frame.publish().delivery.is_dup()
    }

    /// Acknowledges it, under [`AckMode::Manual`](crate::AckMode::Manual); does nothing otherwise.
    ///
    /// In any order: the client sends acknowledgements in the order that the protocol asks for. One
    /// that outlives its connection is dropped, because the broker sends the message again.
    pub fn ack(mut self) {
        if let Some(ack) = self.ack.take() {
            ack.acknowledge();
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame.fmt(f)
    }
}
