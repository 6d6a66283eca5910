//! Listeners and their connections, from the start of the broker to its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use mqtt_broker_core::{Broker, Message, MountPoint, PeerInfo, ServeError, serve_connection};
use mqtt_codec::{QoS, TopicName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, timeout_at};
use tracing::{debug, info, warn};

use crate::access::{AUTO_ID_PREFIX, Access, AccessError};
use crate::config::{Config, Listener, Protocol};
use crate::descriptors;
use crate::doors::Doors;
use crate::guarded::Guarded;
use crate::listener::{BindError, Socket, Stream, bind};
use crate::log::{NOTICE, TopicLog};
use crate::memory::Heap;
use crate::metrics::Metrics;
use crate::persistence::{Persistence, PersistenceError};
use crate::reactor::TcpConnection;
use crate::sys::Sys;
use crate::tls::{TlsError, TlsServer};
use crate::websocket::{self, Answer, Web, WebSocket};
use crate::workers::Workers;

/// How long connected clients may take to read what is left for them at the end. Mosquitto's users
/// expect a broker to be gone within 10 seconds.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long connections without a client may take then: those that wait for their last bytes to be
/// read, for which the core gives them a second, and those that never sent a CONNECT.
const LAST_BYTES: Duration = Duration::from_millis(1200);

/// How often the end looks who is left.
const LOOK: Duration = Duration::from_millis(50);

/// Waiting time after an accept that failed because something has run out. Connections that end
/// meanwhile give back what is missing.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// The largest packet that the protocol has, with its fixed header.
const LARGEST_PACKET: usize = 268_435_455 + 5;

/// How often the broker looks for sessions that have expired, at least.
const SWEEP: Duration = Duration::from_secs(60);

