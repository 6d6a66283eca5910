//! The last retained message of each topic.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use mqtt_codec::{TopicFilter, TopicName};

use crate::sync::RwLock;
use crate::{Config, Message};

/// Retained messages by topic, behind a lock of their own.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    store: RwLock<Store>,
}

#[derive(Debug, Default)]
struct Store {
    messages: BTreeSet<Kept>,
    bytes: usize,
}

/// A message that is found by its topic, so that the topic is stored once.
#[derive(Debug)]
struct Kept(Message);

/// The store is at one of its limits, and the topic is new.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Retained {
    /// Keeps a message in place of the one before, or removes it when the payload is empty
    /// [MQTT-3.3.1-10], [MQTT-3.3.1-11].
    pub(crate) fn set(&self, message: &Message, config: &Config) -> Result<(), Full> {
        let mut store = self.store.write();
        let topic = message.topic().as_bytes();
        let replaced = store.messages.get(topic).map(|kept| kept.0.size());
        if message.payload().is_empty() {
            store.messages.remove(topic);
            store.bytes -= replaced.unwrap_or(0);
            return Ok(());
        }
        let bytes = store.bytes - replaced.unwrap_or(0) + message.size();
        let one_more = replaced.is_none() && store.messages.len() >= config.max_retained_messages;
        if one_more || bytes > config.max_retained_bytes {
            return Err(Full);
        }
        store.messages.replace(Kept(message.clone()));
        store.bytes = bytes;
        Ok(())
    }

    /// Up to `count` messages that match, in the order of their topics, from behind `after` on. They
    /// end with the one that reaches `bytes`.
    pub(crate) fn matching(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        count: usize,
        bytes: usize,
    ) -> Vec<Message> {
        let store = self.store.read();
        if !filter.has_wildcard() {
            let found = store.messages.get(filter.as_bytes()).filter(|_| after.is_none());
            return found.map(|kept| kept.0.clone()).into_iter().collect();
        }
        // Only topics that begin with the literal part of the filter can match.
        let wildcard = filter.as_bytes().iter().position(|byte| matches!(byte, b'+' | b'#'));
        let prefix = &filter.as_bytes()[..wildcard.unwrap_or(0)];
        // `sport/#` matches `sport` as well, which does not begin with `sport/`.
        let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
        let from = match after {
            Some(topic) => Bound::Excluded(topic.as_bytes()),
            None => Bound::Included(prefix),
        };
        store
            .messages
            .range::<[u8], _>((from, Bound::Unbounded))
            .map(|Kept(message)| message)
            .take_while(|message| message.topic().as_bytes().starts_with(prefix))
            .filter(|message| filter.matches(message.topic()))
            .take(count)
            .scan(0, |size, message| {
                let goes_on = *size < bytes;
                *size += message.size();
                goes_on.then(|| message.clone())
            })
            .collect()
    }

    /// Messages, and the bytes of their topics and payloads.
    pub(crate) fn size(&self) -> (usize, usize) {
        let store = self.store.read();
        (store.messages.len(), store.bytes)
    }
}

impl Kept {
    fn topic(&self) -> &[u8] {
        self.0.topic().as_bytes()
    }
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
