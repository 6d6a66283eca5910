//! The broker's log: lines as Mosquitto writes them, to wherever the configuration says.
//!
//! The parts of the broker log with `tracing`. [`Log`] is the subscriber that turns events into
//! lines; its settings can be replaced while the broker runs.

use std::fmt::{self, Write as _};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::config::{LogTypes, Logging};

mod output;
mod topic;

use output::{OpenError, Output};

pub use topic::{TopicLine, TopicLog};

/// The target of lines that Mosquitto calls notices: starts, ends, listeners.
pub const NOTICE: &str = "notice";
/// The target of lines about new subscriptions.
pub const SUBSCRIBE: &str = "subscribe";
/// The target of lines about ended subscriptions.
pub const UNSUBSCRIBE: &str = "unsubscribe";

/// The subscriber. A handle; clones are the same.
#[derive(Clone)]
pub struct Log {
    shared: Arc<RwLock<State>>,
}

/// The outputs of new settings, open.
pub struct Outputs(State);

struct State {
    types: LogTypes,
    timestamp: bool,
    timestamp_format: Option<String>,
    outputs: Vec<Output>,
    topic: TopicLog,
}

/// The kinds of `log_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
    Notice,
    Information,
    Debug,
    Subscribe,
    Unsubscribe,
}

impl Log {
    /// A log with these settings. `verbose` logs every kind, whatever the settings say.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn new(settings: &Logging, verbose: bool) -> Result<Self, OpenError> {
        let state = State::new(settings, verbose, TopicLog::new())?;
        Ok(Self { shared: Arc::new(RwLock::new(state)) })
    }

    /// Opens files anew, as after a rotation of logs, for settings that take the place of the old ones
    /// when they are [used](Self::replace).
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn open_anew(&self, settings: &Logging, verbose: bool) -> Result<Outputs, OpenError> {
        State::new(settings, verbose, self.topic()).map(Outputs)
    }

    /// Writes to what was opened from now on.
    pub fn replace(&self, Outputs(state): Outputs) {
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The lines for `log_dest topic`, to be published by the broker.
    pub fn topic(&self) -> TopicLog {
        self.read(|state| state.topic.clone())
    }

    fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.shared.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn new(settings: &Logging, verbose: bool, topic: TopicLog) -> Result<Self, OpenError> {
        let outputs = settings.destinations.iter().map(Output::open).collect::<Result<_, _>>()?;
        Ok(Self {
            types: if verbose { LogTypes::ALL } else { settings.types },
            timestamp: settings.timestamp,
            timestamp_format: settings.timestamp_format.clone(),
            outputs,
            topic,
        })
    }

    fn wants(&self, kind: Kind) -> bool {
        let types = &self.types;
        match kind {
            Kind::Error => types.error,
            Kind::Warning => types.warning,
            Kind::Notice => types.notice,
            Kind::Information => types.information,
            Kind::Debug => types.debug,
            Kind::Subscribe => types.subscribe,
            Kind::Unsubscribe => types.unsubscribe,
        }
    }

    fn write(&self, kind: Kind, text: &str) {
        let mut line = String::with_capacity(text.len() + 32);
        if self.timestamp {
            // A time that cannot be written is left out: the line matters more.
            let _ = write_time(&mut line, self.timestamp_format.as_deref());
            line.push_str(": ");
        }
        line.push_str(text);
        for output in &self.outputs {
            output.write(kind, &line, text, &self.topic);
        }
    }
}

fn write_time(line: &mut String, format: Option<&str>) -> fmt::Result {
    let now = jiff::Timestamp::now();
    match format {
        None => write!(line, "{}", now.as_second()),
        Some(format) => {
            let now = now.to_zoned(jiff::tz::TimeZone::system());
            match jiff::fmt::strtime::format(format, &now) {
                Ok(time) => line.write_str(&time),
                Err(_) => Err(fmt::Error),
            }
        }
    }
}

