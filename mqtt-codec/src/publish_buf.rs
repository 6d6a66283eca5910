use alloc::vec::Vec;
use core::fmt;

use bytes::{BufMut, Bytes};

use crate::encode::with_header;
use crate::packet_buf::body_start;
use crate::parse::publish::checked_publish;
use crate::{
    BufferTooSmall, Delivery, EncodeError, Frame, MAX_PACKET, PacketId, Publish, QoS, TopicName,
    frame,
};

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
    /// Its first byte. When a message is acknowledged its frame has long left the caches: waiting for
    /// this byte, which tells the length of the content, was a tenth of what a backlog costs.
    first: u8,
    /// Length of the fixed header in bytes.
    body: u8,
    /// Length of all but the payload in bytes.
    head: u32,
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
        // At most 5 + 2 + 65,535 + 2.
        let head = publish.head_len() as u32;
        let first = publish.delivery.first_byte(publish.retain);
        Ok(Self { frame: frame.into(), first, body, head })
    }

    /// The owned form of `publish` in the frame that it was decoded from, or a copy of that: nothing
    /// is allocated. A slice of a longer buffer keeps all of it from being freed.
    ///
    /// `None` if `bytes` are not that packet and nothing else, or if its remaining length takes more
    /// bytes than it needs.
    #[inline]
    pub fn from_frame(bytes: Bytes, publish: &Publish<'_>) -> Option<Self> {
        let first = *bytes.first()?;
        let Ok(Frame::Complete { body, end }) = frame(&bytes, MAX_PACKET - 2) else { return None };
        let found = checked_publish(first, bytes.get(body..)?)?;
        // A payload may be any bytes; that the topic is valid is known of `publish` only.
        let is_it = first == publish.delivery.first_byte(publish.retain)
            && (end, bytes.len()) == (publish.encoded_len(), end)
            && found.delivery == publish.delivery
            && found.topic.as_bytes() == publish.topic.as_bytes();
        is_it.then(|| Self::from_checked(bytes, publish))
    }

    /// The same for a frame that is known to be that packet.
    #[inline]
    pub(crate) fn from_checked(frame: Bytes, publish: &Publish<'_>) -> Self {
        let id = if publish.packet_id().is_some() { 2 } else { 0 };
        let head = frame.len().saturating_sub(publish.payload.len());
        let body = head.saturating_sub(2 + publish.topic.as_bytes().len() + id);
        let first = publish.delivery.first_byte(publish.retain);
        // At most 5, and at most 5 + 2 + 65,535 + 2.
        Self { frame, first, body: body as u8, head: head as u32 }
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
        Self::new(&Publish { topic, payload, delivery: qos.delivery(PacketId::MIN), retain })
    }

    /// The message as it was given. Nothing is checked again.
    #[inline]
    pub fn publish(&self) -> Publish<'_> {
        self.view().expect("a PublishBuf holds a PUBLISH by construction")
    }

    #[inline]
    fn view(&self) -> Option<Publish<'_>> {
        let body = self.frame.get(usize::from(self.body)..)?;
        checked_publish(self.first, body)
    }

    /// The topic.
    #[inline]
    pub fn topic(&self) -> TopicName<'_> {
        self.publish().topic
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.split().1
    }

    /// The payload; shares the frame.
    pub fn payload_bytes(&self) -> Bytes {
        self.frame.slice_ref(self.payload())
    }

    /// Bytes of topic and payload.
    #[inline]
    pub fn content_len(&self) -> usize {
        let id = if self.has_id() { 2 } else { 0 };
        self.frame.len().saturating_sub(usize::from(self.body) + 2 + id)
    }

    /// The QoS that the message was given with.
    #[inline]
    pub fn qos(&self) -> QoS {
        match self.first & 0x06 {
            0 => QoS::AtMostOnce,
            2 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// The retain flag that the message was given with.
    #[inline]
    pub fn retain(&self) -> bool {
        self.first & 0x01 != 0
    }

    /// Length in bytes of what [`PublishBuf::encode`] writes at this QoS.
    #[inline]
    pub fn encoded_len(&self, qos: QoS) -> usize {
        match (self.has_id(), qos != QoS::AtMostOnce) {
            (true, true) | (false, false) => self.frame.len(),
            (has_id, _) => {
                let remaining = self.frame.len().saturating_sub(usize::from(self.body));
                with_header(if has_id { remaining.saturating_sub(2) } else { remaining + 2 })
            }
        }
    }

    /// Appends the message to `dst`, with this packet id, QoS and DUP and this retain flag.
    ///
    /// The frame is copied with these written anew. Only if the message was made without a packet
    /// id and now has one, or the reverse, the header is made anew as well.
    #[inline]
    pub fn encode(&self, delivery: Delivery, retain: bool, dst: &mut impl BufMut) {
        self.encode_head(delivery, retain, dst);
        dst.put_slice(self.payload());
    }

    /// As [`PublishBuf::encode`], to the front of a slice; gives the number of bytes.
    ///
    /// The fast one: the frame is copied at once and patched.
    ///
    /// # Errors
    /// If `dst` is shorter than [`PublishBuf::encoded_len`]; then nothing is written.
    #[inline]
    pub fn encode_to_slice(
        &self,
        delivery: Delivery,
        retain: bool,
        dst: &mut [u8],
    ) -> Result<usize, BufferTooSmall> {
        let id = delivery.packet_id();
        if self.has_id() != id.is_some() {
            return Publish { delivery, retain, ..self.publish() }.encode_to_slice(dst);
        }
        let needed = self.frame.len();
        let Some((dst, _)) = dst.split_at_mut_checked(needed) else {
            return Err(BufferTooSmall { needed });
        };
        dst.copy_from_slice(&self.frame);
        self.patch(delivery, retain, dst);
        Ok(needed)
    }

    /// As [`PublishBuf::encode`], to the end of a vector: nearly as fast as
    /// [`PublishBuf::encode_to_slice`].
    #[inline]
    pub fn encode_to_vec(&self, delivery: Delivery, retain: bool, dst: &mut Vec<u8>) {
        if self.has_id() != delivery.packet_id().is_some() {
            return self.encode_anew(delivery, retain, dst);
        }
        let start = dst.len();
        dst.extend_from_slice(&self.frame);
        self.patch(delivery, retain, dst.get_mut(start..).unwrap_or_default());
    }

    /// Out of line, so that what is done for nearly every message stays small.
    #[cold]
    fn encode_anew(&self, delivery: Delivery, retain: bool, dst: &mut Vec<u8>) {
        Publish { delivery, retain, ..self.publish() }.encode(dst);
    }

    /// Writes flags and packet id over those of a copy of the frame.
    #[inline]
    fn patch(&self, delivery: Delivery, retain: bool, copy: &mut [u8]) {
        if let Some(first) = copy.first_mut() {
            *first = delivery.first_byte(retain);
        }
        if let Some(id) = delivery.packet_id()
            && let Some(place) = copy.get_mut(..self.head as usize).and_then(<[u8]>::last_chunk_mut)
        {
            *place = id.to_be_bytes();
        }
    }

    /// Appends all but the payload, for a vectored write together with
    /// [`PublishBuf::payload_bytes`].
    #[inline]
    pub fn encode_head(&self, delivery: Delivery, retain: bool, dst: &mut impl BufMut) {
        let (head, _) = self.split();
        match (head, delivery.packet_id(), self.has_id()) {
            ([_, rest @ .., _, _], Some(id), true) => {
                dst.put_u8(delivery.first_byte(retain));
                dst.put_slice(rest);
                dst.put_slice(&id.to_be_bytes());
            }
            ([_, rest @ ..], None, false) => {
                dst.put_u8(delivery.first_byte(retain));
                dst.put_slice(rest);
            }
            _ => Publish { delivery, retain, ..self.publish() }.encode_head(dst),
        }
    }

    #[inline]
    fn has_id(&self) -> bool {
        self.first & 0x06 != 0
    }

    /// All but the payload, and the payload.
    #[inline]
    fn split(&self) -> (&[u8], &[u8]) {
        self.frame.split_at_checked(self.head as usize).unwrap_or_default()
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
