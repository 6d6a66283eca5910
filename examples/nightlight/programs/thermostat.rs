//! A thermostat of a house with what controls it, and a machine with what records it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mqtt_nightlight::connection::{self, BrokerOptions, parse_period};
use mqtt_nightlight::rule::Rule;
use mqtt_nightlight::thermostat::{Control, House, Machine, Record, ThermostatError};

/// Two things at a broker: a house whose newest temperatures matter, and a machine whose every
/// reading counts.
#[derive(Parser, Debug)]
#[command(name = "thermostat", version, after_help = EXAMPLES)]
struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand, Debug)]
enum Role {
    /// A house: sends the temperatures of three rooms, heats as it is told
    House {
        #[command(flatten)]
        place: Place,
        /// Time between telemetry
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_period)]
        interval: Duration,
        /// The temperature that it keeps when it is alone
        #[arg(long, value_name = "DEGREES", default_value_t = 17.0)]
        target: f64,
        /// It is alone after so long without a connection
        #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
        offline_after: Duration,
    },
    /// What tells a house to heat, and not to
    Control {
        #[command(flatten)]
        place: Place,
        /// The temperature at the thermostat
        #[arg(long, value_name = "DEGREES", default_value_t = 21.0)]
        target: f64,
    },
    /// A machine: keeps every reading over an outage, and sends all in order
    Machine {
        #[command(flatten)]
        place: Place,
        /// Time between readings
        #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_period)]
        interval: Duration,
        /// Folder where readings outlive the program; without, they are in memory
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
    },
    /// What takes a machine's readings, and tells if one is missing
    Record {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args, Debug)]
struct Place {
    /// Id of the house or the machine, the first part of its topics
    #[arg(long, value_parser = connection::parse_id)]
    id: String,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// Degrees between switching on and off.
const HYSTERESIS: f64 = 0.5;

const EXAMPLES: &str = "\
Examples:
  thermostat house --id home
  thermostat control --id home --target 22
  thermostat machine --id lathe --store ~/.thermostat
  thermostat record --id lathe

TIME is a number with a unit: 500ms, 5s, 2m, 1h.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse().role).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our lines has gone: `thermostat ... | head`.
        Err(ThermostatError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("thermostat: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(role: Role) -> Result<(), ThermostatError> {
    let end = connection::end_signal()?;
    let rule = |target| Rule { threshold: target, hysteresis: HYSTERESIS };
    match role {
        Role::House { place: Place { id, broker }, interval, target, offline_after } => {
            House::begin(&id, &broker, interval, rule(target), offline_after)?.run(end).await
        }
        Role::Control { place: Place { id, broker }, target } => {
            Control::begin(&id, &broker, rule(target))?.run(end).await
        }
        Role::Machine { place: Place { id, broker }, interval, store } => {
            Machine::begin(&id, &broker, interval, store.as_deref())?.run(end).await
        }
        Role::Record { place: Place { id, broker } } => Record::begin(&id, &broker)?.run(end).await,
    }
}
