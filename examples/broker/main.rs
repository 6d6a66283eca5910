//! A broker that is started where Mosquitto was started: `cargo run --release --example broker`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mqtt_examples::config::{Address, Config, ConfigError, DEFAULT_PORT};
use mqtt_examples::server::{Reloader, Server, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{Level, error, info};

/// An MQTT 3.1.1 broker.
///
/// Without a configuration file it serves clients of this machine on port 1883.
#[derive(Parser)]
#[command(name = "broker", version)]
struct Arguments {
    /// Reads a configuration file as Mosquitto has them.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listens on this port instead of 1883.
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Listens on this address instead of loopback. Everyone who reaches it may connect.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    bind: Option<String>,
    /// Logs everything.
    #[arg(short, long)]
    verbose: bool,
}

/// What Mosquitto ends with when its configuration is wrong.
const CONFIG_ERROR: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match arguments.read_config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("broker: {error}");
            return ExitCode::from(CONFIG_ERROR);
        }
    };
    let level = if arguments.verbose { Level::DEBUG } else { Level::INFO };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    // One thread serves many thousand clients: a wake-up across threads costs more than a message.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(run(&config, arguments.config, arguments.port))) {
        Ok(code) => code,
        Err(error) => {
            error!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn read_config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(file) => Config::read(file, self.port)?,
            None => Config::local(self.port),
        };
        if let Some(host) = &self.bind {
            let port = self.port.unwrap_or(DEFAULT_PORT);
            config.listeners[0].address = Address::Host { host: host.clone(), port };
        }
        Ok(config)
    }
}

async fn run(config: &Config, file: Option<PathBuf>, port: Option<u16>) -> ExitCode {
    let end = match end_signal() {
        Ok(end) => end,
        Err(error) => {
            error!("cannot wait for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => {
            error!("{error}");
            return match error {
                StartError::Access(_) | StartError::Tls(_) => ExitCode::from(CONFIG_ERROR),
                StartError::Bind(_) => ExitCode::FAILURE,
            };
        }
    };
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let anonymous = config.listeners.iter().any(|listener| listener.policy.allow_anonymous);
    let who = if anonymous { "anonymous clients allowed" } else { "with user names only" };
    info!("serving MQTT on {}, {who}", server.places());
    if let Some(file) = file {
        match signal(SignalKind::hangup()) {
            Ok(hangup) => drop(tokio::spawn(reload(hangup, file, port, server.reloader()))),
            Err(error) => tracing::warn!("HUP will end the broker: {error}"),
        }
    }
    server.run(end).await;
    info!("ended");
    ExitCode::SUCCESS
}

/// Ready when TERM or INT comes.
fn end_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("TERM: closing all connections"),
            _ = interrupt.recv() => info!("INT: closing all connections"),
        }
    })
}

/// Reads the configuration with its password and ACL files and the certificates anew
/// at each HUP. What cannot be read
/// changes nothing.
async fn reload(mut hangup: Signal, file: PathBuf, port: Option<u16>, reloader: Reloader) {
    while hangup.recv().await.is_some() {
        let result = Config::read(&file, port)
            .map_err(|error| error.to_string())
            .and_then(|config| reloader.reload(&config).map_err(|error| error.to_string()));
        match result {
            Ok(()) => info!("HUP: {} is read anew", file.display()),
            Err(error) => error!("HUP: nothing is changed, because of {error}"),
        }
    }
}
