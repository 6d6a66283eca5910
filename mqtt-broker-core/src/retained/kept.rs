use std::borrow::Borrow;
use std::cmp::Ordering;

use mqtt_codec::{PacketId, Publish, QoS, TopicName};

use crate::Message;
use crate::publication::Publication;
use crate::send_buffer::SHARE_FROM;
use crate::sync::Arc;

/// A retained message, which is found by its topic, so that the topic is stored once. A clone shares
/// it.
///
/// With a payload of 64 bytes that is 150 bytes where a [`Message`] took 226: 16 in a tree with nodes that
/// are half full, and one block beside it.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// The QoS in a byte, the length of the topic in two, topic and payload.
    Small(Arc<[u8]>),
    /// One whose payload goes to clients without being copied.
    Large(Box<Message>),
}

impl Kept {
    /// Needs a block of memory for as long as it takes, any one.
    pub(super) fn new(publication: &Publication<'_>, block: &mut Vec<u8>) -> Self {
        let publish = publication.publish();
        if publish.payload.len() >= SHARE_FROM {
            return Self::Large(Box::new(publication.message().clone()));
        }
        let topic = publish.topic.as_bytes();
        block.clear();
        block.push(publish.qos() as u8);
        // The length of a topic is two bytes in packets, too.
        block.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        block.extend_from_slice(topic);
        block.extend_from_slice(publish.payload);
        Self::Small(Arc::from(&block[..]))
    }

    pub(super) fn topic(&self) -> &[u8] {
        match self {
            Self::Small(block) => parts(block).1,
            Self::Large(message) => message.topic().as_bytes(),
        }
    }

    /// Bytes of topic and payload.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Small(block) => block.len() - HEAD,
            Self::Large(message) => message.size(),
        }
    }

    /// The message, with its own QoS and RETAIN.
    pub(crate) fn message(&self) -> Message {
        self.publication().message().clone()
    }

    /// The same on its way to a receiver.
    #[expect(clippy::expect_used, reason = "it was a topic when it was kept")]
    pub(crate) fn publication(&self) -> Publication<'_> {
        match self {
            Self::Small(block) => {
                let (qos, topic, payload) = parts(block);
                let topic = TopicName::try_from(topic).expect("a topic");
                let delivery = QoS::try_from(qos).unwrap_or_default().delivery(PacketId::MIN);
                Publication::new(Publish { topic, payload, delivery, retain: true })
            }
            Self::Large(message) => Publication::from(&**message),
        }
    }
}

/// Bytes before the topic.
const HEAD: usize = 3;

fn parts(block: &[u8]) -> (u8, &[u8], &[u8]) {
    let Some((&[qos, high, low], rest)) = block.split_first_chunk::<HEAD>() else {
        return Default::default();
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let (topic, payload) = rest.split_at_checked(len).unwrap_or_default();
    (qos, topic, payload)
}

impl Borrow<[u8]> for Kept {
    fn borrow(&self) -> &[u8] {
        self.topic()
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        self.topic().cmp(other.topic())
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.topic() == other.topic()
    }
}

impl Eq for Kept {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(message: &Message) -> Kept {
        Kept::new(&Publication::from(message), &mut Vec::new())
    }

    #[test]
    fn it_reads_back() {
        assert_eq!(size_of::<Kept>(), 16);
        let topic = TopicName::new("a/b").unwrap();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for len in [1, SHARE_FROM - 1, SHARE_FROM] {
                let message = Message::new(topic, &vec![b'x'; len], qos).unwrap().retained();
                let kept = kept(&message);
                assert_eq!(kept.message(), message);
                assert_eq!((kept.topic(), kept.size()), (&b"a/b"[..], 3 + len));
                let is_shared = kept.message().payload().as_ptr() == message.payload().as_ptr();
                assert_eq!(is_shared, len == SHARE_FROM);
            }
        }
    }
}
