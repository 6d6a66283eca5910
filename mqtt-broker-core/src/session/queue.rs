use std::collections::VecDeque;

use mqtt_codec::QoS;

use super::Queued;
use crate::router::Group;
use crate::sync::Arc;
use crate::{Config, Message, MessageId};

/// Messages that wait behind the window or for an absent client, with their size.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Queued>,
    bytes: usize,
    /// How many of them are QoS 0.
    qos0: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether a QoS 0 message waits, which no later one may overtake.
    pub(super) fn holds_qos0(&self) -> bool {
        self.qos0 > 0
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes of topics and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.bytes += queued.message.size();
        self.qos0 += usize::from(queued.message.qos() == QoS::AtMostOnce);
        self.messages.push_back(queued);
    }

    /// The first message that survives a restart.
    pub(super) fn first_number(&self) -> Option<MessageId> {
        self.messages.iter().find_map(|queued| queued.number)
    }

    /// The numbers of those that do.
    pub(super) fn numbers(&self) -> impl Iterator<Item = MessageId> {
        self.messages.iter().filter_map(|queued| queued.number)
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.messages.front()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.let_go(&queued.message);
        if self.messages.is_empty() {
            // The backlog is over: an idle session holds no memory for it.
            self.messages = VecDeque::new();
        }
        Some(queued)
    }

    /// Takes out the messages of a group, or of all groups.
    pub(super) fn take_shared(&mut self, group: Option<&Group>) -> Vec<Queued> {
        let is_meant = |queued: &Queued| queued.is_of(group);
        if !self.messages.iter().any(is_meant) {
            return Vec::new();
        }
        let (taken, kept): (Vec<_>, Vec<_>) = self.messages.drain(..).partition(is_meant);
        self.messages = kept.into();
        taken.iter().for_each(|queued| self.let_go(&queued.message));
        taken
    }

    /// The groups that messages wait for.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.messages.iter().filter_map(|queued| queued.group.as_ref())
    }

    fn let_go(&mut self, message: &Message) {
        self.bytes -= message.size();
        self.qos0 -= usize::from(message.qos() == QoS::AtMostOnce);
    }

    /// Whether a message of `size` bytes would pass `times` the limits. An empty queue takes one of
    /// any size.
    pub(super) fn is_over(&self, size: usize, config: &Config, times: usize) -> bool {
        !self.is_empty()
            && (self.messages.len() >= config.max_queued_messages.saturating_mul(times)
                || self.bytes + size > config.max_queued_bytes.saturating_mul(times))
    }

    /// Whether it is more than half full.
    pub(super) fn is_over_half(&self, config: &Config) -> bool {
        self.messages.len() > config.max_queued_messages / 2
            || self.bytes > config.max_queued_bytes / 2
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
        /// At this QoS, with so many bytes of payload, for one of two groups or none.
        Push(u8, usize, Option<usize>),
        Pop,
        /// The messages of one group leave, or those of all.
        TakeShared(Option<usize>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..3, 0usize..30, prop::option::weighted(0.3, 0usize..2))
                .prop_map(|(qos, payload, group)| Step::Push(qos, payload, group)),
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
            times in 1usize..3,
        ) {
            let config = Config { max_queued_messages, max_queued_bytes, ..Config::default() };
            let groups = [1, 2].map(group);
            let mut queue = Queue::default();
            // QoS, payload, group.
            let mut list: Vec<(u8, usize, Option<usize>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Push(qos, payload, group) => {
                        let topic = TopicName::new("t").unwrap();
                        let message =
                            Message::new(topic, &vec![0; payload], QoS::try_from(qos).unwrap());
                        let message = message.unwrap();
                        if queue.is_over(message.size(), &config, times) {
                            continue;
                        }
                        let group_of = group.map(|group| Arc::clone(&groups[group]));
                        queue.push(Queued { message, group: group_of, number: None });
                        list.push((qos, payload, group));
                    }
                    Step::Pop => {
                        let expected = (!list.is_empty()).then(|| list.remove(0));
                        let front = queue.front().map(|queued| queued.message.payload().len());
                        prop_assert_eq!(front, expected.map(|(_, payload, _)| payload));
                        let popped = queue.pop().map(|queued| queued.message.payload().len());
                        prop_assert_eq!(popped, front);
                    }
                    Step::TakeShared(only) => {
                        let group = only.map(|only| &*groups[only]);
                        let is_meant = |(_, _, group): &(u8, usize, Option<usize>)| {
                            group.is_some() && only.is_none_or(|only| *group == Some(only))
                        };
                        let taken = queue.take_shared(group);
                        let expected: Vec<_> = list.extract_if(.., |entry| is_meant(entry)).collect();
                        let payloads = taken.iter().map(|queued| queued.message.payload().len());
                        prop_assert!(payloads.eq(expected.iter().map(|(_, payload, _)| *payload)));
                    }
                }
                let bytes: usize = list.iter().map(|(_, payload, _)| payload + 1).sum();
                prop_assert_eq!((queue.len(), queue.bytes()), (list.len(), bytes));
                prop_assert_eq!(queue.is_empty(), list.is_empty());
                prop_assert_eq!(queue.holds_qos0(), list.iter().any(|(qos, _, _)| *qos == 0));
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
