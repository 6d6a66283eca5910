//! The client from outside: one file a topic.

mod defects;
mod mosquitto;
mod policies;
mod scripted;
mod support;
#[cfg(all(feature = "tls", feature = "websocket", unix))]
mod transports;
mod with_broker;
