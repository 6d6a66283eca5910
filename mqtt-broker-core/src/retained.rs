//! The last retained message of each topic.

mod kept;
mod seek;

use std::collections::BTreeSet;
use std::ops::Bound;

use mqtt_codec::{TopicFilter, TopicName};

use crate::publication::Publication;
use crate::sync::RwLock;
use crate::{Config, Message};
pub(crate) use kept::Kept;
use seek::{Step, step};

/// Retained messages by topic, behind a lock of their own.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    store: RwLock<Store>,
}

#[derive(Debug, Default)]
struct Store {
    messages: BTreeSet<Kept>,
    bytes: usize,
    /// Space for making a message.
    block: Vec<u8>,
}

/// The store is at one of its limits, and the topic is new.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Retained {
    /// Keeps a message in place of the one before, or removes it when the payload is empty
    /// [MQTT-3.3.1-10], [MQTT-3.3.1-11].
    pub(crate) fn set(&self, publication: &Publication<'_>, config: &Config) -> Result<(), Full> {
        let mut store = self.store.write();
        let topic = publication.publish().topic.as_bytes();
        if publication.publish().payload.is_empty() {
            store.bytes -= store.messages.take(topic).map_or(0, |kept| kept.size());
            return Ok(());
        }
        let (count, bytes) = (store.messages.len(), store.bytes + publication.size());
        // A look at what is replaced costs as much as to replace it.
        if count >= config.max_retained_messages || bytes > config.max_retained_bytes {
            let replaced = store.messages.get(topic).map(Kept::size);
            let one_more = replaced.is_none() && count >= config.max_retained_messages;
            // An earlier life may have had wider limits: what is no larger comes in any case.
            let replaced = replaced.unwrap_or(0);
            let is_larger = publication.size() > replaced;
            if one_more || is_larger && bytes - replaced > config.max_retained_bytes {
                return Err(Full);
            }
        }
        store.keep(publication);
        Ok(())
    }

    /// Keeps a message of an earlier life, whatever the limits are now.
    pub(crate) fn restore(&self, message: &Message) {
        self.store.write().keep(&Publication::from(message));
    }

    /// Up to `count` messages that match, in the order of their topics, from behind `after` on. They
    /// end with the one that reaches `bytes`.
    pub(crate) fn matching(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        count: usize,
        bytes: usize,
    ) -> Vec<Kept> {
        let mut found = Vec::new();
        let mut size = 0;
        if count > 0 && bytes > 0 {
            self.store.read().walk(filter, after, |message| {
                found.push(message.clone());
                size += message.size();
                found.len() < count && size < bytes
            });
        }
        found
    }

    /// Messages, and the bytes of their topics and payloads.
    pub(crate) fn size(&self) -> (usize, usize) {
        let store = self.store.read();
        (store.messages.len(), store.bytes)
    }
}

impl Store {
    fn keep(&mut self, publication: &Publication<'_>) {
        let replaced = self.messages.replace(Kept::new(publication, &mut self.block));
        self.bytes += publication.size();
        self.bytes -= replaced.map_or(0, |kept| kept.size());
    }

    /// Hands over the messages that match, for as long as more are wanted. Tells how many messages
    /// were looked at for it.
    fn walk(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        mut wants_more: impl FnMut(&Kept) -> bool,
    ) -> usize {
        /// Messages that are passed one by one before the next that may match is looked up, which
        /// costs as much as passing a few.
        const PASSED: usize = 8;
        let mut visited = 0;
        let mut passed = 0;
        let mut bound = Vec::new();
        let from = after.map_or(Bound::Unbounded, |topic| Bound::Excluded(topic.as_bytes()));
        let mut messages = self.messages.range::<[u8], _>((from, Bound::Unbounded));
        while let Some(message) = messages.next() {
            visited += 1;
            if message.topic() < &bound[..] {
                passed += 1;
                if passed == PASSED {
                    messages = self
                        .messages
                        .range::<[u8], _>((Bound::Included(&bound[..]), Bound::Unbounded));
                }
                continue;
            }
            passed = 0;
            match step(filter, message.topic(), &mut bound) {
                Step::Match if wants_more(message) => {}
                Step::Seek => {}
                Step::Match | Step::End => break,
            }
        }
        visited
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mqtt_codec::QoS;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn message(topic: &str, payload: usize) -> Message {
        let topic = TopicName::new(topic).unwrap();
        Message::new(topic, &vec![b'x'; payload], QoS::AtMostOnce).unwrap()
    }

    fn keep(retained: &Retained, message: &Message, config: &Config) -> Result<(), Full> {
        retained.set(&Publication::from(message), config)
    }

    fn topics<'a>(messages: impl IntoIterator<Item = &'a Kept>) -> Vec<String> {
        messages.into_iter().map(|kept| kept.message().topic().to_string()).collect()
    }

    /// With characters on both sides of the separator.
    const LEVELS: [&str; 9] = ["", "a", "b", "a!", "a0", "$", "!", "0", "aa"];

