//! `mosquitto.conf`: what is read from it, with each option's meaning and default.
//!
//! [`Config::read`] reads a file and what it includes; [`Config::local`] is what counts without a
//! file. Every listener of a `Config` carries its own complete [`Policy`], so nothing that decides
//! who may connect is looked up by chance in a global default.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

mod error;
mod lines;
mod listener;
mod logging;
mod messages;
mod options;
mod security;

pub use error::{ConfigError, Position, Reason};
pub use listener::{Address, IpVersion, Listener, Protocol, Tls, TlsVersion, UserName, Versions};
pub use logging::{LogDestination, LogTypes, Logging};
pub use messages::{Limit, Messages};
pub use options::OPTIONS;
pub use security::Policy;

use lines::{Line, read_lines};
use security::Security;

/// New connections a second from one address. A house behind one address comes back after a power
/// cut within seconds, since ten seconds' worth may come at once; a flood takes a twentieth of what
/// the usual 10,000 descriptors would hold until their CONNECT is due.
const DEFAULT_CONNECT_RATE: u32 = 50;

/// The port of MQTT without TLS.
pub const DEFAULT_PORT: u16 = 1883;

/// Everything that a configuration file decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect, in the order of the file. Never empty.
    pub listeners: Vec<Listener>,
    /// Limits of messages, queues and sessions.
    pub messages: Messages,
    /// The most clients at once on all listeners together (`global_max_connections`).
    pub max_connections: Option<usize>,
    /// New connections a second from one address (`max_connect_rate`, 50, which Mosquitto does not
    /// have); `None` for any number.
    pub max_connect_rate: Option<u32>,
    /// Client ids must begin with this (`clientid_prefixes`).
    pub client_id_prefix: Option<String>,
    /// Sends small packets at once (`set_tcp_nodelay`). Mosquitto's default is not to; ours is to.
    pub tcp_nodelay: bool,
    /// Where sessions and retained messages are kept, if at all.
    pub persistence: Option<PathBuf>,
    /// How often `$SYS` is published (`sys_interval`, 10 s); `None` for not at all.
    pub sys_interval: Option<Duration>,
    /// Where Prometheus gets the same figures (`metrics_listener PORT [ADDRESS]`, which Mosquitto does
    /// not have); on loopback without an address.
    pub metrics: Option<(u16, Option<IpAddr>)>,
    /// What is logged, and where to.
    pub logging: Logging,
    /// The process id is written there (`pid_file`).
    pub pid_file: Option<PathBuf>,
    /// The user to become when started as root (`user`).
    pub user: Option<String>,
    /// What was understood and has no effect here, to be logged at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// The configuration without a file: one listener on loopback, open to everyone on this machine.
    pub fn local(port: Option<u16>) -> Self {
        Builder::default()
            .finish(Path::new("no file"), port)
            .expect("the defaults are a valid configuration")
    }

    /// Reads `file` and all that it includes. `port` is the one of the command line.
    ///
    /// # Errors
    /// The first line that cannot be used, with its file, its number and the reason.
    pub fn read(file: &Path, port: Option<u16>) -> Result<Self, ConfigError> {
        let mut builder = Builder::default();
        for line in read_lines(file)? {
            builder.apply(&line).map_err(|reason| line.error(reason))?;
        }
        builder.finish(file, port)
    }

    /// What a configuration that is read while the broker runs has otherwise, and what counts from the
    /// next start only.
    pub fn waits_for_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut listeners = self.listeners.clone();
        for (old, new) in listeners.iter_mut().zip(&new.listeners) {
            // What rules are about counts at once.
            old.policy.clone_from(&new.policy);
            (old.max_qos, old.versions) = (new.max_qos, new.versions);
            old.user_name_as_client_id = new.user_name_as_client_id;
        }
        let messages = Messages {
            max_payload: new.messages.max_payload,
            retain: new.messages.retain,
            check_retain_source: new.messages.check_retain_source,
            max_memory: new.messages.max_memory,
            ..self.messages.clone()
        };
        let limits = (&messages, self.max_connections, self.max_connect_rate, self.tcp_nodelay);
        let new_limits =
            (&new.messages, new.max_connections, new.max_connect_rate, new.tcp_nodelay);
        let differences = [
            ("listeners", listeners != new.listeners),
            ("limits of messages and connections", limits != new_limits),
            ("persistence", self.persistence != new.persistence),
            ("sys_interval", self.sys_interval != new.sys_interval),
            ("metrics_listener", self.metrics != new.metrics),
            ("pid_file", self.pid_file != new.pid_file),
            ("user", self.user != new.user),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// The versions of MQTT that some listener speaks, in words for the log.
    pub fn versions(&self) -> &'static str {
        let speaks = |version: fn(&Versions) -> bool| {
            self.listeners.iter().any(|listener| version(&listener.versions))
        };
        match (speaks(|versions| versions.v3_1), speaks(|versions| versions.v3_1_1)) {
            (true, true) => "MQTT 3.1 and 3.1.1",
            (true, false) => "MQTT 3.1",
            (false, _) => "MQTT 3.1.1",
        }
    }

    /// Who may connect, in a word for the log.
    pub fn who_may_connect(&self) -> &'static str {
        let anonymous = |listener: &Listener| listener.policy.allow_anonymous;
        match (self.listeners.iter().all(anonymous), self.listeners.iter().any(anonymous)) {
            (true, _) => "anonymous clients allowed",
            (false, true) => "anonymous clients allowed on some",
            (false, false) => "nobody without a user name or certificate",
        }
    }

    /// As [`Config::read`] with the text at hand. There is nothing that `include_dir` could mean.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file = Path::new("mosquitto.conf");
        let mut builder = Builder::default();
        for line in lines::split(file, text) {
            builder.apply(&line).map_err(|reason| line.error(reason))?;
        }
        builder.finish(file, None)
    }
}