/// A broker whose listeners are open.
pub struct Server {
    broker: Broker,
    metrics: Option<Metrics>,
    sys_interval: Option<Duration>,
    access: Access,
    doors: Doors,
    sockets: Vec<(Socket, Arc<Rules>)>,
    persistence: Option<Persistence>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A password or ACL file cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A certificate, a key or a revocation list cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The folder of a listener's web pages cannot be read.
    #[error("{}: {error}", folder.display())]
    HttpDir {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Persistence(#[from] PersistenceError),
    /// The listener for metrics cannot be opened.
    #[error("cannot listen for metrics on port {port}: {error}")]
    Metrics {
        /// Its port.
        port: u16,
        /// Why.
        error: io::Error,
    },
}

/// What all connections of a listener have in common.
struct Rules {
    number: usize,
    tcp_nodelay: bool,
    protocol: Protocol,
    mount_point: Option<MountPoint>,
    tls: Option<TlsServer>,
    web: Web,
    /// The largest message of a WebSocket.
    max_message: usize,
    /// A permit for each connection, where the listener has a limit.
    places: Option<Arc<Semaphore>>,
    access: Access,
}

/// What an accept loop and its connections have in common, so that each of them holds one word.
struct Entrance {
    broker: Broker,
    doors: Arc<Doors>,
    rules: Arc<Rules>,
    /// Dropped with the last connection, for which the server waits at its end.
    _open: mpsc::Sender<()>,
}

/// A connection's places in the broker and at its listener, from its accept on: a handshake of TLS or
/// WebSocket takes them as well.
struct Place(Arc<Entrance>);

impl Server {
    /// Reads the files that a configuration names and opens all its listeners. `heap` is what
    /// `memory_limit` is about.
    ///
    /// # Errors
    /// When a file cannot be used or a listener not be opened.
    pub async fn start(config: &Config, heap: Heap) -> Result<Self, ServerError> {
        let descriptors = descriptors::raise_limit();
        let access = Access::new(config, heap)?;
        let (limits, hooks) = (limits(config, descriptors), access.clone());
        let (broker, persistence) = match &config.persistence {
            None => (Broker::new(limits, hooks), None),
            Some(file) => {
                let user = config.user.as_deref();
                let (broker, persistence) = Persistence::restore(file, user, limits, hooks)?;
                (broker, Some(persistence))
            }
        };
        access.attach(&broker);
        let mut sockets = Vec::new();
        for (number, listener) in config.listeners.iter().enumerate() {
            if let Some(folder) = &listener.http_dir {
                let failed = |error| ServerError::HttpDir { folder: folder.clone(), error };
                std::fs::read_dir(folder).map_err(failed)?;
            }
            let rules = Arc::new(Rules::new(number, listener, config, &access)?);
            for socket in bind(listener).await? {
                sockets.push((socket, Arc::clone(&rules)));
            }
        }
        let metrics = match config.metrics {
            Some((port, address)) => {
                let bound = Metrics::bind(address, port, broker.clone(), access.clone()).await;
                Some(bound.map_err(|error| ServerError::Metrics { port, error })?)
            }
            None => None,
        };
        let doors = Doors::new(config, broker.config().max_connections, access.clone());
        let sys_interval = config.sys_interval;
        Ok(Self { broker, metrics, sys_interval, access, doors, sockets, persistence })
    }

    /// Where it listens, as text for people.
    pub fn places(&self) -> String {
        let places: Vec<_> = self.sockets.iter().map(|(socket, _)| socket.place()).collect();
        places.join(", ")
    }

    /// How much it takes and what it keeps, as text for people.
    pub fn limits(&self) -> String {
        let limits = self.broker.config();
        let memory = match self.access.memory().limit() {
            usize::MAX => "all memory".to_owned(),
            bytes => format!("{} MiB of memory", bytes >> 20),
        };
        let durability = match self.persistence {
            None => "in memory only",
            Some(_) => "on the disk before they are acknowledged",
        };
        format!(
            "packets of up to {} bytes, at most {} connections and {memory}, sessions and messages \
             {durability}",
            limits.max_packet, limits.max_connections
        )
    }

    /// What can be read anew while the server runs.
    pub fn reloader(&self) -> Reloader {
        let rules = self.sockets.iter().map(|(_, rules)| Arc::clone(rules)).collect();
        Reloader { access: self.access.clone(), rules }
    }

    /// Serves, and publishes what is logged, until `end` is ready. Then it closes all connections and
    /// waits until what was on its way is written.
    pub async fn run(self, workers: Workers, log: TopicLog, end: impl Future<Output = ()>) {
        let (tell, ending) = watch::channel(false);
        let (open, closed) = mpsc::channel(1);
        let (workers, doors) = (Arc::new(workers), Arc::new(self.doors));
        for (socket, rules) in self.sockets {
            let (broker, doors) = (self.broker.clone(), Arc::clone(&doors));
            let entrance = Arc::new(Entrance { broker, doors, rules, _open: open.clone() });
            tokio::spawn(accept_loop(socket, entrance, Arc::clone(&workers), ending.clone()));
        }
        drop(open);
        if let Some(metrics) = self.metrics {
            tokio::spawn(metrics.serve());
        }
        tokio::select! {
            () = end => {}
            () = sweep(&self.broker) => {}
            () = publish_sys(&self.broker, &self.access, self.sys_interval) => {}
            () = log.publish_with(|line| publish(&self.broker, &line.topic, &line.text)) => {}
        }
        let _ = tell.send(true);
        close_all(&self.broker, closed).await;
        if let Some(persistence) = self.persistence {
            persistence.save(&self.broker).await;
        }
    }
}

/// Reads files anew while a server runs.
pub struct Reloader {
    access: Access,
    rules: Vec<Arc<Rules>>,
}

impl Reloader {
    /// Reads the password and ACL files of a configuration and the certificates of the listeners.
    ///
    /// # Errors
    /// For the first file that cannot be used. Nothing is changed then.
    pub fn reload(&self, config: &Config) -> Result<(), ServerError> {
        let servers: Vec<_> = self.rules.iter().filter_map(|rules| rules.tls.as_ref()).collect();
        let read: Vec<_> = servers.iter().map(|tls| tls.read_anew()).collect::<Result<_, _>>()?;
        self.access.reload(config)?;
        for (tls, certificates) in servers.into_iter().zip(read) {
            tls.replace(certificates);
        }
        Ok(())
    }
}

impl Rules {
    fn new(
        number: usize,
        listener: &Listener,
        config: &Config,
        access: &Access,
    ) -> Result<Self, TlsError> {
        let places = listener
            .max_connections
            .map(|limit| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))));
        Ok(Self {
            number,
            tcp_nodelay: config.tcp_nodelay,
            protocol: listener.protocol,
            mount_point: listener.mount_point.clone(),
            tls: listener.tls.as_ref().map(TlsServer::read).transpose()?,
            web: Web { origins: listener.origins.clone(), http_dir: listener.http_dir.clone() },
            max_message: config.messages.max_packet.unwrap_or(LARGEST_PACKET),
            places,
            access: access.clone(),
        })
    }
}

