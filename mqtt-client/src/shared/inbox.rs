//! The messages of the streams that the application has not taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Numbers of messages that the stream has a batch of, and hands out one by one.
    lent: VecDeque<u64>,
    pub(crate) handed: Handed,
    pub(crate) waker: Option<Waker>,
    pub(crate) ended: Option<SubscribeError>,
    pub(crate) missed: u64,
}

/// How far a stream has handed its messages out: all numbers below this. The stream counts without
/// the lock, and the task looks when it is about to write or to wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handed(Arc<AtomicU64>);

impl Handed {
    /// Message `number` and all before it are handed out.
    pub(crate) fn advance(&self, number: u64) {
        // In one order with the flag that the task waits, so that one of the two sees the other.
        self.0.store(number + 1, Ordering::SeqCst);
    }

    fn end(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Messages that a stream takes under one lock, and bytes from which on it takes no more.
const BATCH: (usize, usize) = (64, 64 << 10);

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
            lent: VecDeque::new(),
            handed: Handed::default(),
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

    /// Takes a batch of messages for a stream to hand out. If they are `tracked`, they are
    /// acknowledged as [`Handed`] says; if not, by the stream.
    pub(crate) fn lend(
        &mut self,
        stream: StreamId,
        tracked: bool,
        into: &mut VecDeque<(PublishBuf, Option<u64>)>,
    ) {
        let mut bytes = 0;
        while into.len() < BATCH.0
            && bytes < BATCH.1
            && let Some(unread) = self.take_message(stream)
        {
            bytes += unread.bytes;
            if tracked
                && let Some(number) = unread.number
                && let Some(inbox) = self.inboxes.get_mut(stream)
            {
                if inbox.lent.is_empty() {
                    self.lending.push(stream);
                }
                inbox.lent.push_back(number);
            }
            into.push_back((unread.message, unread.number));
        }
    }

    /// Acknowledges what the streams have handed out since.
    pub(crate) fn collect_handed(&mut self) {
        let Self { lending, inboxes, machine, .. } = self;
        lending.retain(|stream| {
            let Some(inbox) = inboxes.get_mut(*stream) else { return false };
            let end = inbox.handed.end();
            while let Some(number) = inbox.lent.front().copied().filter(|number| *number < end) {
                inbox.lent.pop_front();
                machine.acknowledge(number);
            }
            !inbox.lent.is_empty()
        });
    }

    fn take_message(&mut self, stream: StreamId) -> Option<Unread> {
        let inbox = self.inboxes.get_mut(stream)?;
        let unread = inbox.messages.pop_front()?;
        let bytes = unread.bytes;
        inbox.bytes -= bytes;
        if inbox.messages.is_empty() && inbox.messages.capacity() > 64 {
            inbox.messages = VecDeque::new();
        }
        self.note_taken(bytes);
        Some(unread)
    }

    /// So many bytes do not wait any more: the task may read again.
    fn note_taken(&mut self, bytes: usize) {
        let was_full = !self.machine.wants_input();
        self.machine.unread -= bytes;
        let resumes = self.is_read_paused && self.machine.unread < PAUSE_FROM / 2;
        if resumes || (was_full && self.machine.wants_input()) {
            self.is_read_paused = false;
            self.wake_driver();
        }
    }

    /// Drops a stream with what it holds, which counts as taken.
    pub(crate) fn remove_inbox(&mut self, stream: StreamId, tell: bool) {
        let Some(inbox) = self.inboxes.try_remove(stream) else { return };
        self.note_taken(inbox.bytes);
        let numbers = inbox.messages.into_iter().filter_map(|unread| unread.number);
        numbers.chain(inbox.lent).for_each(|number| self.machine.acknowledge(number));
        for (filter, _) in &inbox.filters {
            self.machine.unsubscribe(filter, stream, tell);
        }
    }
}

/// What a message counts against the bounds: its bytes and a share for the bookkeeping.
fn size_of_message(message: &PublishBuf) -> usize {
    message.encoded_len(QoS::AtMostOnce) + size_of::<Unread>()
}
