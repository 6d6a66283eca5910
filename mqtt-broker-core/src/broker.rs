use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Instant;

use foldhash::fast::FixedState;
use mqtt_codec::{QoS, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

use crate::hooks::{Client, DropReason, Hooks, Interests, PeerInfo, Permission};
use crate::journal::{
    Journal, Log, MessageId, Record, Recorder, Recovered, RecoveredSession, RecoveredSubscription,
    Transaction, Unrecorded, Wait,
};
use crate::local::LocalSubscription;
use crate::publication::Publication;
use crate::retained::{Full, Retained};
use crate::router::{Group, Member, Route, Router};
use crate::session::{
    Displaced, Ended, Link, Outcome, Queued, Received, Registry, Replay, Session, State,
    Subscription, Terms, Will,
};
use crate::stats::{Counters, Tally};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::worker::Report;
use crate::{
    Closed, Config, Connection, ConnectionError, Message, SessionInfo, Stats, TooManyConnections,
    Worker,
};

/// The broker: a handle that is cheap to clone, and shared by all connections.
///
/// It does nothing by itself. Connections are driven by whoever owns their transports, and
/// [`sweep`](Self::sweep) is called now and then.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

/// What all handles share. Locks, in the order in which they may be taken: the registry, then one
/// session. The router and the retained store are never locked together with these. The
/// subscriptions of a session are locked before any of them.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) hooks: Box<dyn Hooks>,
    /// As [`Interests::to_bits`].
    interests: AtomicU64,
    pub(crate) registry: Registry,
    pub(crate) router: Router,
    pub(crate) retained: Retained,
    pub(crate) counters: Counters,
    /// What survives a restart goes there first.
    pub(crate) log: Option<Arc<Log>>,
    /// Connections, those before their CONNECT included.
    connections: AtomicUsize,
    connected: AtomicU64,
    connected_maximum: AtomicU64,
    /// Client ids given so far.
    ids_given: AtomicU64,
    /// Workers at rest. Which thread takes which does not matter.
    #[expect(clippy::vec_box, reason = "a worker is handed over with every turn: one word")]
    workers: Mutex<Vec<Box<Worker>>>,
}

/// How far a message of the broker's own program got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Sessions that own the message now.
    pub receivers: usize,
    /// Sessions that it was dropped for, because their queues are full.
    pub dropped: usize,
}

