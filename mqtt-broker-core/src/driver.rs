//! Feature `tokio`: a connection over any `AsyncRead + AsyncWrite`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::hooks::{Admission, PeerInfo};
use crate::send_buffer::SendBuffer;
use crate::{
    Broker, Closed, Connection, ConnectionError, Event, TooManyConnections, Transmit, Worker,
};

/// Bytes read at a time. Below 64 KiB a saturated connection pays for more system calls, above it
/// nothing was gained.
const READ_SIZE: usize = 64 << 10;

/// Reads before the receivers get their turn. More let the outboxes grow, and large blocks cost
/// more to allocate than the reads save.
const READS_A_TURN: usize = 4;

/// Parts of one vectored write; more than a kernel takes at a time is no use.
const PARTS: usize = 32;

/// Time to write what is left once a connection has to end, and for the peer to read it. Long
/// enough for a slow link's last packet; the connection counts against the limit meanwhile.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ended with an error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// There are enough connections; nothing was read or written.
    #[error(transparent)]
    TooManyConnections(#[from] TooManyConnections),
    /// The client broke the standard or met a limit.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The transport failed.
    #[error("transport: {0}")]
    Io(#[from] io::Error),
}

/// Serves one client until its connection ends. Runs on tokio, with its timers enabled.
///
/// Dropping the future is the end of the transport: the client's will is published. Reading goes on
/// while writing waits, and never waits for other clients, except for the bounded time in which a
/// receiver of this client's messages has no room.
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// use mqtt_broker_core::{Broker, Config, serve_connection};
///
/// let broker = Broker::new(Config::default(), ());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:1883").await?;
/// loop {
///     let (socket, peer) = listener.accept().await?;
///     let broker = broker.clone();
///     tokio::spawn(async move { serve_connection(&broker, socket, peer).await });
/// }
/// # }
/// ```
pub fn serve_connection<T, P>(
    broker: &Broker,
    io: T,
    peer: P,
) -> impl Future<Output = Result<Closed, ServeError>> + use<T, P>
where
    T: AsyncRead + AsyncWrite + Unpin,
    P: Into<PeerInfo>,
{
    // Not an `async fn`, which would keep room for its arguments for as long as the client is there:
    // 150 bytes, and most connections are idle.
    let broker = broker.clone();
    let mut driver = broker.connection(peer, Instant::now().into_std()).map(|connection| Driver {
        connection,
        io,
        out: None,
        login: None,
        timer: None,
    });
    async move {
        // Used where it was captured: a variable of its own would be room for a second one.
        let driver = match &mut driver {
            Ok(driver) => driver,
            Err(error) => return Err((*error).into()),
        };
        let result = std::future::poll_fn(|cx| broker.with_worker(|w| driver.poll(w, cx))).await;
        // Whether the peer takes the rest changes nothing for the broker. Boxed, because the room
        // for it would be part of every connection's future.
        let _ = Box::pin(tokio::time::timeout(LINGER, driver.linger())).await;
        result
    }
}

/// A connection and its transport.
struct Driver<T> {
    connection: Connection,
    io: T,
    /// What is being written.
    out: Option<Box<SendBuffer>>,
    /// A decision that is awaited.
    login: Option<Pin<Box<dyn Future<Output = Admission> + Send>>>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How far a step came.
#[derive(PartialEq, Eq)]
enum Progress {
    /// The transport will wake the task.
    Waiting,
    /// There may be more to do at once.
    More,
    /// The connection does not want this now.
    Paused,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn poll(
        &mut self,
        worker: &mut Worker,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Closed, ServeError>> {
        let now = Instant::now();
        if let Some(Poll::Ready(admission)) = self.login.as_mut().map(|l| l.as_mut().poll(cx)) {
            self.login = None;
            self.take_note(|connection| connection.admit(worker, admission, now.into_std()));
        }
        self.handle_timeout(worker, now);
        loop {
            let reading = match self.read(worker, cx, now) {
                Ok(reading) => reading,
                Err(error) => return Poll::Ready(self.end(worker, now, error)),
            };
            match self.write(worker, cx) {
                Ok(Poll::Ready(result)) => return Poll::Ready(result.map_err(Into::into)),
                Ok(Poll::Pending) => {}
                Err(error) => return Poll::Ready(self.end(worker, now, Some(error))),
            }
            self.handle_timeout(worker, now);
            match reading {
                Progress::More => {
                    // The receivers write before we read on.
                    cx.waker().wake_by_ref();
                    break;
                }
                Progress::Paused if self.connection.wants_input() => {}
                Progress::Paused | Progress::Waiting => break,
            }
        }
        self.arm(cx);
        Poll::Pending
    }

    /// Reads what is there, up to a bound. An error is the end of the stream: `None` for a clean
    /// one.
    fn read(
        &mut self,
        worker: &mut Worker,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Progress, Option<io::Error>> {
        let mut scratch = std::mem::take(&mut worker.scratch);
        scratch.resize(READ_SIZE, 0);
        let result = self.read_into(&mut scratch, worker, cx, now);
        worker.scratch = scratch;
        result
    }

    fn read_into(
        &mut self,
        scratch: &mut [u8],
        worker: &mut Worker,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Progress, Option<io::Error>> {
        for _ in 0..READS_A_TURN {
            if !self.connection.wants_input() {
                return Ok(Progress::Paused);
            }
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(Progress::Waiting),
                Poll::Ready(Err(error)) => return Err(Some(error)),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Err(None),
                Poll::Ready(Ok(())) => {
                    let bytes = buf.filled();
                    self.take_note(|connection| {
                        connection.handle_input(worker, bytes, now.into_std())
                    });
                    while let Some(Event::Authenticate(decision)) = self.connection.poll_event() {
                        self.login = Some(decision);
                        // Polled at once, so that it can wake the task.
                        cx.waker().wake_by_ref();
                    }
                }
            }
        }
        Ok(Progress::More)
    }

    /// Writes what is due, until the transport takes no more or nothing is left. Ready when the
    /// connection is over.
    fn write(
        &mut self,
        worker: &mut Worker,
        cx: &mut Context<'_>,
    ) -> Result<Poll<Result<Closed, ConnectionError>>, io::Error> {
        loop {
            if let Some(out) = &mut self.out {
                while !out.is_empty() {
                    match poll_write(Pin::new(&mut self.io), cx, out) {
                        Poll::Ready(written) => out.advance(written?),
                        Poll::Pending => {
                            // When it is over, `linger` goes on for a bounded time.
                            return Ok(self.connection.poll_abort(worker, cx));
                        }
                    }
                }
                self.out.take().into_iter().for_each(|out| worker.recycle(out));
            }
            match self.connection.poll_transmit(worker, cx) {
                Poll::Ready(Transmit::Write(out)) => self.out = Some(out),
                Poll::Ready(Transmit::Close(result)) => return Ok(Poll::Ready(result)),
                Poll::Pending => {
                    // A transport with a buffer of its own, such as TLS, may hold the last bytes.
                    if let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx) {
                        return Err(error);
                    }
                    return Ok(Poll::Pending);
                }
            }
        }
    }

    fn handle_timeout(&mut self, worker: &mut Worker, now: Instant) {
        let now = now.into_std();
        if self.connection.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.take_note(|connection| connection.handle_timeout(worker, now));
        }
    }

    /// Sees to it that the task is woken at the next deadline. The timer is not moved when the
    /// deadline moves to later, as it does with each packet: it fires, and is set anew then.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let Some(deadline) = self.connection.poll_timeout() else { return };
        let deadline = Instant::from_std(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                cx.waker().wake_by_ref();
                return;
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// Errors close the connection, which tells so itself when all is written.
    fn take_note(&mut self, step: impl FnOnce(&mut Connection) -> Result<(), ConnectionError>) {
        let _ = step(&mut self.connection);
    }

    /// The transport ended before the connection did.
    fn end(
        &mut self,
        worker: &mut Worker,
        now: Instant,
        error: Option<io::Error>,
    ) -> Result<Closed, ServeError> {
        self.out = None;
        self.connection.handle_end_of_stream(worker, now.into_std());
        match error {
            Some(error) => Err(error.into()),
            None => Ok(Closed::EndOfStream),
        }
    }

    /// Writes the rest, says that no more comes, and waits for the peer to see it: closing a socket
    /// with unread input would throw away what the peer has not read.
    async fn linger(&mut self) -> io::Result<()> {
        let Self { io, out, .. } = self;
        let mut scratch = [0; 512];
        std::future::poll_fn(|cx| {
            if let Some(out) = out {
                while !out.is_empty() {
                    let written = ready!(poll_write(Pin::new(io), cx, out))?;
                    out.advance(written);
                }
            }
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
            loop {
                let mut buf = ReadBuf::new(&mut scratch);
                ready!(Pin::new(&mut *io).poll_read(cx, &mut buf))?;
                if buf.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await
    }
}

/// Writes some of `out`; an error when the transport takes no more for good.
fn poll_write<T: AsyncWrite>(
    io: Pin<&mut T>,
    cx: &mut Context<'_>,
    out: &SendBuffer,
) -> Poll<io::Result<usize>> {
    let written = if out.is_contiguous() {
        ready!(io.poll_write(cx, out.chunk()))?
    } else {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let used = out.chunks_vectored(&mut parts);
        ready!(io.poll_write_vectored(cx, parts.get(..used).unwrap_or_default()))?
    };
    Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
}
