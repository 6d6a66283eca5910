//! Values of the tables. Each begins with a checksum over its key and what follows, so that a file
//! that has changed behind the store's back is found out.

use mqtt_codec::{PacketId, QoS, TopicFilterBuf, TopicName};

use crate::journal::{InFlight, MessageId, Progress, Receiver, SessionId};
use crate::{Message, RecoveredSubscription};

/// Writes one value after the other into the same memory.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// What is read of a message.
pub(super) struct MessageRow<'a> {
    pub(super) receivers: Vec<Receiver>,
    topic: &'a [u8],
    payload: &'a [u8],
}

/// What is read of a session.
pub(super) struct SessionRow {
    pub(super) client_id: Box<str>,
    pub(super) user_name: Option<String>,
    pub(super) will: Option<Message>,
}

/// Numbers that rise over all lives of the broker, and behind those that were given: they are written
/// now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) next_message: MessageId,
    pub(super) next_session: u64,
}

impl Writer {
    /// A message that waits for `receivers`.
    pub(super) fn message<'a>(
        &mut self,
        id: MessageId,
        message: &Message,
        receivers: impl ExactSizeIterator<Item = &'a Receiver>,
    ) -> &[u8] {
        self.begin();
        self.number(receivers.len() as u64);
        for Receiver { session, qos, retain, group } in receivers {
            let flags = (u8::from(*qos) == 2) as u8
                | u8::from(*retain) << 1
                | u8::from(group.is_some()) << 2;
            self.bytes.push(flags);
            self.number(session.get());
            if let Some(group) = group {
                self.text(group.as_bytes());
            }
        }
        self.content(message);
        self.end(&id.get().to_be_bytes())
    }

    pub(super) fn session(
        &mut self,
        id: SessionId,
        client_id: &str,
        user_name: Option<&str>,
        will: Option<&Message>,
    ) -> &[u8] {
        self.begin();
        self.text(client_id.as_bytes());
        self.bytes.push(u8::from(user_name.is_some()) | u8::from(will.is_some()) << 1);
        if let Some(user_name) = user_name {
            self.text(user_name.as_bytes());
        }
        if let Some(will) = will {
            self.bytes.push(u8::from(will.qos()) | u8::from(will.retain()) << 2);
            self.content(will);
        }
        self.end(&id.get().to_be_bytes())
    }

    pub(super) fn subscription(
        &mut self,
        id: SessionId,
        filter: &[u8],
        qos: QoS,
        is_replayed: bool,
    ) -> &[u8] {
        self.begin();
        self.bytes.push(u8::from(qos) | u8::from(is_replayed) << 2);
        self.end_of(&[&id.get().to_be_bytes(), filter])
    }

    pub(super) fn progress(&mut self, id: SessionId, progress: &Progress) -> &[u8] {
        self.begin();
        self.deliveries(progress);
        self.number(progress.received.len() as u64);
        let mut before = 0;
        for (first, last) in &progress.received {
            self.number(u64::from(first.get() - before));
            self.number(u64::from(last.get() - first.get()));
            before = last.get();
        }
        self.end(&id.get().to_be_bytes())
    }

    fn deliveries(&mut self, progress: &Progress) {
        self.number(match progress.may_be_sent {
            None => 0,
            Some(MessageId::LAST) => 1,
            Some(id) => id.get() + 1,
        });
        self.bytes.extend(progress.next_packet_id.get().to_le_bytes());
        self.number(progress.queued_from.get());
        self.number(progress.in_flight.len() as u64);
        // Ids and numbers mostly follow each other: differences take a byte each.
        let (mut packet_id, mut number) = (0u16, 0u64);
        for InFlight { packet_id: id, message } in &progress.in_flight {
            self.number(u64::from(id.get().wrapping_sub(packet_id)));
            packet_id = id.get();
            match message {
                None => self.number(0),
                Some(message) => {
                    // 0 is for none, odd ones for those that go back.
                    let difference = message.get().wrapping_sub(number) as i64;
                    self.number((difference << 1 ^ difference >> 63) as u64 + 1);
                    number = message.get();
                }
            }
        }
    }

    pub(super) fn retained(&mut self, message: &Message) -> &[u8] {
        self.begin();
        self.bytes.push(u8::from(message.qos()));
        self.bytes.extend(message.payload());
        self.end(message.topic().as_bytes())
    }

    pub(super) fn counters(&mut self, counters: Counters) -> &[u8] {
        self.begin();
        self.number(counters.next_message.get());
        self.number(counters.next_session);
        self.end(&[])
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.extend([0; 4]);
    }

    fn end(&mut self, key: &[u8]) -> &[u8] {
        self.end_of(&[key])
    }

    fn end_of(&mut self, key: &[&[u8]]) -> &[u8] {
        if let Some((sum, rest)) = self.bytes.split_first_chunk_mut() {
            *sum = checksum(key, rest);
        }
        &self.bytes
    }

    fn number(&mut self, mut number: u64) {
        while number > 127 {
            self.bytes.push(number as u8 | 128);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend(text);
    }

    fn content(&mut self, message: &Message) {
        self.text(message.topic().as_bytes());
        self.bytes.extend(message.payload());
    }
}

