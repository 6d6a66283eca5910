//! An MQTT 3.1.1 (and 3.1) broker as state machines: no sockets, no clock, no threads, no files.
//!
//! A [`Broker`] is shared by all connections. A [`Connection`] takes the bytes of one transport and
//! gives back bytes to write and the next deadline. Whoever owns the transport drives it; with the
//! feature `tokio`, [`serve_connection`] does so over any `AsyncRead + AsyncWrite`.

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod config;
#[cfg(feature = "broker")]
mod connection;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "broker")]
mod error;
#[cfg(feature = "broker")]
mod hooks;
#[cfg(feature = "broker")]
mod local;
#[cfg(feature = "broker")]
mod message;
#[cfg(feature = "broker")]
mod publication;
pub mod qos;
#[cfg(feature = "broker")]
mod retained;
#[cfg(feature = "broker")]
mod router;
#[cfg(feature = "broker")]
mod send_buffer;
#[cfg(feature = "broker")]
mod session;
#[cfg(feature = "broker")]
mod stats;
#[cfg(feature = "broker")]
mod sync;
#[cfg(feature = "broker")]
mod worker;

#[cfg(feature = "broker")]
pub use self::{
    broker::{Broker, Published},
    config::Config,
    connection::{Connection, Event, Transmit},
    error::{Closed, ConnectionError, TooManyConnections},
    hooks::{
        Admission, Authentication, Client, DropReason, Hooks, Interests, Login, PeerInfo,
        Permission,
    },
    local::LocalSubscription,
    message::Message,
    router::SharedFilter,
    send_buffer::SendBuffer,
    session::SessionInfo,
    stats::Stats,
    worker::Worker,
};
#[cfg(feature = "tokio")]
pub use driver::{ServeError, serve_connection};
