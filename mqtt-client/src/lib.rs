//! An MQTT 3.1.1 client that stays connected and loses nothing that it accepted.
//!
//! ```no_run
//! use mqtt_client::{Client, Publish, QoS};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let builder = Client::builder("mqtt://localhost").client_id("hall").persistent_session();
//!     let client = builder.connect().await?;
//!     let mut lights = client.subscribe("lights/+", QoS::AtLeastOnce).await?;
//!     client.publish(Publish::new("lights/hall", "on").qos(QoS::ExactlyOnce)).await?.await?;
//!     while let Some(message) = lights.recv().await {
//!         println!("{}: {}", message.topic(), String::from_utf8_lossy(message.payload()));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Publishing has two awaits. [`Client::publish`] is ready when the message is accepted: from then
//! on it is the client's, over all reconnections. The [`Receipt`] that it gives is ready when the
//! delivery is over: written, acknowledged, complete, or lost for a reason.
//!
//! One task owns the connection. It reconnects with growing random delays, subscribes again and
//! sends again what was not acknowledged. It never waits for the application: there is no loop to
//! poll, and no callback.
//!
//! # What happens to messages when a connection ends
//!
//! | the broker | QoS 1 in flight | QoS 2 in flight | never sent |
//! |---|---|---|---|
//! | kept the session | sent again, in order, with DUP | taken up where it was | sent |
//! | forgot the session, or it is a clean one | sent again as new | complete after PUBREC, else [`Undelivered::SessionLost`] | sent |
//!
//! # Guarantees
//!
//! - A message that was accepted ends in exactly one way, which its [`Receipt`] and [`Counters`]
//!   tell. At QoS 1 it arrives at least once, at QoS 2 once. Messages of one topic and QoS keep
//!   their order, apart from repetitions.
//! - What waits here is bounded in messages and bytes ([`Limit`]), and what was received is bounded
//!   by the broker's window, since it is acknowledged when the application takes it ([`AckMode`]).
//! - Acknowledgements leave in the order of the messages, whatever the order they are taken in.
//! - A broker that is gone is noticed within keep alive and answer time
//!   ([`Builder::keep_alive`]); every step of connecting has a limit, which its error names
//!   ([`Timeouts`], [`Step`]).
//! - With a [`FileStore`](crate::Builder::store), messages of QoS 1 and 2 survive a kill of the
//!   program too.
//!
//! One case is beyond MQTT 3.1.1: if the broker loses the session, and then the CONNACK that says
//! so is lost, the next CONNACK calls the new session present, and a QoS 2 message that was in
//! flight may arrive twice.
//!
//! # Cancel safety
//!
//! | method | when its future is dropped early |
//! |---|---|
//! | [`Client::publish`] | nothing was accepted; with a store it may have been |
//! | awaiting a [`Receipt`] by `&mut` | nothing changes; dropped, the message is delivered all the same |
//! | [`Client::subscribe`], [`Client::subscribe_all`] | the subscription is taken back |
//! | [`Subscription::recv`] | no message is lost |
//! | [`Subscription::unsubscribe`], [`Client::unsubscribe`] | the broker is told all the same |
//! | [`Client::request`] | nothing remains; the request may have been sent |
//! | [`Client::connected`] | nothing changes |
//! | [`Client::shutdown`], [`Client::abort`] | it happens all the same |
//! | [`Builder::connect`] | the client ends |
//!
//! A future that was never polled has done nothing.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `tls`: `mqtts://`, by rustls. `websocket`: `ws://`, and with `tls` `wss://`.
//! - `file-store`: a store in one file, by redb.
//! - `json`: payloads as JSON. `blocking`: a facade without async. `tracing`: events of the
//!   connection.
//!
//! # What it does not do
//!
//! MQTT 5. It runs on tokio.

#![forbid(unsafe_code)]

#[cfg(feature = "blocking")]
pub mod blocking;
mod client;
mod connection;
mod endpoint;
mod error;
#[cfg(feature = "json")]
mod json;
mod machine;
mod message;
mod offline;
mod options;
mod receipt;
mod reconnect;
mod send_buffer;
mod shared;
mod stats;
mod status;
mod store;
mod subscription;
mod transport;

pub use client::Client;
pub use endpoint::{Endpoint, Scheme};
pub use error::{
    Closed, ConfigError, ConnectionError, ProtocolError, PublishError, RequestError, Step,
    SubscribeError, TryPublishError, Undelivered,
};
pub use message::{Message, Publish};
pub use offline::{Limit, Offline, WhenFull};
pub use options::Builder;
pub use receipt::{Delivered, Receipt};
pub use reconnect::Reconnect;
pub use stats::{Counters, Stats};
pub use status::{Leftover, Status};
#[cfg(feature = "file-store")]
pub use store::FileStore;
pub use store::{Change, Snapshot, Stage, Store, StoredMessage};
pub use subscription::{AckMode, Subscription};
#[cfg(feature = "tls")]
pub use transport::Tls;
pub use transport::{Connecting, Connector, Direction, Timeouts, Transport};

pub use bytes::Bytes;
pub use mqtt_codec::{
    ConnectReturnCode, Packet, PacketId, QoS, TopicError, TopicFilter, TopicFilterBuf, TopicName,
    TopicNameBuf,
};
