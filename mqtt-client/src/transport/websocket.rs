//! MQTT in the binary frames of a WebSocket (section 6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Timeouts, Transport};
use crate::endpoint::Endpoint;
use crate::error::{ConnectionError, Step};

/// Bytes of one frame. The broker has to read a frame whole before it can use it.
const FRAME_SIZE: usize = 64 << 10;

/// The bytes in the frames: MQTT packets may begin and end anywhere in them [MQTT-6.0.0-2].
pub(super) struct WebSocket<T> {
    inner: WebSocketStream<T>,
    /// What is left of the frame that was read last.
    frame: Bytes,
}

pub(super) async fn open<T: Transport>(
    to: &Endpoint,
    headers: &[(String, String)],
    io: T,
    limits: &Timeouts,
) -> Result<WebSocket<T>, ConnectionError> {
    let refused = |reason: String| ConnectionError::WebSocket(reason.into());
    let url = to.to_string().replacen("wss://", "ws://", 1);
    let mut request = url.into_client_request().map_err(|error| refused(error.to_string()))?;
    // The subprotocol that a client has to offer [MQTT-6.0.0-3].
    let protocol = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    for (name, value) in headers {
        let invalid = || refused(format!("the header {name:?} is not valid"));
        let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        let name = HeaderName::try_from(name).map_err(|_| invalid())?;
        request.headers_mut().insert(name, value);
    }
    match tokio::time::timeout(limits.websocket, client_async(request, io)).await {
        Ok(Ok((inner, _))) => Ok(WebSocket { inner, frame: Bytes::new() }),
        Ok(Err(Error::Io(error))) => Err(ConnectionError::io(Step::WebSocket, error)),
        Ok(Err(error)) => Err(refused(error.to_string())),
        Err(_) => Err(ConnectionError::Timeout(Step::WebSocket)),
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

impl<T: Transport> AsyncRead for WebSocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.frame.is_empty() {
            self.frame = match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(frame))) => frame,
                // Answered by the WebSocket itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    // Any other than a binary frame ends the connection [MQTT-6.0.0-1].
                    let error = io::Error::new(io::ErrorKind::InvalidData, "a text frame");
                    return Poll::Ready(Err(error));
                }
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            };
        }
        let len = self.frame.len().min(buf.remaining());
        buf.put_slice(&self.frame[..len]);
        self.frame.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for WebSocket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(io_error)?;
        let part = bytes.get(..FRAME_SIZE).unwrap_or(bytes);
        let frame = Message::Binary(Bytes::copy_from_slice(part));
        Pin::new(&mut self.inner).start_send(frame).map_err(io_error)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io_error(error))),
        }
    }
}
