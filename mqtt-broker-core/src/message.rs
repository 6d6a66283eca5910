use std::fmt;

use bytes::Bytes;
use mqtt_codec::{Delivery, EncodeError, PacketId, Publish, PublishBuf, QoS, TopicName};

use crate::MountPoint;
use crate::send_buffer::{SHARE_FROM, SendBuffer};

/// An application message inside the broker: topic, payload, QoS and the RETAIN flag.
///
/// Topic and payload share one allocation, and a clone shares it too. Messages of one topic that a client
/// has sent together may share one as well, of up to 16 KiB, which is there as long as one of them is: to
/// keep a few of many for long, copy them.
#[derive(Clone)]
pub struct Message {
    frame: PublishBuf,
    qos: QoS,
    retain: bool,
}

impl Message {
    /// A message to publish. Fails when topic and payload do not fit into one packet (256 MiB).
    pub fn new(topic: TopicName<'_>, payload: &[u8], qos: QoS) -> Result<Self, EncodeError> {
        Ok(Self { frame: PublishBuf::from_parts(topic, payload, qos, false)?, qos, retain: false })
    }

    /// The same with RETAIN set: kept for later subscriptions, or, when the payload is empty,
    /// removing what was kept [MQTT-3.3.1-5], [MQTT-3.3.1-10].
    #[must_use]
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// A message that was decoded.
    pub(crate) fn from_publish(publish: &Publish<'_>) -> Result<Self, EncodeError> {
        let frame = PublishBuf::new(publish)?;
        Ok(Self { frame, qos: publish.qos(), retain: publish.retain })
    }

    /// The same message at another QoS and with another RETAIN flag.
    #[must_use]
    pub fn with(self, qos: QoS, retain: bool) -> Self {
        Self { frame: self.frame, qos, retain }
    }

    /// The topic name.
    pub fn topic(&self) -> TopicName<'_> {
        self.frame.topic()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.frame.payload()
    }

    /// The payload, shared with the message.
    pub fn payload_bytes(&self) -> Bytes {
        self.frame.payload_bytes()
    }

    /// The quality of service.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether RETAIN is set.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// The message as a PUBLISH from nobody: its packet id means nothing.
    pub(crate) fn publish(&self) -> Publish<'_> {
        let delivery = self.qos.delivery(PacketId::MIN);
        Publish { topic: self.topic(), payload: self.payload(), delivery, retain: self.retain }
    }

    /// Bytes of topic and payload: what queue limits count.
    pub(crate) fn size(&self) -> usize {
        self.frame.content_len()
    }

    /// Appends the PUBLISH to what goes to a client, with the topic as that client knows it.
    pub(crate) fn write_below(
        &self,
        mount: Option<&MountPoint>,
        delivery: Delivery,
        out: &mut SendBuffer,
    ) {
        match mount {
            None => self.write(delivery, out),
            Some(mount) => mount.write(&self.publish(), delivery, self.retain, out),
        }
    }

    /// Appends the PUBLISH to what goes to a client.
    pub(crate) fn write(&self, delivery: Delivery, out: &mut SendBuffer) {
        if self.size() < SHARE_FROM {
            out.append(|own| self.frame.encode_to_vec(delivery, self.retain, own));
        } else {
            self.write_shared(delivery, out);
        }
    }

    #[cold]
    fn write_shared(&self, delivery: Delivery, out: &mut SendBuffer) {
        out.append(|own| self.frame.encode_head(delivery, self.retain, own));
        out.append_shared(self.payload_bytes());
    }
}

/// A message that was decoded.
impl From<PublishBuf> for Message {
    fn from(frame: PublishBuf) -> Self {
        Self { qos: frame.qos(), retain: frame.retain(), frame }
    }
}

/// Whatever frame it came in.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.publish() == other.publish()
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload", &self.payload().len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}
