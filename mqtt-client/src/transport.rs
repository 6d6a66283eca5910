//! How to reach a broker.

mod tcp;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::endpoint::{Endpoint, Scheme};
use crate::error::{ConfigError, ConnectionError, Step};

/// A stream of bytes to a broker, such as a TCP connection.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Opens transports in another way than the built-in ones: through a proxy, for a test, on a
/// platform without sockets.
///
/// TLS and WebSocket are not added to what it gives.
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

/// What is needed to open the built-in transports, and whether it can be used.
#[derive(Clone, Default)]
pub(crate) struct Transports {
    pub(crate) connector: Option<std::sync::Arc<dyn Connector>>,
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transports").finish_non_exhaustive()
    }
}

impl Transports {
    /// Whether `to` can be reached at all with the features that are compiled in.
    pub(crate) fn check(&self, to: &Endpoint) -> Result<(), ConfigError> {
        match to.scheme {
            _ if self.connector.is_some() => Ok(()),
            Scheme::Mqtt => Ok(()),
            Scheme::Mqtts => Err(ConfigError::Feature("tls")),
            Scheme::Ws => Err(ConfigError::Feature("websocket")),
            Scheme::Wss => Err(ConfigError::Feature("websocket")),
            Scheme::Unix => Err(ConfigError::Feature("unix")),
        }
    }

    pub(crate) async fn open(
        &self,
        to: &Endpoint,
        limits: &Timeouts,
    ) -> Result<Box<dyn Transport>, ConnectionError> {
        if let Some(connector) = &self.connector {
            return within(limits.connect, Step::Connect, connector.connect(to)).await;
        }
        let tcp = tcp::open(to, limits).await?;
        Ok(Box::new(tcp))
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
