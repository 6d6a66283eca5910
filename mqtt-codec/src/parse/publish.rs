use crate::topic::scan;
use crate::{DecodeError, Delivery, PacketId, Publish, TopicError, TopicName};

/// PUBLISH, the packet that counts: by hand, without nom's intermediate results.
#[inline(always)]
pub(crate) fn publish(first: u8, body: &[u8]) -> Result<Publish<'_>, DecodeError> {
    publish_with(first, body, scan::check_name)
}

/// As [`publish`] for a body whose topic was checked before.
#[cfg(feature = "alloc")]
#[inline]
pub(crate) fn checked_publish(first: u8, body: &[u8]) -> Result<Publish<'_>, DecodeError> {
    publish_with(first, body, |_| Ok(()))
}

/// `first` has been looked at: it is a PUBLISH with legal flags.
#[inline(always)]
fn publish_with(
    first: u8,
    body: &[u8],
    check_topic: impl Fn(&[u8]) -> Result<(), TopicError>,
) -> Result<Publish<'_>, DecodeError> {
    let Some((length, rest)) = body.split_first_chunk() else {
        return Err(DecodeError::Truncated);
    };
    let Some((topic, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    else {
        return Err(DecodeError::Truncated);
    };
    if let Err(error) = check_topic(topic) {
        return Err(error.into());
    }
    let dup = first & 0x08 != 0;
    let (delivery, payload) = if first & 0x06 == 0 {
        (Delivery::AtMostOnce, rest)
    } else {
        let Some((id, rest)) = rest.split_first_chunk() else {
            return Err(DecodeError::Truncated);
        };
        let Some(id) = PacketId::new(u16::from_be_bytes(*id)) else {
            return Err(DecodeError::ZeroPacketId);
        };
        if first & 0x02 != 0 {
            (Delivery::AtLeastOnce { id, dup }, rest)
        } else {
            (Delivery::ExactlyOnce { id, dup }, rest)
        }
    };
    let retain = first & 0x01 != 0;
    Ok(Publish { topic: TopicName::from_valid(topic), payload, delivery, retain })
}
