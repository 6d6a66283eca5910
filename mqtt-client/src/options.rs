use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mqtt_codec::{MAX_PACKET, Packet, PublishBuf, QoS, TopicFilterBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::{AGES, Client, unix_millis};
use crate::connection::Driver;
use crate::endpoint::Endpoint;
use crate::error::{ConfigError, ConnectionError};
use crate::machine::{Config, Credentials};
use crate::message::Publish;
use crate::offline::{Limit, Offline};
use crate::receipt::Slot;
use crate::reconnect::Reconnect;
use crate::shared::{Finish, Handle, InboxLimit, Shared};
use crate::status::Status;
use crate::store::{Store, Writer};
use crate::subscription::{AckMode, Subscription};
use crate::transport::{Connector, Direction, Timeouts, Transports};

/// Largest packet taken from the broker by default: a payload of 1 MiB with any topic.
const MAX_INCOMING: usize = (1 << 20) + (64 << 10);

/// Messages in flight by default: as many as Mosquitto takes. Of more QoS 2 messages than its
/// `max_inflight_messages`, 2.0.11 acknowledges all and delivers only the first ones.
const WINDOW: u16 = 20;

/// Bytes received and not taken over which nothing is read. Far more than any broker's window of
/// usual messages.
const MAX_UNREAD: usize = 64 << 20;

/// The options of a client; [`Client::builder`] begins with the defaults.
///
/// Setters never fail: what is wrong shows when connecting, as [`ConfigError`].
#[must_use = "the client exists after `connect` or `start`"]
pub struct Builder {
    pub(crate) options: Options,
    handle: Arc<Handle>,
    finish: Finish,
    invalid: Option<ConfigError>,
    will: Option<Publish>,
    is_persistent: bool,
    store: Option<Box<dyn Store>>,
}

type Provider =
    dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Credentials>> + Send>> + Send + Sync;

/// What the task needs to know.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) credentials: Option<Arc<Provider>>,
    pub(crate) transports: Transports,
    pub(crate) timeouts: Timeouts,
    pub(crate) reconnect: Reconnect,
    pub(crate) machine: Config,
    pub(crate) publish: PublishOptions,
    pub(crate) acks: AckMode,
}