    fn topic() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(select(&LEVELS[..]), 1..5);
        levels.prop_map(|levels| levels.join("/")).prop_filter("empty", |topic| !topic.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![2 => select(&LEVELS[..]), 1 => Just("+")];
        (prop::collection::vec(level, 0..5), any::<bool>())
            .prop_map(|(mut levels, is_open)| {
                levels.extend(is_open.then_some("#"));
                levels.join("/")
            })
            .prop_filter("empty", |filter| !filter.is_empty())
    }

    fn limits(messages: usize, bytes: usize) -> Config {
        Config { max_retained_messages: messages, max_retained_bytes: bytes, ..Config::default() }
    }

    proptest! {
        // MQTT-3.3.1-5, MQTT-3.3.1-10, MQTT-3.3.1-11
        #[test]
        fn the_store_is_a_map_with_limits(
            steps in prop::collection::vec((topic(), 0usize..8), 0..80),
        ) {
            let config = limits(8, 60);
            let retained = Retained::default();
            let mut map = BTreeMap::new();
            for (topic, payload) in steps {
                let mut wanted = map.clone();
                match payload {
                    0 => wanted.remove(&topic),
                    _ => wanted.insert(topic.clone(), payload),
                };
                let bytes = |map: &BTreeMap<String, usize>| {
                    map.iter().map(|(topic, payload)| topic.len() + payload).sum::<usize>()
                };
                let fits = payload == 0 || wanted.len() <= 8 && bytes(&wanted) <= 60;
                let result = keep(&retained, &message(&topic, payload), &config);
                prop_assert_eq!(result, if fits { Ok(()) } else { Err(Full) });
                if fits {
                    map = wanted;
                }
                prop_assert_eq!(retained.size(), (map.len(), bytes(&map)));
                let store = retained.store.read();
                let kept = store.messages.iter().map(|kept| {
                    (kept.message().topic().to_string(), kept.message().payload().len())
                });
                prop_assert_eq!(kept.collect::<BTreeMap<_, _>>(), map.clone());
            }
        }

        #[test]
        fn what_matches_is_found_in_order_and_in_pages_of_any_size(
            kept in prop::collection::btree_set(topic(), 0..60),
            filter in filter(),
            after in prop::option::of(topic()),
            count in 1usize..5,
            bytes in 1usize..20,
        ) {
            let retained = Retained::default();
            for topic in &kept {
                keep(&retained, &message(topic, 3), &Config::default()).unwrap();
            }
            let filter = TopicFilter::new(&filter).unwrap();
            let after = after.as_deref().map(|topic| TopicName::new(topic).unwrap());
            let expected: Vec<_> = kept
                .iter()
                .map(|topic| TopicName::new(topic).unwrap())
                .filter(|topic| filter.matches(*topic))
                .filter(|topic| after.is_none_or(|after| after.as_bytes() < topic.as_bytes()))
                .map(|topic| topic.to_string())
                .collect();
            let whole = retained.matching(filter, after, usize::MAX, usize::MAX);
            prop_assert_eq!(&topics(&whole), &expected);

            let mut pages: Vec<Kept> = Vec::new();
            loop {
                let last = pages.last().map(Kept::message);
                let from = last.as_ref().map(Message::topic).or(after);
                let page = retained.matching(filter, from, count, bytes);
                let Some((_, others)) = page.split_last() else { break };
                prop_assert!(page.len() <= count);
                prop_assert!(others.iter().map(Kept::size).sum::<usize>() < bytes);
                pages.extend(page);
            }
            prop_assert_eq!(topics(&pages), expected);
        }
    }

    // The limits may be narrower than those under which it was kept.
    #[test]
    fn what_is_over_the_limit_is_replaced_by_what_is_no_larger() {
        let retained = Retained::default();
        let config = limits(1, 10);
        for topic in ["a", "b"] {
            retained.restore(&message(topic, 20));
        }
        assert_eq!(keep(&retained, &message("a", 21), &config), Err(Full));
        assert_eq!(keep(&retained, &message("a", 20), &config), Ok(()));
        assert_eq!(keep(&retained, &message("b", 5), &config), Ok(()));
        assert_eq!(keep(&retained, &message("c", 1), &config), Err(Full));
        assert_eq!(retained.size(), (2, 27));
    }

    #[test]
    fn a_filter_visits_what_may_match_and_little_else() {
        let retained = Retained::default();
        let config = Config::default();
        // Fewer under Miri, which takes a minute for all of them.
        let sensors = if cfg!(miri) { 30 } else { 500 };
        for house in 0..20 {
            for sensor in 0..sensors {
                keep(&retained, &message(&format!("h{house}/s{sensor}"), 1), &config).unwrap();
            }
            keep(&retained, &message(&format!("h{house}/x"), 1), &config).unwrap();
        }
        let visits = |filter| {
            let mut found = 0;
            let visited =
                retained.store.read().walk(TopicFilter::new(filter).unwrap(), None, |_| {
                    found += 1;
                    true
                });
            (found, visited)
        };
        for (filter, matches) in
            [("+/x", 20), ("+/s7", 20), ("h7/x", 1), ("h7/+", sensors + 1), ("+", 0), ("+/x/#", 20)]
        {
            let (found, visited) = visits(filter);
            assert_eq!(found, matches, "{filter}");
            // Of 10,020. Each house costs some steps to its message and some out of it.
            assert!(visited <= found + 20 * 2 * 10, "{filter} visits {visited}");
        }
    }
}