impl Broker {
    /// A broker without clients.
    pub fn new(config: Config, hooks: impl Hooks) -> Self {
        Self::with_log(config, hooks, None)
    }

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
        for message in retained {
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

    /// Waits until everything is durable that has happened until now: all messages that
    /// [`publish`](Self::publish) has taken, for instance. At once without a [`Journal`]; never when
    /// its store has failed.
    pub async fn flush(&self) {
        let last = self.shared.log.as_ref().map_or(0, |log| log.last());
        let mut wait = Wait::new(last, false);
        std::future::poll_fn(|cx| self.shared.poll_durable(&mut wait, cx)).await;
    }

    fn with_log(config: Config, hooks: impl Hooks, log: Option<Arc<Log>>) -> Self {
        let shared = Shared {
            interests: AtomicU64::new(hooks.interests().to_bits()),
            hooks: Box::new(hooks),
            registry: Registry::new(config.hash_seed),
            router: Router::new(config.hash_seed),
            retained: Retained::default(),
            counters: Counters::default(),
            log,
            connections: AtomicUsize::new(0),
            connected: AtomicU64::new(0),
            connected_maximum: AtomicU64::new(0),
            ids_given: AtomicU64::new(0),
            workers: Mutex::new(Vec::new()),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The state machine of a new transport, before its CONNECT. Fails when
    /// [`max_connections`](Config::max_connections) are open: close the transport then.
    pub fn connection(
        &self,
        peer: impl Into<PeerInfo>,
        now: Instant,
    ) -> Result<Connection, TooManyConnections> {
        let limit = self.shared.config.max_connections;
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= limit {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(TooManyConnections { limit });
        }
        self.shared.counters.add(&mut Tally { connections: 1, ..Tally::default() });
        Ok(Connection::new(self.clone(), peer.into(), now))
    }

    /// Publishes from the broker's own program, past the hooks, with the guarantees of a client's
    /// message: when this returns, each receiver's session owns it.
    pub fn publish(&self, message: &Message) -> Published {
        self.with_worker(|worker| {
            let publication = Publication::from(message);
            let mut tx = self.shared.transaction();
            let published = self.shared.route(&publication, worker, &mut tx);
            drop(tx);
            self.shared.report(&publication, worker);
            worker.congested.clear();
            published
        })
    }

    /// Subscribes the broker's own program. What is retained comes first.
    ///
    /// The subscription's queue has the limits of a session's; publishers are held back while it is
    /// full, so take from it steadily.
    pub fn subscribe(&self, filter: TopicFilter<'_>, qos: QoS) -> LocalSubscription {
        LocalSubscription::new(self, filter, qos)
    }

    /// Ends the sessions of clients that stay away for longer than
    /// [`session_expiry`](Config::session_expiry). Tells when to come again; `None` when nothing can
    /// expire until then.
    pub fn sweep(&self, now: Instant) -> Option<Instant> {
        let shared = self.shared();
        let mut tx = shared.transaction();
        tx.open();
        let (expired, next) = shared.registry.expire(&shared.config, now, &mut tx);
        self.with_worker(|worker| {
            worker.tally.sessions_expired += expired.len() as u64;
            shared.forget(expired, tx, worker);
        });
        next
    }

    /// Ends the session of a client that is away. False when there is none, or its client is
    /// connected: [`disconnect`](Self::disconnect) it first.
    pub fn delete_session(&self, client_id: &str) -> bool {
        let shared = self.shared();
        let mut tx = shared.transaction();
        tx.open();
        let displaced = shared.registry.delete(client_id, &mut tx);
        let found = displaced.is_some();
        self.with_worker(|worker| shared.forget(displaced.into_iter().collect(), tx, worker));
        found
    }

    /// The sessions of connected and absent clients, in the order in which they were made.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.registry.list()
    }

    /// Up to `count` retained messages that match, in the order of their topics: the first ones, or
    /// those behind `after`.
    pub fn retained(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        count: usize,
    ) -> Vec<Message> {
        self.shared.retained.matching(filter, after, count, usize::MAX)
    }

    /// Asks the connection of a client to end, which publishes its will. False when it is not
    /// connected.
    pub fn disconnect(&self, client_id: &str) -> bool {
        let wakes = self.shared.registry.close_connections(Some(client_id), Closed::Kicked);
        let found = !wakes.is_empty();
        wakes.into_iter().for_each(std::task::Waker::wake);
        found
    }

    /// Asks all connections to end, without wills. Sessions stay, for a broker that is to be started
    /// again. New connections are not refused: stop listening first.
    pub fn shut_down(&self) {
        let wakes = self.shared.registry.close_connections(None, Closed::ShutDown);
        wakes.into_iter().for_each(std::task::Waker::wake);
    }

    /// Asks the hooks again for their [interests](Hooks::interests), after rules have changed.
    pub fn renew_interests(&self) {
        let interests = self.shared.hooks.interests();
        self.shared.interests.store(interests.to_bits(), Ordering::Relaxed);
    }

    /// The counters and gauges. It looks at every session, so ask some times a second at most.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (retained, retained_bytes) = shared.retained.size();
        Stats {
            clients_connected: shared.connected.load(Ordering::Relaxed),
            clients_maximum: shared.connected_maximum.load(Ordering::Relaxed),
            subscriptions: shared.router.len() as u64,
            shared_subscriptions: shared.router.shared() as u64,
            retained: retained as u64,
            retained_bytes: retained_bytes as u64,
            ..shared.registry.count(shared.counters.read())
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Lends a worker for one batch.
    pub(crate) fn with_worker<R>(&self, work: impl FnOnce(&mut Worker) -> R) -> R {
        let mut worker = self.shared.workers.lock().pop().unwrap_or_default();
        let result = work(&mut worker);
        worker.finish(&self.shared.counters);
        self.shared.workers.lock().push(worker);
        result
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.iter().for_each(|log| log.close());
    }
}

impl Shared {
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
            match self.retained.set(publication.message(), &self.config) {
                Ok(()) => tx.retain(publication.message()),
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
        for route in routes.iter() {
            match route {
                Route::One { session, qos } => {
                    self.deliver(publication, session, *qos, worker, tx, &mut published);
                    if overlaps {
                        // The next one may be the same session's, and a message of its own.
                        tx.end_message(publication);
                    }
                }
                Route::Group(group) => {
                    self.deliver_to_one(publication, group, worker, tx, &mut published);
                }
            }
        }
        tx.end_message(publication);
        published
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

    /// Makes a session again, with everything but its messages.
    fn restore_session(&self, recovered: &mut RecoveredSession, now: Instant) -> Arc<Session> {
        let client = Arc::new(Client {
            client_id: recovered.client_id.to_string(),
            user_name: recovered.user_name.take(),
            peer: PeerInfo::default(),
        });
        let mut state = State::new(Link::Absent(now), &self.config);
        for RecoveredSubscription { filter, qos, is_replayed } in &recovered.subscriptions {
            state.subscriptions.push(Subscription { filter: filter.clone(), qos: *qos });
            if !is_replayed {
                let replay = Replay { filter: filter.clone(), qos: *qos, after: None };
                state.replays.push_back(replay);
            }
        }
        state.will = recovered
            .will
            .take()
            .map(|message| Box::new(Will { message, client: Arc::clone(&client) }));
        state.owner = Some(client);
        let session = self.registry.restore(recovered.session, &recovered.client_id, state);
        for RecoveredSubscription { filter, qos, .. } in &recovered.subscriptions {
            self.router.subscribe(filter.as_topic_filter(), &session, *qos);
        }
        session
    }

    /// A change of what survives a restart, not yet opened.
    pub(crate) fn transaction(&self) -> Transaction<'_> {
        Transaction::new(self.log.as_deref())
    }

    /// The batch of the journal that holds the last change of a session, or one behind it.
    pub(crate) fn last_change(&self, session: &Session) -> u64 {
        self.log.as_ref().filter(|_| session.is_kept()).map_or(0, |log| log.last())
    }

    /// Whether a batch of the journal is durable; if not, the task is woken when it is.
    pub(crate) fn poll_durable(&self, wait: &mut Wait, cx: &Context<'_>) -> Poll<()> {
        self.log.as_ref().map_or(Poll::Ready(()), |log| log.poll_durable(wait, cx))
    }

    pub(crate) fn has_store_failed(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.has_failed())
    }

    /// Whether a client that waits should send nothing more for now.
    pub(crate) fn is_journal_congested(&self, wait: &Wait) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_congested(wait))
    }

