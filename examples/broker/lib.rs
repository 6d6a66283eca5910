//! The broker example, as modules that its tests reach.
//!
//! `main.rs` reads the command line, [`config`] the configuration file, [`server`] binds the
//! [`listener`]s and serves until a signal comes. [`doors`] keeps out what is too much, by its
//! [`connect_rate`] and by the [`memory`] that is left, with [`guarded`] transports as the last
//! resort. [`access`] decides who may connect and do what, with the files that [`password`] and
//! [`acl`] read. [`persistence`] keeps what must survive a restart. [`tls`] and [`websocket`] are what
//! MQTT comes in, [`sys`] and [`metrics`] what the broker tells about itself, [`log`], [`process`],
//! [`workers`], [`reactor`] and [`descriptors`] what ties it to the system.

pub mod access;
pub mod acl;
pub mod config;
pub mod connect_rate;
pub mod descriptors;
pub mod doors;
pub mod guarded;
mod lines;
pub mod listener;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod password;
pub mod persistence;
pub mod process;
pub mod reactor;
pub mod server;
pub mod sys;
pub mod tls;
pub mod websocket;
pub mod workers;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
