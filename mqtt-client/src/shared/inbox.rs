//! The messages of the streams that the application has not taken.

use std::collections::VecDeque;
use std::task::Waker;

use mqtt_codec::{PublishBuf, QoS, TopicFilterBuf};

use super::State;
use crate::connection::PAUSE_FROM;
use crate::error::SubscribeError;
use crate::machine::StreamId;

/// The bound of the QoS 0 messages that wait in one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimit {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A message that waits in a stream.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) message: PublishBuf,
    /// To be acknowledged with, when it is taken.
    pub(crate) number: Option<u64>,
    /// It may be dropped when there is no room.
    is_loose: bool,
    /// What it counts against the bounds.
    bytes: usize,
}

/// What the broker answered to a filter.
pub(crate) type Grant = Result<QoS, SubscribeError>;

/// The messages of one stream that the application has not taken.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The filters, each with the broker's answer.
    pub(crate) filters: Vec<(TopicFilterBuf, Option<Grant>)>,
    pub(crate) messages: VecDeque<Unread>,
    bytes: usize,
    pub(crate) waker: Option<Waker>,
    pub(crate) ended: Option<SubscribeError>,
    pub(crate) missed: u64,
}

impl State {
    pub(super) fn note_grant(&mut self, stream: StreamId, filter: &TopicFilterBuf, grant: &Grant) {
        let Some(inbox) = self.inboxes.get_mut(stream) else { return };
        for (other, answer) in &mut inbox.filters {
            if other == filter {
                *answer = Some(grant.clone());
            }
        }
        if inbox.filters.iter().all(|(_, answer)| matches!(answer, Some(Err(_)))) {
            inbox.ended = Some(SubscribeError::Refused);
        }
        self.wakers.extend(inbox.waker.take());
    }

    pub(super) fn deliver(&mut self, stream: StreamId, message: PublishBuf, number: Option<u64>) {
        let Some(inbox) = self.inboxes.get_mut(stream) else {
            // The stream is being dropped: nobody will take it.
            number.into_iter().for_each(|number| self.machine.acknowledge(number));
            return;
        };
        let (is_loose, bytes) = (message.qos() == QoS::AtMostOnce, size_of_message(&message));
        inbox.bytes += bytes;
        self.machine.unread += bytes;
        if is_loose {
            let limit = self.inbox_limit;
            while inbox.messages.len() >= limit.messages || inbox.bytes > limit.bytes {
                // The oldest of QoS 0; others are kept, their number is the broker's window.
                let Some(at) = inbox.messages.iter().position(|unread| unread.is_loose) else {
                    break;
                };
                let Some(dropped) = inbox.messages.remove(at) else { break };
                inbox.bytes -= dropped.bytes;
                self.machine.unread -= dropped.bytes;
                inbox.missed += 1;
                self.machine.counters.missed += 1;
            }
        }
        inbox.messages.push_back(Unread { message, number, is_loose, bytes });
        self.wakers.extend(inbox.waker.take());
    }

    /// Adds a stream and subscribes to its filters.
    pub(crate) fn subscribe(
        &mut self,
        filters: impl IntoIterator<Item = (TopicFilterBuf, QoS)>,
        takes: bool,
    ) -> StreamId {
        let stream = self.add_inbox();
        for (filter, qos) in filters {
            self.inboxes[stream].filters.push((filter.clone(), None));
            self.machine.subscribe(filter, qos, stream, takes);
        }
        stream
    }

    fn add_inbox(&mut self) -> StreamId {
        self.inboxes.insert(Inbox {
            filters: Vec::new(),
            messages: VecDeque::new(),
            bytes: 0,
            waker: None,
            ended: self.is_stopped.then_some(SubscribeError::Closed),
            missed: 0,
        })
    }

    /// A stream that never gets anything.
    pub(crate) fn add_closed_inbox(&mut self) -> StreamId {
        let stream = self.add_inbox();
        self.inboxes[stream].ended = Some(SubscribeError::Closed);
        stream
    }

    /// The next message of a stream. The caller acknowledges it.
    pub(crate) fn take_message(&mut self, stream: StreamId) -> Option<Unread> {
        let inbox = self.inboxes.get_mut(stream)?;
        let unread = inbox.messages.pop_front()?;
        let bytes = unread.bytes;
        inbox.bytes -= bytes;
        if inbox.messages.is_empty() && inbox.messages.capacity() > 64 {
            inbox.messages = VecDeque::new();
        }
        let was_full = !self.machine.wants_input();
        self.machine.unread -= bytes;
        let resumes = self.is_read_paused && self.machine.unread < PAUSE_FROM / 2;
        if resumes || (was_full && self.machine.wants_input()) {
            self.is_read_paused = false;
            self.wake_driver();
        }
        Some(unread)
    }

    /// Takes the messages at the front that nobody waits for an answer to, up to `most`.
    pub(crate) fn take_loose(
        &mut self,
        stream: StreamId,
        most: usize,
        into: &mut VecDeque<PublishBuf>,
    ) {
        while into.len() < most
            && let Some(inbox) = self.inboxes.get(stream)
            && inbox.messages.front().is_some_and(|unread| unread.number.is_none())
            && let Some(unread) = self.take_message(stream)
        {
            into.push_back(unread.message);
        }
    }

    /// Drops a stream with what it holds, which counts as taken.
    pub(crate) fn remove_inbox(&mut self, stream: StreamId, tell: bool) {
        let Some(inbox) = self.inboxes.try_remove(stream) else { return };
        self.machine.unread -= inbox.bytes;
        let numbers = inbox.messages.into_iter().filter_map(|unread| unread.number);
        numbers.for_each(|number| self.machine.acknowledge(number));
        for (filter, _) in &inbox.filters {
            self.machine.unsubscribe(filter, stream, tell);
        }
    }
}

/// What a message counts against the bounds: its bytes and a share for the bookkeeping.
fn size_of_message(message: &PublishBuf) -> usize {
    message.encoded_len(QoS::AtMostOnce) + size_of::<Unread>()
}
