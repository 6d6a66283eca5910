mod delivery;
mod ends;
mod restore;
mod run;

use std::hash::BuildHasher;
use std::task::{Context, Poll};
use std::time::Instant;

use foldhash::fast::FixedState;
use mqtt_codec::{QoS, TopicFilter, TopicName};

#[cfg(feature = "tokio")]
use crate::driver::Alarms;
use crate::hooks::{Hooks, Interests, PeerInfo};
use crate::journal::{Log, Recorder, Transaction, Wait};
use crate::local::LocalSubscription;
use crate::moment::Origin;
use crate::publication::Publication;
use crate::retained::{Kept, Retained};
use crate::router::Router;
use crate::session::{Registry, Session};
use crate::stats::{Counters, Tally};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::{Closed, Config, Connection, Message, SessionInfo, Stats, TooManyConnections, Worker};

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
    pub(crate) origin: Arc<Origin>,
    /// Client ids given so far.
    ids_given: AtomicU64,
    /// Workers at rest. Which thread takes which does not matter.
    #[expect(clippy::vec_box, reason = "a worker is handed over with every turn: one word")]
    workers: Mutex<Vec<Box<Worker>>>,
    /// For the driver: the keep alives of its connections.
    #[cfg(feature = "tokio")]
    pub(crate) alarms: Arc<Alarms>,
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

    /// Waits until everything is durable that has happened until now: all messages that
    /// [`publish`](Self::publish) has taken, for instance. At once without a
    /// [`Journal`](crate::Journal); never when its store has failed.
    pub async fn flush(&self) {
        let last = self.shared.log.as_ref().map_or(0, |log| log.last());
        let mut wait = Wait::new(last, false);
        std::future::poll_fn(|cx| self.shared.poll_durable(&mut wait, cx)).await;
    }

    fn with_log(config: Config, hooks: impl Hooks, log: Option<Arc<Log>>) -> Self {
        let origin = Arc::<Origin>::default();
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
            #[cfg(feature = "tokio")]
            alarms: Arc::new(Alarms::new(&origin)),
            origin,
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
        let now = shared.origin.moment(now);
        let (expired, next) = shared.registry.expire(&shared.config, now, &mut tx);
        self.with_worker(|worker| {
            worker.tally.sessions_expired += expired.len() as u64;
            shared.forget(expired, tx, worker);
        });
        shared.origin.time(next?)
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
        let Shared { registry, router, .. } = self.shared();
        registry.list().iter().filter_map(|session| session.info(router)).collect()
    }

    /// Up to `count` retained messages that match, in the order of their topics: the first ones, or
    /// those behind `after`.
    pub fn retained(
        &self,
        filter: TopicFilter<'_>,
        after: Option<TopicName<'_>>,
        count: usize,
    ) -> Vec<Message> {
        let found = self.shared.retained.matching(filter, after, count, usize::MAX);
        found.iter().map(Kept::message).collect()
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
        let mut worker = self.lend_worker();
        let result = work(&mut worker);
        self.take_back(worker);
        result
    }

    /// The same in two steps.
    pub(crate) fn lend_worker(&self) -> Box<Worker> {
        self.shared.workers.lock().pop().unwrap_or_default()
    }

    pub(crate) fn take_back(&self, mut worker: Box<Worker>) {
        worker.finish(&self.shared.counters);
        self.shared.workers.lock().push(worker);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.iter().for_each(|log| log.close());
    }
}

impl Shared {
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

    /// Whether the journal is not too far behind for sessions that are to be kept.
    pub(crate) fn takes_sessions(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.takes_sessions())
    }

    /// Whether a client whose last change is in batch `after` should wait for it without an answer.
    pub(crate) fn is_journal_behind(&self, after: u64) -> bool {
        after > 0 && self.log.as_ref().is_some_and(|log| log.is_behind())
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

    fn interests(&self) -> Interests {
        Interests::from_bits(self.interests.load(Ordering::Relaxed))
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