async fn accept_loop(
    socket: Socket,
    entrance: Arc<Entrance>,
    workers: Arc<Workers>,
    mut ending: watch::Receiver<bool>,
) {
    let mut exhausted = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept(entrance.rules.tcp_nodelay) => accepted,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        match accepted {
            Ok(stream) => {
                if exhausted {
                    info!(target: NOTICE, "{} accepts connections again", socket.place());
                }
                exhausted = false;
                if let Some(place) = Place::take(&entrance, &stream)
                    && let Err(error) = start(&workers, stream, place)
                {
                    debug!("a connection of {} is closed: {error}", socket.place());
                }
            }
            Err(error) if descriptors::are_exhausted(&error) => {
                // Once, not each time: the log would be flooded as well.
                if !exhausted {
                    warn!("{} accepts nobody for now: {error}", socket.place());
                }
                exhausted = true;
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            // The peer was gone before we looked.
            Err(error) => debug!("accept: {error}"),
        }
    }
}

impl Place {
    /// Places for a connection. `None` when it is to be closed, which the log tells.
    fn take(entrance: &Arc<Entrance>, stream: &Stream) -> Option<Self> {
        if !entrance.doors.admit(stream) {
            return None;
        }
        if let Some(places) = &entrance.rules.places {
            match places.try_acquire() {
                Ok(place) => place.forget(),
                Err(_) => {
                    entrance.doors.leave();
                    debug!("all connections of listener {} are taken", entrance.rules.number);
                    return None;
                }
            }
        }
        Some(Self(Arc::clone(entrance)))
    }

    /// Tells the log how its connection ended.
    fn end(self, result: Result<(), ServeError>) {
        match result {
            // The hooks have told how the client ended.
            Ok(()) => {}
            Err(ServeError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => {
                debug!("a connection of listener {} ended: {error}", self.0.rules.number);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Entrance { doors, rules, .. } = &*self.0;
        rules.places.iter().for_each(|places| places.add_permits(1));
        doors.leave();
    }
}

/// Has a worker serve a connection over whatever its listener speaks.
///
/// The task of most clients, which have plain TCP, is put together from futures: an `async fn` would
/// have room for its arguments and a second place for what it awaits, for as long as the client is there.
fn start(workers: &Workers, stream: Stream, place: Place) -> io::Result<()> {
    let Entrance { broker, rules, .. } = &*place.0;
    let mut peer = PeerInfo::default();
    peer.listener = rules.number;
    peer.mount_point.clone_from(&rules.mount_point);
    peer.opened = Some(Instant::now());
    let (broker, rules) = (broker.clone(), Arc::clone(rules));
    match (stream, &rules.tls, rules.protocol) {
        (Stream::Tcp(stream, address), None, Protocol::Mqtt) => {
            peer.address = Some(address);
            workers.spawn(stream, |stream| {
                let stream = Guarded::new(stream, rules.access.clone());
                serve_connection(&broker, stream, peer).map(|result| place.end(result.map(drop)))
            })
        }
        (Stream::Tcp(stream, address), ..) => {
            peer.address = Some(address);
            workers.spawn(stream, |stream| {
                Box::pin(async move {
                    let served = match &rules.tls {
                        Some(tls) => serve_tls(&broker, stream, tls, peer, &rules).await,
                        None => serve_inside(&broker, stream, peer, &rules).await,
                    };
                    place.end(served);
                })
            })
        }
        (Stream::Unix(stream), ..) => workers.spawn(stream, |stream| {
            Box::pin(async move {
                place.end(serve_inside(&broker, stream, peer, &rules).await);
            })
        }),
    }
}

/// Shakes hands, then serves.
async fn serve_tls(
    broker: &Broker,
    stream: TcpConnection,
    tls: &TlsServer,
    mut peer: PeerInfo,
    rules: &Rules,
) -> Result<(), ServeError> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time");
    let handshake = timeout_at(deadline(broker, &peer), tls.accept(stream));
    let stream = handshake.await.map_err(late)??;
    peer.identity = tls.identity(&stream)?;
    serve_inside(broker, stream, peer, rules).await
}

/// Serves a transport, as it is or as the one of a WebSocket.
async fn serve_inside<T>(
    broker: &Broker,
    stream: T,
    peer: PeerInfo,
    rules: &Rules,
) -> Result<(), ServeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Guarded::new(stream, rules.access.clone());
    match rules.protocol {
        Protocol::Mqtt => serve_connection(broker, stream, peer).await.map(drop),
        Protocol::WebSockets => Box::pin(serve_web(broker, stream, peer, rules)).await,
    }
}

/// Answers a request, and serves when it is for a WebSocket.
async fn serve_web<T>(
    broker: &Broker,
    mut stream: T,
    peer: PeerInfo,
    rules: &Rules,
) -> Result<(), ServeError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match websocket::answer(&mut stream, &rules.web, deadline(broker, &peer)).await? {
        Answer::Over => Ok(()),
        Answer::WebSocket(read) => {
            let socket = WebSocket::new(stream, read, rules.max_message).await;
            serve_connection(broker, socket, peer).await.map(drop)
        }
    }
}

