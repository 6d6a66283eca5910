use mqtt_codec::{Delivery, Frame, Packet, Publish, TopicName, frame};

/// QoS 0 messages with one topic, one behind the other: they have the same receivers, and go to them
/// as they came, in one copy under one lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    first: Publish<'a>,
    bytes: &'a [u8],
    count: u64,
    payload_bytes: u64,
}

/// Bytes of a run. Few enough to be no burden for an outbox, and as many messages as most clients send
/// at a time.
const MAX_RUN: usize = 16 << 10;

impl<'a> Run<'a> {
    /// Whether another message with the topic seems to follow the one of `len` bytes that was decoded: a
    /// quick look, since for most clients none does. One with a longer header is overlooked.
    #[inline]
    pub(super) fn may_begin(first: &Packet<'_>, len: usize, bytes: &[u8]) -> bool {
        let Packet::Publish(Publish { topic, payload, .. }) = first else { return false };
        let following = bytes.get(len..).unwrap_or_default();
        // The length of the topic and the topic, behind the same header.
        let end = len.saturating_sub(payload.len());
        let start = end.saturating_sub(2 + topic.as_bytes().len());
        (bytes.first(), following.first()) == (Some(&0x30), Some(&0x30))
            && bytes.get(start..end) == following.get(start..end)
    }

    /// The run at the front of `bytes`, where `first` was decoded: two messages at least.
    pub(super) fn at_front(first: &Packet<'a>, bytes: &'a [u8], max_packet: usize) -> Option<Self> {
        let Packet::Publish(first) = first else { return None };
        if bytes.first() != Some(&0x30) {
            return None;
        }
        let mut run = Self { first: *first, bytes: &[], count: 0, payload_bytes: 0 };
        let mut end = 0;
        while let Some((publish, len)) = next(first, bytes.get(end..)?, max_packet)
            && end + len <= MAX_RUN
        {
            end += len;
            run.count += 1;
            run.payload_bytes += publish.payload.len() as u64;
        }
        run.bytes = bytes.get(..end)?;
        (run.count > 1).then_some(run)
    }

    pub(crate) fn count(self) -> u64 {
        self.count
    }

    pub(crate) fn payload_bytes(self) -> u64 {
        self.payload_bytes
    }

    pub(crate) fn topic(self) -> TopicName<'a> {
        self.first.topic
    }

    /// All of it, as it came.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Each message, with its length in bytes.
    pub(crate) fn messages(self) -> impl Iterator<Item = (Publish<'a>, usize)> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (publish, len) = next(&self.first, rest, usize::MAX)?;
            rest = rest.get(len..)?;
            Some((publish, len))
        })
    }

    /// The part between two places where messages begin.
    pub(crate) fn part(self, start: usize, end: usize) -> Self {
        if end - start == self.bytes.len() {
            return self;
        }
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        let mut part = Self { bytes, count: 0, payload_bytes: 0, ..self };
        for (publish, _) in part.messages() {
            part.count += 1;
            part.payload_bytes += publish.payload.len() as u64;
        }
        part
    }
}

/// The message at the front, if it is like the first one and has no byte that it does not need.
fn next<'a>(
    first: &Publish<'a>,
    bytes: &'a [u8],
    max_packet: usize,
) -> Option<(Publish<'a>, usize)> {
    if bytes.first() != Some(&0x30) {
        return None;
    }
    let Ok(Frame::Complete { body, end }) = frame(bytes, max_packet) else { return None };
    let topic = first.topic.as_bytes();
    let (length, rest) = bytes.get(body..end)?.split_first_chunk::<2>()?;
    let is_same =
        usize::from(u16::from_be_bytes(*length)) == topic.len() && rest.starts_with(topic);
    let payload = rest.get(topic.len()..).filter(|_| is_same)?;
    let publish =
        Publish { topic: first.topic, payload, delivery: Delivery::AtMostOnce, retain: false };
    (publish.encoded_len() == end).then_some((publish, end))
}

#[cfg(test)]
mod tests {
    use mqtt_codec::decode;

    use super::*;

    fn run(bytes: &[u8]) -> Option<(usize, Vec<&[u8]>)> {
        let (first, _) = decode(bytes, 100).unwrap().unwrap();
        let run = Run::at_front(&first, bytes, 100)?;
        Some((run.bytes().len(), run.messages().map(|(publish, _)| publish.payload).collect()))
    }

    #[test]
    fn a_run_ends_where_anything_but_the_payload_differs() {
        let two = b"\x30\x04\0\x01a1\x30\x05\0\x01a22";
        assert_eq!(run(two), Some((13, vec![&b"1"[..], b"22"])));
        for other in [
            &b"\x30\x04\0\x01b1"[..],
            b"\x30\x04\0\x02a1",
            b"\x31\x04\0\x01a1",
            b"\x32\x06\0\x01a\0\x011",
            b"\x30\x84\0\0\x01a1",
            b"\x30\x7f\0\x01a1",
            b"\x30\x01\0",
            b"\xc0\0",
            b"\x30\x04\0\x01a",
        ] {
            assert_eq!(run(&[two, other].concat()), Some((13, vec![&b"1"[..], b"22"])));
            assert_eq!(run(&[&two[..6], other].concat()), None, "{other:x?}");
        }
        assert_eq!(run(b"\x31\x04\0\x01a1\x31\x04\0\x01a1"), None, "retained ones are kept");
    }
}
