use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mqtt_codec::{MAX_PACKET, Packet, decode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Transport;

/// Which way a packet goes, for [`Builder::watch_packets`](crate::Builder::watch_packets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the broker.
    Sent,
    /// From the broker.
    Received,
}

/// Is called with each packet.
pub(crate) type Watcher = dyn Fn(Direction, &Packet<'_>) + Send + Sync;

/// A transport that shows the packets that pass it.
pub(crate) struct Watched {
    inner: Box<dyn Transport>,
    watcher: Arc<Watcher>,
    /// Packets that are not complete.
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Watched {
    pub(crate) fn new(inner: Box<dyn Transport>, watcher: Arc<Watcher>) -> Self {
        Self { inner, watcher, sent: Vec::new(), received: Vec::new() }
    }

    fn show(&mut self, direction: Direction, bytes: &[u8]) {
        let pending = match direction {
            Direction::Sent => &mut self.sent,
            Direction::Received => &mut self.received,
        };
        pending.extend_from_slice(bytes);
        let mut at = 0;
        // Of what is malformed the client complains itself.
        while let Ok(Some((packet, len))) =
            decode(pending.get(at..).unwrap_or_default(), MAX_PACKET)
        {
            (self.watcher)(direction, &packet);
            at += len;
        }
        pending.drain(..at);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.show(Direction::Received, buf.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.show(Direction::Sent, bytes.get(..written).unwrap_or_default());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
