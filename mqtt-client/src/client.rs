use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mqtt_codec::{QoS, TopicError, TopicFilterBuf};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Closed, PublishError, RequestError, SubscribeError, TryPublishError};
use crate::machine::{Outgoing, Queued, Token};
use crate::message::{Message, Publish};
use crate::offline::{Offline, WhenFull};
use crate::options::{Builder, Options, PublishOptions};
use crate::receipt::{Receipt, Slot};
use crate::shared::{Handle, Shared, State, Stop};
use crate::stats::Stats;
use crate::status::{Leftover, Status};
use crate::subscription::{AckMode, Subscription};

/// What longer limits are cut to, such as [`Duration::MAX`] for none: an [`Instant`] does not go as far
/// as they do. A century is longer than any machine is up.
pub(crate) const AGES: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A handle to a client. Clones share it, and every method takes `&self`.
///
/// The work is done by one task, which owns the connection and never waits for the application.
/// When the last clone and the last [`Subscription`] are dropped, the client delivers what it
/// accepted for at most 5 seconds and then disconnects; [`shutdown`](Self::shutdown) does the same
/// with a limit of yours and tells what was left. A program that ends has to wait for that: the task ends
/// with its runtime, whatever is left.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
    publish: PublishOptions,
    acks: AckMode,
    is_persistent: bool,
}

impl Client {
    /// Starts from `mqtt://user:password@host:port`, `mqtts://`, `ws://host/path`, `wss://` or
    /// `unix:/path`. What is wrong with it shows when connecting.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn new(handle: Arc<Handle>, options: &Options) -> Self {
        Self {
            handle,
            publish: options.publish,
            acks: options.acks,
            is_persistent: !options.machine.clean_session,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Hands a message over, and waits for room in the queue of outgoing messages if it is full.
    ///
    /// When it is ready the message is the client's, whatever happens to the [`Receipt`], which
    /// resolves when the delivery is over. Cancel safe: dropped before it is ready, nothing was
    /// accepted. With a [`store`](Builder::store) it is ready when the message is durable, and one
    /// that is dropped in the middle of that may have been accepted.
    ///
    /// # Errors
    /// If the message cannot be sent at all, or the policy for a full queue or a missing connection
    /// is to fail.
    pub async fn publish(&self, message: impl Into<Publish>) -> Result<Receipt, PublishError> {
        let receipt = self.accept_in_time(message.into()).await?;
        self.stored().await?;
        Ok(receipt)
    }

    /// Waits for room.
    async fn accept_in_time(&self, mut message: Publish) -> Result<Receipt, PublishError> {
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            let room = self.shared().room.notified();
            match self.accept(message, true) {
                Ok(receipt) => return Ok(receipt),
                Err(Refusal::Wait(again)) => message = again,
                Err(Refusal::Fail(_, cause)) => return Err(cause),
            }
            if waiting.is_none() {
                waiting = Some(Waiting::new(self.shared()));
                // There may be room since it was asked for; from now on nobody forgets us.
                continue;
            }
            room.await;
        }
    }

    /// Waits until what was accepted so far is durable.
    async fn stored(&self) -> Result<(), PublishError> {
        let mut number = None;
        std::future::poll_fn(|cx| {
            let mut state = self.shared().lock();
            let Some(store) = &state.store else { return Poll::Ready(Ok(())) };
            let number = *number.get_or_insert(store.submitted);
            match state.is_durable(number, cx.waker()) {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => Poll::Pending,
                Err(error) => Poll::Ready(Err(PublishError::Store(error))),
            }
        })
        .await
    }

    /// Hands a message over without waiting.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and if the queue is full; the error gives the message back.
    pub fn try_publish(&self, message: impl Into<Publish>) -> Result<Receipt, TryPublishError> {
        self.accept(message.into(), false).map_err(|refusal| match refusal {
            Refusal::Wait(message) => TryPublishError { message, cause: PublishError::QueueFull },
            Refusal::Fail(message, cause) => TryPublishError { message, cause },
        })
    }

