use std::collections::VecDeque;

use mqtt_codec::QoS;

use super::Queued;
use crate::router::Group;
use crate::sync::Arc;
use crate::{Config, Message, MessageId};

/// Messages that wait behind the window or for an absent client, with their size.
///
/// Of messages that are in a store as well, those that are not due soon are left there: what is in
/// memory of a long queue is its front and eight bytes a message.
#[derive(Debug)]
pub(super) struct Queue {
    /// None of them is empty.
    segments: VecDeque<Segment>,
    len: usize,
    /// Topics and payloads, wherever they are.
    bytes: usize,
    bytes_in_memory: usize,
    /// How many of them are QoS 0.
    qos0: usize,
    /// Messages that were asked for from the store.
    is_loading: bool,
}

/// Messages behind each other that are in the same place.
#[derive(Debug)]
enum Segment {
    InMemory(VecDeque<Queued>),
    InStore(VecDeque<MessageId>),
}

/// Messages that are read from a store at a time: several windows' worth.
const LOAD: usize = 128;

impl Queue {
    pub(super) const EMPTY: Self = Self {
        segments: VecDeque::new(),
        len: 0,
        bytes: 0,
        bytes_in_memory: 0,
        qos0: 0,
        is_loading: false,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a QoS 0 message waits, which no later one may overtake.
    pub(super) fn holds_qos0(&self) -> bool {
        self.qos0 > 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of topics and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message. It stays in memory if it is nowhere else, if it is near the front, or if other
    /// members of its group may have to get it.
    pub(super) fn push(&mut self, queued: Queued, config: &Config) {
        let size = queued.message.size();
        match queued.number {
            Some(number) if queued.group.is_none() && self.is_long(size, config) => {
                self.push_stored(number, size);
            }
            _ => {
                self.len += 1;
                self.bytes += size;
                self.bytes_in_memory += size;
                self.qos0 += usize::from(queued.message.qos() == QoS::AtMostOnce);
                match self.segments.back_mut() {
                    Some(Segment::InMemory(messages)) => messages.push_back(queued),
                    _ => self.segments.push_back(Segment::InMemory([queued].into())),
                }
            }
        }
    }

    /// Adds a message of QoS 1 or 2 that is in the store only.
    pub(super) fn push_stored(&mut self, number: MessageId, size: usize) {
        self.len += 1;
        self.bytes += size;
        match self.segments.back_mut() {
            Some(Segment::InStore(numbers)) => numbers.push_back(number),
            _ => self.segments.push_back(Segment::InStore([number].into())),
        }
    }

    /// Whether what is in memory is enough for now.
    fn is_long(&self, size: usize, config: &Config) -> bool {
        let is_stored = matches!(self.segments.back(), Some(Segment::InStore(_)));
        is_stored || self.bytes_in_memory + size > config.max_queued_bytes_in_memory
    }

    /// The numbers of the messages that are to be read from the store now, for
    /// [`fill`](Self::fill). They are to be asked for once.
    pub(super) fn load(&mut self) -> Option<Vec<MessageId>> {
        let numbers = match self.segments.make_contiguous() {
            [Segment::InStore(numbers), ..] => numbers,
            // Before the client has to wait for them.
            [Segment::InMemory(messages), Segment::InStore(numbers), ..]
                if messages.len() < LOAD / 2 =>
            {
                numbers
            }
            _ => return None,
        };
        if std::mem::replace(&mut self.is_loading, true) {
            return None;
        }
        Some(numbers.iter().take(LOAD).copied().collect())
    }

    /// Puts messages that were read from the store in their places. One that is not there any more
    /// is let go of.
    pub(super) fn fill(&mut self, loaded: Vec<(MessageId, Message)>) {
        self.is_loading = false;
        let at = usize::from(matches!(self.segments.front(), Some(Segment::InMemory(_))));
        if at == 0 {
            self.segments.push_front(Segment::InMemory(VecDeque::new()));
        }
        if let [Segment::InMemory(messages), Segment::InStore(numbers), ..] =
            self.segments.make_contiguous()
        {
            for (number, message) in loaded {
                if numbers.front() == Some(&number) {
                    numbers.pop_front();
                    self.bytes_in_memory += message.size();
                    messages.push_back(Queued { message, group: None, number: Some(number) });
                }
            }
        }
        self.tidy();
    }

    /// The next message that is to be read from the store.
    pub(super) fn next_stored(&self) -> Option<MessageId> {
        self.segments.iter().find_map(|segment| match segment {
            Segment::InMemory(_) => None,
            Segment::InStore(numbers) => numbers.front().copied(),
        })
    }

    /// The first message that survives a restart.
    pub(super) fn first_number(&self) -> Option<MessageId> {
        self.numbers().next()
    }

    /// The numbers of those that do.
    pub(super) fn numbers(&self) -> impl Iterator<Item = MessageId> {
        self.segments.iter().flat_map(|segment| {
            let (messages, numbers) = match segment {
                Segment::InMemory(messages) => (Some(messages), None),
                Segment::InStore(numbers) => (None, Some(numbers)),
            };
            let in_memory = messages.into_iter().flatten().filter_map(|queued| queued.number);
            in_memory.chain(numbers.into_iter().flatten().copied())
        })
    }

    /// The first message, unless it is to be read from the store.
    pub(super) fn front(&self) -> Option<&Queued> {
        match self.segments.front() {
            Some(Segment::InMemory(messages)) => messages.front(),
            _ => None,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let Some(Segment::InMemory(messages)) = self.segments.front_mut() else { return None };
        let queued = messages.pop_front()?;
        let is_empty = messages.is_empty();
        self.let_go(&queued.message);
        if is_empty {
            self.tidy();
        }
        Some(queued)
    }

    /// Takes out the messages of a group, or of all groups.
    pub(super) fn take_shared(&mut self, group: Option<&Group>) -> Vec<Queued> {
        let mut taken = Vec::new();
        for segment in &mut self.segments {
            if let Segment::InMemory(messages) = segment
                && messages.iter().any(|queued| queued.is_of(group))
            {
                let (shared, kept) = messages.drain(..).partition(|queued| queued.is_of(group));
                *messages = kept;
                taken.extend::<VecDeque<_>>(shared);
            }
        }
        taken.iter().for_each(|queued| self.let_go(&queued.message));
        self.tidy();
        taken
    }

    /// The groups that messages wait for.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let in_memory = self.segments.iter().filter_map(|segment| match segment {
            Segment::InMemory(messages) => Some(messages),
            Segment::InStore(_) => None,
        });
        in_memory.flatten().filter_map(|queued| queued.group.as_ref())
    }