    /// The same, opened if it is about a session that survives.
    pub(crate) fn transaction_for(&self, session: &Session) -> Transaction<'_> {
        let mut tx = self.transaction();
        if session.is_kept() {
            tx.open();
        }
        tx
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
    fn deliver_to_one(
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

    fn interests(&self) -> Interests {
        Interests::from_bits(self.interests.load(Ordering::Relaxed))
    }

    /// Asks the hooks, if they have a say in it, whether a session's client may have a message.
    fn may_receive(&self, session: &Session, topic: TopicName<'_>, retained: bool) -> bool {
        if !self.interests().delivery_rules {
            return true;
        }
        let owner = session.lock().owner.clone();
        owner.is_none_or(|owner| self.hooks.authorize_delivery(&owner, topic, retained))
    }

    /// Routes a client's message, if it may publish it [MQTT-3.3.5-2], and remembers the id of one of
    /// QoS 2. Gives back what an acknowledgement has to wait for.
    pub(crate) fn publish_from(
        &self,
        client: &Client,
        publication: &Publication<'_>,
        received: Option<Received<'_>>,
        worker: &mut Worker,
    ) -> Result<u64, ConnectionError> {
        match &self.log {
            None => self.publish_recorded(client, publication, received, worker, Unrecorded),
            Some(log) => {
                let tx = Transaction::new(Some(log));
                self.publish_recorded(client, publication, received, worker, tx)
            }
        }
    }

    fn publish_recorded(
        &self,
        client: &Client,
        publication: &Publication<'_>,
        received: Option<Received<'_>>,
        worker: &mut Worker,
        mut tx: impl Recorder,
    ) -> Result<u64, ConnectionError> {
        let publish = publication.publish();
        // What the broker says of itself is nobody else's to say.
        let permission = match publish.topic.as_bytes().starts_with(b"$SYS/") {
            true => Permission::Deny,
            false => self.hooks.authorize_publish(client, publish),
        };
        let replaced;
        let routed = match &permission {
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
            _ => Ok(after),
        }
    }

    /// Does what the end of absent clients' sessions left to do.
    fn forget(&self, displaced: Vec<Displaced>, tx: Transaction<'_>, worker: &mut Worker) {
        let ended = displaced.iter().filter_map(|displaced| displaced.ended.as_ref());
        let sessions: Vec<_> = ended.map(|ended| Arc::clone(&ended.session)).collect();
        self.settle(displaced, tx, worker);
        for session in sessions {
            self.hooks.session_ended(session.client_id());
        }
    }

    /// Does what ended connections or sessions left to do: first as part of the transaction in which
    /// they ended, then, when no lock is held, what hooks have a say in.
    ///
    /// The connection that this is called from may be another client's, so a hook that panics costs
    /// the messages at hand and nothing else.
    pub(crate) fn settle(
        &self,
        displaced: impl IntoIterator<Item = Displaced>,
        mut tx: Transaction<'_>,
        worker: &mut Worker,
    ) {
        let mut wills = Vec::new();
        let mut shared = Vec::new();
        for displaced in displaced {
            worker.wakes.extend(displaced.wakes);
            wills.extend(displaced.will);
            if let Some(Ended { session, subscriptions, shared: left }) = displaced.ended {
                let _changing = session.lock_subscriptions();
                for subscription in subscriptions {
                    self.router.unsubscribe(subscription.filter.as_topic_filter(), &session);
                }
                shared.extend(left);
            }
            if let Some(session) = displaced.left {
                shared.extend(self.take_shared_from(&session, &mut tx));
            }
        }
        let shared = self.share_again(shared, worker, &mut tx);
        drop(tx);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            for (message, reports) in shared {
                worker.reports = reports;
                self.report(&Publication::from(&message), worker);
            }
        }));
        for will in wills {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let publication = Publication::from(&will.message);
                // There is no connection that a refusal could end, and nobody to answer.
                let _ = self.publish_from(&will.client, &publication, None, worker);
                worker.congested.clear();
            }));
        }
    }

    /// The client of a session is gone: messages of its groups go to other members that are there.
    fn take_shared_from(&self, session: &Arc<Session>, tx: &mut impl Recorder) -> Vec<Queued> {
        let groups = session.lock().groups();
        let is_ready =
            |member: &Member| !member.is(session) && member.session.lock().is_ready(&self.config);
        let mut taken = Vec::new();
        for group in groups {
            if group.turn().iter().any(is_ready) {
                let mut state = session.lock();
                let shared = state.take_shared_if_absent(&group);
                for number in shared.iter().filter_map(|queued| queued.number) {
                    tx.record(Record::Withdraw { id: number, session: session.id().into() });
                }
                tx.touch(session, &mut state);
                taken.extend(shared);
            }
        }
        taken
    }

    /// Hands messages of groups to other members. Gives back what there is to report.
    fn share_again(
        &self,
        shared: Vec<Queued>,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Vec<(Message, Vec<Report>)> {
        let mut reports = Vec::new();
        for Queued { message, group, .. } in shared {
            let Some(group) = group else { continue };
            let publication = Publication::from(&message);
            let mut published = Published::default();
            self.deliver_to_one(&publication, &group, worker, tx, &mut published);
            tx.end_message(&publication);
            if published == Published::default() {
                drop_message(None, DropReason::NoMember, worker);
            }
            if !worker.reports.is_empty() {
                reports.push((message, std::mem::take(&mut worker.reports)));
            }
        }
        reports
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
                match state.replays.front() {
                    Some(replay) => replay.clone(),
                    None => return,
                }
            };
            let filter = replay.filter.as_topic_filter();
            let after = replay.after.as_ref().map(|topic| topic.as_topic_name());
            let batch = self.retained.matching(filter, after, MESSAGES, BYTES);
            let last = batch.last().map(|message| TopicNameBuf::from(message.topic()));
            let allowed: Vec<_> = batch
                .into_iter()
                .filter(|message| self.may_receive(session, message.topic(), true))
                .collect();

            let mut tx = self.transaction_for(session);
            let mut state = session.lock();
            // A connection that takes the session over goes on where this one is.
            if state.replays.front() != Some(&replay) {
                continue;
            }
            match (state.replays.front_mut(), last) {
                (Some(front), Some(last)) => front.after = Some(last),
                _ => {
                    state.replays.pop_front();
                    if state.replays.is_empty() {
                        // Most subscriptions are made once: an idle session holds no room for more.
                        state.replays = VecDeque::new();
                    }
                    tx.record(Record::Replayed {
                        session: session.id().into(),
                        filter: replay.filter,
                    });
                }
            }
            for message in allowed {
                let qos = self.config.delivery_qos(message.qos(), replay.qos);
                let message = message.with(qos, true);
                let number = tx.number(session, qos);
                if number.is_some() {
                    tx.add_receiver(session, qos, true, None);
                }
                tx.end_message(&Publication::from(&message));
                state.queue(message, number, &self.config);
            }
            state.pump(&self.config, worker, &mut tx);
            tx.touch(session, &mut state);
            state.wake(&self.config, &mut worker.wakes);
        }
    }

    /// A client id for a client that sent none, unlike any other and hard to guess
    /// [MQTT-3.1.3-6].
    pub(crate) fn give_client_id(&self) -> String {
        let n = self.ids_given.fetch_add(1, Ordering::Relaxed);
        let mark = FixedState::with_seed(self.config.hash_seed).hash_one(n);
        format!("{}{n:x}-{mark:016x}", self.config.auto_id_prefix)
    }

    /// Counts a client that is connected now.
    pub(crate) fn count_connected(&self) {
        let now = self.connected.fetch_add(1, Ordering::Relaxed) + 1;
        self.connected_maximum.fetch_max(now, Ordering::Relaxed);
    }

    /// Counts a client that is gone.
    pub(crate) fn count_disconnected(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the place of a connection back.
    pub(crate) fn count_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells whether a topic name is within the limits of length and levels.
    pub(crate) fn topic_fits(&self, topic: TopicName<'_>) -> bool {
        fits(topic.as_bytes(), &self.config)
    }

    /// The same for a filter.
    pub(crate) fn filter_fits(&self, filter: TopicFilter<'_>) -> bool {
        fits(filter.as_bytes(), &self.config)
    }
}

/// Counts a message that a session, or nobody at all, does not get.
fn drop_message(receiver: Option<Arc<Session>>, reason: DropReason, worker: &mut Worker) {
    worker.tally.publish_dropped += 1;
    worker.reports.push(Report { receiver, dropped: Some(reason) });
}

fn fits(topic: &[u8], config: &Config) -> bool {
    let levels = || topic.iter().filter(|&&byte| byte == b'/').count() + 1;
    // The short way first: a topic has at most one level more than bytes.
    topic.len() <= config.max_topic_length
        && (topic.len() < config.max_topic_levels || levels() <= config.max_topic_levels)
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
