//! A broker that goes on where an earlier life ended.

use std::time::Instant;

use mqtt_codec::TopicFilterBuf;

use super::{Broker, Shared};
use crate::Client;
use crate::Config;
use crate::hooks::Hooks;
use crate::journal::{
    Journal, Log, MessageId, Recorder, Recovered, RecoveredSession, RecoveredSubscription,
};
use crate::router::Sharing;
use crate::session::{Displaced, Link, Replay, Session, State, Will};
use crate::sync::Arc;

impl Broker {
    /// A broker that goes on where an earlier life ended, and whose sessions, subscriptions,
    /// messages and retained messages survive the next end as well: from now on an acknowledgement
    /// leaves when the [`Journal`] has made durable what it acknowledges.
    ///
    /// Somebody has to [commit](Journal::commit), or nothing is ever acknowledged. Sessions that were
    /// connected are absent now, and their wills are published. Limits of queues do not hold for
    /// what is recovered.
    pub fn restore(
        config: Config,
        hooks: impl Hooks,
        recovered: Recovered,
        now: Instant,
    ) -> (Self, Journal) {
        let Recovered { mut sessions, retained, next_message, next_session } = recovered;
        // Numbers that were taken and not needed are not in the store, but sessions have seen them.
        let seen = sessions.iter().map(|session| session.progress.queued_from);
        let log = Arc::new(Log::new(seen.fold(next_message, MessageId::max)));
        let broker = Self::with_log(config, hooks, Some(Arc::clone(&log)));
        let shared = broker.shared();
        shared.registry.restore_numbers(next_session);
        for message in &retained {
            shared.retained.restore(message);
        }
        sessions.sort_unstable_by_key(|session| session.session);
        let restored: Vec<_> =
            sessions.iter_mut().map(|session| shared.restore_session(session, now)).collect();
        // Now all groups are there again.
        for (recovered, session) in sessions.into_iter().zip(&restored) {
            let group = |filter: &TopicFilterBuf| shared.router.group(filter.as_topic_filter());
            let (progress, messages) = (recovered.progress, recovered.messages);
            session.lock().restore(progress, messages, group, &shared.config);
        }
        broker.with_worker(|worker| {
            for session in restored {
                let mut tx = shared.transaction_for(&session);
                let mut state = session.lock();
                let Some(will) = state.will.take() else { continue };
                tx.record(session.record(&state));
                drop(state);
                let displaced = Displaced { will: Some(will), ..Displaced::default() };
                shared.settle([displaced], tx, worker);
            }
        });
        (broker, Journal::new(log))
    }
}

impl Shared {
    /// Makes a session again, with everything but its messages.
    fn restore_session(&self, recovered: &mut RecoveredSession, now: Instant) -> Arc<Session> {
        let user_name = recovered.user_name.take();
        let client = Arc::new(Client::restored(&recovered.client_id, user_name.as_deref()));
        let mut state = State::new(Link::Absent(self.origin.moment(now)), &self.config);
        for RecoveredSubscription { filter, qos, is_replayed } in &recovered.subscriptions {
            if !is_replayed && Sharing::of(filter.as_topic_filter()) == Sharing::None {
                let replay = Replay { filter: filter.clone(), qos: *qos, after: None };
                state.deliveries.replays.push_back(replay);
            }
        }
        state.will = recovered
            .will
            .take()
            .map(|message| Box::new(Will { message, client: Arc::clone(&client) }));
        state.owner = Some(Arc::clone(&client));
        let session = self.registry.restore(recovered.session, client, state);
        for RecoveredSubscription { filter, qos, .. } in &recovered.subscriptions {
            let subscription = self.router.subscribe(filter.as_topic_filter(), &session, *qos);
            subscription.into_iter().for_each(|new| session.lock().subscriptions.push(new));
        }
        session
    }
}
