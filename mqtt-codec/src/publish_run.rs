#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use crate::parse::publish::delivery;
use crate::{Frame, Publish, QoS, TopicName, frame};
#[cfg(feature = "alloc")]
use crate::{PacketId, PublishBuf};

/// PUBLISH packets that follow each other and differ in nothing but packet id and payload.
///
/// A client that has much to say about one topic sends them in runs. What was found out for the first
/// one, who gets it for instance, holds for all, and at QoS 0 they can be passed on as they came.
///
/// ```
/// use mqtt_codec::{MAX_PACKET, Packet, PublishRun, decode};
///
/// let received = b"\x30\x04\0\x01a1\x30\x04\0\x01a2\x30\x04\0\x01b3";
/// let (Packet::Publish(first), _) = decode(received, MAX_PACKET)?.unwrap() else { panic!() };
/// let run = PublishRun::at_front(&first, received, MAX_PACKET, usize::MAX).unwrap();
/// assert_eq!(run.len(), 2);
/// assert!(run.publishes().map(|publish| publish.payload).eq([b"1", b"2"]));
/// # Ok::<(), mqtt_codec::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PublishRun<'a> {
    first: Publish<'a>,
    bytes: &'a [u8],
    len: usize,
    payload_bytes: usize,
}

impl<'a> PublishRun<'a> {
    /// The run at the front of `buf`, where `first` was decoded; `None` unless it is two packets at
    /// least.
    ///
    /// It ends before it is longer than `max_bytes`, and before whatever is no such packet: one that
    /// is longer than `max_packet`, malformed, not all there, or whose remaining length takes more
    /// bytes than it needs.
    #[inline]
    pub fn at_front(
        first: &Publish<'a>,
        buf: &'a [u8],
        max_packet: usize,
        max_bytes: usize,
    ) -> Option<Self> {
        // A quick look first, since behind most packets nothing of the kind follows.
        let following = buf.get(first.encoded_len()..)?;
        next(first, following, max_packet)?;
        let mut run = Self { first: *first, bytes: &[], len: 0, payload_bytes: 0 };
        let mut end = 0_usize;
        while let Some((publish, len)) = next(first, buf.get(end..)?, max_packet)
            && end.saturating_add(len) <= max_bytes
        {
            end = end.saturating_add(len);
            run.len = run.len.saturating_add(1);
            run.payload_bytes = run.payload_bytes.saturating_add(publish.payload.len());
        }
        run.bytes = buf.get(..end)?;
        (run.len > 1).then_some(run)
    }