/// What publishing needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishOptions {
    pub(crate) offline: Offline,
    pub(crate) max_outgoing: usize,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        let machine = Config {
            client_id: random_client_id(),
            clean_session: true,
            keep_alive: Duration::from_secs(60),
            answer_within: Duration::ZERO,
            reply_within: Timeouts::default().reply,
            ack_within: None,
            will: None,
            limit: Limit::default(),
            window: WINDOW,
            replay_rate: None,
            max_incoming: MAX_INCOMING,
            resend_lost: false,
            max_unread: MAX_UNREAD,
        };
        let shared = Arc::new(Shared::new(machine.clone(), Instant::now().into_std()));
        let (endpoints, invalid) = match Endpoint::parse(url) {
            Ok(endpoint) => (vec![endpoint], None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let options = Options {
            endpoints,
            credentials: None,
            transports: Transports::default(),
            timeouts: Timeouts::default(),
            reconnect: Reconnect::default(),
            machine,
            publish: PublishOptions { offline: Offline::Queue, max_outgoing: MAX_PACKET },
            acks: AckMode::default(),
        };
        let finish = Finish { shared: shared.clone(), cause: None };
        let handle = Arc::new(Handle { shared });
        Self { options, handle, finish, invalid, will: None, is_persistent: false, store: None }
    }

    /// The name of the client at the broker (section 3.1.3.1). Default: `mqtt-` and random digits.
    /// Two clients with the same id disconnect each other.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.options.machine.client_id = id.into();
        self
    }

    /// Keeps the session at the broker while there is no connection (clean session 0, section
    /// 3.1.2.4): it goes on collecting messages of QoS 1 and 2 for the subscriptions. Needs a
    /// [`client_id`](Self::client_id) that is the same every time.
    ///
    /// Without a [`store`](Self::store), a program that is killed has forgotten which packet ids its
    /// messages of QoS 2 had, and the broker, which has not, may take a new message for one of them.
    pub fn persistent_session(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// User name and password (sections 3.1.3.4 and 3.1.3.5). They go before those of the URL.
    pub fn credentials(self, user: impl Into<String>, password: impl Into<Bytes>) -> Self {
        let (user, password) = (user.into(), password.into());
        self.credentials_from(move || {
            std::future::ready(Ok((user.clone(), Some(password.clone()))))
        })
    }

    /// Keeps accepted messages of QoS 1 and 2 in a store, so that they outlive the program. Implies
    /// [`persistent_session`](Self::persistent_session). Without one they are in memory.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Box::new(store));
        self.persistent_session()
    }

    /// Asks for user name and password before every attempt, so that tokens can be renewed. An error
    /// is a failed attempt.
    pub fn credentials_from<F, R>(mut self, provider: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<(String, Option<Bytes>)>> + Send + 'static,
    {
        self.options.credentials = Some(Arc::new(move || {
            let credentials = provider();
            Box::pin(async move { credentials.await.map(Some) })
        }));
        self
    }

    /// A packet is sent at least this often (whole seconds; default 60 s; 0 for never), and the
    /// connection is given up when nothing at all comes within `answer_within` of a PINGREQ, or the
    /// transport takes no byte for so long (section 3.1.2.10). The default for that, and for 0, is
    /// half the keep alive, at most 10 s.
    pub fn keep_alive(mut self, every: Duration, answer_within: Duration) -> Self {
        self.options.machine.keep_alive = every;
        self.options.machine.answer_within = answer_within;
        self
    }

    /// What the broker publishes when the client goes without DISCONNECT (section 3.1.2.5).
    pub fn will(mut self, message: impl Into<Publish>) -> Self {
        self.will = Some(message.into());
        self
    }

    /// Further brokers, to be tried in turn after a failed attempt. A session is not shared between
    /// brokers unless they are a cluster.
    pub fn brokers<'a>(mut self, urls: impl IntoIterator<Item = &'a str>) -> Self {
        for url in urls {
            match Endpoint::parse(url) {
                Ok(endpoint) => self.options.endpoints.push(endpoint),
                Err(error) => self.invalid = Some(error),
            }
        }
        self
    }

    /// Opens transports in another way; the URL then only names the place, and TLS and WebSocket are
    /// not added.
    pub fn connector(mut self, connector: impl Connector + 'static) -> Self {
        self.options.transports.connector = Some(Arc::new(connector));
        self
    }

    /// Opens the connections that TLS and WebSocket run over in another way than by TCP from any
    /// address of this machine, for instance through a proxy.
    pub fn dialer(mut self, dialer: impl Connector + 'static) -> Self {
        self.options.transports.dialer = Some(Arc::new(dialer));
        self
    }

    /// Calls `watcher` with each packet as it is written and read, to show what goes on. It runs on
    /// the client's task, which waits for it.
    pub fn watch_packets<F>(mut self, watcher: F) -> Self
    where
        F: Fn(Direction, &Packet<'_>) + Send + Sync + 'static,
    {
        self.options.transports.watcher = Some(Arc::new(watcher));
        self
    }

    /// How to trust the brokers of `mqtts://` and `wss://` URLs. Default: the authorities that the
    /// system trusts.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.options.transports.tls = Some(tls);
        self
    }

    /// Adds a header to the request that opens a WebSocket, as some proxies ask for.
    #[cfg(feature = "websocket")]
    pub fn websocket_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.transports.headers.push((name.into(), value.into()));
        self
    }

    /// Time limits of the steps.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.options.timeouts = timeouts;
        self
    }

    /// When to try again after a connection failed or ended.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.options.reconnect = reconnect;
        self
    }

    /// What happens to messages that cannot be sent at once.
    pub fn offline(mut self, policy: Offline) -> Self {
        self.options.publish.offline = policy;
        self
    }

    /// The bounds of the queue of messages that wait to be sent.
    pub fn queue_limit(mut self, limit: Limit) -> Self {
        self.options.machine.limit = limit;
        self
    }

    /// Messages a second that leave after an outage, until nothing waits any more: of many clients
    /// that come back together none floods whoever listens. Messages that are published meanwhile
    /// leave behind those that wait, so the rate has to be above that at which the program
    /// publishes. Default: as fast as the broker takes them.
    pub fn replay_rate(mut self, messages_per_second: u32) -> Self {
        self.options.machine.replay_rate = Some(messages_per_second);
        self
    }

    /// Messages of QoS 1 and 2 in flight, 1 to 65,535. Default 20, which is what Mosquitto takes;
    /// more is faster where the broker takes more. With 1, messages of a topic keep their order
    /// even when they have to be sent again (section 4.6).
    pub fn inflight(mut self, window: u16) -> Self {
        self.options.machine.window = window;
        self
    }

    /// When received messages of QoS 1 and 2 are acknowledged; can be set for each subscription.
    pub fn acks(mut self, mode: AckMode) -> Self {
        self.options.acks = mode;
        self
    }

    /// Limits of packets in bytes, fixed header included. Default 1 MiB and 64 KiB for incoming
    /// ones, over which the connection is closed, and what MQTT allows (256 MiB) for outgoing ones,
    /// over which publishing fails.
    pub fn max_packet(mut self, incoming: usize, outgoing: usize) -> Self {
        self.options.machine.max_incoming = incoming;
        self.options.publish.max_outgoing = outgoing.min(MAX_PACKET);
        self
    }

    /// The bound of the QoS 0 messages that wait in one stream, beyond which the oldest are dropped
    /// and counted. Default 65,536 messages and 4 MiB.
    pub fn stream_limit(self, messages: usize, bytes: usize) -> Self {
        self.handle.shared.lock().inbox_limit = InboxLimit { messages: messages.max(1), bytes };
        self
    }

    /// Bytes received and not taken by the application, over all streams, over which nothing is
    /// read from the broker. Default 64 MiB. A last resort against a broker without a window.
    pub fn max_unread(mut self, bytes: usize) -> Self {
        self.options.machine.max_unread = bytes.max(1);
        self
    }

    /// Sends QoS 2 messages again when the broker forgot the session while they were in flight.
    /// They may then be delivered twice; by default they end with
    /// [`Undelivered::SessionLost`](crate::Undelivered::SessionLost) instead.
    pub fn resend_lost(mut self) -> Self {
        self.options.machine.resend_lost = true;
        self
    }

    /// A subscription that is there before CONNECT, so that what a kept session delivers at once
    /// has a place to go. If the broker refuses it, the stream ends.
    pub fn subscription(self, filter: &str, qos: QoS) -> (Self, Subscription) {
        let acks = self.options.acks;
        self.subscription_with(filter, qos, acks)
    }

    /// The same with its own way of acknowledging.
    pub fn subscription_with(self, filter: &str, qos: QoS, acks: AckMode) -> (Self, Subscription) {
        self.subscription_all([(filter, qos)], acks)
    }

    /// The same for several filters with one stream, which gets each message once.
    pub fn subscription_all<'a>(
        mut self,
        filters: impl IntoIterator<Item = (&'a str, QoS)>,
        acks: AckMode,
    ) -> (Self, Subscription) {
        let mut valid = Vec::new();
        for (filter, qos) in filters {
            match TopicFilterBuf::new(filter) {
                Ok(filter) => valid.push((filter, qos)),
                Err(error) => self.invalid = Some(ConfigError::Filter(filter.to_owned(), error)),
            }
        }
        let takes = acks != AckMode::Received;
        let stream = self.handle.shared.with(|state| match valid.is_empty() {
            true => state.add_closed_inbox(),
            false => state.subscribe(valid, takes),
        });
        // Whether the session is persistent may be said later.
        let subscription = Subscription::new(self.handle.clone(), stream, acks, false);
        (self, subscription)
    }

    /// Connects, and keeps connected from then on. Has to be called on a tokio runtime with timers
    /// and I/O, on which the client's task then runs.
    ///
    /// # Errors
    /// If the options are contradictory or the first attempt fails; with several brokers, an attempt
    /// at each. Dropping the future before it is ready ends the client.
    pub async fn connect(self) -> Result<Client, ConnectionError> {
        let handle = self.handle.clone();
        let client = self.launch(true)?;
        let mut status = client.status();
        loop {
            match &*status.borrow_and_update() {
                Status::Stopped(Some(cause)) => return Err(cause.clone()),
                Status::Stopped(None) => return Err(ConnectionError::Aborted),
                // It may be over already, before anybody saw it: the client goes on.
                _ if handle.shared.lock().has_connected => break,
                _ => {}
            }
            if status.changed().await.is_err() {
                return Err(ConnectionError::Aborted);
            }
        }
        Ok(client)
    }

    /// Returns at once and connects in the background, also when the broker is not there yet. Has
    /// to be called on a tokio runtime, as [`connect`](Self::connect).
    ///
    /// # Errors
    /// If the options contradict each other.
    pub fn start(self) -> Result<Client, ConfigError> {
        self.launch(false)
    }

    fn launch(mut self, first_must_succeed: bool) -> Result<Client, ConfigError> {
        self.check()?;
        let Self { options, handle, finish, store, .. } = self;
        let shared = &handle.shared;
        shared.lock().machine.configure(options.machine.clone());
        let stored = match store {
            Some(store) => Some(restore(store, &options.machine.client_id, shared)?),
            None => None,
        };
        let client = Client::new(handle.clone(), &options);
        let driver = Driver::new(finish, options);
        tokio::spawn(driver.run(first_must_succeed, stored));
        Ok(client)
    }

    fn check(&mut self) -> Result<(), ConfigError> {
        if let Some(invalid) = self.invalid.take() {
            return Err(invalid);
        }
        let Self { options, will, .. } = self;
        let machine = &mut options.machine;
        machine.clean_session = !self.is_persistent;
        if machine.client_id.is_empty() && self.is_persistent {
            return Err(ConfigError::EmptyClientId);
        }
        mqtt_codec::Text::new(&machine.client_id)
            .map_err(|error| ConfigError::Text("client id", error))?;
        if machine.window == 0 {
            return Err(ConfigError::Value("an in-flight window of 0 sends nothing"));
        }
        if machine.replay_rate == Some(0) {
            return Err(ConfigError::Value("a replay rate of 0 messages a second sends nothing"));
        }
        if machine.limit.messages == 0 {
            return Err(ConfigError::Value("a queue of 0 messages takes nothing"));
        }
        if machine.keep_alive.as_secs() > u16::MAX.into() {
            return Err(ConfigError::Value("the longest keep alive is 65,535 seconds"));
        }
        if !machine.keep_alive.is_zero() && machine.keep_alive < Duration::from_secs(1) {
            return Err(ConfigError::Value("the shortest keep alive is 1 second"));
        }
        if machine.answer_within.is_zero() {
            let ten = Duration::from_secs(10);
            machine.answer_within = match machine.keep_alive {
                Duration::ZERO => ten,
                keep_alive => (keep_alive / 2).min(ten),
            };
        }
        machine.answer_within = machine.answer_within.min(AGES);
        machine.reply_within = options.timeouts.reply.min(AGES);
        machine.ack_within = options.timeouts.ack.map(|limit| limit.min(AGES));
        machine.will = will.take().map(checked_will).transpose()?;
        for endpoint in &options.endpoints {
            options.transports.prepare(endpoint)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("endpoints", &self.options.endpoints)
            .finish_non_exhaustive()
    }
}

