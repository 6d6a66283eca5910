use std::fmt;

use bytes::Bytes;

use crate::error::ConfigError;

/// Where a broker is, as a URL says it: `mqtt://user:password@host:port`, `mqtts://`,
/// `ws://host/path`, `wss://`, or `unix:/path/of/socket`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How to talk to it.
    pub scheme: Scheme,
    /// Host name or address; empty for a Unix socket.
    pub host: String,
    /// Port; 0 for a Unix socket.
    pub port: u16,
    /// Path of a WebSocket with its query, as given (`/mqtt` if there was none), or of a Unix
    /// socket.
    pub path: String,
    pub(crate) user: Option<(String, Option<Bytes>)>,
}

/// The transports that a URL can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `mqtt://` or `tcp://`: TCP, port 1883.
    Mqtt,
    /// `mqtts://` or `ssl://`: TLS over TCP, port 8883.
    Mqtts,
    /// `ws://`: WebSocket, port 80.
    Ws,
    /// `wss://`: WebSocket over TLS, port 443.
    Wss,
    /// `unix:`: a Unix socket.
    Unix,
}

impl Scheme {
    /// Whether the bytes are encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    /// Whether the bytes travel in WebSocket frames.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl Endpoint {
    /// User name and password, as far as the URL has them.
    pub fn user(&self) -> Option<(&str, Option<&[u8]>)> {
        let (name, password) = self.user.as_ref()?;
        Some((name, password.as_deref()))
    }

    /// Reads a URL. User name and password may be percent-encoded.
    ///
    /// # Errors
    /// [`ConfigError::Url`] says what is wrong. A URL without a scheme is taken for `mqtt://`.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let error = |reason| ConfigError::Url { url: without_password(url), reason };
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(error("no path of a socket"));
            }
            let (host, path) = (String::new(), path.to_owned());
            return Ok(Self { scheme: Scheme::Unix, host, port: 0, path, user: None });
        }
        let (scheme, rest) = url.split_once("://").unwrap_or(("mqtt", url));
        let (scheme, default_port) = match scheme {
            "mqtt" | "tcp" => (Scheme::Mqtt, 1883),
            "mqtts" | "ssl" => (Scheme::Mqtts, 8883),
            "ws" => (Scheme::Ws, 80),
            "wss" => (Scheme::Wss, 443),
            _ => return Err(error("unknown scheme; use mqtt, mqtts, ws, wss or unix")),
        };
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let (user, host) =
            authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
        let user = user
            .map(|user| {
                let (name, password) =
                    user.split_once(':').map_or((user, None), |(n, p)| (n, Some(p)));
                let name = String::from_utf8(percent_decoded(name)?).ok()?;
                let password = match password {
                    Some(password) => Some(percent_decoded(password)?.into()),
                    None => None,
                };
                Some((name, password))
            })
            .map_or(Ok(None), |user| user.map(Some).ok_or(error("bad percent-encoding")))?;
        let (host, port) = if let Some(rest) = host.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(error("`[` without `]`"))?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or(error("no `:` behind `]`"))?),
            };
            (host, port)
        } else {
            host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() {
            return Err(error("no host"));
        }
        let port = match port {
            None | Some("") => default_port,
            Some(port) => {
                port.parse().map_err(|_| error("the port is not a number up to 65535"))?
            }
        };
        let path = match path {
            "" if scheme.is_websocket() => "/mqtt".to_owned(),
            path if path.starts_with('?') => format!("/{path}"),
            path => path.to_owned(),
        };
        Ok(Self { scheme, host: host.to_owned(), port, path, user })
    }
}

/// As a URL, without user name and password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path, .. } = self;
        let scheme = match scheme {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Unix => return write!(f, "unix:{path}"),
        };
        let path = if self.scheme.is_websocket() { path } else { "" };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}{path}"),
            false => write!(f, "{scheme}://{host}:{port}{path}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Errors end up in logs.
fn without_password(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    match (url.get(start..), url.rfind('@')) {
        (Some(_), Some(at)) if at >= start => {
            format!(
                "{}...{}",
                url.get(..start).unwrap_or_default(),
                url.get(at..).unwrap_or_default()
            )
        }
        _ => url.to_owned(),
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_transport_host_port_path_and_user() {
        for (url, shown) in [
            ("mqtt://example.org", "mqtt://example.org:1883"),
            ("localhost", "mqtt://localhost:1883"),
            ("localhost:1884", "mqtt://localhost:1884"),
            ("tcp://10.0.0.1:99/", "mqtt://10.0.0.1:99"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
            ("ssl://h:1", "mqtts://h:1"),
            ("ws://h", "ws://h:80/mqtt"),
            ("ws://h/", "ws://h:80/"),
            ("wss://h:444/a/b?c=d", "wss://h:444/a/b?c=d"),
            ("unix:/run/mqtt.sock", "unix:/run/mqtt.sock"),
            ("unix:///run/mqtt.sock", "unix:/run/mqtt.sock"),
            ("mqtt://me:secret@h", "mqtt://h:1883"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown, "{url}");
        }
        let user = |url| Endpoint::parse(url).unwrap();
        assert_eq!(user("mqtt://m%40e:p%3a:q@h").user(), Some(("m@e", Some(&b"p::q"[..]))));
        assert_eq!((user("mqtt://me@h").user(), user("h").user()), (Some(("me", None)), None));
    }

    #[test]
    fn a_bad_url_is_refused_without_telling_the_password() {
        for url in [
            "",
            "mqtt://",
            "http://h",
            "mqtt://h:99999",
            "mqtt://[::1",
            "mqtt://[::1]1",
            "mqtt://%4@h",
            "unix:",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        let error = Endpoint::parse("mqtt://me:secret@h:port").unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("@h:port"), "{error}");
    }
}
