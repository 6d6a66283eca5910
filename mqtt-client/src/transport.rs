//! How to reach a broker.

mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod watched;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(feature = "tls")]
pub use tls::Tls;
pub use watched::Direction;
pub(crate) use watched::Watcher;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::watched::Watched;
use crate::endpoint::{Endpoint, Scheme};
use crate::error::{ConfigError, ConnectionError, Step};

/// A stream of bytes to a broker, such as a TCP connection.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Opens transports in another way than the built-in ones: through a proxy, for a test, on a
/// platform without sockets. As a [`connector`](crate::Builder::connector) it gives the whole
/// transport, as a [`dialer`](crate::Builder::dialer) what TLS and WebSocket are put on.
pub trait Connector: Send + Sync {
    /// Opens one transport.
    fn connect<'a>(&'a self, to: &'a Endpoint) -> Connecting<'a>;
}

/// The future of [`Connector::connect`].
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + 'a>>;

impl<F, R, T> Connector for F
where
    F: Fn(Endpoint) -> R + Send + Sync,
    R: Future<Output = io::Result<T>> + Send,
    T: Transport + 'static,
{
    fn connect<'a>(&'a self, to: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move { Ok(Box::new(self(to.clone()).await?) as Box<dyn Transport>) })
    }
}

/// How long the steps of an attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Looking the name up. Default 5 s.
    pub resolve: Duration,
    /// Opening the transport, over all addresses of the name. Default 10 s.
    pub connect: Duration,
    /// The TLS handshake. Default 10 s.
    pub tls: Duration,
    /// The WebSocket handshake. Default 10 s.
    pub websocket: Duration,
    /// Having the credentials. Default 10 s.
    pub credentials: Duration,
    /// CONNACK after CONNECT, SUBACK after SUBSCRIBE, UNSUBACK after UNSUBSCRIBE. Default 10 s.
    pub reply: Duration,
    /// The next acknowledgement while messages are in flight; over it the connection is given up,
    /// because only a new one brings them in motion again. Default: no limit.
    pub ack: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self {
            resolve: Duration::from_secs(5),
            connect: ten,
            tls: ten,
            websocket: ten,
            credentials: ten,
            reply: ten,
            ack: None,
        }
    }
}

/// What is needed to open transports.
#[derive(Clone, Default)]
pub(crate) struct Transports {
    pub(crate) connector: Option<Arc<dyn Connector>>,
    pub(crate) dialer: Option<Arc<dyn Connector>>,
    pub(crate) watcher: Option<Arc<Watcher>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    /// Made of `tls` when the client starts.
    #[cfg(feature = "tls")]
    pub(crate) tls_connector: Option<tls::Connector>,
    #[cfg(feature = "websocket")]
    pub(crate) headers: Vec<(String, String)>,
}

impl Transports {
    /// Sees to it that `to` can be reached with the features that are compiled in.
    pub(crate) fn prepare(&mut self, to: &Endpoint) -> Result<(), ConfigError> {
        if self.connector.is_some() {
            return Ok(());
        }
        if to.scheme == Scheme::Unix && !cfg!(unix) {
            return Err(ConfigError::Value("there are no Unix sockets on this system"));
        }
        if to.scheme.is_websocket() && !cfg!(feature = "websocket") {
            return Err(ConfigError::Feature("websocket"));
        }
        if to.scheme.is_tls() {
            self.prepare_tls()?;
        }
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn prepare_tls(&mut self) -> Result<(), ConfigError> {
        if self.tls_connector.is_none() {
            self.tls_connector = Some(self.tls.clone().unwrap_or_default().build()?);
        }
        Ok(())
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_self, reason = "the other form needs it")]
    fn prepare_tls(&mut self) -> Result<(), ConfigError> {
        Err(ConfigError::Feature("tls"))
    }

    pub(crate) async fn open(
        &self,
        to: &Endpoint,
        limits: &Timeouts,
    ) -> Result<Box<dyn Transport>, ConnectionError> {
        let opened = self.open_unwatched(to, limits).await?;
        Ok(match &self.watcher {
            Some(watcher) => Box::new(Watched::new(opened, watcher.clone())),
            None => opened,
        })
    }

    async fn open_unwatched(
        &self,
        to: &Endpoint,
        limits: &Timeouts,
    ) -> Result<Box<dyn Transport>, ConnectionError> {
        if let Some(connector) = &self.connector {
            return within(limits.connect, Step::Connect, connector.connect(to)).await;
        }
        if let Some(dialer) = &self.dialer {
            let dialed = within(limits.connect, Step::Connect, dialer.connect(to)).await?;
            return self.open_over(to, dialed, limits).await;
        }
        #[cfg(unix)]
        if to.scheme == Scheme::Unix {
            let socket = tokio::net::UnixStream::connect(&to.path);
            return Ok(Box::new(within(limits.connect, Step::Connect, socket).await?));
        }
        self.open_over(to, tcp::open(to, limits).await?, limits).await
    }

    /// Adds TLS and the WebSocket, if the URL asks for them.
    async fn open_over<T: Transport + 'static>(
        &self,
        to: &Endpoint,
        io: T,
        limits: &Timeouts,
    ) -> Result<Box<dyn Transport>, ConnectionError> {
        #[cfg(feature = "tls")]
        if to.scheme.is_tls()
            && let Some(connector) = &self.tls_connector
        {
            let tls = connector.open(to, io, limits).await?;
            return self.open_websocket(to, tls, limits).await;
        }
        self.open_websocket(to, io, limits).await
    }

    /// Adds the WebSocket, if the URL asks for one.
    #[cfg(feature = "websocket")]
    async fn open_websocket<T: Transport + 'static>(
        &self,
        to: &Endpoint,
        io: T,
        limits: &Timeouts,
    ) -> Result<Box<dyn Transport>, ConnectionError> {
        match to.scheme.is_websocket() {
            true => Ok(Box::new(websocket::open(to, &self.headers, io, limits).await?)),
            false => Ok(Box::new(io)),
        }
    }

    #[cfg(not(feature = "websocket"))]
    #[allow(clippy::unused_async, clippy::unused_self, reason = "the other form needs them")]
    async fn open_websocket<T: Transport + 'static>(
        &self,
        _: &Endpoint,
        io: T,
        _: &Timeouts,
    ) -> Result<Box<dyn Transport>, ConnectionError> {
        Ok(Box::new(io))
    }
}

/// Runs one step of an attempt with its limit.
async fn within<T>(
    limit: Duration,
    step: Step,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, ConnectionError> {
    match timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(ConnectionError::io(step, error)),
        Err(_) => Err(ConnectionError::Timeout(step)),
    }
}