/// When a client has to be admitted: handshakes come before its CONNECT, and are in the same time.
fn deadline(broker: &Broker, peer: &PeerInfo) -> tokio::time::Instant {
    let opened = peer.opened.unwrap_or_else(Instant::now);
    (opened + broker.config().connect_timeout).into()
}

/// Closes all connections and waits for them. Each holds a sender of `closed`, which ends with the
/// last of them.
async fn close_all(broker: &Broker, mut closed: mpsc::Receiver<()>) {
    let start = Instant::now();
    let mut without_clients = None;
    loop {
        // Again and again: a CONNECT may have been on its way.
        broker.shut_down();
        if tokio::time::timeout(LOOK, closed.recv()).await.is_ok() {
            return;
        }
        let now = Instant::now();
        if broker.stats().clients_connected == 0 {
            if now - *without_clients.get_or_insert(now) > LAST_BYTES {
                return;
            }
        } else if now - start > GOODBYE {
            warn!("some clients did not read what was left for them");
            return;
        }
    }
}

/// Ends sessions whose clients stay away too long. Never ready.
async fn sweep(broker: &Broker) {
    loop {
        let next = broker.sweep(Instant::now());
        let pause = next.map_or(SWEEP, |at| at.saturating_duration_since(Instant::now()));
        tokio::time::sleep(pause.min(SWEEP)).await;
    }
}

/// Publishes `$SYS`. Never ready.
async fn publish_sys(broker: &Broker, access: &Access, interval: Option<Duration>) {
    let Some(interval) = interval else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sys = Sys::new(Instant::now());
    loop {
        ticks.tick().await;
        for (topic, value) in sys.update(&broker.stats(), access.extra(), Instant::now()) {
            retain(broker, &topic, &value);
        }
    }
}

/// Publishes at QoS 0: the queue of a client that is away must not fill up with old news.
fn publish(broker: &Broker, topic: &str, text: &str) {
    if let Some(message) = message(topic, text) {
        broker.publish(&message);
    }
}

/// The same, retained.
fn retain(broker: &Broker, topic: &str, text: &str) {
    if let Some(message) = message(topic, text) {
        broker.publish(&message.retained());
    }
}

fn message(topic: &str, text: &str) -> Option<Message> {
    let topic = TopicName::new(topic).ok()?;
    Message::new(topic, text.as_bytes(), QoS::AtMostOnce).ok()
}

/// The core's limits from a configuration file, and from what the system lets us open.
fn limits(config: &Config, descriptors: usize) -> mqtt_broker_core::Config {
    let messages = &config.messages;
    let mut limits = mqtt_broker_core::Config::default();
    limits.max_connections = config.max_connections.unwrap_or(descriptors).min(descriptors);
    limits.max_packet = messages.max_packet.unwrap_or(LARGEST_PACKET);
    limits.max_inflight = messages
        .max_inflight
        .map_or(u16::MAX, |messages| u16::try_from(messages).unwrap_or(u16::MAX));
    limits.max_inflight_bytes = messages.max_inflight_bytes.unwrap_or(usize::MAX);
    limits.max_queued_messages = messages.max_queued.unwrap_or(usize::MAX);
    limits.max_queued_bytes = messages.max_queued_bytes.unwrap_or(usize::MAX);
    limits.queue_qos0 = messages.queue_qos_0;
    limits.upgrade_qos = messages.upgrade_qos;
    limits.deliver_overlaps = messages.duplicates;
    limits.max_keep_alive = messages.max_keep_alive.unwrap_or(u16::MAX);
    limits.session_expiry = messages.session_expiry;
    // What a listener says about empty client ids is a matter of its rules.
    limits.allow_empty_client_id = true;
    limits.auto_id_prefix = AUTO_ID_PREFIX.to_owned();
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persistent_client_expiration_is_how_long_the_core_keeps_a_session() {
        let expiry =
            |text: &str| limits(&Config::parse(text).expect("a good file"), 100).session_expiry;
        assert_eq!(expiry("persistent_client_expiration 2h"), Some(Duration::from_secs(7200)));
        assert_eq!(expiry(""), None, "as in Mosquitto, never");
    }
}
