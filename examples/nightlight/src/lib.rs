//! The nightlight of the lessons on connected things, as a device and a server.
//!
//! A device reads a light sensor and sends what it says; a server decides whether it is dark and
//! sends a command; the device switches its LED. The programs in `programs/` read command lines, and
//! everything else is here:
//!
//! - [`lesson`]: topics, payloads, names of clients and words, which both sides agree on.
//! - [`sensor`], [`led`]: what the device reads and switches, as traits.
//! - [`rule`]: when it is dark. [`pace`]: when a reading is sent.
//! - [`device`]: what a device knows and does, without network and clock; [`life`] gives it both.
//! - [`console`]: what a device prints. [`screen`]: how it is drawn in a terminal.
//! - [`server`]: the server, with [`aggregate`] for decisions about many devices.
//! - [`thermostat`]: the other thing at home, and a machine whose every reading counts.
//! - [`backlog`]: readings that wait for a connection.
//! - [`evening`]: broker and server beside a device, with one command.
//! - [`connection`]: the options and words about the broker that all programs have.

#![forbid(unsafe_code)]

pub mod aggregate;
pub mod backlog;
pub mod connection;
pub mod console;
pub mod device;
pub mod evening;
pub mod led;
pub mod lesson;
pub mod life;
pub mod pace;
pub mod rule;
pub mod screen;
pub mod sensor;
pub mod server;
pub mod thermostat;
