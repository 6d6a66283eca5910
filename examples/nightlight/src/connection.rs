//! What all programs have to do with the broker: where it is, how it is told, and the end.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use mqtt_client::{Builder, Client, ConnectionError, Reconnect, Status};

/// Options about the broker.
#[derive(clap::Args, Clone, Debug)]
pub struct BrokerOptions {
    /// The broker: `mqtt://USER:PASSWORD@HOST:PORT`, where user and port may be left out, or
    /// `unix:/PATH`.
    #[arg(
        long,
        value_name = "URL",
        help = "mqtt://[USER:PASSWORD@]HOST[:PORT] or unix:/PATH",
        default_value = LOCAL
    )]
    pub broker: String,
    /// Keep alive; a silent connection is given up after half as long again
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    pub keep_alive: Duration,
}

/// The broker on this machine.
const LOCAL: &str = "mqtt://127.0.0.1:1883";

/// As the lesson's board has it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The longest wait between attempts: who stands at the lamp wants it back soon. The lesson's board
/// tries every 5 seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Default for BrokerOptions {
    fn default() -> Self {
        Self { broker: LOCAL.into(), keep_alive: KEEP_ALIVE }
    }
}

impl BrokerOptions {
    /// A client with this id, that tries again for ever.
    pub fn client(&self, id: String) -> Builder {
        let reconnect = Reconnect { max: LONGEST_WAIT, ..Reconnect::default() };
        Client::builder(&self.broker)
            .client_id(id)
            .keep_alive(self.keep_alive, Duration::ZERO)
            .reconnect(reconnect)
    }
}

/// An id that can be the first part of a topic, for the command line.
///
/// # Errors
/// If it is empty, or has wildcards in it.
pub fn parse_id(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['+', '#', '\0']) {
        return Err("an id has at least one character, and no + or # in it".into());
    }
    Ok(text.to_owned())
}

/// A time that can be waited for again and again, for the command line.
///
/// # Errors
/// If it is not a time with its unit, or none at all.
pub fn parse_period(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("has to be longer than nothing".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// The connection as a person sees it.
#[derive(Clone, Debug)]
pub enum Link {
    /// Being made.
    Connecting,
    /// There.
    Connected,
    /// Not there.
    Waiting {
        /// When it is tried again.
        until: Instant,
        /// Why it is not there.
        cause: ConnectionError,
    },
    /// Ended for good.
    Stopped(Option<ConnectionError>),
}

impl Link {
    /// The state that was told just now.
    pub fn new(status: &Status, now: Instant) -> Self {
        match status {
            Status::Connected { .. } => Self::Connected,
            Status::Waiting { retry_in, cause } => {
                Self::Waiting { until: now + *retry_in, cause: cause.clone() }
            }
            Status::Stopped(cause) => Self::Stopped(cause.clone()),
            _ => Self::Connecting,
        }
    }

    /// Whether it is there.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }

    /// Why it is not there, if that is known.
    pub fn cause(&self) -> Option<&ConnectionError> {
        match self {
            Self::Waiting { cause, .. } | Self::Stopped(Some(cause)) => Some(cause),
            Self::Connecting | Self::Connected | Self::Stopped(None) => None,
        }
    }

    /// In words, for one moment.
    pub fn at(&self, now: Instant) -> impl fmt::Display {
        match self {
            Self::Connecting => "connecting".into(),
            Self::Connected => "connected".into(),
            Self::Waiting { until, cause } => {
                let seconds = until.saturating_duration_since(now).as_secs_f64();
                format!("retry in {seconds:.1} s: {cause}")
            }
            Self::Stopped(Some(cause)) => format!("ended: {cause}"),
            Self::Stopped(None) => "ended".to_owned(),
        }
    }
}

/// Ready when the program is asked to end, by Ctrl-C or TERM.
///
/// # Errors
/// If the system does not allow to wait for signals.
pub fn end_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// How long a program that ends waits for what it has still to say.
pub const GOODBYE: Duration = Duration::from_secs(2);