    /// How many packets it is.
    #[inline]
    #[expect(
        clippy::len_without_is_empty,
        reason = "it is two packets at least, or a part of them"
    )]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all payloads.
    #[inline]
    pub const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The topic of them all.
    #[inline]
    pub const fn topic(&self) -> TopicName<'a> {
        self.first.topic
    }

    /// The quality of service of them all.
    #[inline]
    pub const fn qos(&self) -> QoS {
        self.first.qos()
    }

    /// The packets as they came.
    #[inline]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Each of them.
    #[inline]
    pub fn publishes(&self) -> impl Iterator<Item = Publish<'a>> + use<'a> {
        self.packets().map(|(publish, _)| publish)
    }

    /// The first `count` packets, and the others.
    pub fn split_at(&self, count: usize) -> (Self, Self) {
        let (mut front, mut back) = (Self { len: 0, payload_bytes: 0, ..*self }, *self);
        let mut end = 0_usize;
        for (publish, len) in self.packets().take(count) {
            end = end.saturating_add(len);
            front.len = front.len.saturating_add(1);
            front.payload_bytes = front.payload_bytes.saturating_add(publish.payload.len());
        }
        (front.bytes, back.bytes) = self.bytes.split_at_checked(end).unwrap_or_default();
        back.len = self.len.saturating_sub(front.len);
        back.payload_bytes = self.payload_bytes.saturating_sub(front.payload_bytes);
        (front, back)
    }

    /// Appends the packets to `dst` at another QoS, with packet ids from `first_id` on (1 comes after
    /// 65,535) and without DUP and RETAIN.
    ///
    /// The run is copied at once and patched, unless the packets get ids and had none, or the reverse.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode_to_vec(&self, qos: QoS, first_id: PacketId, dst: &mut alloc::vec::Vec<u8>) {
        let mut id = first_id;
        if (self.qos() == QoS::AtMostOnce) != (qos == QoS::AtMostOnce) {
            for publish in self.publishes() {
                let delivery = qos.delivery(id);
                Publish { delivery, retain: false, ..publish }.encode(dst);
                id = id.next();
            }
            return;
        }
        let start = dst.len();
        dst.extend_from_slice(self.bytes);
        let first_byte = qos.delivery(id).first_byte(false);
        if (qos, Some(&first_byte)) == (QoS::AtMostOnce, self.bytes.first()) {
            return;
        }
        // Behind the fixed header.
        let id_at = 2_usize.saturating_add(self.topic().as_bytes().len());
        let mut rest = dst.get_mut(start..).unwrap_or_default();
        while let Ok(Frame::Complete { body, end }) = frame(rest, usize::MAX)
            && let Some((packet, others)) = rest.split_at_mut_checked(end)
        {
            if let [first, rest @ ..] = packet {
                *first = first_byte;
                let id_at = body.saturating_add(id_at).saturating_sub(1);
                if qos > QoS::AtMostOnce
                    && let Some(place) = rest.get_mut(id_at..).and_then(<[u8]>::first_chunk_mut)
                {
                    *place = id.to_be_bytes();
                }
            }
            id = id.next();
            rest = others;
        }
    }

    /// The owned form of each, all in one copy of the run, which is there for as long as one of them
    /// is.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn to_bufs(&self) -> impl Iterator<Item = PublishBuf> + use<'a> {
        let mut block = bytes::Bytes::copy_from_slice(self.bytes);
        self.packets()
            .map(move |(publish, len)| PublishBuf::from_checked(block.split_to(len), &publish))
    }

    #[inline]
    fn packets(&self) -> Packets<'a> {
        Packets { first: self.first, rest: self.bytes }
    }
}

/// The packets of a run and their lengths in bytes. They were looked at when the run was found.
struct Packets<'a> {
    first: Publish<'a>,
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = (Publish<'a>, usize);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Ok(Frame::Complete { body, end }) = frame(self.rest, usize::MAX) else { return None };
        let (packet, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let topic = self.first.topic.as_bytes().len();
        let behind_topic = packet.get(body.saturating_add(2).saturating_add(topic)..)?;
        let (delivery, payload) = delivery(*packet.first()?, behind_topic)?;
        Some((Publish { delivery, payload, ..self.first }, end))
    }
}

