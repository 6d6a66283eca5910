use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a configuration file cannot be used, and where.
#[derive(Debug, thiserror::Error)]
#[error("{position}: {reason}")]
pub struct ConfigError {
    /// The line that is wrong.
    pub position: Position,
    /// What is wrong with it.
    pub reason: Reason,
}

impl ConfigError {
    pub(super) fn new(position: Position, reason: Reason) -> Self {
        Self { position, reason }
    }
}

/// A line of a file, counted from 1. Line 0 is the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file's name as it was given.
    pub file: Arc<PathBuf>,
    /// The line, counted from 1.
    pub line: usize,
}

impl Position {
    pub(super) fn start_of(file: PathBuf) -> Self {
        Self { file: Arc::new(file), line: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// What can be wrong with a line, or with a listener as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Nobody knows this option.
    #[error("unknown option {0}")]
    Unknown(String),
    /// Mosquitto knows this option, and this broker does not have what it is about.
    #[error("{option} is an option of {feature}, which this broker does not have")]
    Unsupported {
        /// The option.
        option: String,
        /// What it belongs to.
        feature: &'static str,
    },
    /// The option stands alone on its line.
    #[error("{0} needs a value")]
    NoValue(String),
    /// The value is none of those that are possible.
    #[error("{option} is `{value}`, and must be {expected}")]
    Invalid {
        /// The option.
        option: String,
        /// Its value.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The option has a value already, and two are not possible.
    #[error("{0} is given twice")]
    Twice(String),
    /// The option must be given earlier in the file.
    #[error("{0} must come before any of the options that it is about")]
    TooLate(String),
    /// Two listeners that cannot both be.
    #[error("another listener has the same address, {0}")]
    SameAddress(String),
    /// An option of a listener that needs another one beside it.
    #[error("{option} needs {needed} on the same listener")]
    Needs {
        /// The option that is given.
        option: &'static str,
        /// The one that is missing.
        needed: &'static str,
    },
    /// Two options of a listener that exclude each other.
    #[error("{0} and {1} exclude each other")]
    Exclusive(&'static str, &'static str),
    /// A file or folder cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// An included file includes others, which Mosquitto does not do either.
    #[error("include_dir is possible in the first file only")]
    NestedInclude,
}

/// The reason for an option that none of our parts knows.
pub(super) fn unknown(option: &str) -> Reason {
    match UNSUPPORTED.iter().find(|(pattern, _)| is_match(pattern, option)) {
        Some((_, feature)) => Reason::Unsupported { option: option.to_owned(), feature },
        None => Reason::Unknown(option.to_owned()),
    }
}

fn is_match(pattern: &str, option: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => option.starts_with(prefix),
        None => option == pattern,
    }
}

/// What Mosquitto has and this broker does not. A star stands for any end of the name.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("connection", "bridges"),
    ("address", "bridges"),
    ("addresses", "bridges"),
    ("bridge_*", "bridges"),
    ("cleansession", "bridges"),
    ("clientid", "bridges"),
    ("idle_timeout", "bridges"),
    ("keepalive_interval", "bridges"),
    ("local_*", "bridges"),
    ("notification*", "bridges"),
    ("password", "bridges"),
    ("remote_*", "bridges"),
    ("restart_timeout", "bridges"),
    ("round_robin", "bridges"),
    ("start_type", "bridges"),
    ("threshold", "bridges"),
    ("topic", "bridges"),
    ("try_private", "bridges"),
    ("username", "bridges"),
    ("auth_*", "plugins"),
    ("global_plugin", "plugins"),
    ("plugin*", "plugins"),
    ("psk_*", "TLS with pre-shared keys"),
    ("tls_engine*", "hardware keys"),
    ("tls_keyform", "hardware keys"),
    ("max_topic_alias*", "MQTT 5"),
    ("retain_expiry_interval", "MQTT 5"),
    ("proxy_protocol*", "the PROXY protocol"),
    ("enable_proxy_protocol*", "the PROXY protocol"),
    ("bind_interface", "binding to an interface"),
    ("enable_control_api", "the control API"),
];
