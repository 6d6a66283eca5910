//! The flags that `pub` and `sub` share: where the broker is and how to reach it.

#[path = "debug.rs"]
mod debug;
#[path = "dialer.rs"]
mod dialer;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};
use mqtt_client::{
    Builder, Bytes, Client, ConnectionError, Endpoint, Publish, QoS, Status, Step, Tls,
};

use dialer::{Dialer, Proxy};

/// What the exit status is when a usage or a connection is wrong.
pub(crate) const FAILED: u8 = 1;

#[derive(Args)]
pub(crate) struct Connection {
    /// Host of the broker
    #[arg(short = 'h', long, default_value = "localhost", help_heading = CONNECTION)]
    host: String,
    /// Port; 1883, or 8883 with TLS
    #[arg(short = 'p', long, help_heading = CONNECTION)]
    port: Option<u16>,
    /// mqtt(s)://[user[:password]@]host[:port]/topic, ws(s)://...
    #[arg(short = 'L', long, help_heading = CONNECTION)]
    url: Option<String>,
    /// Path of a Unix socket
    #[arg(long, help_heading = CONNECTION)]
    unix: Option<PathBuf>,
    /// Address or name of this machine to connect from
    #[arg(short = 'A', value_name = "ADDRESS", help_heading = CONNECTION)]
    bind: Option<String>,
    /// Connect through a SOCKS proxy: socks5h://[user[:password]@]host[:port]
    #[arg(long, value_parser = Proxy::parse, help_heading = CONNECTION)]
    proxy: Option<Proxy>,
    /// Connect by WebSocket
    #[arg(long, help_heading = CONNECTION)]
    ws: bool,
    /// Client id
    #[arg(short = 'i', long, help_heading = CONNECTION)]
    id: Option<String>,
    /// Client id: this and the process id
    #[arg(short = 'I', long, help_heading = CONNECTION, conflicts_with = "id")]
    id_prefix: Option<String>,
    /// User name
    #[arg(short = 'u', long, help_heading = CONNECTION)]
    username: Option<String>,
    /// Password; better in MQTT_PASSWORD or --pw-file, because others see the command line
    #[arg(short = 'P', long, help_heading = CONNECTION)]
    pw: Option<String>,
    /// File whose first line is the password
    #[arg(long, help_heading = CONNECTION, conflicts_with = "pw")]
    pw_file: Option<PathBuf>,
    /// Keep alive in seconds
    #[arg(short = 'k', long, default_value_t = 60, help_heading = CONNECTION,
          value_parser = clap::value_parser!(u16).range(5..))]
    keepalive: u16,
    /// Keep the session when disconnected; needs --id
    #[arg(short = 'c', long, help_heading = CONNECTION)]
    pub(crate) disable_clean_session: bool,
    /// Version of the protocol: only mqttv311 (or 311)
    #[arg(short = 'V', long, help_heading = CONNECTION)]
    protocol_version: Option<String>,
    /// Messages in flight
    #[arg(short = 'M', long, help_heading = CONNECTION)]
    max_inflight: Option<u16>,
    /// Topic of the will
    #[arg(long, help_heading = WILL)]
    will_topic: Option<String>,
    /// Payload of the will
    #[arg(long, help_heading = WILL, requires = "will_topic")]
    will_payload: Option<String>,
    /// QoS of the will
    #[arg(long, help_heading = WILL, requires = "will_topic", value_parser = qos)]
    will_qos: Option<QoS>,
    /// Retain the will
    #[arg(long, help_heading = WILL, requires = "will_topic")]
    will_retain: bool,
    /// File of the certificate authorities to trust; turns TLS on
    #[arg(long, help_heading = TLS)]
    cafile: Option<PathBuf>,
    /// Folder of such files; turns TLS on
    #[arg(long, help_heading = TLS)]
    capath: Option<PathBuf>,
    /// File of the client's certificate
    #[arg(long, help_heading = TLS, requires = "key")]
    cert: Option<PathBuf>,
    /// File of the client's key
    #[arg(long, help_heading = TLS, requires = "cert")]
    key: Option<PathBuf>,
    /// Do not check that the certificate is for this host
    #[arg(long, help_heading = TLS)]
    insecure: bool,
    /// Protocol to offer by ALPN
    #[arg(long, help_heading = TLS)]
    tls_alpn: Option<String>,
    /// Trust the authorities that the system trusts; turns TLS on
    #[arg(long, help_heading = TLS)]
    tls_use_os_certs: bool,
    /// Accepted for Mosquitto's sake: it is always so
    #[arg(long, hide = true)]
    nodelay: bool,
    /// Take options from this file first, one a line
    #[arg(short = 'o', value_name = "FILE")]
    options: Option<PathBuf>,
    /// Print each packet
    #[arg(short = 'd', long)]
    debug: bool,
    /// Print no errors
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Show this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: (),
    /// Show the version
    #[arg(long, action = clap::ArgAction::Version)]
    version: (),
}