/// The packet at the front and its length, if it is like `first` and has no byte that it does not
/// need.
#[inline]
fn next<'a>(first: &Publish<'a>, buf: &'a [u8], max_packet: usize) -> Option<(Publish<'a>, usize)> {
    let first_byte = first.delivery.first_byte(first.retain);
    if buf.first() != Some(&first_byte) {
        return None;
    }
    let Ok(Frame::Complete { body, end }) = frame(buf, max_packet) else { return None };
    let (header, body) = buf.get(..end)?.split_at_checked(body)?;
    let topic = first.topic.as_bytes();
    let (topic_len, rest) = body.split_first_chunk()?;
    let (same, rest) = rest.split_at_checked(topic.len())?;
    // A length that ends in a byte of zeros could do without it.
    let is_like_it = usize::from(u16::from_be_bytes(*topic_len)) == topic.len()
        && same == topic
        && !(header.len() > 2 && header.last() == Some(&0));
    let (delivery, payload) = delivery(first_byte, rest).filter(|_| is_like_it)?;
    Some((Publish { delivery, payload, ..*first }, end))
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::{Delivery, Packet, decode};

    /// What ends a run.
    const OTHERS: [&[u8]; 8] = [
        b"\xc0\0",
        b"\x31\x04\0\x01a1",
        b"\x30\x84\0\0\x01a1",
        b"\x30\x7f\0\x01a1",
        b"\x30\x01\0",
        b"\x30\x03\0\x02a",
        b"\x32\x05\0\x01a\0\0",
        b"\x32\x04\0\x01a\0",
    ];

    /// Packets of few kinds, so that runs are frequent.
    fn packet() -> impl Strategy<Value = Vec<u8>> {
        let publish = (0u8..8, select(&["a", "a/b"][..]), 0u16..3, 0usize..200);
        prop_oneof![
            8 => publish.prop_map(|(flags, topic, id, payload)| {
                let id = PacketId::new(id + 1).unwrap();
                let dup = flags & 4 != 0;
                let delivery = match flags & 3 {
                    0 => Delivery::AtMostOnce,
                    1 | 2 => Delivery::AtLeastOnce { id, dup },
                    _ => Delivery::ExactlyOnce { id, dup },
                };
                let payload = &[7; 200][..payload];
                let topic = TopicName::new(topic).unwrap();
                let mut bytes = Vec::new();
                Publish { topic, payload, delivery, retain: false }.encode(&mut bytes);
                bytes
            }),
            1 => select(&OTHERS[..]).prop_map(<[u8]>::to_vec),
        ]
    }

    proptest! {
        #[test]
        fn a_run_is_what_decoding_gives_while_topic_and_flags_stay_the_same(
            packets in prop::collection::vec(packet(), 1..8),
            max_packet in 50usize..300,
            max_bytes in 0usize..900,
            count in 0usize..9,
            first_id in select(&[PacketId::MIN, PacketId::MAX][..]),
        ) {
            let buf = packets.concat();
            let Ok(Some((Packet::Publish(first), _))) = decode(&buf, max_packet) else {
                return Ok(());
            };
            let mut expected = Vec::new();
            let mut at = 0;
            while let Ok(Some((Packet::Publish(publish), len))) = decode(&buf[at..], max_packet)
                && (buf[at], publish.topic) == (buf[0], first.topic)
                && publish.encoded_len() == len
                && at + len <= max_bytes
            {
                expected.push(publish);
                at += len;
            }
            let Some(run) = PublishRun::at_front(&first, &buf, max_packet, max_bytes) else {
                prop_assert!(expected.len() < 2);
                return Ok(());
            };
            prop_assert_eq!(run.len(), expected.len());
            prop_assert_eq!(run.bytes(), &buf[..at]);
            prop_assert!(run.publishes().eq(expected.iter().copied()));
            let bufs: Vec<_> = run.to_bufs().collect();
            prop_assert!(bufs.iter().map(PublishBuf::publish).eq(expected.iter().copied()));
            for (buf, publish) in bufs.iter().zip(&expected) {
                prop_assert_eq!(buf, &PublishBuf::new(publish).unwrap());
                prop_assert_eq!(buf.payload(), publish.payload);
            }
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut id = first_id;
                let (mut out, mut each) = (b"before".to_vec(), b"before".to_vec());
                for publish in &expected {
                    let delivery = qos.delivery(id);
                    Publish { delivery, retain: false, ..*publish }.encode(&mut each);
                    id = id.next();
                }
                run.encode_to_vec(qos, first_id, &mut out);
                prop_assert_eq!(out, each);
            }
            let (front, back) = run.split_at(count);
            let parts = expected.split_at(count.min(expected.len()));
            for (part, expected) in [(front, parts.0), (back, parts.1)] {
                prop_assert!(part.publishes().eq(expected.iter().copied()));
                prop_assert_eq!(part.len(), expected.len());
                let payload_bytes: usize = expected.iter().map(|one| one.payload.len()).sum();
                prop_assert_eq!(part.payload_bytes(), payload_bytes);
            }
        }
    }
}
