//! A thermostat, and a machine: two things whose telemetry is of different worth.
//!
//! A house reports the temperatures of its rooms in one message. Only the newest matters: what waits
//! while there is no connection is replaced by what comes next. Commands to heat are a state, too:
//! the last one wins, and the broker keeps it for a house that comes back.
//!
//! A machine is watched for wear. Every reading counts: it is kept over an outage, on the disk too,
//! and sent in its order afterwards.

mod control;
mod house;
mod machine;
mod record;
mod rooms;

use std::io;

pub use control::Control;
pub use house::House;
pub use machine::Machine;
use mqtt_client::{ConfigError, ConnectionError, PublishError};
pub use record::Record;
pub use rooms::{ROOMS, Rooms};

use crate::backlog::StoreError;

/// Why one of them ends.
#[derive(Debug, thiserror::Error)]
pub enum ThermostatError {
    /// The options do not fit each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker does not want it.
    #[error("{0}")]
    Refused(ConnectionError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A message could not be accepted.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Standard output is gone.
    #[error("{0}")]
    Output(#[from] io::Error),
}