/// A configuration while its lines are read.
struct Builder {
    /// The listener that options before the first `listener` line are about.
    default_listener: listener::Draft,
    listeners: Vec<listener::Draft>,
    /// The last listener of each file so far.
    listener_of_file: HashMap<Arc<PathBuf>, usize>,
    per_listener_settings: bool,
    security: Security,
    security_was_set: bool,
    messages: Messages,
    max_connections: Option<usize>,
    max_connect_rate: u32,
    client_id_prefix: Option<String>,
    tcp_nodelay: bool,
    persistence: bool,
    persistence_location: Option<PathBuf>,
    persistence_file: Option<PathBuf>,
    sys_interval: u16,
    metrics: Option<(u16, Option<IpAddr>)>,
    logging: Logging,
    pid_file: Option<PathBuf>,
    user: Option<String>,
    warnings: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            default_listener: listener::Draft::default(),
            listeners: Vec::new(),
            listener_of_file: HashMap::new(),
            per_listener_settings: false,
            security: Security::default(),
            security_was_set: false,
            messages: Messages::default(),
            max_connections: None,
            max_connect_rate: DEFAULT_CONNECT_RATE,
            client_id_prefix: None,
            tcp_nodelay: true,
            persistence: false,
            persistence_location: None,
            persistence_file: None,
            // Mosquitto's default.
            sys_interval: 10,
            metrics: None,
            logging: Logging::default(),
            pid_file: None,
            user: None,
            warnings: Vec::new(),
        }
    }
}

impl Builder {
    fn apply(&mut self, line: &Line) -> Result<(), Reason> {
        if !OPTIONS.contains(&line.option.as_str()) {
            return Err(error::unknown(&line.option));
        }
        if line.option == "listener" {
            self.listeners.push(listener::Draft::new(line)?);
            let number = self.listeners.len() - 1;
            self.listener_of_file.insert(Arc::clone(&line.position.file), number);
            return Ok(());
        }
        let known = self.apply_security(line)?
            || self.listener(line).apply(line)?
            || self.messages.apply(line)?
            || self.logging.apply(line)?
            || self.apply_global(line)?;
        if known { Ok(()) } else { Err(error::unknown(&line.option)) }
    }

