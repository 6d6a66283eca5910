//! Feature `tokio`: a connection over any `AsyncRead + AsyncWrite`.

mod alarms;

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
use alarms::Alarm;
pub(crate) use alarms::Alarms;

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
/// Spawn it as it is, as below: a block around it (`async move { serve_connection(..).await }`) has room
/// for its arguments as long as the client is there. With a [`TcpStream`] its task is 256 bytes, and the
/// rest of an idle connection belongs to its client and session. One more task, on the runtime of one of
/// the connections, keeps the time for the keep alives of all: a runtime that serves a client is to be run
/// or ended, and not just left alone.
///
/// [`TcpStream`]: https://docs.rs/tokio/latest/tokio/net/struct.TcpStream.html
///
/// Sessions of clients that stay away are ended by [`Broker::sweep`] only, which the program calls.
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
///     tokio::spawn(serve_connection(&broker, socket, peer));
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
    Serving(broker.connection(peer, Instant::now().into_std()).map(|connection| Driver {
        connection,
        io,
        out: None,
        errand: None,
        alarm: Alarm::default(),
    }))
}

/// What [`serve_connection`] gives. Not an `async fn`, which would have room for its arguments and for
/// all that is awaited for as long as the client is there, and most clients are idle.
struct Serving<T>(Result<Driver<T>, TooManyConnections>);

/// A connection and its transport.
struct Driver<T> {
    connection: Connection,
    io: T,
    /// What is being written.
    out: Option<Box<SendBuffer>>,
    errand: Option<Box<Errand>>,
    alarm: Alarm,
}

/// What only a connection needs that begins, waits for others or ends.
#[derive(Default)]
struct Errand {
    /// A decision that is awaited.
    login: Option<Pin<Box<dyn Future<Output = Admission> + Send>>>,
    timer: Option<Pin<Box<Sleep>>>,
    /// How the connection ended. Its last bytes are on their way.
    result: Option<Result<Closed, ServeError>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Serving<T> {
    type Output = Result<Closed, ServeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let driver = match &mut self.0 {
            Ok(driver) => driver,
            Err(error) => return Poll::Ready(Err((*error).into())),
        };
        if !driver.is_over() {
            let mut worker = driver.connection.broker().lend_worker();
            let polled = driver.poll(&mut worker, cx);
            driver.connection.broker().take_back(worker);
            driver.end(ready!(polled));
        }
        // Whether the peer takes the rest changes nothing for the broker.
        if driver.poll_linger(cx).is_pending() && driver.poll_timer(cx).is_pending() {
            return Poll::Pending;
        }
        driver.errand.take().and_then(|errand| errand.result).map_or(Poll::Pending, Poll::Ready)
    }
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
        if let Some(errand) = &mut self.errand
            && let Some(login) = &mut errand.login
            && let Poll::Ready(admission) = login.as_mut().poll(cx)
        {
            errand.login = None;
            self.take_note(|connection| connection.admit(worker, admission, now.into_std()));
        }
        self.handle_timeout(worker, now);
        let was_answering = self.connection.has_answers();
        worker.has_woken = false;
        loop {
            let reading = match self.read(worker, cx, now) {
                Ok(reading) => reading,
                Err(error) => return Poll::Ready(self.fail(worker, now, error)),
            };
            if worker.has_woken && !was_answering && self.connection.has_answers() {
                // The receivers write before the publisher has its acknowledgements.
                cx.waker().wake_by_ref();
                break;
            }
            match self.write(worker, cx) {
                Ok(Poll::Ready(result)) => return Poll::Ready(result.map_err(Into::into)),
                Ok(Poll::Pending) => {}
                Err(error) => return Poll::Ready(self.fail(worker, now, Some(error))),
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
        self.arm(cx, now);
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
                        self.errand.get_or_insert_default().login = Some(decision);
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

    /// Sees to it that the task is woken at the next deadline. An alarm or a timer is not moved when the
    /// deadline moves to later, as it does with each packet: it fires, and is set anew then.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        if let Some((session, due)) = self.connection.quiet_session() {
            self.errand = None;
            if let Some(due) = due {
                let shared = self.connection.broker().shared();
                let now = shared.origin.moment(now.into_std());
                shared.alarms.set(&mut self.alarm, session, due, now);
            }
            return;
        }
        let Some(deadline) = self.connection.poll_timeout() else { return };
        let deadline = Instant::from_std(deadline);
        let errand = self.errand.get_or_insert_default();
        let timer = errand.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
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
    fn fail(
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

    /// The connection is over, and its last bytes have a bounded time.
    fn end(&mut self, result: Result<Closed, ServeError>) {
        let timer = Some(Box::pin(sleep_until(Instant::now() + LINGER)));
        self.errand = Some(Box::new(Errand { login: None, timer, result: Some(result) }));
    }

    fn is_over(&self) -> bool {
        self.errand.as_ref().is_some_and(|errand| errand.result.is_some())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.errand.as_mut().and_then(|errand| errand.timer.as_mut());
        timer.map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }

    /// Writes the rest, says that no more comes, and waits for the peer to see it: closing a socket
    /// with unread input would throw away what the peer has not read.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, out, .. } = self;
        if let Some(out) = out {
            while !out.is_empty() {
                let written = ready!(poll_write(Pin::new(io), cx, out))?;
                out.advance(written);
            }
        }
        ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
        let mut scratch = [0; 512];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.connection.broker().shared().alarms.clear(&mut self.alarm);
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