const CONNECTION: &str = "Connection";
const WILL: &str = "Will";
const TLS: &str = "TLS";

impl Connection {
    /// The client's options, and the topic of the URL if it has one.
    pub(crate) fn builder(&self) -> Result<(Builder, Option<String>), String> {
        match self.protocol_version.as_deref() {
            None | Some("mqttv311" | "311") => {}
            Some("mqttv5" | "5") => return Err("MQTT 5 is not supported".to_owned()),
            Some(other) => return Err(format!("Invalid protocol version {other:?}")),
        }
        let (url, topic) = self.url();
        let endpoint = Endpoint::parse(&url).map_err(|error| error.to_string())?;
        let mut builder = Client::builder(&url);
        builder = builder.keep_alive(Duration::from_secs(self.keepalive.into()), Duration::ZERO);
        if let Some(id) = &self.id {
            builder = builder.client_id(id);
        }
        if let Some(prefix) = &self.id_prefix {
            builder = builder.client_id(format!("{prefix}{}", std::process::id()));
        }
        if self.disable_clean_session {
            if self.id.is_none() {
                return Err("You must provide a client id if you are using -c".to_owned());
            }
            builder = builder.persistent_session();
        }
        let of_url = endpoint.user().filter(|_| self.username.is_none());
        let (given, name) = (self.given_password()?, of_url.map(|(name, _)| name));
        if let Some(name) = self.username.as_deref().or(name).map(str::to_owned) {
            let of_url = of_url.and_then(|(_, password)| password).map(Bytes::copy_from_slice);
            let of_environment = || std::env::var("MQTT_PASSWORD").ok().map(Bytes::from);
            let password = given.map(Bytes::from).or(of_url).or_else(of_environment);
            let user = move || std::future::ready(Ok((name.clone(), password.clone())));
            builder = builder.credentials_from(user);
        } else if given.is_some() {
            return Err("a password needs a user name".to_owned());
        }
        if let Some(window) = self.max_inflight {
            builder = builder.inflight(window);
        }
        if let Some(topic) = &self.will_topic {
            let will = Publish::new(topic.as_str(), self.will_payload.clone().unwrap_or_default());
            builder =
                builder.will(will.qos(self.will_qos.unwrap_or_default()).retain(self.will_retain));
        }
        if self.bind.is_some() || self.proxy.is_some() {
            let dialer = Dialer { bind: self.bind.clone(), proxy: self.proxy.clone() };
            builder = builder.dialer(move |to| dialer.clone().dial(to));
        }
        if self.debug {
            builder = debug::watch(builder);
        }
        Ok((builder.tls(self.tls()?), topic))
    }

    fn url(&self) -> (String, Option<String>) {
        if let Some(path) = &self.unix {
            return (format!("unix:{}", path.display()), None);
        }
        let tls = self.cafile.is_some() || self.capath.is_some() || self.tls_use_os_certs;
        if let Some(url) = &self.url {
            // Of a WebSocket the path is a path; else it is a topic.
            let rest = url.strip_prefix("mqtt://").or_else(|| url.strip_prefix("mqtts://"));
            let topic = rest.and_then(|rest| rest.split_once('/')).map(|(_, topic)| topic);
            let topic = topic.filter(|topic| !topic.is_empty()).map(str::to_owned);
            // Who names an authority to trust means TLS.
            let url = match url.split_once("://") {
                Some(("mqtt", rest)) if tls => format!("mqtts://{rest}"),
                Some(("ws", rest)) if tls => format!("wss://{rest}"),
                _ => url.clone(),
            };
            return (url, topic);
        }
        let tls = tls || self.port == Some(8883);
        let scheme = match (self.ws, tls) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        (format!("{scheme}://{host}{port}"), None)
    }