impl<'a> MessageRow<'a> {
    pub(super) fn read(id: u64, row: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(&[&id.to_be_bytes()], row)?;
        let count = reader.number()?;
        let receivers = (0..count).map(|_| reader.receiver()).collect::<Option<_>>()?;
        Some(Self { receivers, topic: reader.text()?, payload: reader.rest })
    }

    /// Bytes of topic and payload.
    pub(super) fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }

    pub(super) fn message(&self) -> Option<Message> {
        let topic = TopicName::try_from(self.topic).ok()?;
        // With room for a packet id: its receivers get it at QoS 1 or 2.
        Message::new(topic, self.payload, QoS::AtLeastOnce).ok()
    }
}

impl SessionRow {
    pub(super) fn read(id: u64, row: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(&[&id.to_be_bytes()], row)?;
        let client_id = reader.string()?.into();
        let flags = reader.byte()?;
        let user_name = match flags & 1 {
            0 => None,
            _ => Some(reader.string()?.to_owned()),
        };
        let will = match flags & 2 {
            0 => None,
            _ => {
                let flags = reader.byte()?;
                let will = reader.content(QoS::try_from(flags & 3).ok()?)?;
                Some(if flags & 4 == 0 { will } else { will.retained() })
            }
        };
        Some(Self { client_id, user_name, will })
    }
}

pub(super) fn subscription(id: u64, filter: &[u8], row: &[u8]) -> Option<RecoveredSubscription> {
    let mut reader = Reader::new(&[&id.to_be_bytes(), filter], row)?;
    let flags = reader.byte()?;
    Some(RecoveredSubscription {
        filter: TopicFilterBuf::new(str::from_utf8(filter).ok()?).ok()?,
        qos: QoS::try_from(flags & 3).ok()?,
        is_replayed: flags & 4 != 0,
    })
}

pub(super) fn progress(id: u64, row: &[u8]) -> Option<Progress> {
    let mut reader = Reader::new(&[&id.to_be_bytes()], row)?;
    let may_be_sent = match reader.number()? {
        0 => None,
        1 => Some(MessageId::LAST),
        next => MessageId::new(next - 1),
    };
    let mut progress = Progress {
        may_be_sent,
        next_packet_id: PacketId::new(u16::from_le_bytes(reader.take()?))?,
        queued_from: MessageId::new(reader.number()?)?,
        in_flight: Vec::new(),
        received: Vec::new(),
    };
    let (mut packet_id, mut number) = (0u16, 0u64);
    for _ in 0..reader.number()? {
        packet_id = packet_id.wrapping_add(reader.number()?.try_into().ok()?);
        let message = match reader.number()?.checked_sub(1) {
            None => None,
            Some(difference) => {
                let difference = (difference >> 1) as i64 ^ -((difference & 1) as i64);
                number = number.wrapping_add(difference as u64);
                Some(MessageId::new(number)?)
            }
        };
        progress.in_flight.push(InFlight { packet_id: PacketId::new(packet_id)?, message });
    }
    let mut before = 0u16;
    for _ in 0..reader.number()? {
        let first = before.checked_add(reader.number()?.try_into().ok()?)?;
        let last = first.checked_add(reader.number()?.try_into().ok()?)?;
        progress.received.push((PacketId::new(first)?, PacketId::new(last)?));
        before = last;
    }
    reader.is_at_end().then_some(progress)
}

pub(super) fn retained(topic: &[u8], row: &[u8]) -> Option<Message> {
    let mut reader = Reader::new(&[topic], row)?;
    let qos = QoS::try_from(reader.byte()?).ok()?;
    let topic = TopicName::new(str::from_utf8(topic).ok()?).ok()?;
    Some(Message::new(topic, reader.rest, qos).ok()?.retained())
}

pub(super) fn counters(row: &[u8]) -> Option<Counters> {
    let mut reader = Reader::new(&[], row)?;
    let counters = Counters {
        next_message: MessageId::new(reader.number()?)?,
        next_session: reader.number()?,
    };
    reader.is_at_end().then_some(counters)
}

/// Reads what [`Writer`] writes, and nothing else.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `None` for a value whose checksum is another.
    fn new(key: &[&[u8]], row: &'a [u8]) -> Option<Self> {
        let (sum, rest) = row.split_first_chunk()?;
        (*sum == checksum(key, rest)).then_some(Self { rest })
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?.try_into().ok()?;
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(text)
    }

    fn string(&mut self) -> Option<&'a str> {
        str::from_utf8(self.text()?).ok()
    }

    fn receiver(&mut self) -> Option<Receiver> {
        let flags = self.byte()?;
        let qos = if flags & 1 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let session = SessionId::new(self.number()?);
        let group = match flags & 4 {
            0 => None,
            _ => Some(TopicFilterBuf::new(self.string()?).ok()?),
        };
        Some(Receiver { group, ..Receiver::new(session, qos, flags & 2 != 0) })
    }

    /// All that is left: topic and payload.
    fn content(&mut self, qos: QoS) -> Option<Message> {
        let topic = TopicName::new(self.string()?).ok()?;
        Message::new(topic, self.rest, qos).ok()
    }
}

fn checksum(key: &[&[u8]], value: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    key.iter().for_each(|part| hasher.update(part));
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}