    fn accept(&self, message: Publish, may_wait: bool) -> Result<Receipt, Refusal> {
        let topic = match &message.topic {
            Ok(topic) => topic.clone(),
            Err(error) => {
                let error = *error;
                return Err(Refusal::Fail(message, error.into()));
            }
        };
        let bytes = topic.as_bytes().len() + message.payload.len();
        let (size, limit) = (packet_len(bytes, message.qos), self.publish.max_outgoing);
        if size > limit {
            return Err(Refusal::Fail(message, PublishError::TooLarge { size, limit }));
        }
        let policy = message.offline.unwrap_or(self.publish.offline);
        let replaceable = policy == Offline::Latest;
        let mut state = self.shared().lock();
        let cause = if state.is_stopped || state.machine.is_shutting_down() {
            Some(PublishError::Closed)
        } else if let Some(error) = state.store.as_ref().and_then(|store| store.failed.clone()) {
            Some(PublishError::Store(error))
        } else if policy == Offline::Fail && !state.machine.is_connected() {
            Some(PublishError::NotConnected)
        } else if state.machine.has_room(&topic, bytes, replaceable) {
            None
        } else {
            match state.machine.when_full() {
                WhenFull::Wait if may_wait => return Err(Refusal::Wait(message)),
                WhenFull::Wait | WhenFull::Reject => Some(PublishError::QueueFull),
                WhenFull::DropOldest | WhenFull::DropNewest => None,
            }
        };
        if let Some(cause) = cause {
            return Err(Refusal::Fail(message, cause));
        }
        let slot = state.receipts.insert(Slot::Open);
        let token = Token { slot, stored: 0 };
        let limit = message.expires_after.map(|limit| limit.min(AGES));
        let expires = limit.map_or(0, |limit| unix_millis(SystemTime::now() + limit));
        let queued = Queued {
            message: Outgoing {
                topic,
                payload: message.payload,
                retain: message.retain,
                token,
                order: 0,
            },
            qos: message.qos,
            expires: limit.map(|limit| Instant::now().into_std() + limit),
            replaceable,
            fails_offline: policy == Offline::Fail,
        };
        state.machine.publish(queued, expires);
        self.shared().release(state);
        Ok(Receipt::new(self.shared().clone(), slot))
    }

    /// Subscribes. Ready when the broker has granted the filter; while there is no connection it
    /// waits for one. The stream goes on over reconnections.
    ///
    /// Every stream of a filter gets its messages. A second stream of the same filter makes the
    /// broker send its retained messages again, to both.
    ///
    /// Cancel safe: dropped before it is ready, the subscription is taken back.
    ///
    /// # Errors
    /// If the filter is not valid, the broker refuses it, or the client is closed.
    pub async fn subscribe(&self, filter: &str, qos: QoS) -> Result<Subscription, SubscribeError> {
        self.subscribe_with(filter, qos, self.acks).await
    }

