//! From a message to the sessions that own it.

use mqtt_codec::{Publish, QoS, TopicName, TopicNameBuf};

use super::{Published, Shared};
use crate::hooks::{DropReason, Permission};
use crate::journal::{Record, Recorder, Transaction, Unrecorded};
use crate::publication::Publication;
use crate::retained::{Full, Kept};
use crate::router::{Group, Member, Route};
use crate::session::{Outcome, Received, Session, Terms};
use crate::sync::Arc;
use crate::worker::Report;
use crate::{Client, ConnectionError, Worker};

impl Shared {
    /// Routes a client's message, if it may publish it [MQTT-3.3.5-2], and remembers the id of one of
    /// QoS 2. Gives back what an acknowledgement has to wait for; `None` if there is to be none.
    pub(crate) fn publish_from(
        &self,
        client: &Client,
        publication: &Publication<'_>,
        received: Option<Received<'_>>,
        worker: &mut Worker,
    ) -> Result<Option<u64>, ConnectionError> {
        let permission = self.permission(client, publication.publish());
        match &self.log {
            None => self.publish_permitted(
                client,
                publication,
                &permission,
                received,
                worker,
                Unrecorded,
            ),
            Some(log) => {
                let tx = Transaction::new(Some(log));
                self.publish_permitted(client, publication, &permission, received, worker, tx)
            }
        }
    }

    /// The hooks' decision on a message.
    pub(crate) fn permission(&self, client: &Client, publish: &Publish<'_>) -> Permission {
        // What the broker says of itself is nobody else's to say.
        match publish.topic.as_bytes().starts_with(b"$SYS/") {
            true => Permission::Deny,
            false => self.hooks.authorize_publish(client, publish),
        }
    }

    /// Routes a message as its permission says. Gives back what an acknowledgement has to wait for;
    /// `None` if there is to be none.
    pub(crate) fn publish_permitted(
        &self,
        client: &Client,
        publication: &Publication<'_>,
        permission: &Permission,
        received: Option<Received<'_>>,
        worker: &mut Worker,
        mut tx: impl Recorder,
    ) -> Result<Option<u64>, ConnectionError> {
        if received.as_ref().is_some_and(|received| !received.counts(&mut tx)) {
            // It was taken over while the hooks decided, and the message may have come again.
            return Ok(None);
        }
        let publish = publication.publish();
        let replaced;
        let routed = match permission {
            Permission::Allow => Some(publication),
            Permission::Replace(message) => {
                replaced = Publication::from(message);
                Some(&replaced)
            }
            Permission::Deny | Permission::Disconnect => None,
        };
        let published = match routed {
            Some(routed) => Some(self.route(routed, worker, &mut tx)),
            None => {
                drop_message(None, DropReason::NotAuthorized, worker);
                None
            }
        };
        if let Some(received) = received {
            received.note(&mut tx);
        }
        let after = tx.after();
        drop(tx);
        self.report(routed.unwrap_or(publication), worker);
        if let Some(published) = published
            && self.interests().published
        {
            self.hooks.published(client, publish, published);
        }
        match permission {
            Permission::Disconnect => Err(ConnectionError::NotAuthorized),
            _ => Ok(Some(after)),
        }
    }

