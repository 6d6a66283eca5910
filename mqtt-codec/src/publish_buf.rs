use alloc::vec::Vec;
use core::fmt;

use bytes::{BufMut, Bytes};

use crate::packet_buf::body_start;
use crate::parse::publish::checked_publish;
use crate::{Delivery, EncodeError, MAX_PACKET, PacketId, Publish, QoS, TopicName};

/// One owned PUBLISH: the form in which messages are kept, shared and sent again.
///
/// It is one encoded frame in one shared buffer, 40 bytes beside it. A clone shares the frame. Each
/// receiver gets it with its own packet id, QoS and flags: [`PublishBuf::encode`] copies the frame
/// and writes these anew.
///
/// ```
/// use mqtt_codec::{Delivery, PacketId, PublishBuf, QoS, TopicName};
///
/// let topic = TopicName::new("a/b").unwrap();
/// let message = PublishBuf::from_parts(topic, b"on", QoS::AtLeastOnce, false)?;
/// let mut out = Vec::new();
/// message.encode(Delivery::AtLeastOnce { id: PacketId::MAX, dup: false }, true, &mut out);
/// assert_eq!(out, b"\x33\x09\x00\x03a/b\xff\xffon");
/// out.clear();
/// message.encode(Delivery::AtMostOnce, false, &mut out);
/// assert_eq!(out, b"\x30\x07\x00\x03a/bon");
/// # Ok::<(), mqtt_codec::EncodeError>(())
/// ```
#[derive(Clone)]
pub struct PublishBuf {
    frame: Bytes,
    /// Length of the fixed header.
    body: u8,
}

impl PublishBuf {
    /// The owned form of `publish`, packet id and flags included: one allocation.
    ///
    /// # Errors
    /// If it is longer than MQTT allows, or would be with a packet id.
    pub fn new(publish: &Publish<'_>) -> Result<Self, EncodeError> {
        let len = publish.encoded_len();
        let longest = if publish.packet_id().is_some() { len } else { len.saturating_add(2) };
        if longest > MAX_PACKET {
            return Err(EncodeError::TooLarge { len: longest });
        }
        let mut frame = Vec::with_capacity(len);
        publish.encode(&mut frame);
        let body = body_start(&frame);
        Ok(Self { frame: frame.into(), body })
    }

    /// A message that has no packet id yet: for QoS 1 and 2 a placeholder stands in its place, so
    /// that [`PublishBuf::encode`] finds room for the one that it is given.
    ///
    /// # Errors
    /// If it is longer than MQTT allows.
    pub fn from_parts(
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<Self, EncodeError> {
        let (id, dup) = (PacketId::MIN, false);
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        };
        Self::new(&Publish { topic, payload, delivery, retain })
    }

    /// The message as it was given. Nothing is checked again.
    #[inline]
    pub fn publish(&self) -> Publish<'_> {
        self.view().expect("a PublishBuf holds a PUBLISH by construction")
    }

    #[inline]
    fn view(&self) -> Option<Publish<'_>> {
        let body = self.frame.get(usize::from(self.body)..)?;
        checked_publish(*self.frame.first()?, body)
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> TopicName<'_> {
        self.publish().topic
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.publish().payload
    }

    /// The payload; shares the frame.
    pub fn payload_bytes(&self) -> Bytes {
        self.frame.slice_ref(self.payload())
    }

    /// The QoS that the message was given with.
    #[inline]
    pub fn qos(&self) -> QoS {
        self.publish().qos()
    }

    /// The retain flag that the message was given with.
    #[inline]
    pub fn retain(&self) -> bool {
        self.frame.first().is_some_and(|first| first & 0x01 != 0)
    }

    /// Length in bytes of what [`PublishBuf::encode`] writes at this QoS.
    pub fn encoded_len(&self, qos: QoS) -> usize {
        let publish = self.publish();
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        crate::encode::with_header(2 + publish.topic.as_bytes().len() + id + publish.payload.len())
    }

    /// Appends the message to `dst`, with this packet id, QoS and DUP and this retain flag.
    ///
    /// The frame is copied with these written anew. Only if the message was made without a packet
    /// id and now has one, or the reverse, the header is made anew as well.
    #[inline]
    pub fn encode(&self, delivery: Delivery, retain: bool, dst: &mut impl BufMut) {
        let (head, payload) = self.split();
        self.put_head(head, delivery, retain, dst);
        dst.put_slice(payload);
    }

    /// Appends all but the payload, for a vectored write together with
    /// [`PublishBuf::payload_bytes`].
    #[inline]
    pub fn encode_head(&self, delivery: Delivery, retain: bool, dst: &mut impl BufMut) {
        let (head, _) = self.split();
        self.put_head(head, delivery, retain, dst);
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let head = self.frame.len().saturating_sub(self.payload().len());
        self.frame.split_at_checked(head).unwrap_or_default()
    }

    fn put_head(&self, head: &[u8], delivery: Delivery, retain: bool, dst: &mut impl BufMut) {
        let first = delivery.first_byte(retain);
        match (head, delivery.packet_id(), self.qos()) {
            ([_, rest @ .., _, _], Some(id), QoS::AtLeastOnce | QoS::ExactlyOnce) => {
                dst.put_u8(first);
                dst.put_slice(rest);
                dst.put_u16(id.get());
            }
            ([_, rest @ ..], None, QoS::AtMostOnce) => {
                dst.put_u8(first);
                dst.put_slice(rest);
            }
            _ => Publish { delivery, retain, ..self.publish() }.encode_head(dst),
        }
    }
}

impl PartialEq for PublishBuf {
    fn eq(&self, other: &Self) -> bool {
        self.publish() == other.publish()
    }
}

impl Eq for PublishBuf {}

impl fmt::Debug for PublishBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.publish().fmt(f)
    }
}
