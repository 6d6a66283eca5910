use std::io;
use std::sync::Arc;

use mqtt_codec::{
    ConnectReturnCode, DecodeError, EncodeError, PacketId, PacketType, TextError, TopicError,
};
use thiserror::Error;

use crate::message::Publish;

/// Why there is no connection: an attempt failed, or an established connection ended.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The options contradict each other; nothing was sent.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A step of the attempt, or an answer that is due on an open connection, took too long.
    #[error("{0} took too long")]
    Timeout(Step),
    /// The transport failed in this step.
    #[error("{step} failed: {error}")]
    Io {
        /// What was being done.
        step: Step,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// The broker closed the connection without a word. Three times in a row soon after connecting
    /// often means that another client uses the same client id.
    #[error("the broker closed the connection")]
    ClosedByBroker,
    /// The broker refused the CONNECT (section 3.2.2.3).
    #[error("the broker refused the connection: {0}")]
    Refused(ConnectReturnCode),
    /// The certificate or the TLS configuration was not acceptable, to us or to the broker.
    #[error("TLS: {0}")]
    Tls(Arc<str>),
    /// The WebSocket handshake was refused.
    #[error("WebSocket: {0}")]
    WebSocket(Arc<str>),
    /// The credentials could not be had.
    #[error("credentials: {0}")]
    Credentials(Arc<io::Error>),
    /// The broker broke the standard.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The store of messages failed.
    #[error("store: {0}")]
    Store(Arc<io::Error>),
    /// [`Client::abort`](crate::Client::abort) was called.
    #[error("aborted")]
    Aborted,
}

impl ConnectionError {
    pub(crate) fn io(step: Step, error: io::Error) -> Self {
        Self::Io { step, error: Arc::new(error) }
    }

    /// Whether trying again cannot help until something is changed, here or at the broker.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Config(_) | Self::Tls(_) | Self::Store(_) | Self::Aborted => true,
            Self::Refused(code) => !matches!(code, ConnectReturnCode::ServerUnavailable),
            _ => false,
        }
    }
}

/// Steps that have a time limit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Looking the host name up.
    Resolve,
    /// Opening the transport.
    Connect,
    /// The TLS handshake.
    TlsHandshake,
    /// The WebSocket handshake.
    WebSocket,
    /// Asking the program for the credentials.
    Credentials,
    /// Waiting for the CONNACK.
    Connack,
    /// Waiting for a SUBACK.
    Suback,
    /// Waiting for an UNSUBACK.
    Unsuback,
    /// Waiting for a PUBACK, PUBREC or PUBCOMP.
    Ack,
    /// Waiting for any byte after a PINGREQ.
    PingResponse,
    /// Reading from the transport.
    Read,
    /// Writing to the transport, which took no byte.
    Write,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the host name",
            Self::Connect => "opening the connection",
            Self::TlsHandshake => "the TLS handshake",
            Self::WebSocket => "the WebSocket handshake",
            Self::Credentials => "asking for the credentials",
            Self::Connack => "waiting for CONNACK",
            Self::Suback => "waiting for SUBACK",
            Self::Unsuback => "waiting for UNSUBACK",
            Self::Ack => "waiting for an acknowledgement",
            Self::PingResponse => "waiting for the answer to PINGREQ",
            Self::Read => "reading",
            Self::Write => "writing",
        })
    }
}

/// What a broker did that MQTT 3.1.1 does not allow. It ends the connection `[MQTT-4.8.0-1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Bytes that are no packet, or one over the limit of
    /// [`Builder::max_packet`](crate::Builder::max_packet).
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The first bytes are no packet of a broker: the port may be one for TLS, WebSocket or HTTP.
    #[error("the answer is not MQTT ({0}); is the port one for TLS, WebSocket or HTTP?")]
    NotMqtt(DecodeError),
    /// The first packet was not CONNACK `[MQTT-3.2.0-1]`.
    #[error("{0:?} instead of CONNACK [MQTT-3.2.0-1]")]
    NotConnack(PacketType),
    /// A packet that only clients send, or a second CONNACK.
    #[error("unexpected {0:?}")]
    Unexpected(PacketType),
    /// An acknowledgement that does not fit the message with its packet id `[MQTT-3.3.4-1]`.
    #[error("acknowledgement of packet {0} does not fit the message sent with that id")]
    WrongAck(PacketId),
    /// A SUBACK with another number of return codes than the SUBSCRIBE had filters
    /// `[MQTT-3.8.4-5]`.
    #[error("SUBACK {0} has another number of return codes than there were filters")]
    SubAckLength(PacketId),
}

