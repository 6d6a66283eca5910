//! The client from outside: one file a topic.

mod defects;
mod mosquitto;
mod policies;
mod scripted;
mod statements;
#[cfg(feature = "file-store")]
mod store;
mod storms;
mod support;
#[cfg(all(feature = "tls", feature = "websocket", unix))]
mod transports;
mod with_broker;
mod writes;
