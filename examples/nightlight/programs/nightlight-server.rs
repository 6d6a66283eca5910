//! The nightlight's server: it decides for its devices whether it is dark.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mqtt_nightlight::aggregate::Aggregate;
use mqtt_nightlight::connection::{self, BrokerOptions, parse_period};
use mqtt_nightlight::lesson::THRESHOLD;
use mqtt_nightlight::rule::Rule;
use mqtt_nightlight::server::{Audience, Server, ServerError, Setup};

/// The server of nightlights: hears of light on ID/telemetry, and sends whether the LED is to be on
/// to ID/commands.
#[derive(Parser, Debug)]
#[command(name = "nightlight-server", version, after_help = EXAMPLES)]
struct Options {
    #[command(flatten)]
    devices: Devices,
    #[command(flatten)]
    broker: BrokerOptions,
    /// It is dark below this light
    #[arg(long, value_name = "LIGHT", default_value_t = THRESHOLD)]
    threshold: f64,
    /// How much brighter it has to become until it is no longer dark
    #[arg(long, value_name = "LIGHT", default_value_t = 0.0)]
    hysteresis: f64,
    /// Send a command when it says something new, not after each reading
    #[arg(long)]
    on_change: bool,
    /// Let the broker keep the last command for devices that come back
    #[arg(long)]
    retain_commands: bool,
    /// Let the broker keep the QoS 1 readings that come while the server is away
    #[arg(long)]
    keep_session: bool,
    /// One decision for all devices: by their median, or by any that is dark
    #[arg(long, value_name = "median|any")]
    aggregate: Option<Aggregate>,
    /// With --aggregate: the time whose readings are taken together
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_period, requires = "aggregate")]
    window: Duration,
}

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Devices {
    /// Id of the device
    #[arg(long, value_parser = connection::parse_id)]
    id: Option<String>,
    /// Ids of several devices
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', value_parser = connection::parse_id)]
    ids: Option<Vec<String>>,
    /// Every device of the broker, each by its own topics
    #[arg(long)]
    fleet: bool,
}

const EXAMPLES: &str = "\
Examples:
  nightlight-server --id 0bd2db82
  nightlight-server --fleet --on-change --retain-commands
  nightlight-server --fleet --aggregate median --window 10s

TIME is a number with a unit: 500ms, 5s, 2m, 1h.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our lines has gone: `nightlight-server | head`.
        Err(ServerError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("nightlight-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), ServerError> {
    let audience = match options.devices {
        Devices { id: Some(id), .. } => Audience::Ids(vec![id]),
        Devices { ids: Some(ids), .. } => Audience::Ids(ids),
        _ => Audience::Fleet,
    };
    let end = connection::end_signal()?;
    let server = Server::begin(Setup {
        broker: options.broker,
        audience,
        rule: Rule { threshold: options.threshold, hysteresis: options.hysteresis },
        aggregate: options.aggregate.map(|aggregate| (aggregate, options.window)),
        on_change: options.on_change,
        retain_commands: options.retain_commands,
        keep_session: options.keep_session,
    })?;
    server.run(end).await
}
