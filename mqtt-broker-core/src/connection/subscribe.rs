use mqtt_codec::{
    Packet, QoS, SubAck, Subscribe, SubscribeReturnCode, TopicFilter, TopicFilterBuf, Unsubscribe,
};

use super::Open;
use crate::Worker;
use crate::broker::Shared;
use crate::router::SharedFilter;
use crate::session::{Replay, Subscription};

impl Open {
    /// Adds subscriptions and answers with one SUBACK [MQTT-3.8.4-4], behind which what is retained
    /// follows.
    pub(super) fn handle_subscribe(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        subscribe: &Subscribe<'_>,
    ) {
        let mut replays = Vec::new();
        let codes: Vec<_> = subscribe
            .filters()
            .map(|(filter, qos)| match self.subscribe(shared, filter, qos) {
                Some(qos) => {
                    // What is retained is not sent to groups: it is nobody's turn.
                    if SharedFilter::parse(filter).is_none() {
                        replays.push(Replay { filter: filter.into(), qos, after: None });
                    }
                    SubscribeReturnCode::Granted(qos)
                }
                None => SubscribeReturnCode::Failure,
            })
            .collect();
        let is_choked;
        {
            let Some(mut state) = self.lock() else { return };
            if let Ok(suback) = SubAck::new(subscribe.packet_id(), &codes) {
                state.write(&Packet::SubAck(suback), worker);
            }
            is_choked = state.outbox_is_full(&shared.config);
            for replay in replays {
                // A filter that is subscribed to again begins again.
                state.replays.retain(|old| old.filter != replay.filter);
                state.replays.push_back(replay);
            }
        }
        self.is_replaying = true;
        self.is_choked = is_choked;
    }

    /// Adds a subscription or changes its QoS [MQTT-3.8.4-3]. `None` when it is refused.
    fn subscribe(&mut self, shared: &Shared, filter: TopicFilter<'_>, qos: QoS) -> Option<QoS> {
        let is_allowed = match SharedFilter::parse(filter) {
            None => true,
            Some(parsed) => parsed.is_some() && shared.config.shared_subscriptions,
        };
        if !is_allowed || !shared.filter_fits(filter) {
            return None;
        }
        let qos = shared.hooks.authorize_subscribe(&self.client, filter, qos)?;
        let changing = self.session.lock_subscriptions();
        {
            let mut state = self.lock()?;
            let filter = TopicFilterBuf::from(filter);
            let subscriptions = &mut state.subscriptions;
            if let Some(known) = subscriptions.iter_mut().find(|known| known.filter == filter) {
                known.qos = qos;
            } else if subscriptions.len() < shared.config.max_subscriptions {
                subscriptions.push(Subscription { filter, qos });
            } else {
                return None;
            }
        }
        shared.router.subscribe(filter, &self.session, qos);
        drop(changing);
        shared.hooks.subscribed(&self.client, filter, qos);
        Some(qos)
    }

    /// Removes subscriptions; those that are not there are no error [MQTT-3.10.4-5].
    pub(super) fn handle_unsubscribe(&mut self, shared: &Shared, unsubscribe: &Unsubscribe<'_>) {
        for filter in unsubscribe.filters() {
            let changing = self.session.lock_subscriptions();
            {
                let Some(mut state) = self.lock() else { return };
                let same = |known: &TopicFilterBuf| known.as_bytes() == filter.as_bytes();
                state.subscriptions.retain(|known| !same(&known.filter));
                state.replays.retain(|replay| !same(&replay.filter));
            }
            shared.router.unsubscribe(filter, &self.session);
            drop(changing);
            shared.hooks.unsubscribed(&self.client, filter);
        }
    }
}
