//! How `-A` and `--proxy` reach the broker.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mqtt_client::Endpoint;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_socks::tcp::Socks5Stream;

/// From which address, and through which proxy.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) bind: Option<String>,
    pub(crate) proxy: Option<Proxy>,
}

/// A SOCKS 5 proxy that looks the broker's name up itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
    user: Option<(String, String)>,
}

impl Proxy {
    /// Reads `socks5h://[username[:password]@]host[:port]`.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("socks5h://").ok_or("only socks5h:// is supported")?;
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(u, h)| (Some(u), h));
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decoded(name), decoded(password))
        });
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| "the port is not a number")?),
            None => (host, 1080),
        };
        match host {
            "" => Err("no host".to_owned()),
            host => Ok(Self { host: host.to_owned(), port, user }),
        }
    }
}

fn decoded(text: &str) -> String {
    text.replace("%3A", ":").replace("%3a", ":").replace("%40", "@").replace("%25", "%")
}

impl Dialer {
    pub(crate) async fn dial(self, to: Endpoint) -> io::Result<TcpStream> {
        let broker = (to.host.as_str(), to.port);
        let Some(Proxy { host, port, user }) = &self.proxy else {
            return self.connect(broker).await;
        };
        let tunnel = self.connect((host, *port)).await?;
        let tunnel = match user {
            Some((name, password)) => {
                Socks5Stream::connect_with_password_and_socket(tunnel, broker, name, password).await
            }
            None => Socks5Stream::connect_with_socket(tunnel, broker).await,
        };
        Ok(tunnel.map_err(io::Error::other)?.into_inner())
    }

    /// Tries the addresses of the name in turn.
    async fn connect(&self, to: (&str, u16)) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host(to).await? {
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = &self.bind {
            let from = match from.parse::<IpAddr>() {
                Ok(from) => SocketAddr::new(from, 0),
                Err(_) => {
                    let mut found = lookup_host((from.as_str(), 0)).await?;
                    let same = found.find(|found| found.is_ipv4() == address.is_ipv4());
                    same.ok_or(io::ErrorKind::AddrNotAvailable)?
                }
            };
            socket.bind(from)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