    /// Hands a message to every session with a matching subscription [MQTT-4.5.0-1], and keeps it
    /// when RETAIN is set. Receivers that want no more for now are left in `worker.congested`.
    ///
    /// The retained store comes first: a subscriber that comes in between gets the message twice,
    /// where the other order could lose it.
    ///
    /// The transaction may be open already; it is opened here when the message has to survive a
    /// restart. When it is closed, [`report`](Self::report).
    pub(crate) fn route(
        &self,
        publication: &Publication<'_>,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Published {
        let mut published = Published::default();
        let publish = publication.publish();
        if publish.retain {
            tx.open();
            match self.retained.set(publication, &self.config) {
                Ok(()) => tx.retain(publication),
                Err(Full) => drop_message(None, DropReason::RetainedFull, worker),
            }
        }
        let overlaps = self.config.deliver_overlaps;
        let routes = self.router.routes(publish.topic, overlaps, &mut worker.routes);
        if self.log.is_some()
            && (publish.qos() > QoS::AtMostOnce || self.config.upgrade_qos)
            && routes.iter().any(Route::may_be_kept)
        {
            tx.open();
        }
        if let ([Route::One { .. }], None) = (&*routes, &self.log) {
            publication.set_for_one();
        }
        for route in routes.iter() {
            if overlaps || matches!(route, Route::Group(_)) {
                // A message of its own: the session may have got one already, by another filter or
                // past the group, and in a group one of the two may have to go to another member.
                tx.end_message(publication);
            }
            self.deliver_along(route, publication, worker, tx, &mut published);
        }
        tx.end_message(publication);
        published
    }

    /// Hands a message to the receiver at the end of a route.
    #[inline]
    pub(super) fn deliver_along(
        &self,
        route: &Route,
        publication: &Publication<'_>,
        worker: &mut Worker,
        tx: &mut impl Recorder,
        published: &mut Published,
    ) {
        match route {
            Route::One { session, qos } => {
                self.deliver(publication, session, *qos, worker, tx, published);
            }
            Route::Group(group) => self.deliver_to_one(publication, group, worker, tx, published),
        }
    }

    /// Tells the hooks what became of a routed message. No lock is held.
    #[inline]
    pub(crate) fn report(&self, publication: &Publication<'_>, worker: &mut Worker) {
        if !worker.reports.is_empty() {
            self.report_all(publication, worker);
        }
    }

    fn report_all(&self, publication: &Publication<'_>, worker: &mut Worker) {
        // A hook may panic, and what is left is not the next message's.
        for Report { receiver, dropped } in std::mem::take(&mut worker.reports) {
            let receiver = receiver.as_ref().map(|receiver| receiver.client_id());
            match (dropped, receiver) {
                (Some(reason), _) => {
                    self.hooks.dropped(receiver, publication.publish().topic, reason);
                }
                (None, Some(receiver)) => self.hooks.delivered(receiver, publication.publish()),
                (None, None) => {}
            }
        }
    }

    fn deliver(
        &self,
        publication: &Publication<'_>,
        session: &Arc<Session>,
        qos: QoS,
        worker: &mut Worker,
        tx: &mut impl Recorder,
        published: &mut Published,
    ) {
        match self.offer(publication, session, qos, None, worker, tx) {
            Outcome::NotMeant => {}
            Outcome::Dropped(reason) => {
                drop_message(Some(Arc::clone(session)), reason, worker);
                published.dropped += 1;
            }
            outcome => {
                published.receivers += 1;
                if outcome == Outcome::Congested {
                    worker.congested.push(Arc::clone(session));
                }
            }
        }
    }

    /// Delivers to the member of a group whose turn it is: among those that are ready, else among
    /// those that may keep the message until they are.
    pub(super) fn deliver_to_one(
        &self,
        publication: &Publication<'_>,
        group: &Arc<Group>,
        worker: &mut Worker,
        tx: &mut impl Recorder,
        published: &mut Published,
    ) {
        let turn = group.turn();
        let (ready, others): (Vec<_>, Vec<_>) =
            turn.iter().partition(|member| member.session.lock().is_ready(&self.config));
        let mut refused = None;
        for Member { session, qos } in ready.into_iter().chain(others) {
            match self.offer(publication, session, *qos, Some(group), worker, tx) {
                Outcome::NotMeant => {}
                Outcome::Dropped(reason) => refused = Some((session, reason)),
                Outcome::Accepted | Outcome::Congested => {
                    published.receivers += 1;
                    return;
                }
            }
        }
        if let Some((session, reason)) = refused {
            drop_message(Some(Arc::clone(session)), reason, worker);
            published.dropped += 1;
        }
    }

