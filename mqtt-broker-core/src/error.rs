use mqtt_codec::{ConnectReturnCode, DecodeError, PacketType};
use thiserror::Error;

use crate::qos::{TooManyOpen, WrongAck};

/// Why the broker ends a connection against the client's will.
///
/// Up to [`WrongAck`](Self::WrongAck) the client broke the standard, up to
/// [`SlowReceiver`](Self::SlowReceiver) it met one of our limits, then comes our own fault, the rest is a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// Bytes that are no packet [MQTT-4.8.0-1].
    #[error("malformed packet: {0}")]
    Malformed(#[from] DecodeError),
    /// The first packet is not CONNECT [MQTT-3.1.0-1].
    #[error("the first packet is {0:?} instead of CONNECT [MQTT-3.1.0-1]")]
    FirstPacket(PacketType),
    /// A second CONNECT [MQTT-3.1.0-2].
    #[error("a second CONNECT [MQTT-3.1.0-2]")]
    SecondConnect,
    /// A packet that only a server sends.
    #[error("a client does not send {0:?}")]
    ServerPacket(PacketType),
    /// An acknowledgement that does not fit its message [MQTT-3.3.4-1].
    #[error(transparent)]
    WrongAck(#[from] WrongAck),

    /// No CONNECT within [`connect_timeout`](crate::Config::connect_timeout).
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// Nothing received for one and a half keep alives [MQTT-3.1.2-24].
    #[error("nothing received for one and a half keep alives [MQTT-3.1.2-24]")]
    KeepAliveTimeout,
    /// More QoS 2 messages without PUBREL than
    /// [`max_incoming_qos2`](crate::Config::max_incoming_qos2).
    #[error(transparent)]
    TooManyOpen(#[from] TooManyOpen),
    /// A topic name longer than [`max_topic_length`](crate::Config::max_topic_length) or deeper than
    /// [`max_topic_levels`](crate::Config::max_topic_levels).
    #[error("a topic name over the limit of length or levels")]
    TopicTooLong,
    /// The client did not read what was sent to it for
    /// [`congestion_timeout`](crate::Config::congestion_timeout) with a full queue.
    #[error("the client does not read and its queue is full")]
    SlowReceiver,

    /// What the client waits for cannot be made durable: the [`Store`](crate::Store) has failed.
    #[error("the store has failed")]
    StoreFailed,
    /// [`Hooks::authorize_publish`](crate::Hooks::authorize_publish) said so.
    #[error("not allowed to publish this")]
    NotAuthorized,
    /// The CONNECT was answered with this code.
    #[error("refused with return code {}", *.0 as u8)]
    Refused(ConnectReturnCode),
}

/// Why a connection ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The client sent DISCONNECT.
    Disconnect,
    /// The transport ended without DISCONNECT: a will is published.
    EndOfStream,
    /// Another connection came with the same client id [MQTT-3.1.4-2].
    TakenOver,
    /// [`Broker::disconnect`](crate::Broker::disconnect) was called.
    Kicked,
    /// [`Broker::shut_down`](crate::Broker::shut_down) was called.
    ShutDown,
}

/// [`Config::max_connections`](crate::Config::max_connections) is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all {limit} connections are taken")]
pub struct TooManyConnections {
    /// The limit.
    pub limit: usize,
}
