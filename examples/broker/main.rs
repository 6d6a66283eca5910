//! A broker that is started where Mosquitto was started: `cargo run --release --example broker`.

use std::alloc::System;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use cap::Cap;
use clap::Parser;
use mqtt_examples::config::{Address, Config, ConfigError, DEFAULT_PORT, LogDestination};
use mqtt_examples::log::{Log, NOTICE};
use mqtt_examples::process::{self, PidFile, UserError};
use mqtt_examples::server::{Reloader, Server, ServerError};
use mqtt_examples::workers;
use mqtt_examples::workers::Workers;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Counts what is on the heap, for `memory_limit` and `$SYS`. The limit is not here: an allocation
/// that fails would be the end.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

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
    /// Threads that serve clients. One moves some million messages a second; messages between
    /// clients of different threads cost more.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
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
    let log = match Log::new(&config.logging, arguments.verbose) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("broker: {error}");
            return ExitCode::FAILURE;
        }
    };
    tracing::subscriber::set_global_default(log.clone()).expect("there is no other log");
    let result = workers::runtime()
        .map_err(StartError::from)
        .and_then(|runtime| runtime.block_on(run(&config, arguments, log)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            if !config.logging.destinations.contains(&LogDestination::Stderr) {
                // Whoever starts it has no log before their eyes.
                eprintln!("broker: {error}");
            }
            match error {
                StartError::Server(ServerError::Access(_) | ServerError::Tls(_)) => {
                    ExitCode::from(CONFIG_ERROR)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("{}: {error}", file.display())]
    PidFile { file: PathBuf, error: io::Error },
    #[error("{}: cannot be given to the user of the configuration: {error}", file.display())]
    Log { file: PathBuf, error: io::Error },
    #[error(transparent)]
    User(#[from] UserError),
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

async fn run(config: &Config, arguments: Arguments, log: Log) -> Result<(), StartError> {
    let end = end_signal()?;
    let hangup = signal(SignalKind::hangup())?;
    let (save, print) =
        (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let server = Server::start(config, || HEAP.allocated()).await?;
    let pid_file = config.pid_file.as_deref().map(PidFile::write).transpose();
    let _pid_file = pid_file.map_err(|error| StartError::PidFile {
        file: config.pid_file.clone().unwrap_or_default(),
        error,
    })?;
    if let Some(user) = &config.user {
        give_logs(config, user)?;
        process::become_user(user)?;
    }
    if process::is_root() {
        warn!("a broker does not need the rights of root: `user NAME` in the file gives them away");
    }
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    info!(target: NOTICE, "serving MQTT on {}, {}", server.places(), config.who_may_connect());
    info!(target: NOTICE, "{} in {}", config.versions(), server.limits());
    notify("READY=1");
    let topic = log.topic();
    tokio::spawn(ignore(save, "USR1: what is persistent is saved already"));
    tokio::spawn(ignore(print, "USR2: there is no tree to print; $SYS has the figures"));
    let workers = Workers::start(arguments.workers.into())?;
    tokio::spawn(reload(hangup, config.clone(), arguments, server.reloader(), log));
    server.run(workers, topic, end).await;
    info!(target: NOTICE, "ended");
    Ok(())
}

/// HUP opens the files of the log anew, and whoever reads it then is no longer root.
fn give_logs(config: &Config, user: &str) -> Result<(), StartError> {
    for destination in &config.logging.destinations {
        if let LogDestination::File(file) = destination {
            let given = process::give_file(file, user);
            given.map_err(|error| StartError::Log { file: file.clone(), error })?;
        }
    }
    Ok(())
}

fn notify(state: &str) {
    if let Err(error) = process::notify(state) {
        warn!("systemd does not listen: {error}");
    }
}

/// Ready when TERM or INT comes.
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "TERM",
            _ = interrupt.recv() => "INT",
        };
        info!(target: NOTICE, "{name}: closing all connections");
        notify("STOPPING=1");
    })
}

/// Says why nothing is done. Without it a signal that scripts send to Mosquitto would be the end.
async fn ignore(mut signal: Signal, text: &str) {
    while signal.recv().await.is_some() {
        info!(target: NOTICE, "{text}");
    }
}

/// Reads the configuration with all its files anew at each HUP, and opens log files anew. What cannot
/// be read changes nothing. `first` is the configuration of the start.
async fn reload(
    mut hangup: Signal,
    first: Config,
    arguments: Arguments,
    reloader: Reloader,
    log: Log,
) {
    while hangup.recv().await.is_some() {
        let Some(file) = &arguments.config else {
            info!(target: NOTICE, "HUP: there is no configuration file to read");
            continue;
        };
        match read_anew(&arguments, &reloader, &log) {
            Ok(config) => {
                let file = file.display();
                info!(target: NOTICE, "HUP: {file}, its passwords, ACL and certificates count now");
                let later = first.waits_for_restart(&config);
                if !later.is_empty() {
                    warn!("HUP: what {file} says of {} waits for a restart", later.join(", "));
                }
            }
            Err(error) => error!("HUP: nothing is changed, because of {error}"),
        }
    }
}

fn read_anew(
    arguments: &Arguments,
    reloader: &Reloader,
    log: &Log,
) -> Result<Config, Box<dyn Error>> {
    let config = arguments.read_config()?;
    let outputs = log.open_anew(&config.logging, arguments.verbose)?;
    reloader.reload(&config)?;
    log.replace(outputs);
    Ok(config)
}
