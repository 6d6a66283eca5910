use std::task::{Context, Poll};

use mqtt_codec::{QoS, TopicFilter};

use crate::router::Sharing;
use crate::session::{Displaced, Replay, Session};
use crate::sync::Arc;
use crate::{Broker, Message};

/// A subscription of the broker's own program: [`Broker::subscribe`].
///
/// Messages come with the lower of their QoS and the one asked for, and RETAIN says whether they
/// were retained before the subscription. Dropping it unsubscribes.
#[derive(Debug)]
pub struct LocalSubscription {
    broker: Broker,
    session: Arc<Session>,
}

impl LocalSubscription {
    pub(crate) fn new(broker: &Broker, filter: TopicFilter<'_>, qos: QoS) -> Self {
        let shared = broker.shared();
        let session = shared.registry.local(&shared.config);
        let subscription = shared.router.subscribe(filter, &session, qos);
        subscription.into_iter().for_each(|new| session.lock().subscriptions.push(new));
        if Sharing::of(filter) == Sharing::None {
            session.lock().deliveries.replays.push_back(Replay {
                filter: filter.into(),
                qos,
                after: None,
            });
        }
        Self { broker: broker.clone(), session }
    }

    /// The next message, in the order in which they were published. Cancel safe: a message is taken
    /// only when this returns it.
    pub async fn recv(&mut self) -> Message {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next message, or the promise to wake the task when there is one.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Message> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(message);
        }
        self.session.lock().register(cx.waker(), false);
        // One may have come in between.
        self.try_recv().map_or(Poll::Pending, Poll::Ready)
    }

    /// The next message, if there is one.
    pub fn try_recv(&mut self) -> Option<Message> {
        let shared = self.broker.shared();
        self.broker.with_worker(|worker| {
            shared.replay(&self.session, worker);
            let mut state = self.session.lock();
            let message = state.take_message();
            state.release(&shared.config, &mut worker.wakes);
            message
        })
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        let shared = self.broker.shared();
        self.broker.with_worker(|worker| {
            let mut tx = shared.transaction();
            let ended = Some(self.session.lock().end(&self.session, &mut worker.wakes, &mut tx));
            shared.settle([Displaced { ended, ..Displaced::default() }], tx, worker);
        });
    }
}
