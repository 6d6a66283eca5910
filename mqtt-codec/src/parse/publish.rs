use super::split_field;
use crate::topic::scan;
use crate::{DecodeError, Delivery, PacketId, Publish, TopicName};

/// PUBLISH, the packet that counts: by hand, without nom's intermediate results. `first` has been
/// looked at, here and below: it is a PUBLISH with legal flags.
///
/// `None` if the packet is malformed, or if its topic wants a closer look.
#[inline(always)]
pub(crate) fn plain_publish(first: u8, body: &[u8]) -> Option<Publish<'_>> {
    let (topic, rest) = split_field(body)?;
    if scan::is_plain_name(topic) { message(first, topic, rest) } else { None }
}

/// As [`plain_publish`] for any topic, with the reason.
pub(crate) fn publish(first: u8, body: &[u8]) -> Result<Publish<'_>, DecodeError> {
    let (topic, rest) = split_field(body).ok_or(DecodeError::Truncated)?;
    scan::check_name(topic)?;
    message(first, topic, rest).ok_or(match rest.first_chunk() {
        Some([0, 0]) => DecodeError::ZeroPacketId,
        _ => DecodeError::Truncated,
    })
}

/// As [`plain_publish`] for a body that was checked before.
#[cfg(feature = "alloc")]
#[inline]
pub(crate) fn checked_publish(first: u8, body: &[u8]) -> Option<Publish<'_>> {
    let (topic, rest) = split_field(body)?;
    message(first, topic, rest)
}

/// `rest` is what follows the topic. `None` if there should be a packet id and is none.
#[inline(always)]
fn message<'a>(first: u8, topic: &'a [u8], rest: &'a [u8]) -> Option<Publish<'a>> {
    let (delivery, payload) = delivery(first, rest)?;
    let retain = first & 0x01 != 0;
    Some(Publish { topic: TopicName::from_valid(topic), payload, delivery, retain })
}

/// Flags and packet id, and the payload. `rest` is what follows the topic.
#[inline(always)]
pub(crate) fn delivery(first: u8, rest: &[u8]) -> Option<(Delivery, &[u8])> {
    if first & 0x06 == 0 {
        return Some((Delivery::AtMostOnce, rest));
    }
    let (id, payload) = rest.split_first_chunk()?;
    let id = PacketId::new(u16::from_be_bytes(*id))?;
    let dup = first & 0x08 != 0;
    let delivery = if first & 0x02 != 0 {
        Delivery::AtLeastOnce { id, dup }
    } else {
        Delivery::ExactlyOnce { id, dup }
    };
    Some((delivery, payload))
}
