use mqtt_codec::{
    Packet, QoS, SubAck, Subscribe, SubscribeReturnCode, TopicFilter, TopicFilterBuf, Unsubscribe,
};

use super::open::Open;
use crate::Worker;
use crate::broker::Shared;
use crate::journal::{Record, Recorder};
use crate::router::Sharing;
use crate::session::Replay;

/// A subscription that a client has now.
struct Granted {
    qos: QoS,
    /// It had none to this filter.
    is_new: bool,
}

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
        let mut after = 0;
        let codes: Vec<_> = subscribe
            .filters()
            .map(|(filter, qos)| {
                let filter = self.mounted(filter)?;
                let granted = self.subscribe(shared, filter.as_topic_filter(), qos, &mut after)?;
                let Granted { qos, is_new } = granted;
                // What is retained is not sent to groups: it is nobody's turn.
                if Sharing::of(filter.as_topic_filter()) == Sharing::None {
                    replays.push((Replay { filter, qos, after: None }, is_new));
                }
                Some(qos)
            })
            .map(|qos| qos.map_or(SubscribeReturnCode::Failure, SubscribeReturnCode::Granted))
            .collect();
        let is_choked;
        {
            let Some(mut state) = self.lock() else { return };
            if let Ok(suback) = SubAck::new(subscribe.packet_id(), &codes) {
                state.write(&Packet::SubAck(suback), after, worker);
            }
            is_choked = state.outbox_is_full(&shared.config);
            for (replay, is_new) in replays {
                // A filter that is subscribed to again begins again. To look for each filter among
                // all, new or not, was 8 % of its cost with 100 in a packet, and more with more.
                if !is_new {
                    state.deliveries.replays.retain(|old| old.filter != replay.filter);
                }
                state.deliveries.replays.push_back(replay);
            }
        }
        self.is_replaying = true;
        self.is_choked = is_choked;
    }

    /// Adds a subscription or changes its QoS [MQTT-3.8.4-3]. `None` when it is refused. The SUBACK
    /// has to wait for batch `after`.
    fn subscribe(
        &mut self,
        shared: &Shared,
        filter: TopicFilter<'_>,
        qos: QoS,
        after: &mut u64,
    ) -> Option<Granted> {
        let is_allowed = match Sharing::of(filter) {
            Sharing::None => true,
            Sharing::Group(_) => shared.config.shared_subscriptions,
            Sharing::Invalid => false,
        };
        if !is_allowed || !shared.filter_fits(filter) {
            return None;
        }
        let qos = shared.hooks.authorize_subscribe(&self.client, filter, qos)?;
        let mut tx = shared.transaction_for(&self.session);
        let changing = self.session.lock_subscriptions();
        let has_room = self.lock()?.subscriptions.len() < shared.config.max_subscriptions;
        if !has_room && shared.router.find(filter, &self.session).is_none() {
            return None;
        }
        let new = shared.router.subscribe(filter, &self.session, qos);
        if let Some(subscription) = new {
            let Some(mut state) = self.lock() else {
                // Another connection has the session by now, or it is over.
                shared.router.unsubscribe(subscription, &self.session);
                return None;
            };
            state.subscriptions.push(subscription);
        }
        drop(changing);
        let (session, recorded) = (self.session.id().into(), filter.into());
        tx.record(Record::Subscribe { session, filter: recorded, qos });
        *after = tx.after();
        drop(tx);
        shared.hooks.subscribed(&self.client, filter, qos);
        Some(Granted { qos, is_new: new.is_some() })
    }

    /// A filter as the router knows it. `None` for one that is too long for that.
    fn mounted(&self, filter: TopicFilter<'_>) -> Option<TopicFilterBuf> {
        match self.client.mount_point() {
            None => Some(filter.into()),
            Some(mount) => mount.filter(filter),
        }
    }

    /// Removes subscriptions; those that are not there are no error [MQTT-3.10.4-5].
    /// Gives back the batch that the UNSUBACK has to wait for.
    pub(super) fn handle_unsubscribe(
        &mut self,
        shared: &Shared,
        unsubscribe: &Unsubscribe<'_>,
    ) -> u64 {
        let mut after = 0;
        for filter in unsubscribe.filters().filter_map(|filter| self.mounted(filter)) {
            let filter = filter.as_topic_filter();
            let mut tx = shared.transaction_for(&self.session);
            let changing = self.session.lock_subscriptions();
            let known = shared.router.find(filter, &self.session);
            {
                let Some(mut state) = self.lock() else { return 0 };
                known.into_iter().for_each(|known| state.subscriptions.remove(known));
                if !state.deliveries.replays.is_empty() {
                    let is_other = |replay: &Replay| replay.filter.as_bytes() != filter.as_bytes();
                    state.deliveries.replays.retain(is_other);
                }
            }
            if let Some(subscription) = known {
                shared.router.unsubscribe(subscription, &self.session);
            }
            drop(changing);
            let (session, recorded) = (self.session.id().into(), filter.into());
            tx.record(Record::Unsubscribe { session, filter: recorded });
            after = tx.after();
            drop(tx);
            shared.hooks.unsubscribed(&self.client, filter);
        }
        after
    }
}
