use std::collections::VecDeque;

use mqtt_codec::QoS;

use super::Queued;
use crate::router::Group;
use crate::sync::Arc;
use crate::{Config, Message};

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
