use std::path::PathBuf;

use super::error::Reason;
use super::lines::Line;

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Where lines go; empty for nowhere.
    pub destinations: Vec<LogDestination>,
    /// Which kinds of lines there are.
    pub types: LogTypes,
    /// Lines begin with the time (`log_timestamp`, true).
    pub timestamp: bool,
    /// How the time is written, as strftime has it; `None` for seconds since 1970.
    pub timestamp_format: Option<String>,
    /// Clients that come and go are logged (`connection_messages`, true).
    pub connections: bool,
    destination_was_set: bool,
    types_were_set: bool,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard output.
    Stdout,
    /// Standard error, the default.
    Stderr,
    /// The system's log.
    Syslog,
    /// Messages to `$SYS/broker/log/...`.
    Topic,
    /// A file that is appended to.
    File(PathBuf),
}

/// Which kinds of lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTypes {
    /// What went wrong.
    pub error: bool,
    /// What may go wrong.
    pub warning: bool,
    /// Starts, ends, listeners.
    pub notice: bool,
    /// Clients that come and go.
    pub information: bool,
    /// Every packet.
    pub debug: bool,
    /// Subscriptions.
    pub subscribe: bool,
    /// Ends of subscriptions.
    pub unsubscribe: bool,
}

impl LogTypes {
    /// Every kind: `log_type all`, and `-v`.
    pub const ALL: Self = Self {
        error: true,
        warning: true,
        notice: true,
        information: true,
        debug: true,
        subscribe: true,
        unsubscribe: true,
    };
    /// No kind at all.
    pub const NONE: Self = Self {
        error: false,
        warning: false,
        notice: false,
        information: false,
        debug: false,
        subscribe: false,
        unsubscribe: false,
    };
    /// What Mosquitto logs without being asked.
    pub const DEFAULT: Self =
        Self { error: true, warning: true, notice: true, information: true, ..Self::NONE };
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            types: LogTypes::NONE,
            timestamp: true,
            timestamp_format: None,
            connections: true,
            destination_was_set: false,
            types_were_set: false,
        }
    }
}

impl Logging {
    pub(super) fn apply(&mut self, line: &Line) -> Result<bool, Reason> {
        match line.option.as_str() {
            "log_dest" => self.add_destination(line)?,
            "log_type" => self.add_type(line)?,
            "log_timestamp" => self.timestamp = line.bool()?,
            "log_timestamp_format" => line.set(&mut self.timestamp_format, line.text()?)?,
            "connection_messages" => self.connections = line.bool()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts Mosquitto's defaults where the file says nothing.
    pub(super) fn or_default(mut self) -> Self {
        if !self.destination_was_set {
            self.destinations = vec![LogDestination::Stderr];
        }
        if !self.types_were_set {
            self.types = LogTypes::DEFAULT;
        }
        self
    }

    fn add_destination(&mut self, line: &Line) -> Result<(), Reason> {
        self.destination_was_set = true;
        let text = line.text()?;
        let destination = match text.split_once(' ').unwrap_or((&text, "")) {
            ("none", "") => {
                self.destinations.clear();
                return Ok(());
            }
            ("stdout", "") => LogDestination::Stdout,
            ("stderr", "") => LogDestination::Stderr,
            ("syslog", "") => LogDestination::Syslog,
            ("topic", "") => LogDestination::Topic,
            ("file", path) if !path.is_empty() => LogDestination::File(PathBuf::from(path.trim())),
            _ => return Err(line.invalid("stdout, stderr, syslog, topic, file PATH or none")),
        };
        if !self.destinations.contains(&destination) {
            self.destinations.push(destination);
        }
        Ok(())
    }

    fn add_type(&mut self, line: &Line) -> Result<(), Reason> {
        self.types_were_set = true;
        let types = &mut self.types;
        match line.text()?.as_str() {
            "all" => *types = LogTypes::ALL,
            "none" => *types = LogTypes::NONE,
            "error" => types.error = true,
            "warning" => types.warning = true,
            "notice" => types.notice = true,
            "information" => types.information = true,
            "debug" => types.debug = true,
            "subscribe" => types.subscribe = true,
            "unsubscribe" => types.unsubscribe = true,
            // Kinds of Mosquitto that have no lines of their own here.
            "websockets" | "internal" => {}
            _ => return Err(line.invalid("a type of log_type in mosquitto.conf(5)")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn logging(text: &str) -> Logging {
        Config::parse(text).expect("a good file").logging
    }

    #[test]
    fn defaults_count_until_the_file_says_something() {
        assert_eq!(logging("").destinations, [LogDestination::Stderr]);
        assert_eq!(logging("").types, LogTypes::DEFAULT);
        let set = logging("log_dest file /var/log/m.log\nlog_dest stdout\nlog_type error");
        let file = LogDestination::File(PathBuf::from("/var/log/m.log"));
        assert_eq!(set.destinations, [file, LogDestination::Stdout]);
        assert_eq!(set.types, LogTypes { error: true, ..LogTypes::NONE });
        assert!(logging("log_dest none").destinations.is_empty());
        assert!(Config::parse("log_dest file").is_err());
        assert!(Config::parse("log_type chatter").is_err());
    }
}
