//! Sockets that clients connect to.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, TcpStream};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, UnixListener, UnixStream, lookup_host};

use crate::config::{Address, IpVersion, Listener};
use crate::reactor::{self, Reactor, TcpConnection};

/// A bound socket.
#[derive(Debug)]
pub enum Socket {
    /// For TCP.
    Tcp(AsyncFd<TcpListener>),
    /// For connections within this machine.
    Unix(UnixListener, UnixPath),
}

/// An accepted connection, which nobody watches yet.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with the address of the peer.
    Tcp(TcpStream, SocketAddr),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Where it comes from, as text for people.
    pub fn peer(&self) -> String {
        match self {
            Self::Tcp(_, address) => address.to_string(),
            Self::Unix(_) => "this machine".to_owned(),
        }
    }
}

/// The path of a Unix socket; dropping it removes the path.
#[derive(Debug)]
pub struct UnixPath(PathBuf);

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    address: String,
    error: io::Error,
}

/// Opens all sockets of a listener: a name can have several addresses.
///
/// # Errors
/// When one of them cannot be opened. IPv6 is left out in silence where this machine has none.
pub async fn bind(listener: &Listener) -> Result<Vec<Socket>, BindError> {
    if let Address::Unix(path) = &listener.address {
        let socket = bind_unix(path).map_err(|error| bind_error(&path.display(), error))?;
        return Ok(vec![socket]);
    }
    let mut sockets = Vec::new();
    for address in addresses(listener).await? {
        match bind_tcp(address) {
            Ok(socket) => sockets.push(Socket::Tcp(socket)),
            Err(_) if address.is_ipv6() && !sockets.is_empty() && !has_ipv6() => {}
            Err(error) => return Err(bind_error(&address, error)),
        }
    }
    match sockets.is_empty() {
        true => Err(bind_error(&listener.address, io::ErrorKind::AddrNotAvailable.into())),
        false => Ok(sockets),
    }
}

impl Socket {
    /// The next connection. Over TCP it sends small packets at once with `nodelay`.
    ///
    /// # Errors
    /// As the system's `accept`. The socket stays usable.
    pub async fn accept(&self, nodelay: bool) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let accepted = listener.async_io(Interest::READABLE, TcpListener::accept).await;
                accepted.map(|(stream, peer)| {
                    // The peer may be gone already; reading will tell.
                    let _ = stream.set_nodelay(nodelay);
                    Stream::Tcp(stream, peer)
                })
            }
            Self::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| Stream::Unix(stream))
            }
        }
    }

    /// Where it listens, as text for people.
    pub fn place(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.get_ref().local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string())
            }
            Self::Unix(_, path) => path.0.display().to_string(),
        }
    }
}

/// An accepted connection that can become a transport of a thread.
pub trait Accepted {
    /// What is served.
    type Transport;

    /// Makes a transport of it, for the runtime in whose context this is called and its reactor.
    ///
    /// # Errors
    /// When it cannot be watched.
    fn watched_by(self, reactor: &Reactor) -> io::Result<Self::Transport>;
}

impl Accepted for TcpStream {
    type Transport = TcpConnection;

    fn watched_by(self, reactor: &Reactor) -> io::Result<TcpConnection> {
        reactor.watch(self)
    }
}

impl Accepted for UnixStream {
    type Transport = Self;

    fn watched_by(self, _: &Reactor) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn addresses(listener: &Listener) -> Result<Vec<SocketAddr>, BindError> {
    let mut addresses: Vec<SocketAddr> = match &listener.address {
        Address::Loopback { port } => {
            vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()]
        }
        Address::Any { port } => {
            vec![(Ipv4Addr::UNSPECIFIED, *port).into(), (Ipv6Addr::UNSPECIFIED, *port).into()]
        }
        Address::Host { host, port } => lookup_host((host.as_str(), *port))
            .await
            .map_err(|error| bind_error(&listener.address, error))?
            .collect(),
        Address::Unix(_) => Vec::new(),
    };
    addresses.retain(|address| match listener.ip_version {
        None => true,
        Some(IpVersion::V4) => address.is_ipv4(),
        Some(IpVersion::V6) => address.is_ipv6(),
    });
    Ok(addresses)
}

/// Binds an address. An IPv6 socket takes no IPv4 connections: those have a socket of their own.
fn bind_tcp(address: SocketAddr) -> io::Result<AsyncFd<TcpListener>> {
    /// Connections that wait to be accepted. The kernel's own limit (4,096 on Linux) is usually
    /// lower than what a thousand clients that come back at once need.
    const BACKLOG: u32 = 4096;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, Ipv6V6Only, &true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = TcpListener::from_std(socket.listen(BACKLOG)?.into_std()?);
    reactor::readable(listener)
}

/// Binds a path. One that a broker left behind when it was killed is taken over; one that somebody
/// still listens on is not.
fn bind_unix(path: &Path) -> io::Result<Socket> {
    if std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    Ok(Socket::Unix(listener, UnixPath(path.to_owned())))
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn bind_error(address: &dyn Display, error: io::Error) -> BindError {
    BindError { address: address.to_string(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn set_tcp_nodelay_is_set_on_each_connection() {
        for (text, expected) in
            [("", true), ("set_tcp_nodelay true", true), ("set_tcp_nodelay false", false)]
        {
            let config = Config::parse(text).expect("a good file");
            let any = "127.0.0.1:0".parse().expect("an address");
            let listener = bind_tcp(any).expect("a free port");
            let address = listener.get_ref().local_addr().expect("it is bound");
            let _client = std::net::TcpStream::connect(address).expect("it listens");
            let accepted = Socket::Tcp(listener).accept(config.tcp_nodelay).await;
            let Ok(Stream::Tcp(stream, _)) = accepted else { panic!("{accepted:?}") };
            assert_eq!(stream.nodelay().expect("it is known"), expected, "{text}");
        }
    }
}