/// Takes up what the store has kept, and starts its thread. The receiver hears of that one's end.
fn restore(
    mut store: Box<dyn Store>,
    client_id: &str,
    shared: &Arc<Shared>,
) -> Result<oneshot::Receiver<()>, ConfigError> {
    let failed = |error: io::Error| ConfigError::Store(error.to_string().into());
    let snapshot = store.load(client_id).map_err(failed)?;
    let (writer, ended) = Writer::start(store, Arc::downgrade(shared)).map_err(failed)?;
    let (now, unix_now) = (Instant::now().into_std(), unix_millis(SystemTime::now()));
    let expires =
        |at: u64| (at > 0).then(|| now + Duration::from_millis(at.saturating_sub(unix_now)));
    shared.with(|state| {
        state.store = Some(writer);
        let receipts = &mut state.receipts;
        state.machine.restore(snapshot, || receipts.insert(Slot::Dropped), expires);
    });
    Ok(ended)
}

fn checked_will(will: Publish) -> Result<PublishBuf, ConfigError> {
    let invalid = |reason: &dyn fmt::Display| ConfigError::Will(reason.to_string().into());
    let topic = will.topic.map_err(|error| invalid(&error))?;
    if will.payload.len() > usize::from(u16::MAX) {
        return Err(invalid(&"a will message has at most 65,535 bytes"));
    }
    PublishBuf::from_parts(topic.as_topic_name(), &will.payload, will.qos, will.retain)
        .map_err(|error| invalid(&error))
}

/// At most 23 letters and digits are what every broker has to take [MQTT-3.1.3-5].
fn random_client_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("mqtt{:016x}", RandomState::new().hash_one(0))
}
