//! Loads for MQTT brokers, and what they cost the broker: the parts of the program `bench`.
//!
//! The generator is one thread that does nothing but its connections. It checks that every message
//! arrives once and in order, and reads CPU time and memory of the broker by its process id, so that
//! it measures any broker, in any language. It runs on Linux.

mod broker;
mod chart;
mod durable;
mod filters;
mod flow;
mod idle;
mod ledger;
mod meter;
mod offline;
mod report;
mod retained;
mod swarm;
mod workload;

pub use broker::{BrokerCommand, BrokerError, Running};
pub use chart::chart;
pub use durable::{Keeping, durable_table, restart_table};
pub use flow::{Flow, Load, Shape};
pub use meter::{Meter, raise_open_files};
pub use report::Report;
pub use swarm::Fault;
pub use workload::{Effort, Metric, Workload, growth, table};