    fn let_go(&mut self, message: &Message) {
        self.len -= 1;
        self.bytes -= message.size();
        self.bytes_in_memory -= message.size();
        self.qos0 -= usize::from(message.qos() == QoS::AtMostOnce);
    }

    /// Lets go of what is empty. When the backlog is over, an idle session holds no memory for it.
    fn tidy(&mut self) {
        self.segments.retain(|segment| match segment {
            Segment::InMemory(messages) => !messages.is_empty(),
            Segment::InStore(numbers) => !numbers.is_empty(),
        });
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
    }

    /// Whether a message of `size` bytes would pass `times` the limits. An empty queue takes one of
    /// any size.
    pub(super) fn is_over(&self, size: usize, config: &Config, times: usize) -> bool {
        !self.is_empty()
            && (self.len >= config.max_queued_messages.saturating_mul(times)
                || self.bytes + size > config.max_queued_bytes.saturating_mul(times))
    }

    /// Whether so many messages can be added, of `bytes` in all, without it being full then.
    pub(super) fn has_room(&self, count: usize, bytes: usize, config: &Config) -> bool {
        self.len + count < config.max_queued_messages
            && self.bytes + bytes <= config.max_queued_bytes
    }

    /// Whether it is more than half full.
    pub(super) fn is_over_half(&self, config: &Config) -> bool {
        self.len > config.max_queued_messages / 2 || self.bytes > config.max_queued_bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use mqtt_codec::{TopicFilter, TopicName};
    use proptest::prelude::*;

    use super::*;
    use crate::router::ReceiverId;

    fn group(n: u64) -> Arc<Group> {
        let filter = TopicFilter::new("$share/g/t").unwrap().into();
        Arc::new(Group::new(ReceiverId::session(n), filter))
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// At this QoS, with so many bytes of payload, for one of two groups or none, and in a store
        /// or not.
        Push(u8, usize, Option<usize>, bool),
        Pop,
        /// The messages of one group leave, or those of all.
        TakeShared(Option<usize>),
    }

    #[derive(Clone, Copy, Debug)]
    struct Waiting {
        qos: u8,
        payload: usize,
        group: Option<usize>,
        number: Option<MessageId>,
    }

    fn message(qos: u8, payload: usize) -> Message {
        let topic = TopicName::new("t").unwrap();
        Message::new(topic, &vec![0; payload], QoS::try_from(qos).unwrap()).unwrap()
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..3, 0usize..30, prop::option::weighted(0.3, 0usize..2), any::<bool>())
                .prop_map(|(qos, payload, group, is_stored)| Step::Push(qos, payload, group, is_stored && qos > 0)),
            2 => Just(Step::Pop),
            1 => prop::option::of(0usize..2).prop_map(Step::TakeShared),
        ]
    }

    proptest! {
        #[test]
        fn a_queue_keeps_its_order_its_sums_and_its_limits(
            steps in prop::collection::vec(step(), 0..120),
            max_queued_messages in 0usize..8,
            max_queued_bytes in 0usize..100,
            max_queued_bytes_in_memory in 0usize..60,
            times in 1usize..3,
        ) {
            let limits = Config { max_queued_messages, max_queued_bytes, ..Config::default() };
            let config = Config { max_queued_bytes_in_memory, ..limits };
            let groups = [1, 2].map(group);
            let mut queue = Queue::EMPTY;
            let mut list: Vec<Waiting> = Vec::new();
            let mut numbers = 1..;
            for step in steps {
                match step {
                    Step::Push(qos, payload, group, is_stored) => {
                        let message = message(qos, payload);
                        if queue.is_over(message.size(), &config, times) {
                            continue;
                        }
                        let number = numbers.next().filter(|_| is_stored).and_then(MessageId::new);
                        let group_of = group.map(|group| Arc::clone(&groups[group]));
                        queue.push(Queued { message, group: group_of, number }, &config);
                        list.push(Waiting { qos, payload, group, number });
                    }
                    Step::Pop => {
                        if let Some(ids) = queue.load() {
                            prop_assert!(queue.load().is_none(), "it is asked for once");
                            let stored = |id| {
                                let waiting = list.iter().find(|w| w.number == Some(id)).unwrap();
                                (id, message(waiting.qos, waiting.payload))
                            };
                            queue.fill(ids.into_iter().map(stored).collect());
                        }
                        let expected = (!list.is_empty()).then(|| list.remove(0));
                        let expected = expected.map(|waiting| (waiting.payload, waiting.number));
                        let seen = |queued: &Queued| (queued.message.payload().len(), queued.number);
                        prop_assert_eq!(queue.front().map(seen), expected);
                        prop_assert_eq!(queue.pop().as_ref().map(seen), expected);
                    }
                    Step::TakeShared(only) => {
                        let group = only.map(|only| &*groups[only]);
                        let is_meant = |waiting: &Waiting| {
                            waiting.group.is_some()
                                && only.is_none_or(|only| waiting.group == Some(only))
                        };
                        let taken = queue.take_shared(group);
                        let expected: Vec<_> = list.extract_if(.., |entry| is_meant(entry)).collect();
                        let payloads = taken.iter().map(|queued| queued.message.payload().len());
                        prop_assert!(payloads.eq(expected.iter().map(|waiting| waiting.payload)));
                    }
                }
                let bytes: usize = list.iter().map(|waiting| waiting.payload + 1).sum();
                prop_assert_eq!((queue.len(), queue.bytes()), (list.len(), bytes));
                prop_assert!(queue.numbers().eq(list.iter().filter_map(|waiting| waiting.number)));
                prop_assert_eq!(queue.is_empty(), list.is_empty());
                prop_assert_eq!(queue.holds_qos0(), list.iter().any(|waiting| waiting.qos == 0));
                prop_assert!(list.len() <= 1 || list.len() <= max_queued_messages * times);
                prop_assert!(list.len() <= 1 || bytes <= max_queued_bytes * times);
                let is_half_full =
                    list.len() > max_queued_messages / 2 || bytes > max_queued_bytes / 2;
                prop_assert_eq!(queue.is_over_half(&config), is_half_full);
                // A publisher that is held back from the limit on is let go of below it.
                prop_assert!(!queue.is_over(0, &config, 1) || queue.is_over_half(&config));
            }
        }
    }
}
