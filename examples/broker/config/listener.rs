use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;

use mqtt_broker_core::MountPoint;

use super::DEFAULT_PORT;
use super::error::{Position, Reason};
use super::lines::Line;
use super::security::{Policy, Security};

/// One address that clients connect to, with all that counts there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: Address,
    /// MQTT plain or inside WebSocket.
    pub protocol: Protocol,
    /// Only IPv4 or only IPv6 (`socket_domain`); `None` for both.
    pub ip_version: Option<IpVersion>,
    /// The most clients at once on this listener.
    pub max_connections: Option<usize>,
    /// The highest QoS that its clients may publish with.
    pub max_qos: u8,
    /// The versions of the protocol that are spoken.
    pub versions: Versions,
    /// The user name replaces the client id (`use_username_as_clientid`).
    pub user_name_as_client_id: bool,
    /// Web pages that may connect (`websockets_origin`); empty for all.
    pub origins: Vec<String>,
    /// A folder whose files are served over HTTP (`http_dir`).
    pub http_dir: Option<PathBuf>,
    /// What stands before all topics of its clients, unseen by them (`mount_point`).
    pub mount_point: Option<MountPoint>,
    /// TLS, if the listener has a certificate.
    pub tls: Option<Tls>,
    /// Who may connect.
    pub policy: Policy,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On this machine only, IPv4 and IPv6: a broker without a configured listener.
    Loopback {
        /// The TCP port.
        port: u16,
    },
    /// On all addresses of this machine, IPv4 and IPv6.
    Any {
        /// The TCP port.
        port: u16,
    },
    /// On the addresses of one name or number.
    Host {
        /// A host name or an IP address.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// At a path of the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback { port } => write!(f, "localhost:{port}"),
            Self::Any { port } => write!(f, "*:{port}"),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT packets as they are.
    #[default]
    Mqtt,
    /// MQTT packets inside WebSocket messages.
    WebSockets,
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The versions of MQTT that a listener accepts (`accept_protocol_versions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Version 3.1, protocol level 3.
    pub v3_1: bool,
    /// Version 3.1.1, protocol level 4.
    pub v3_1_1: bool,
}

/// The TLS options of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate and its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Files with the authorities that client certificates may come from.
    pub client_authorities: Vec<PathBuf>,
    /// Clients must show a certificate.
    pub require_certificate: bool,
    /// Certificates that were revoked.
    pub revocations: Option<PathBuf>,
    /// What of a client's certificate becomes its user name.
    pub user_name: UserName,
    /// The lowest version that is spoken.
    pub minimum: TlsVersion,
    /// The cipher suites of TLS 1.2 by their names in OpenSSL (`ciphers`).
    pub ciphers: Option<String>,
    /// Those of TLS 1.3 (`ciphers_tls1.3`).
    pub ciphers_1_3: Option<String>,
    /// Client certificates count before and after their time (`disable_client_cert_date_checks`).
    pub ignore_dates: bool,
}

/// What becomes the user name of a client with a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserName {
    /// What the client writes in its CONNECT.
    #[default]
    Connect,
    /// The common name of its certificate (`use_identity_as_username`).
    CommonName,
    /// The whole subject of its certificate (`use_subject_as_username`).
    Subject,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A listener while its lines are read.
#[derive(Default)]
pub(super) struct Draft {
    /// The `listener` line, or the first line about the default listener.
    pub(super) position: Option<Position>,
    pub(super) security: Security,
    port: Option<u16>,
    host: Option<String>,
    unix: Option<PathBuf>,
    /// The port of the command line, where it moves a listener that is only for this machine.
    local_port: Option<u16>,
    protocol: Protocol,
    ip_version: Option<IpVersion>,
    max_connections: Option<usize>,
    max_qos: Option<u8>,
    versions: Option<Versions>,
    user_name_as_client_id: bool,
    allow_anonymous: Option<bool>,
    origins: Vec<String>,
    http_dir: Option<PathBuf>,
    mount_point: Option<MountPoint>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    ca_path: Option<PathBuf>,
    require_certificate: bool,
    revocations: Option<PathBuf>,
    common_name: bool,
    subject: bool,
    minimum: TlsVersion,
    ciphers: Option<String>,
    ciphers_1_3: Option<String>,
    ignore_dates: bool,
}

impl Draft {
    /// The listener of a `listener PORT [ADDRESS]` line.
    pub(super) fn new(line: &Line) -> Result<Self, Reason> {
        let text = line.text()?;
        let (port, rest) = text.split_once([' ', '\t']).unwrap_or((&text, ""));
        let rest = rest.trim();
        let port: u16 = port.parse().map_err(|_| line.invalid("a port from 1 to 65535"))?;
        let mut draft = Self { position: Some(line.position.clone()), ..Self::default() };
        match (port, rest) {
            (0, "") => return Err(line.invalid("0 and the path of a Unix socket")),
            (0, path) => draft.unix = Some(PathBuf::from(path)),
            (port, host) => {
                draft.port = Some(port);
                draft.host = (!host.is_empty()).then(|| host.to_owned());
            }
        }
        Ok(draft)
    }

    pub(super) fn apply(&mut self, line: &Line) -> Result<bool, Reason> {
        let known = self.apply_general(line)? || self.apply_tls(line)?;
        if known && self.position.is_none() {
            self.position = Some(line.position.clone());
        }
        Ok(known)
    }

    fn apply_general(&mut self, line: &Line) -> Result<bool, Reason> {
        match line.option.as_str() {
            "port" => {
                let port = line.number::<NonZeroU16>("a port from 1 to 65535")?;
                line.set(&mut self.port, port.get())?;
            }
            "bind_address" => line.set(&mut self.host, line.text()?)?,
            "protocol" => {
                self.protocol = match line.text()?.as_str() {
                    "mqtt" => Protocol::Mqtt,
                    "websockets" => Protocol::WebSockets,
                    _ => return Err(line.invalid("mqtt or websockets")),
                }
            }
            "socket_domain" => {
                self.ip_version = match line.text()?.as_str() {
                    "ipv4" => Some(IpVersion::V4),
                    "ipv6" => Some(IpVersion::V6),
                    _ => return Err(line.invalid("ipv4 or ipv6")),
                }
            }
            "max_connections" => self.max_connections = line.limit_or_minus_1()?,
            "max_qos" => {
                let max_qos = line.number("0 to 2")?;
                if max_qos > 2 {
                    return Err(line.invalid("0 to 2"));
                }
                self.max_qos = Some(max_qos);
            }
            "accept_protocol_versions" => self.versions = Some(versions(line)?),
            "use_username_as_clientid" => self.user_name_as_client_id = line.bool()?,
            "listener_allow_anonymous" => self.allow_anonymous = Some(line.bool()?),
            "websockets_origin" => self.origins.push(line.text()?),
            "http_dir" => line.set(&mut self.http_dir, line.path()?)?,
            "mount_point" => {
                let mount_point = MountPoint::new(&line.text()?);
                let expected = "the beginning of a topic, without wildcards";
                line.set(&mut self.mount_point, mount_point.map_err(|_| line.invalid(expected))?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn apply_tls(&mut self, line: &Line) -> Result<bool, Reason> {
        match line.option.as_str() {
            "certfile" => line.set(&mut self.certificate, line.path()?)?,
            "keyfile" => line.set(&mut self.key, line.path()?)?,
            "cafile" => line.set(&mut self.ca_file, line.path()?)?,
            "capath" => line.set(&mut self.ca_path, line.path()?)?,
            "crlfile" => line.set(&mut self.revocations, line.path()?)?,
            "require_certificate" => self.require_certificate = line.bool()?,
            "use_identity_as_username" => self.common_name = line.bool()?,
            "use_subject_as_username" => self.subject = line.bool()?,
            "disable_client_cert_date_checks" => self.ignore_dates = line.bool()?,
            "tls_version" => {
                self.minimum = match line.text()?.as_str() {
                    "tlsv1.2" => TlsVersion::V1_2,
                    "tlsv1.3" => TlsVersion::V1_3,
                    "tlsv1" | "tlsv1.1" => {
                        let feature = "TLS 1.0 and TLS 1.1";
                        return Err(Reason::Unsupported { option: line.option.clone(), feature });
                    }
                    _ => return Err(line.invalid("tlsv1.2 or tlsv1.3")),
                }
            }
            "ciphers" => line.set(&mut self.ciphers, line.text()?)?,
            "ciphers_tls1.3" => line.set(&mut self.ciphers_1_3, line.text()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// True when the file says where this listener is.
    pub(super) fn has_address(&self) -> bool {
        self.port.is_some() || self.host.is_some() || self.unix.is_some()
    }

    /// True when the file or the command line has anything about this listener.
    pub(super) fn was_set(&self) -> bool {
        self.position.is_some() || self.local_port.is_some()
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn set_port(&mut self, port: u16) {
        match self.has_address() {
            true => self.port = Some(port),
            false => self.local_port = Some(port),
        }
    }

    /// The listener. `security` is the file's when it counts for all listeners.
    pub(super) fn finish(
        self,
        security: Option<&Security>,
        local_only: bool,
    ) -> Result<Listener, Reason> {
        if self.unix.is_some() && self.protocol == Protocol::WebSockets {
            return Err(Reason::Exclusive("a Unix socket", "protocol websockets"));
        }
        let address = self.address(local_only);
        let policy = security.unwrap_or(&self.security).policy(self.allow_anonymous, local_only);
        Ok(Listener {
            address,
            policy,
            tls: self.tls()?,
            protocol: self.protocol,
            ip_version: self.ip_version,
            max_connections: self.max_connections,
            max_qos: self.max_qos.unwrap_or(2),
            versions: self.versions.unwrap_or(Versions { v3_1: true, v3_1_1: true }),
            user_name_as_client_id: self.user_name_as_client_id,
            origins: self.origins,
            http_dir: self.http_dir,
            mount_point: self.mount_point,
        })
    }

    fn address(&self, local_only: bool) -> Address {
        let port = self.port.or(self.local_port).unwrap_or(DEFAULT_PORT);
        match (&self.unix, &self.host) {
            (Some(path), _) => Address::Unix(path.clone()),
            (None, Some(host)) => Address::Host { host: host.clone(), port },
            (None, None) if local_only => Address::Loopback { port },
            (None, None) => Address::Any { port },
        }
    }

    fn tls(&self) -> Result<Option<Tls>, Reason> {
        let (certificate, key) = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => return Err(Reason::Needs { option: "certfile", needed: "keyfile" }),
            (None, Some(_)) => return Err(Reason::Needs { option: "keyfile", needed: "certfile" }),
            // Client certificates cannot be asked for without a certificate of our own. Mosquitto
            // once opened a plain listener here (its changelog for 2.0.12).
            (None, None) if self.ca_file.is_some() => {
                return Err(Reason::Needs { option: "cafile", needed: "certfile and keyfile" });
            }
            (None, None) if self.ca_path.is_some() => {
                return Err(Reason::Needs { option: "capath", needed: "certfile and keyfile" });
            }
            (None, None) if self.require_certificate => {
                let (option, needed) = ("require_certificate", "certfile and keyfile");
                return Err(Reason::Needs { option, needed });
            }
            (None, None) => return Ok(None),
        };
        let client_authorities: Vec<_> =
            self.ca_file.iter().chain(&self.ca_path).cloned().collect();
        if self.require_certificate && client_authorities.is_empty() {
            let (option, needed) = ("require_certificate", "cafile or capath");
            return Err(Reason::Needs { option, needed });
        }
        // As in Mosquitto: the common name counts when both are wanted.
        let user_name = match (self.common_name, self.subject) {
            (true, _) => UserName::CommonName,
            (false, true) => UserName::Subject,
            (false, false) => UserName::Connect,
        };
        if user_name != UserName::Connect && !self.require_certificate {
            let option = match user_name {
                UserName::Subject => "use_subject_as_username",
                _ => "use_identity_as_username",
            };
            return Err(Reason::Needs { option, needed: "require_certificate true" });
        }
        Ok(Some(Tls {
            certificate,
            key,
            client_authorities,
            require_certificate: self.require_certificate,
            revocations: self.revocations.clone(),
            user_name,
            minimum: self.minimum,
            ciphers: self.ciphers.clone(),
            ciphers_1_3: self.ciphers_1_3.clone(),
            ignore_dates: self.ignore_dates,
        }))
    }
}

fn versions(line: &Line) -> Result<Versions, Reason> {
    let mut versions = Versions { v3_1: false, v3_1_1: false };
    for word in line.words()? {
        match word.as_str() {
            "3" => versions.v3_1 = true,
            "4" => versions.v3_1_1 = true,
            "5" => {
                return Err(Reason::Unsupported { option: line.option.clone(), feature: "MQTT 5" });
            }
            _ => return Err(line.invalid("3, 4 or both")),
        }
    }
    Ok(versions)
}
