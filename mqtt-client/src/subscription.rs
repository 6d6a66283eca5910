use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use mqtt_codec::{PublishBuf, QoS, TopicFilterBuf};

use crate::error::SubscribeError;
use crate::machine::StreamId;
use crate::message::Message;
use crate::shared::{AckHandle, Handed, Handle};

/// When a message of QoS 1 or 2 is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckMode {
    /// As soon as it is read from the transport.
    Received,
    /// When the stream hands it to the application. The default: the broker's window then bounds
    /// what waits here.
    #[default]
    Taken,
    /// When [`Message::ack`] is called.
    Manual,
}

/// The messages of a filter, or of several, as a stream. It goes on over all reconnections.
///
/// Two streams whose filters overlap each get the message; some brokers send it once for each
/// filter too. Acknowledgements leave in the order in which the messages came, so a stream that is
/// not read holds back those of the others once the broker's window is full.
///
/// Dropping it ends the subscription, at the broker too unless the session is persistent, and
/// acknowledges what it had not handed out.
pub struct Subscription {
    handle: Arc<Handle>,
    stream: StreamId,
    mode: AckMode,
    /// Whether the broker is told when this is dropped.
    tell: bool,
    /// Messages that were taken from the client many at a time, to spare its lock, each with the
    /// number to acknowledge it by.
    batch: VecDeque<(PublishBuf, Option<u64>)>,
    handed: Handed,
}

impl Subscription {
    pub(crate) fn new(handle: Arc<Handle>, stream: StreamId, mode: AckMode, tell: bool) -> Self {
        let handed = handle.shared.lock().inboxes[stream].handed.clone();
        Self { handle, stream, mode, tell, batch: VecDeque::new(), handed }
    }

    /// The next message, or `None` when the broker refused the filter or the client is closed.
    ///
    /// Cancel safe: a message is either returned or stays.
    pub async fn recv(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next message, if one is there.
    pub fn try_recv(&mut self) -> Option<Message> {
        let Self { handle, stream, mode, batch, handed, .. } = self;
        if batch.is_empty() {
            let tracked = *mode != AckMode::Manual;
            handle.shared.with(|state| state.lend(*stream, tracked, batch));
        }
        let (message, number) = batch.pop_front()?;
        let ack = match (mode, number) {
            (AckMode::Manual, Some(number)) => Some(AckHandle::new(handle.shared.clone(), number)),
            (_, Some(number)) => {
                handed.advance(number);
                handle.shared.note_handed();
                None
            }
            (_, None) => None,
        };
        Some(Message::new(message, ack))
    }

    /// The next message, for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(Some(message));
        }
        let mut state = self.handle.shared.lock();
        let Some(inbox) = state.inboxes.get_mut(self.stream) else { return Poll::Ready(None) };
        if !inbox.messages.is_empty() {
            // It came in between.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if inbox.ended.is_some() {
            return Poll::Ready(None);
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The filters, each with what the broker answered once it has: the QoS that it granted, which
    /// may be lower than what was asked for (section 3.9.3), or that it refused.
    pub fn grants(&self) -> Vec<(TopicFilterBuf, Option<Result<QoS, SubscribeError>>)> {
        self.handle.shared.lock().inboxes[self.stream].filters.clone()
    }

    /// The QoS that the broker granted: the lowest, if there are several filters. `None` until it
    /// has granted one.
    pub fn granted(&self) -> Option<QoS> {
        let state = self.handle.shared.lock();
        let filters = &state.inboxes[self.stream].filters;
        filters.iter().filter_map(|(_, answer)| answer.as_ref()?.as_ref().ok().copied()).min()
    }

    /// Why the stream has ended, if it has.
    pub fn ended(&self) -> Option<SubscribeError> {
        self.handle.shared.lock().inboxes[self.stream].ended.clone()
    }

    /// QoS 0 messages that were dropped because they were not taken in time.
    pub fn missed(&self) -> u64 {
        self.handle.shared.lock().inboxes[self.stream].missed
    }

    /// Ready when the broker has answered. Dropped before, the subscription is taken back.
    pub(crate) async fn granted_or_taken_back(mut self) -> Result<Self, SubscribeError> {
        let tell = std::mem::replace(&mut self.tell, true);
        self.wait_for_grant().await?;
        self.tell = tell;
        Ok(self)
    }

    /// The same, which ends at the broker too when it is dropped, whatever the session.
    pub(crate) fn ended_at_broker(mut self) -> Self {
        self.tell = true;
        self
    }

    async fn wait_for_grant(&self) -> Result<(), SubscribeError> {
        std::future::poll_fn(|cx| {
            let mut state = self.handle.shared.lock();
            let inbox = &mut state.inboxes[self.stream];
            if let Some(error) = &inbox.ended {
                return Poll::Ready(Err(error.clone()));
            }
            if inbox.filters.iter().all(|(_, answer)| answer.is_some()) {
                return Poll::Ready(Ok(()));
            }
            inbox.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends the subscription; ready when the broker has confirmed it, so that nothing more comes.
    /// With a persistent session this is the way to end it at the broker too.
    ///
    /// Cancel safe: the broker is told even if the future is dropped.
    pub async fn unsubscribe(mut self) {
        self.tell = true;
        let filters: Vec<_> = self.grants().into_iter().map(|(filter, _)| filter).collect();
        let handle = self.handle.clone();
        drop(self);
        handle.shared.with(|state| {
            // Also what it was told of by an earlier run of the program.
            let filters = filters.iter().cloned();
            filters.for_each(|filter| state.machine.unsubscribe_stale(filter));
        });
        handle.shared.wait_for_unsubscribed(&filters).await;
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.handle.shared.with(|state| {
            if self.mode == AckMode::Manual {
                let numbers = batch.into_iter().filter_map(|(_, number)| number);
                numbers.for_each(|number| state.machine.acknowledge(number));
            }
            state.remove_inbox(self.stream, self.tell);
        });
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("stream", &self.stream).finish_non_exhaustive()
    }
}