    /// [`subscribe`](Self::subscribe) with its own way of acknowledging.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_with(
        &self,
        filter: &str,
        qos: QoS,
        acks: AckMode,
    ) -> Result<Subscription, SubscribeError> {
        self.subscribe_all([(filter, qos)], acks).await
    }

    /// Subscribes to several filters with one stream, which gets each message once. Ready when the
    /// broker has answered for each; [`Subscription::grants`] tells what.
    ///
    /// Cancel safe as [`subscribe`](Self::subscribe).
    ///
    /// # Errors
    /// If a filter is not valid, the broker refuses all of them, or the client is closed.
    pub async fn subscribe_all<'a>(
        &self,
        filters: impl IntoIterator<Item = (&'a str, QoS)>,
        acks: AckMode,
    ) -> Result<Subscription, SubscribeError> {
        let filters: Result<Vec<_>, TopicError> = filters
            .into_iter()
            .map(|(filter, qos)| Ok((TopicFilterBuf::new(filter)?, qos)))
            .collect();
        let filters = filters?;
        let takes = acks != AckMode::Received;
        let stream = self.shared().with(|state| state.subscribe(filters, takes));
        let tell = !self.is_persistent;
        Subscription::new(self.handle.clone(), stream, acks, tell).granted_or_taken_back().await
    }

    /// Ends a subscription that a persistent session has from an earlier run of the program, for
    /// which there is no stream here. Does nothing if there is one. Ready when the broker has
    /// confirmed it; it is told also if the future is dropped.
    ///
    /// # Errors
    /// If the filter is not valid.
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), SubscribeError> {
        let filter = TopicFilterBuf::new(filter)?;
        self.shared().with(|state| state.machine.unsubscribe_stale(filter.clone()));
        self.shared().wait_for_unsubscribed(&[filter]).await;
        Ok(())
    }

    /// Publishes a request and waits for the first message on `reply_to`, which is subscribed to,
    /// and granted, before the request leaves.
    ///
    /// MQTT 3.1.1 has no correlation: use a topic of its own for each request, or an id in the
    /// payload. Cancel safe in that nothing remains; the request may have been sent.
    ///
    /// # Errors
    /// If no reply comes within `limit`, or the parts fail.
    pub async fn request(
        &self,
        message: impl Into<Publish>,
        reply_to: &str,
        limit: Duration,
    ) -> Result<Message, RequestError> {
        let message = message.into();
        let exchange = async {
            let replies = self.subscribe_with(reply_to, message.qos, AckMode::Taken).await?;
            let mut replies = replies.ended_at_broker();
            self.publish(message).await.map(drop)?;
            let reply = replies.recv().await;
            reply.ok_or(RequestError::Subscribe(SubscribeError::Closed))
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(RequestError::Timeout(limit)),
        }
    }

    /// The state of the connection. The latest is never missed; steps in between may be.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared().status.subscribe()
    }

    /// Ready when connected with every subscription restored; at once if so now. Cancel safe.
    ///
    /// # Errors
    /// If the client is closed.
    pub async fn connected(&self) -> Result<(), Closed> {
        let mut status = self.status();
        loop {
            match &*status.borrow_and_update() {
                Status::Connected { .. } => return Ok(()),
                Status::Stopped(cause) => return Err(Closed { cause: cause.clone() }),
                Status::Connecting { .. } | Status::Waiting { .. } => {}
            }
            if status.changed().await.is_err() {
                return Err(Closed { cause: None });
            }
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let mut state = self.shared().lock();
        state.collect_handed();
        let (queued, queued_bytes) = state.machine.queued();
        Stats {
            counters: state.machine.counters,
            queued,
            queued_bytes,
            in_flight: state.machine.in_flight(),
            unacknowledged: state.machine.unacknowledged_received(),
            unread_bytes: state.machine.unread,
        }
    }

    /// Accepts no more, delivers what it accepted for at most `limit`, connecting for it if need be,
    /// then sends DISCONNECT and closes. Tells what was left.
    ///
    /// Cancel safe: it goes on when the future is dropped. A second call may shorten the time.
    pub async fn shutdown(&self, limit: Duration) -> Leftover {
        let by = Instant::now().into_std() + limit.min(AGES);
        self.stop(|stop| match stop {
            Stop::No => Stop::By(by),
            Stop::By(earlier) => Stop::By(earlier.min(by)),
            Stop::Abort => Stop::Abort,
        });
        self.closed().await;
        self.shared().lock().leftover
    }

    /// Cuts the connection without DISCONNECT, so that the broker publishes the will, and closes.
    /// Ready when it is done; it happens also if the future is dropped.
    pub async fn abort(&self) {
        self.stop(|_| Stop::Abort);
        self.closed().await;
    }

    fn stop(&self, how: impl FnOnce(Stop) -> Stop) {
        self.shared().with(|state: &mut State| {
            state.stop = how(state.stop);
            state.machine.shut_down();
            state.wake_driver();
        });
        // Those who wait for room learn that there is none to come.
        self.shared().room.notify_waiters();
    }

    async fn closed(&self) {
        let mut status = self.status();
        // An error would mean that the sender is gone, which `self` holds.
        let _ = status.wait_for(|status| matches!(status, Status::Stopped(_))).await;
    }
}

/// Bytes of a PUBLISH with so many bytes of topic and payload (section 3.3).
fn packet_len(bytes: usize, qos: QoS) -> usize {
    let remaining = bytes + if qos == QoS::AtMostOnce { 2 } else { 4 };
    remaining
        + match remaining {
            0..0x80 => 2,
            0x80..0x4000 => 3,
            0x4000..0x20_0000 => 4,
            _ => 5,
        }
}

/// A time as a store keeps it.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

enum Refusal {
    /// There is no room now.
    Wait(Publish),
    Fail(Publish, PublishError),
}

/// Counts one who waits for room, as long as it lives.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.lock().waiting_for_room += 1;
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting_for_room -= 1;
    }
}