impl Kind {
    fn of(metadata: &Metadata<'_>) -> Self {
        match (*metadata.level(), metadata.target()) {
            (Level::ERROR, _) => Self::Error,
            (Level::WARN, _) => Self::Warning,
            (_, NOTICE) => Self::Notice,
            (_, SUBSCRIBE) => Self::Subscribe,
            (_, UNSUBSCRIBE) => Self::Unsubscribe,
            (Level::INFO, _) => Self::Information,
            _ => Self::Debug,
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries tell at TRACE and DEBUG is about their insides.
        let ours = metadata.target().starts_with("mqtt_") || !metadata.target().contains("::");
        let level = if ours { Level::DEBUG } else { Level::WARN };
        *metadata.level() <= level
            && metadata.is_event()
            && self.read(|state| state.wants(Kind::of(metadata)))
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        // Names come from clients: a line end in one must not begin a line of its own.
        let text: String = text.0.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        self.read(|state| state.write(Kind::of(event.metadata()), &text));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message of an event, and its fields behind it.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn log_to_file(name: &str, lines: &str) -> (std::path::PathBuf, Log) {
        let file = std::env::temp_dir().join(format!("{name}-{}.log", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let text = format!("log_dest file {}\n{lines}", file.display());
        let config = Config::parse(&text).expect("a good file");
        (file, Log::new(&config.logging, false).expect("the file can be opened"))
    }

    fn speak() {
        tracing::error!("an error");
        tracing::warn!("a warning");
        tracing::info!(target: NOTICE, "a notice");
        tracing::info!("information");
        tracing::debug!("a detail");
        tracing::info!(target: SUBSCRIBE, "a subscription to {}", "a\nb");
    }

    fn lines(file: &std::path::Path) -> Vec<String> {
        let text = std::fs::read_to_string(file).expect("the file can be read");
        let _ = std::fs::remove_file(file);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn log_type_selects_lines() {
        let (file, log) =
            log_to_file("types", "log_type error\nlog_type notice\nlog_timestamp false");
        tracing::subscriber::with_default(log, speak);
        assert_eq!(lines(&file), ["an error", "a notice"]);
        let (file, log) = log_to_file("default", "log_timestamp false");
        tracing::subscriber::with_default(log, speak);
        assert_eq!(lines(&file), ["an error", "a warning", "a notice", "information"]);
        let (file, log) = log_to_file("all", "log_type all\nlog_timestamp false");
        tracing::subscriber::with_default(log, speak);
        let lines = lines(&file);
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[5], "a subscription to a?b", "names cannot begin lines");
    }

    #[test]
    fn lines_begin_with_the_time() {
        let (file, log) = log_to_file("seconds", "log_type error");
        tracing::subscriber::with_default(log, speak);
        let line = &lines(&file)[0];
        let (seconds, text) = line.split_once(": ").expect("a time and a text");
        assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds > 1_700_000_000), "{line}");
        assert_eq!(text, "an error");
        let format = "log_type error\nlog_timestamp_format %Y-%m-%dT%H:%M:%S";
        let (file, log) = log_to_file("format", format);
        tracing::subscriber::with_default(log, speak);
        let line = &lines(&file)[0];
        assert_eq!(line.len(), "2026-01-02T03:04:05: an error".len(), "{line}");
        assert_eq!((&line[4..5], &line[10..11]), ("-", "T"));
    }

    #[test]
    fn new_settings_open_new_files() {
        let (first, log) = log_to_file("first", "log_timestamp false");
        let second = first.with_extension("second");
        tracing::subscriber::with_default(log.clone(), || {
            tracing::error!("to the first");
            let text = format!("log_dest file {}\nlog_timestamp false", second.display());
            let config = Config::parse(&text).expect("a good file");
            log.replace(log.open_anew(&config.logging, false).expect("the file can be opened"));
            tracing::error!("to the second");
            let bad = Config::parse("log_dest file /nonexistent/log").expect("a good file");
            assert!(log.open_anew(&bad.logging, false).is_err());
            tracing::error!("still to the second");
        });
        assert_eq!(lines(&first), ["to the first"]);
        assert_eq!(lines(&second), ["to the second", "still to the second"]);
    }
}
