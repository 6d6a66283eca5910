//! An MQTT 3.1.1 client that stays connected and loses nothing that it accepted.
//!
//! ```no_run
//! use mqtt_client::{Client, Publish, QoS};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::builder("mqtt://localhost").connect().await?;
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
//! # What it does not do
//!
//! MQTT 5. It runs on tokio. It gives no guarantee that a message in memory survives the end of
//! the process.

#![forbid(unsafe_code)]

mod client;
mod connection;
mod endpoint;
mod error;
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
pub use transport::{Connecting, Connector, Timeouts, Transport};

pub use bytes::Bytes;
pub use mqtt_codec::{
    ConnectReturnCode, PacketId, QoS, TopicError, TopicFilter, TopicFilterBuf, TopicName,
    TopicNameBuf,
};
