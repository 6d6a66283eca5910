use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use mqtt_codec::QoS;

/// The limits and choices of a broker. Every queue and table has a bound, and each bound is here.
///
/// ```
/// let mut config = mqtt_broker_core::Config::default();
/// config.max_inflight = 20;
/// config.session_expiry = None;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Largest packet accepted from a client, in bytes with its fixed header; a larger one closes
    /// the connection as soon as its length is read. Default 2 MiB, so that a payload of 1 MiB
    /// fits with any topic.
    pub max_packet: usize,
    /// The same for the first packet, in bytes, while nobody knows the client. Default 64 KiB.
    pub max_connect_packet: usize,
    /// Time from the start of a connection to a complete CONNECT and its admission. Default 10 s:
    /// three lost SYN-like round trips on a bad mobile link fit, a slow attacker does not.
    pub connect_timeout: Duration,
    /// Connections at a time, those before their CONNECT included. Default 10,240.
    pub max_connections: usize,
    /// Sessions at a time, those of absent clients included; over it a client that would need a new
    /// one is refused with return code 3. Default 100,000.
    pub max_sessions: usize,
    /// How long the session of an absent client is kept; `None` for ever. Default 7 days. It is
    /// [`Broker::sweep`](crate::Broker::sweep) that ends it. A broker that is started again begins to
    /// count anew.
    pub session_expiry: Option<Duration>,
    /// Largest keep alive accepted, in seconds; more is refused with return code 2, and below
    /// 65,535 so is 0, which means none. Default 65,535.
    pub max_keep_alive: u16,
    /// Whether an empty client id (with a clean session) is given an id [MQTT-3.1.3-6]. Default yes.
    pub allow_empty_client_id: bool,
    /// What the ids that the broker gives begin with. Default `auto-`.
    pub auto_id_prefix: String,
    /// QoS 1 and 2 messages on the way to one client. Default 32; the standard's own bound is
    /// 65,535.
    pub max_inflight: u16,
    /// The same in bytes of topic and payload. One message is sent whatever its size when none is on
    /// the way. No limit by default.
    pub max_inflight_bytes: usize,
    /// QoS 2 messages from one client between PUBREC and PUBREL; more closes the connection.
    /// Default 4,096, at most 16 KiB of memory.
    pub max_incoming_qos2: usize,
    /// QoS 1 and 2 messages that wait in one session behind the window. Default 1,000.
    pub max_queued_messages: usize,
    /// The same in bytes of topic and payload. One message is accepted whatever its size when
    /// nothing waits. Default 1 MiB.
    pub max_queued_bytes: usize,
    /// The same in memory, for messages that a [`Store`](crate::Store) has as well: those behind are
    /// read from there when their turn comes. Default 64 KiB.
    pub max_queued_bytes_in_memory: usize,
    /// Whether QoS 0 messages wait for an absent client as well. Default no.
    pub queue_qos0: bool,
    /// Whether messages are delivered at the QoS that a subscription was granted, even when they were
    /// published at a lower one, against [MQTT-3.8.4-6]. Default no.
    pub upgrade_qos: bool,
    /// Whether a client gets a message once for each of its filters that match, and not once at the
    /// highest QoS of them; [MQTT-3.3.5-1] lets brokers choose. Default no.
    pub deliver_overlaps: bool,
    /// Bytes that wait to be written to one client, of QoS 0 messages and of the window. Over it
    /// QoS 0 messages are dropped and counted, others wait in the queue. Default 1 MiB.
    pub max_outbox_bytes: usize,
    /// How long a publisher is held back for a connected receiver whose queue is full, before that
    /// receiver is disconnected. Default 5 s.
    pub congestion_timeout: Duration,
    /// Subscriptions of one client; more are answered with 0x80. Default 1,000.
    pub max_subscriptions: usize,
    /// Whether `$share/GROUP/FILTER` is a shared subscription: each message goes to one member of the
    /// group. Otherwise such a filter is refused with 0x80. Default yes.
    pub shared_subscriptions: bool,
    /// Levels of a topic name or filter. Default 200.
    pub max_topic_levels: usize,
    /// Bytes of a topic name or filter. Default 4,096; the standard's own bound is 65,535.
    pub max_topic_length: usize,
    /// Retained messages; a new topic over it is not retained, and counted. Default 100,000.
    pub max_retained_messages: usize,
    /// Bytes of the retained messages' topics and payloads. Default 256 MiB.
    pub max_retained_bytes: usize,
    /// Seed of the hash tables, whose keys come from the network. Random by default; nothing that
    /// the broker does depends on it.
    pub hash_seed: u64,
}

impl Config {
    /// The QoS of a delivery: the lower of the two [MQTT-3.8.4-6], or the one that was granted.
    pub(crate) fn delivery_qos(&self, published: QoS, granted: QoS) -> QoS {
        if self.upgrade_qos { granted } else { published.min(granted) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_packet: 2 << 20,
            max_connect_packet: 64 << 10,
            connect_timeout: Duration::from_secs(10),
            max_connections: 10_240,
            max_sessions: 100_000,
            session_expiry: Some(Duration::from_secs(7 * 24 * 3600)),
            max_keep_alive: u16::MAX,
            allow_empty_client_id: true,
            auto_id_prefix: "auto-".into(),
            max_inflight: 32,
            max_inflight_bytes: usize::MAX,
            max_incoming_qos2: 4096,
            max_queued_messages: 1000,
            max_queued_bytes: 1 << 20,
            max_queued_bytes_in_memory: 64 << 10,
            queue_qos0: false,
            upgrade_qos: false,
            deliver_overlaps: false,
            max_outbox_bytes: 1 << 20,
            congestion_timeout: Duration::from_secs(5),
            max_subscriptions: 1000,
            shared_subscriptions: true,
            max_topic_levels: 200,
            max_topic_length: 4096,
            max_retained_messages: 100_000,
            max_retained_bytes: 256 << 20,
            hash_seed: RandomState::new().hash_one(0),
        }
    }
}