    /// The listener that a line is about: the one above it in the same file, as in Mosquitto.
    fn listener(&mut self, line: &Line) -> &mut listener::Draft {
        let number = self.listener_of_file.get(&line.position.file);
        let listener = number.and_then(|number| self.listeners.get_mut(*number));
        listener.unwrap_or(&mut self.default_listener)
    }

    /// The options that `per_listener_settings` moves from the file to its listeners.
    fn apply_security(&mut self, line: &Line) -> Result<bool, Reason> {
        if line.option == "per_listener_settings" {
            let per_listener = line.bool()?;
            if self.security_was_set && per_listener != self.per_listener_settings {
                return Err(Reason::TooLate(line.option.clone()));
            }
            self.per_listener_settings = per_listener;
            return Ok(true);
        }
        let security = if self.per_listener_settings {
            &mut self.listener(line).security
        } else {
            &mut self.security
        };
        let known = security.apply(line)?;
        self.security_was_set |= known;
        Ok(known)
    }

    fn apply_global(&mut self, line: &Line) -> Result<bool, Reason> {
        match line.option.as_str() {
            "global_max_connections" => self.max_connections = line.limit_or_minus_1()?,
            "max_connect_rate" => {
                self.max_connect_rate = line.number("connections a second, or 0 for any number")?;
            }
            "clientid_prefixes" => line.set(&mut self.client_id_prefix, line.text()?)?,
            "set_tcp_nodelay" => self.tcp_nodelay = line.bool()?,
            "persistence" => self.persistence = line.bool()?,
            "persistence_location" => line.set(&mut self.persistence_location, line.path()?)?,
            "persistence_file" => line.set(&mut self.persistence_file, line.path()?)?,
            "sys_interval" => self.sys_interval = line.number("seconds from 0 to 65535")?,
            "metrics_listener" => line.set(&mut self.metrics, metrics_listener(line)?)?,
            "pid_file" => line.set(&mut self.pid_file, line.path()?)?,
            "user" => line.set(&mut self.user, line.text()?)?,
            // Ours is durable at every acknowledgement: there is nothing to do now and then.
            "autosave_interval" => drop(line.number::<u32>("seconds")?),
            "autosave_on_changes" => drop(line.bool()?),
            // What TLS 1.2 and 1.3 of rustls offer has no such parameters.
            "dhparamfile"
            // Mosquitto itself ignores these since 1.5.
            | "retry_interval"
            | "store_clean_interval"
            | "websockets_log_level"
            | "websockets_headers_size"
            | "log_facility" => {
                line.text()?;
                self.warnings.push(format!("{}: {} has no effect", line.position, line.option));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(mut self, file: &Path, port: Option<u16>) -> Result<Config, ConfigError> {
        // Mosquitto's rule: whoever names a listener or a port decides about anonymous clients;
        // whoever names none gets a broker for this machine.
        let local_only = self.listeners.is_empty() && !self.default_listener.has_address();
        if let Some(port) = port {
            self.use_port(port);
        }
        if self.listeners.is_empty() || self.default_listener.was_set() {
            let default = std::mem::take(&mut self.default_listener);
            self.listeners.insert(0, default);
        }
        let mut listeners: Vec<Listener> = Vec::with_capacity(self.listeners.len());
        for draft in self.listeners {
            let position =
                draft.position.clone().unwrap_or_else(|| Position::start_of(file.to_owned()));
            let global = (!self.per_listener_settings).then_some(&self.security);
            let listener = draft
                .finish(global, local_only)
                .and_then(|listener| {
                    match listeners.iter().any(|l| l.address == listener.address) {
                        true => Err(Reason::SameAddress(listener.address.to_string())),
                        false => Ok(listener),
                    }
                })
                .map_err(|reason| ConfigError::new(position, reason))?;
            listeners.push(listener);
        }
        let location = self.persistence_location.unwrap_or_default();
        let file_name = self.persistence_file.unwrap_or_else(|| PathBuf::from("mosquitto.db"));
        Ok(Config {
            listeners,
            messages: self.messages,
            max_connections: self.max_connections,
            max_connect_rate: (self.max_connect_rate > 0).then_some(self.max_connect_rate),
            client_id_prefix: self.client_id_prefix,
            tcp_nodelay: self.tcp_nodelay,
            persistence: self.persistence.then(|| location.join(file_name)),
            sys_interval: (self.sys_interval > 0)
                .then(|| Duration::from_secs(u64::from(self.sys_interval))),
            metrics: self.metrics,
            logging: self.logging.or_default(),
            pid_file: self.pid_file,
            user: self.user,
            warnings: self.warnings,
        })
    }

    /// `-p PORT` beside a file: a listener of the file at that port is meant, or the default listener
    /// goes there.
    fn use_port(&mut self, port: u16) {
        if !self.listeners.iter().any(|listener| listener.port() == Some(port)) {
            self.default_listener.set_port(port);
        }
    }
}

/// A port, and an IP address if it is not loopback.
fn metrics_listener(line: &Line) -> Result<(u16, Option<IpAddr>), Reason> {
    let expected = || line.invalid("a port from 1 to 65535 and an IP address");
    let words = line.words()?;
    let port = words.first().and_then(|port| port.parse::<NonZeroU16>().ok());
    let port = port.ok_or_else(expected)?.get();
    match &words[1..] {
        [] => Ok((port, None)),
        [address] => address.parse().map(|address| (port, Some(address))).map_err(|_| expected()),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Config {
        Config::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(text: &str) -> String {
        Config::parse(text).expect_err("an error").to_string()
    }

    #[test]
    fn without_a_file_there_is_one_open_listener_on_loopback() {
        let config = Config::local(None);
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.listeners[0].address, Address::Loopback { port: 1883 });
        assert!(config.listeners[0].policy.allow_anonymous);
        assert_eq!(
            Config::local(Some(2000)).listeners[0].address,
            Address::Loopback { port: 2000 }
        );
        assert_eq!(config, parse(""), "an empty file is like none");
    }

    #[test]
    fn a_listener_or_a_port_closes_the_door_to_anonymous_clients() {
        for text in ["listener 1884", "port 1884", "bind_address 127.0.0.1"] {
            assert!(!parse(text).listeners[0].policy.allow_anonymous, "{text}");
        }
        assert!(parse("listener 1884\nallow_anonymous true").listeners[0].policy.allow_anonymous);
        assert!(!parse("allow_anonymous false").listeners[0].policy.allow_anonymous);
    }

    #[test]
    fn the_port_of_the_command_line_selects_or_moves_a_listener() {
        let read = |text, port| {
            let mut builder = Builder::default();
            for line in lines::split(Path::new("f"), text) {
                builder.apply(&line).expect("a good line");
            }
            builder.finish(Path::new("f"), Some(port)).expect("a good file").listeners
        };
        let listeners = read("listener 1884\nlistener 1885", 1885);
        assert_eq!(listeners.len(), 2);
        let listeners = read("listener 1884", 2000);
        assert_eq!(listeners.len(), 2);
        assert_eq!(listeners[0].address, Address::Any { port: 2000 });
        assert!(!listeners[0].policy.allow_anonymous);
        let listeners = read("allow_zero_length_clientid false", 2000);
        assert_eq!(listeners[0].address, Address::Loopback { port: 2000 });
        assert!(listeners[0].policy.allow_anonymous);
    }

    #[test]
    fn options_belong_to_the_listener_above_them() {
        let config = parse(
            "max_connections 5\nport 1883\nlistener 1884 127.0.0.1\nmax_connections 7\n\
             max_qos 1\nlistener 1885\nprotocol websockets\n",
        );
        let limits: Vec<_> = config.listeners.iter().map(|l| l.max_connections).collect();
        assert_eq!(limits, [Some(5), Some(7), None]);
        assert_eq!(config.listeners[1].max_qos, 1);
        assert_eq!(config.listeners[2].protocol, Protocol::WebSockets);
    }

    #[test]
    fn security_is_global_or_per_listener() {
        let text = "listener 1\nallow_anonymous true\nlistener 2\npassword_file pw\n";
        let config = parse(text);
        for listener in &config.listeners {
            assert!(listener.policy.allow_anonymous);
            assert_eq!(listener.policy.password_file, Some(PathBuf::from("pw")));
        }
        let config = parse(&format!("per_listener_settings true\n{text}"));
        assert!(config.listeners[0].policy.allow_anonymous);
        assert_eq!(config.listeners[0].policy.password_file, None);
        assert!(!config.listeners[1].policy.allow_anonymous);
        assert_eq!(config.listeners[1].policy.password_file, Some(PathBuf::from("pw")));
        assert!(error(&format!("{text}per_listener_settings true\n")).contains("before"));
    }

    #[test]
    fn one_listener_can_decide_about_anonymous_clients_alone() {
        let config = parse("listener 1\nlistener_allow_anonymous true\nlistener 2\n");
        assert!(config.listeners[0].policy.allow_anonymous);
        assert!(!config.listeners[1].policy.allow_anonymous);
    }

    #[test]
    fn errors_name_file_line_and_reason() {
        assert_eq!(
            error("listener 1883\n\nallow_anonymous tru\n"),
            "mosquitto.conf:3: allow_anonymous is `tru`, and must be true or false"
        );
        assert_eq!(error("listen 1883"), "mosquitto.conf:1: unknown option listen");
        assert_eq!(
            error("# x\nconnection east"),
            "mosquitto.conf:2: connection is an option of bridges, which this broker does not have"
        );
        assert_eq!(error("listener"), "mosquitto.conf:1: listener needs a value");
        assert!(error("listener 65536").contains("port"));
        assert!(error("listener 0").contains("path"));
        assert!(error("mount_point home/#").contains("without wildcards"));
        assert!(error("max_qos 3").contains("0 to 2"));
        assert!(error("max_packet_size 19").contains("20"));
        assert!(error("password_file a\npassword_file b").contains("twice"));
        assert!(error("listener 1\nlistener 1").contains("the same address"));
        assert!(error("listener 1\ncertfile a").starts_with("mosquitto.conf:1: certfile"));
        assert!(
            error("listener 1\ncertfile a\nkeyfile a\nrequire_certificate true")
                .contains("cafile or capath")
        );
        assert!(error("listener 1\ntls_version tlsv1.1").contains("TLS 1.1"));
    }

    #[test]
    fn what_cannot_change_while_the_broker_runs_is_known() {
        let old = parse("listener 1883\nallow_anonymous true\nmax_queued_messages 5");
        let differs = |text: &str| old.waits_for_restart(&parse(text));
        let same = "listener 1883\nmax_queued_messages 5\npassword_file x\nmax_qos 1\n\
                    message_size_limit 7\nmemory_limit 1\nlog_type all\nclientid_prefixes a";
        assert!(differs(same).is_empty(), "{:?}", differs(same));
        let limits = "limits of messages and connections";
        assert_eq!(differs("listener 1884\nmax_queued_messages 5"), ["listeners"]);
        assert_eq!(differs("listener 1883\nprotocol websockets"), ["listeners", limits]);
        let text = "listener 1883\nmax_queued_messages 5\nsys_interval 1\nuser x\npid_file y";
        assert_eq!(differs(text), ["sys_interval", "pid_file", "user"]);
    }

    #[test]
    fn comments_line_ends_and_spaces_do_not_matter() {
        let config = parse("# listener 1\r\n\r\nlistener   1884  \r\n  allow_anonymous\ttrue\r\n#");
        assert_eq!(config.listeners.len(), 1);
        assert!(config.listeners[0].policy.allow_anonymous);
        let config = parse("password_file /etc/my passwords  \n");
        let expected = Some(PathBuf::from("/etc/my passwords"));
        assert_eq!(config.listeners[0].policy.password_file, expected);
    }

    #[test]
    fn options_without_effect_are_told() {
        for option in [
            "dhparamfile",
            "log_facility",
            "retry_interval",
            "store_clean_interval",
            "websockets_headers_size",
            "websockets_log_level",
        ] {
            let expected = format!("mosquitto.conf:1: {option} has no effect");
            assert_eq!(parse(&format!("{option} 5")).warnings, [expected]);
        }
    }

    #[test]
    fn persistence_is_one_file() {
        assert_eq!(parse("persistence_location /var/lib/").persistence, None);
        assert_eq!(parse("persistence false").persistence, None);
        let path = |text: &str| parse(&format!("persistence true\n{text}")).persistence;
        assert_eq!(path(""), Some(PathBuf::from("mosquitto.db")));
        let text = "persistence_location /var/lib/mqtt/\npersistence_file x.db\n\
                    autosave_interval 0\nautosave_on_changes true";
        assert_eq!(path(text), Some(PathBuf::from("/var/lib/mqtt/x.db")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            option in prop::sample::select(ALL_OPTIONS.lines().collect::<Vec<_>>()),
            value in ".{0,12}",
            rest in "\\PC{0,40}",
        ) {
            let name = option.split(' ').next().unwrap_or_default();
            let _ = Config::parse(&format!("{name} {value}\n{option}\n{rest}"));
        }
    }

    /// Every option of the contract once.
    const ALL_OPTIONS: &str = "
per_listener_settings false
bind_address 127.0.0.1
port 1883
protocol mqtt
socket_domain ipv4
max_connections 100
global_max_connections 1000
max_connect_rate 50
accept_protocol_versions 3, 4
set_tcp_nodelay true
allow_anonymous false
password_file passwords
acl_file acls
clientid_prefixes device-
allow_zero_length_clientid true
auto_id_prefix auto-
use_username_as_clientid false
message_size_limit 1000000
max_packet_size 2000000
max_inflight_messages 20
max_inflight_bytes 0
max_queued_messages 1000
max_queued_bytes 0
queue_qos0_messages false
upgrade_outgoing_qos false
retain_available true
check_retain_source true
max_keepalive 65535
max_qos 2
persistent_client_expiration 2m
memory_limit 0
allow_duplicate_messages true
persistence false
persistence_location /var/lib/mosquitto/
persistence_file mosquitto.db
autosave_interval 1800
autosave_on_changes false
sys_interval 10
metrics_listener 9100 127.0.0.1
log_facility 5
retry_interval 20
store_clean_interval 10
websockets_log_level 0
websockets_headers_size 1024
log_dest stderr
log_type all
log_timestamp true
log_timestamp_format %Y-%m-%dT%H:%M:%S
connection_messages true
pid_file /run/mosquitto.pid
user mosquitto
listener 0 /run/mosquitto.sock
listener 8883 0.0.0.0
listener_allow_anonymous false
cafile ca.crt
capath certs
certfile server.crt
keyfile server.key
require_certificate true
crlfile ca.crl
use_identity_as_username true
tls_version tlsv1.2
ciphers DEFAULT
disable_client_cert_date_checks false
ciphers_tls1.3 TLS_AES_128_GCM_SHA256
dhparamfile dh.pem
mount_point home/
listener 8080 ::1
protocol websockets
websockets_origin https://example.com
http_dir /var/www
cafile ca.crt
certfile server.crt
keyfile server.key
require_certificate true
use_subject_as_username true
";

    #[test]
    fn a_file_with_all_options_is_read() {
        let config = parse(ALL_OPTIONS);
        assert_eq!(config.listeners.len(), 4);
        let tls = config.listeners[2].tls.as_ref().expect("TLS");
        assert_eq!(tls.user_name, UserName::CommonName);
        let tls = config.listeners[3].tls.as_ref().expect("TLS");
        assert_eq!(tls.user_name, UserName::Subject);
        assert_eq!(config.max_connections, Some(1000));
    }

    #[test]
    fn no_option_is_read_without_its_value() {
        let in_file = |option: &str| ALL_OPTIONS.lines().any(|line| line.starts_with(option));
        for option in OPTIONS {
            let expected = format!("mosquitto.conf:1: {option} needs a value");
            // There is no file of which another could be a neighbour.
            if *option != "include_dir" {
                assert_eq!(error(option), expected);
                assert!(in_file(option), "{option} is missing in the file with all of them");
            }
        }
        assert_eq!(error("Listener 1883"), "mosquitto.conf:1: unknown option Listener");
    }
}