    /// Hands a message to one session, if its client may have it.
    fn offer(
        &self,
        publication: &Publication<'_>,
        session: &Arc<Session>,
        qos: QoS,
        group: Option<&Arc<Group>>,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Outcome {
        if !self.may_receive(session, publication.publish().topic, false) {
            return Outcome::Dropped(DropReason::NotAuthorized);
        }
        let qos = self.config.delivery_qos(publication.publish().qos(), qos);
        let number = tx.number(session, qos);
        let terms = Terms { qos, group, number };
        let outcome = {
            let mut state = session.lock();
            let outcome = state.deliver(publication, terms, &self.config, worker, tx);
            tx.touch(session, &mut state);
            state.wake(&self.config, &mut worker.wakes);
            outcome
        };
        if matches!(outcome, Outcome::Accepted | Outcome::Congested) {
            if number.is_some() {
                tx.add_receiver(session, qos, false, group);
            }
            if self.interests().delivered {
                worker.reports.push(Report { receiver: Some(Arc::clone(session)), dropped: None });
            }
        }
        outcome
    }

    /// Asks the hooks, if they have a say in it, whether a session's client may have a message.
    fn may_receive(&self, session: &Session, topic: TopicName<'_>, retained: bool) -> bool {
        if !self.interests().delivery_rules {
            return true;
        }
        let owner = session.lock().owner.clone();
        owner.is_none_or(|owner| self.hooks.authorize_delivery(&owner, topic, retained))
    }

    /// Sends retained messages to subscriptions that have not had all of them, as far as the session
    /// has room.
    pub(crate) fn replay(&self, session: &Arc<Session>, worker: &mut Worker) {
        // Looked up at a time, so that the store's lock is held for some microseconds, and so that
        // the session is over its limits by no more than this.
        const MESSAGES: usize = 64;
        const BYTES: usize = 64 << 10;
        loop {
            let replay = {
                let state = session.lock();
                if !state.has_room_for_replay(&self.config) {
                    return;
                }
                match state.deliveries.replays.front() {
                    Some(replay) => replay.clone(),
                    None => return,
                }
            };
            let filter = replay.filter.as_topic_filter();
            let after = replay.after.as_ref().map(|topic| topic.as_topic_name());
            let batch = self.retained.matching(filter, after, MESSAGES, BYTES);
            let batch: Vec<_> = batch.iter().map(Kept::publication).collect();
            let last = batch.last().map(|last| TopicNameBuf::from(last.publish().topic));
            let may_receive = |message: &&Publication<'_>| {
                self.may_receive(session, message.publish().topic, true)
            };
            let allowed: Vec<_> = batch.iter().filter(may_receive).collect();

            let mut tx = self.transaction_for(session);
            let mut state = session.lock();
            // A connection that takes the session over goes on where this one is.
            if state.deliveries.replays.front() != Some(&replay) {
                continue;
            }
            match (state.deliveries.replays.front_mut(), last) {
                (Some(front), Some(last)) => front.after = Some(last),
                _ => {
                    state.deliveries.replays.pop_front();
                    // Most subscriptions are made once: an idle session holds no room for more.
                    state.deliveries.settle();
                    tx.record(Record::Replayed {
                        session: session.id().into(),
                        filter: replay.filter,
                    });
                }
            }
            for message in allowed {
                let qos = self.config.delivery_qos(message.publish().qos(), replay.qos);
                let number = tx.number(session, qos);
                if number.is_some() {
                    tx.add_receiver(session, qos, true, None);
                }
                tx.end_message(message);
                state.replay(message, qos, number, &self.config, worker);
            }
            state.pump(&self.config, worker, &mut tx);
            tx.touch(session, &mut state);
            state.wake(&self.config, &mut worker.wakes);
        }
    }
}

/// Counts a message that a session, or nobody at all, does not get.
pub(super) fn drop_message(
    receiver: Option<Arc<Session>>,
    reason: DropReason,
    worker: &mut Worker,
) {
    worker.tally.publish_dropped += 1;
    worker.reports.push(Report { receiver, dropped: Some(reason) });
}
