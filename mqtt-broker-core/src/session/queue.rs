use std::collections::VecDeque;

use mqtt_codec::QoS;

use crate::{Config, Message};

/// Messages that wait behind the window or for an absent client, with their size.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
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

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.size();
        self.qos0 += usize::from(message.qos() == QoS::AtMostOnce);
        self.messages.push_back(message);
    }

    pub(super) fn front(&self) -> Option<&Message> {
        self.messages.front()
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.size();
        self.qos0 -= usize::from(message.qos() == QoS::AtMostOnce);
        if self.messages.is_empty() {
            // The backlog is over: an idle session holds no memory for it.
            self.messages = VecDeque::new();
        }
        Some(message)
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
