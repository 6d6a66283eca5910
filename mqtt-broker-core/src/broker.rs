use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use foldhash::fast::FixedState;
use mqtt_codec::{QoS, TopicFilter, TopicName, TopicNameBuf};

use crate::hooks::{Client, DropReason, Hooks, Interests, PeerInfo, Permission};
use crate::local::LocalSubscription;
use crate::publication::Publication;
use crate::retained::Retained;
use crate::router::{Group, Member, Route, Router};
use crate::session::{Displaced, Ended, Outcome, Queued, Registry, Session};
use crate::stats::{Counters, Tally};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering};
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
    interests: Interests,
    pub(crate) registry: Registry,
    pub(crate) router: Router,
    pub(crate) retained: Retained,
    pub(crate) counters: Counters,
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
        let shared = Shared {
            interests: hooks.interests(),
            hooks: Box::new(hooks),
            registry: Registry::new(config.hash_seed),
            router: Router::new(config.hash_seed),
            retained: Retained::default(),
            counters: Counters::default(),
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
            let published = self.shared.route(&Publication::from(message), worker);
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
        let (expired, next) = self.shared.registry.expire(&self.shared.config, now);
        self.with_worker(|worker| {
            worker.tally.sessions_expired += expired.len() as u64;
            for displaced in expired {
                self.shared.forget(displaced, worker);
            }
        });
        next
    }

    /// Ends the session of a client that is away. False when there is none, or its client is
    /// connected: [`disconnect`](Self::disconnect) it first.
    pub fn delete_session(&self, client_id: &str) -> bool {
        let displaced = self.shared.registry.delete(client_id);
        let found = displaced.is_some();
        self.with_worker(|worker| {
            displaced.into_iter().for_each(|displaced| self.shared.forget(displaced, worker));
        });
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

    /// The counters and gauges. It looks at every session, so ask some times a second at most.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (retained, retained_bytes) = shared.retained.size();
        Stats {
            clients_connected: shared.connected.load(Ordering::Relaxed),
            clients_maximum: shared.connected_maximum.load(Ordering::Relaxed),
            subscriptions: shared.router.len() as u64,
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

impl Shared {
    /// Hands a message to every session with a matching subscription [MQTT-4.5.0-1], and keeps it
    /// when RETAIN is set. Receivers that want no more for now are left in `worker.congested`.
    ///
    /// The retained store comes first: a subscriber that comes in between gets the message twice,
    /// where the other order could lose it.
    pub(crate) fn route(&self, publication: &Publication<'_>, worker: &mut Worker) -> Published {
        let mut published = Published::default();
        let topic = publication.publish().topic;
        if publication.publish().retain
            && self.retained.set(publication.message(), &self.config).is_err()
        {
            self.drop_message(publication, None, DropReason::RetainedFull, worker);
        }
        let mut routes = std::mem::take(&mut worker.routes);
        self.router.routes(topic, self.config.deliver_overlaps, &mut routes, &mut worker.walk);
        for route in routes.drain(..) {
            match route {
                Route::One { session, qos } => {
                    self.deliver(publication, session, qos, worker, &mut published);
                }
                Route::Group(group) => {
                    self.deliver_to_one(publication, &group, worker, &mut published);
                }
            }
        }
        worker.routes = routes;
        published
    }

    fn deliver(
        &self,
        publication: &Publication<'_>,
        session: Arc<Session>,
        qos: QoS,
        worker: &mut Worker,
        published: &mut Published,
    ) {
        match self.offer(publication, &session, qos, None, worker) {
            Outcome::NotMeant => {}
            Outcome::Dropped(reason) => {
                self.drop_message(publication, Some(&session), reason, worker);
                published.dropped += 1;
            }
            outcome => {
                published.receivers += 1;
                if outcome == Outcome::Congested {
                    worker.congested.push(session);
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
        published: &mut Published,
    ) {
        let turn = group.turn();
        let (ready, others): (Vec<_>, Vec<_>) =
            turn.iter().partition(|member| member.session.lock().is_ready(&self.config));
        let mut refused = None;
        for Member { session, qos } in ready.into_iter().chain(others) {
            match self.offer(publication, session, *qos, Some(group), worker) {
                Outcome::NotMeant => {}
                Outcome::Dropped(reason) => refused = Some((session, reason)),
                Outcome::Accepted | Outcome::Congested => {
                    published.receivers += 1;
                    return;
                }
            }
        }
        if let Some((session, reason)) = refused {
            self.drop_message(publication, Some(session), reason, worker);
            published.dropped += 1;
        }
    }

    /// Hands a message to one session, if its client may have it.
    fn offer(
        &self,
        publication: &Publication<'_>,
        session: &Session,
        qos: QoS,
        group: Option<&Arc<Group>>,
        worker: &mut Worker,
    ) -> Outcome {
        if !self.may_receive(session, publication.publish().topic, false) {
            return Outcome::Dropped(DropReason::NotAuthorized);
        }
        let outcome = {
            let mut state = session.lock();
            let outcome = state.deliver(publication, qos, group, &self.config, worker);
            state.wake(&self.config, &mut worker.wakes);
            outcome
        };
        if self.interests.delivered && matches!(outcome, Outcome::Accepted | Outcome::Congested) {
            self.hooks.delivered(session.client_id(), publication.publish());
        }
        outcome
    }

    /// Counts a message that a session, or nobody at all, does not get.
    fn drop_message(
        &self,
        publication: &Publication<'_>,
        receiver: Option<&Session>,
        reason: DropReason,
        worker: &mut Worker,
    ) {
        worker.tally.publish_dropped += 1;
        let receiver = receiver.map(Session::client_id);
        self.hooks.dropped(receiver, publication.publish().topic, reason);
    }

    /// Asks the hooks, if they have a say in it, whether a session's client may have a message.
    fn may_receive(&self, session: &Session, topic: TopicName<'_>, retained: bool) -> bool {
        if !self.interests.delivery_rules {
            return true;
        }
        let owner = session.lock().owner.clone();
        owner.is_none_or(|owner| self.hooks.authorize_delivery(&owner, topic, retained))
    }

    /// Routes a client's message, if it may publish it [MQTT-3.3.5-2].
    pub(crate) fn publish_from(
        &self,
        client: &Client,
        publication: &Publication<'_>,
        worker: &mut Worker,
    ) -> Result<(), ConnectionError> {
        let publish = publication.publish();
        // What the broker says of itself is nobody else's to say.
        let permission = match publish.topic.as_bytes().starts_with(b"$SYS/") {
            true => Permission::Deny,
            false => self.hooks.authorize_publish(client, publish),
        };
        let published = match permission {
            Permission::Allow => self.route(publication, worker),
            Permission::Replace(message) => self.route(&Publication::from(&message), worker),
            Permission::Deny | Permission::Disconnect => {
                self.drop_message(publication, None, DropReason::NotAuthorized, worker);
                return match permission {
                    Permission::Disconnect => Err(ConnectionError::NotAuthorized),
                    _ => Ok(()),
                };
            }
        };
        if self.interests.published {
            self.hooks.published(client, publish, published);
        }
        Ok(())
    }

    /// Does what the end of an absent client's session left to do.
    fn forget(&self, displaced: Displaced, worker: &mut Worker) {
        let session = displaced.ended.as_ref().map(|ended| Arc::clone(&ended.session));
        self.settle(displaced, worker);
        if let Some(session) = session {
            self.hooks.session_ended(session.client_id());
        }
    }

    /// Does what an ended connection or session left to do, when no lock is held.
    ///
    /// The connection that this is called from may be another client's, so a hook that panics costs
    /// the messages at hand and nothing else.
    pub(crate) fn settle(&self, displaced: Displaced, worker: &mut Worker) {
        let Displaced { ended, left, will, wakes } = displaced;
        worker.wakes.extend(wakes);
        let shared = ended.map_or_else(Vec::new, |Ended { session, subscriptions, shared }| {
            let _changing = session.lock_subscriptions();
            for subscription in subscriptions {
                self.router.unsubscribe(subscription.filter.as_topic_filter(), &session);
            }
            shared
        });
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.share_again(shared, worker);
            if let Some(session) = left {
                self.share_messages_of(&session, worker);
            }
        }));
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if let Some(will) = will {
                let publication = Publication::from(&will.message);
                // There is no connection that a refusal could end.
                let _ = self.publish_from(&will.client, &publication, worker);
                worker.congested.clear();
            }
        }));
    }

    /// The client of a session is gone: messages of its groups go to other members that are there.
    fn share_messages_of(&self, session: &Session, worker: &mut Worker) {
        let groups = session.lock().groups();
        for group in groups {
            let is_ready = |member: &Member| {
                !member.is(session) && member.session.lock().is_ready(&self.config)
            };
            if group.turn().iter().any(is_ready) {
                let shared = session.lock().take_shared_if_absent(&group);
                self.share_again(shared, worker);
            }
        }
    }

    fn share_again(&self, shared: Vec<Queued>, worker: &mut Worker) {
        for Queued { message, group } in shared {
            let Some(group) = group else { continue };
            let publication = Publication::from(&message);
            let mut published = Published::default();
            self.deliver_to_one(&publication, &group, worker, &mut published);
            if published == Published::default() {
                self.drop_message(&publication, None, DropReason::NoMember, worker);
            }
        }
    }

    /// Sends retained messages to subscriptions that have not had all of them, as far as the session
    /// has room.
    pub(crate) fn replay(&self, session: &Session, worker: &mut Worker) {
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

            let mut state = session.lock();
            // A connection that takes the session over goes on where this one is.
            if state.replays.front() != Some(&replay) {
                continue;
            }
            match (state.replays.front_mut(), last) {
                (Some(front), Some(last)) => front.after = Some(last),
                _ => drop(state.replays.pop_front()),
            }
            for message in allowed {
                let qos = self.config.delivery_qos(message.qos(), replay.qos);
                state.queue(message.with(qos, true));
            }
            state.pump(&self.config, worker);
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
