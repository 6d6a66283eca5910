use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Instant;

use mqtt_codec::{ConnectReturnCode, Protocol, Publish, QoS, TopicFilter, TopicName};

use crate::{Client, Closed, ConnectionError, Message, MountPoint, Published};

/// What an embedder decides and is told. Every method has a default: everybody may do everything,
/// and nobody is told.
///
/// Hooks run outside of all locks, on the task of the connection that they are about. One that
/// blocks holds up the connections of its thread; one that panics ends the connection.
pub trait Hooks: Send + Sync + 'static {
    /// Which of the hooks that come with every message are called at all. Asked by
    /// [`Broker::new`](crate::Broker::new) and
    /// [`Broker::renew_interests`](crate::Broker::renew_interests).
    fn interests(&self) -> Interests {
        Interests::default()
    }

    /// Decides whether a client may connect. Called once a CONNECT, before anything else of it has
    /// an effect.
    fn authenticate(&self, login: &Login) -> Authentication {
        let _ = login;
        Admission::Accept.into()
    }

    /// Decides whether a client may publish. A denied message is acknowledged and dropped, since
    /// MQTT 3.1.1 has no other answer but to hang up [MQTT-3.3.5-2]. Also asked for wills, when
    /// they are published.
    fn authorize_publish(&self, client: &Client, publish: &Publish<'_>) -> Permission {
        let _ = (client, publish);
        Permission::Allow
    }

    /// Decides the QoS at which a subscription is granted; `None` answers 0x80.
    fn authorize_subscribe(
        &self,
        client: &Client,
        filter: TopicFilter<'_>,
        qos: QoS,
    ) -> Option<QoS> {
        let _ = (client, filter);
        Some(qos)
    }

    /// Decides whether a message that matches a subscription is delivered to its client, which may
    /// be away. `retained` tells a retained message of a new subscription from one that is being
    /// published. Called with [`Interests::delivery_rules`], and with a [`Journal`](crate::Journal)
    /// under its lock: it decides, and does not call the broker.
    fn authorize_delivery(&self, receiver: &Client, topic: TopicName<'_>, retained: bool) -> bool {
        let _ = (receiver, topic, retained);
        true
    }

    /// A client is connected: its CONNACK with code 0 is on the way.
    fn connected(&self, client: &Client, session_present: bool) {
        let _ = (client, session_present);
    }

    /// A client that was [`connected`](Self::connected) is gone.
    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        let _ = (client, reason);
    }

    /// A subscription is made or changed, with the QoS that is granted.
    fn subscribed(&self, client: &Client, filter: TopicFilter<'_>, qos: QoS) {
        let _ = (client, filter, qos);
    }

    /// A client asked to end a subscription; it may have had none.
    fn unsubscribed(&self, client: &Client, filter: TopicFilter<'_>) {
        let _ = (client, filter);
    }

    /// The session of an absent client is over: it expired or was deleted.
    fn session_ended(&self, client_id: &str) {
        let _ = client_id;
    }

    /// A message of a client was routed. Called with [`Interests::published`].
    fn published(&self, client: &Client, publish: &Publish<'_>, published: Published) {
        let _ = (client, publish, published);
    }

    /// A receiver's session owns a message. Called with [`Interests::delivered`].
    fn delivered(&self, receiver: &str, publish: &Publish<'_>) {
        let _ = (receiver, publish);
    }

    /// A message did not reach a receiver. `receiver` is `None` when it reached nobody, and when it
    /// is a retained message that was not kept.
    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        let _ = (receiver, topic, reason);
    }
}

/// Everybody may do everything.
impl Hooks for () {}

/// The hooks that come with every message, and cost something with every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interests {
    /// Calls [`Hooks::authorize_delivery`].
    pub delivery_rules: bool,
    /// Calls [`Hooks::published`].
    pub published: bool,
    /// Calls [`Hooks::delivered`].
    pub delivered: bool,
}

impl Interests {
    /// One number, which can change while others look at it.
    pub(crate) fn to_bits(self) -> u64 {
        let Self { delivery_rules, published, delivered } = self;
        u64::from(delivery_rules) | u64::from(published) << 1 | u64::from(delivered) << 2
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        let is_set = |bit: u64| bits & bit != 0;
        Self { delivery_rules: is_set(1), published: is_set(2), delivered: is_set(4) }
    }
}

/// The decision on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It is routed as it is.
    Allow,
    /// It is dropped, and acknowledged as if it were not.
    Deny,
    /// It is dropped, and the connection of its client ends.
    Disconnect,
    /// This one is routed in its place; its QoS and RETAIN flag count.
    Replace(Message),
}

impl From<bool> for Permission {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny }
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The receiver's queue is full.
    QueueFull,
    /// QoS 0, and the receiver does not read fast enough.
    OutboxFull,
    /// The client may not publish to this topic, or the receiver may not have it.
    NotAuthorized,
    /// It was for a group of which no member is left.
    NoMember,
    /// The retained store is full; the message was delivered, but is not kept.
    RetainedFull,
}

/// Where a connection comes from. The transport knows, the broker only passes it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The peer's address, where the transport has one.
    pub address: Option<SocketAddr>,
    /// Number of the listener, for brokers whose listeners have rules of their own.
    pub listener: usize,
    /// Who the transport has shown the peer to be, such as the subject of a TLS certificate.
    pub identity: Option<String>,
    /// Where the peer's topics are, for listeners whose clients are among themselves. Hooks see
    /// topics and filters with the mount point.
    pub mount_point: Option<MountPoint>,
    /// When the transport was opened, where it took time until the broker was asked to serve it, as
    /// for a TLS handshake: [`connect_timeout`](crate::Config::connect_timeout) counts from then.
    pub opened: Option<Instant>,
}

impl From<SocketAddr> for PeerInfo {
    fn from(address: SocketAddr) -> Self {
        Self { address: Some(address), ..Self::default() }
    }
}

/// A CONNECT that asks to be admitted.
#[derive(Clone)]
#[non_exhaustive]
pub struct Login {
    /// Who asks.
    pub client: Client,
    /// Whether the client sent no id and was given one.
    pub id_was_given: bool,
    /// The password: any bytes.
    pub password: Option<Vec<u8>>,
    /// MQTT 3.1 or 3.1.1.
    pub protocol: Protocol,
    /// Whether it asks for a clean session.
    pub clean_session: bool,
    /// Keep alive in seconds, 0 for none.
    pub keep_alive: u16,
    /// The will.
    pub will: Option<Message>,
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("client", &self.client)
            .field("protocol", &self.protocol)
            .field("clean_session", &self.clean_session)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

/// The decision on a [`Login`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// CONNACK with code 0.
    Accept,
    /// The same, under [another](Client::named) client id or user name.
    AcceptAs(Box<Client>),
    /// CONNACK with this code, then the end of the connection.
    Refuse(ConnectReturnCode),
}

/// A decision, or the promise of one. Nothing else of the client is handled until it is there.
pub enum Authentication {
    /// Decided.
    Done(Admission),
    /// To be decided, such as by a slow hash or a request to another service. The driver awaits it
    /// on the connection's task; blocking work belongs elsewhere.
    Later(Pin<Box<dyn Future<Output = Admission> + Send>>),
}

impl From<Admission> for Authentication {
    fn from(admission: Admission) -> Self {
        Self::Done(admission)
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(admission) => f.debug_tuple("Done").field(admission).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}