    fn tls(&self) -> Result<Tls, String> {
        let mut tls = self.cafile.as_ref().map_or_else(Tls::system_roots, Tls::ca_file);
        if let Some(folder) = &self.capath {
            let files = certificates_in(folder);
            let files = files.map_err(|error| format!("{}: {error}", folder.display()))?;
            if files.is_empty() {
                return Err(format!("{}: there is no certificate in it", folder.display()));
            }
            tls = files.into_iter().fold(tls, Tls::and_ca_file);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.client_certificate(cert, key);
        }
        if let Some(protocol) = &self.tls_alpn {
            tls = tls.alpn([protocol.as_str()]);
        }
        if self.insecure {
            tls = tls.danger_accept_any_name();
        }
        Ok(tls)
    }

    /// The password of the command line.
    fn given_password(&self) -> Result<Option<String>, String> {
        if let Some(path) = &self.pw_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(text.lines().next().map(str::to_owned));
        }
        Ok(self.pw.clone())
    }

    /// Prints an error, unless that is not wanted.
    pub(crate) fn complain(&self, error: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("Error: {error}");
        }
    }

    /// Prints from now on why a connection was lost or cannot be had again, each reason once until
    /// there is one.
    pub(crate) fn tell_losses(&self, client: &Client) {
        let (mut status, is_quiet) = (client.status(), self.quiet);
        tokio::spawn(async move {
            let mut told = String::new();
            loop {
                match &*status.borrow_and_update() {
                    Status::Waiting { cause, .. } if !is_quiet && cause.to_string() != told => {
                        told = cause.to_string();
                        eprintln!("Error: {told}; trying again");
                    }
                    Status::Connected { .. } => told.clear(),
                    _ => {}
                }
                if status.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Prints why there is no connection. The status is the code of the CONNACK, if there was one,
    /// and else that of Mosquitto's programs.
    pub(crate) fn report(&self, error: &ConnectionError) -> ExitCode {
        self.complain(error);
        ExitCode::from(match error {
            ConnectionError::Refused(code) => u8::from(*code),
            ConnectionError::ClosedByBroker => 7,
            ConnectionError::Io { step: Step::Read | Step::Write, .. } => 7,
            ConnectionError::Tls(_) => 8,
            _ => FAILED,
        })
    }
}

/// The files of a folder that have a certificate in PEM.
fn certificates_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_pem = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains("BEGIN CERTIFICATE");
        if path.is_file() && std::fs::read(&path).is_ok_and(is_pem) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the command line. What is wrong with it is status 1, as in Mosquitto's programs.
pub(crate) fn parse<T: Parser>() -> Result<T, ExitCode> {
    let parsed = arguments().map_err(|error| T::command().error(clap::error::ErrorKind::Io, error));
    parsed.and_then(T::try_parse_from).map_err(|error| {
        // Nobody is left to tell if it cannot be printed.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
    })
}

/// The arguments, after those of the file of `-o`, so that the command line has the last word.
fn arguments() -> Result<Vec<OsString>, String> {
    let mut given: Vec<_> = std::env::args_os().collect();
    let path = given.iter().skip_while(|arg| *arg != "-o").nth(1).map(PathBuf::from);
    if let Some(path) = path {
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let options = lines.filter(|line| !line.starts_with('#')).flat_map(|line| {
            let (option, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            [option, value.trim()].into_iter().filter(|part| !part.is_empty())
        });
        let options: Vec<_> = options.map(OsString::from).collect();
        given.splice(1..1, options);
    }
    Ok(given)
}

pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("0, 1 or 2".to_owned()),
    }
}