/// Options that contradict each other or the standard.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL of the broker cannot be read.
    #[error("{url:?}: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The feature that this URL or option needs is not compiled in.
    #[error("this needs the feature `{0}` of mqtt-client")]
    Feature(&'static str),
    /// A kept session needs a client id `[MQTT-3.1.3-7]`.
    #[error("a persistent session needs a client id")]
    EmptyClientId,
    /// The fields do not make a CONNECT, such as a password of more than 65,535 bytes.
    #[error("CONNECT: {0}")]
    Connect(EncodeError),
    /// The client id or user name is not a string that MQTT can carry.
    #[error("{0}: {1}")]
    Text(&'static str, TextError),
    /// A filter given before connecting is not valid.
    #[error("filter {0:?}: {1}")]
    Filter(String, TopicError),
    /// The will has an invalid topic or is too large.
    #[error("will: {0}")]
    Will(Box<str>),
    /// A value has no meaning, such as an in-flight window of 0.
    #[error("{0}")]
    Value(&'static str),
    /// The store cannot be used.
    #[error("store: {0}")]
    Store(Box<str>),
    /// The TLS options cannot be used: which file, and why.
    #[error("TLS: {0}")]
    Tls(Box<str>),
}

/// Why a message was not accepted.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is not one that can be published to `[MQTT-3.3.2-2]`.
    #[error("topic: {0}")]
    InvalidTopic(#[from] TopicError),
    /// The packet is over the limit for outgoing packets.
    #[error("packet of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the whole packet.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The queue is at its bound and its policy is not to wait, or this was `try_publish`.
    #[error("the queue of outgoing messages is full")]
    QueueFull,
    /// There is no connection, and the message's policy is to fail then.
    #[error("not connected")]
    NotConnected,
    /// The store refused the message, which is not kept.
    #[error("store: {0}")]
    Store(Arc<io::Error>),
    /// The client is shut down.
    #[error("the client is closed")]
    Closed,
}

/// A message that [`try_publish`](crate::Client::try_publish) did not accept, and why.
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct TryPublishError {
    /// The message, as it was given.
    pub message: Publish,
    /// Why it was not accepted.
    #[source]
    pub cause: PublishError,
}

/// Why an accepted message ended without having been delivered for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Undelivered {
    /// It waited longer than it was allowed to. It was never sent, or by an earlier run of the
    /// program, in a session that the broker lost.
    #[error("expired before it was sent")]
    Expired,
    /// The queue was full and its policy is to drop. It was never sent, or in a session that the
    /// broker lost.
    #[error("dropped because the queue was full")]
    Dropped,
    /// The connection ended before it was written, and its policy is to fail then.
    #[error("the connection ended before the message was sent")]
    NotConnected,
    /// The broker forgot the session while this QoS 2 message was not acknowledged: whether it was
    /// delivered is unknown, and sending it again could deliver it twice.
    #[error("the broker forgot the session while the message was in flight")]
    SessionLost,
    /// The client was shut down first.
    #[error("the client was closed first")]
    Closed,
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The filter is not valid.
    #[error("filter: {0}")]
    InvalidFilter(#[from] TopicError),
    /// The broker answered 0x80 (section 3.9.3).
    #[error("the broker refused the subscription")]
    Refused,
    /// The client is shut down.
    #[error("the client is closed")]
    Closed,
}

/// Why a request has no reply.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The topic of the reply could not be subscribed to.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The request was not accepted.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No reply came in time.
    #[error("no reply within {0:?}")]
    Timeout(std::time::Duration),
}

/// The client is shut down, and the reason if it did not do so itself.
#[derive(Clone, Debug, Error)]
#[error("the client is closed")]
pub struct Closed {
    /// Why it gave up.
    #[source]
    pub cause: Option<ConnectionError>,
}
