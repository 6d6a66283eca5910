//! The task that owns the transport: it connects, reads, writes, and connects again.
//!
//! It never waits for the application. Reading goes on while writing waits, and each turn writes
//! everything that is due at once.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::error::{ConnectionError, Step};
use crate::machine::Credentials;
use crate::options::Options;
use crate::reconnect::Reconnect;
use crate::send_buffer::SendBuffer;
use crate::shared::{Finish, Shared, Stop};
use crate::status::Status;
use crate::store::Writer;
use crate::transport::Transport;

/// Bytes read at a time at first, and at most: a connection that fills its buffer gets a larger
/// one, and an idle one gives it back.
const READ_SIZE: (usize, usize) = (1 << 10, 64 << 10);

/// Reads before writing and before the application gets its turn.
const READS_A_TURN: usize = 4;

/// Bytes received and not taken from which on the application gets time before more is read.
///
/// A runtime may poll this task many times before it polls the one that takes the messages: without
/// a pause, QoS 0 messages would be dropped although the application is quick enough.
pub(crate) const PAUSE_FROM: usize = 1 << 20;

/// The longest such pause. An application that takes nothing for so long is not waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// Parts of one vectored write.
const PARTS: usize = 32;

/// Time to write DISCONNECT and to close the transport in an orderly way.
const LINGER: Duration = Duration::from_secs(1);

/// Connections that the broker closed without a word, one after the other, from which on another
/// client with the same id is the likely reason. One may be a restart, two an unlucky one.
const TAKEN_OVER: u32 = 3;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    finish: Finish,
    options: Options,
    buffer: Vec<u8>,
    out: SendBuffer,
    timer: Option<Pin<Box<Sleep>>>,
    /// Changes that have to be durable before `out` may leave.
    gate: u64,
    /// Nothing is read until then, unless messages are taken.
    paused_until: Option<Instant>,
    /// A shutdown has ended a wait between attempts.
    has_hurried: bool,
}

/// The client is to end.
struct Stopped;

impl Driver {
    pub(crate) fn new(finish: Finish, options: Options) -> Self {
        Self {
            shared: finish.shared.clone(),
            finish,
            options,
            buffer: Vec::new(),
            out: SendBuffer::default(),
            timer: None,
            gate: 0,
            paused_until: None,
            has_hurried: false,
        }
    }

    /// Runs until the client is shut down or gives up.
    pub(crate) async fn run(
        mut self,
        first_must_succeed: bool,
        stored: Option<oneshot::Receiver<()>>,
    ) {
        self.finish.cause = self.keep_connected(first_must_succeed).await.err();
        if let Some(ended) = stored {
            // The file is free for another when the client says that it is closed.
            self.shared.with(|state| {
                // What is accepted from here on would not be stored.
                state.machine.shut_down();
                state.submit_changes();
                state.store.iter_mut().for_each(Writer::close);
            });
            let _ = ended.await;
        }
    }

    /// An error is a reason to give up.
    async fn keep_connected(&mut self, first_must_succeed: bool) -> Result<(), ConnectionError> {
        let reconnect = self.options.reconnect;
        let brokers = self.options.endpoints.len().max(1);
        let (mut failures, mut broker, mut first) = (0, 0, first_must_succeed);
        // Accepted connections in a row that the broker closed without a word.
        let mut closed = 0;
        loop {
            let attempt = failures + 1;
            self.shared.tell(Status::Connecting { attempt });
            // Boxed, so that an open connection does not hold the space of opening it.
            let opened = Box::pin(open(self.options.clone(), broker));
            let opened = match self.tend(opened).await {
                Err(Stopped) => return self.stopped(),
                Ok(opened) => opened,
            };
            let began = Instant::now();
            let (cause, was_connected) = match opened {
                Ok((transport, credentials)) => match self.serve(transport, &credentials).await {
                    Ok(()) => return Ok(()),
                    Err(end) => end,
                },
                Err(cause) => (cause, false),
            };
            if was_connected {
                first = false;
            }
            if was_connected && began.elapsed() >= reconnect.stable {
                failures = 0;
            } else {
                failures += 1;
                broker = (broker + 1) % brokers;
            }
            closed = match cause {
                ConnectionError::ClosedByBroker if was_connected => closed + 1,
                _ => 0,
            };
            if closed >= TAKEN_OVER {
                #[cfg(feature = "tracing")]
                tracing::warn!(closed, "closed by the broker again: another client with this id?");
            }
            let tried_all = failures as usize >= brokers;
            if matches!(cause, ConnectionError::Config(_))
                || matches!(cause, ConnectionError::Store(_))
                || (first && tried_all)
                || (cause.is_lasting() && !reconnect.retry_refused)
                || reconnect.give_up_after.is_some_and(|most| failures >= most)
            {
                return Err(cause);
            }
            let retry_in = match failures {
                0 => Duration::ZERO,
                _ if first => Duration::ZERO,
                _ if cause.is_lasting() => reconnect.max,
                _ => Reconnect::jitter(reconnect.bound(failures)),
            };
            self.shared.tell(Status::Waiting { retry_in, cause });
            if let Err(Stopped) = self.pause(retry_in).await {
                return self.stopped();
            }
        }
    }

    /// Why the client is to end: by its own will, or because its store failed.
    fn stopped(&self) -> Result<(), ConnectionError> {
        let state = self.shared.lock();
        let failed = state.store.as_ref().and_then(|store| store.failed.clone());
        failed.map_or(Ok(()), |error| Err(ConnectionError::Store(error)))
    }

    /// Waits before the next attempt. A shutdown ends the first such wait: what was accepted is to be
    /// delivered in its time, and the broker may be there again.
    async fn pause(&mut self, delay: Duration) -> Result<(), Stopped> {
        let (shared, may_end) = (self.shared.clone(), !self.has_hurried);
        let mut sleep = pin!(sleep(delay));
        let pause = std::future::poll_fn(|cx| {
            let state = shared.lock();
            let is_last_chance = matches!(state.stop, Stop::By(_)) && !state.machine.is_drained();
            drop(state);
            match may_end && is_last_chance {
                true => Poll::Ready(true),
                false => sleep.as_mut().poll(cx).map(|()| false),
            }
        });
        self.has_hurried |= self.tend(pause).await?;
        Ok(())
    }

    /// Waits for `work` while there is no connection: messages expire, and the client may be ended.
    async fn tend<F: Future>(&mut self, work: F) -> Result<F::Output, Stopped> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let now = Instant::now().into_std();
            if self.stopped().is_err() {
                return Poll::Ready(Err(Stopped));
            }
            let (stop, drained, deadline) = self.shared.with(|state| {
                // Without a transport, nothing but messages can be overdue.
                let _ = state.machine.handle_timeout(now);
                state.driver = Some(cx.waker().clone());
                (state.stop, state.machine.is_drained(), state.machine.poll_timeout())
            });
            let by = match stop {
                Stop::No => None,
                Stop::Abort => return Poll::Ready(Err(Stopped)),
                Stop::By(by) if drained || by <= now => return Poll::Ready(Err(Stopped)),
                Stop::By(by) => Some(by),
            };
            self.arm(cx, [deadline, by].into_iter().flatten().min());
            Poll::Pending
        })
        .await
    }

    /// Serves one connection until it ends. An error says why, and whether the broker had accepted
    /// it and its subscriptions; no error is the end of the client.
    async fn serve(
        &mut self,
        mut transport: Box<dyn Transport>,
        credentials: &Credentials,
    ) -> Result<(), (ConnectionError, bool)> {
        let now = Instant::now().into_std();
        let opened = self.shared.with(|state| state.machine.handle_open(credentials, now));
        opened.map_err(|cause| (cause, false))?;
        self.out.clear();
        let result = std::future::poll_fn(|cx| self.poll(&mut *transport, cx)).await;
        let was_connected = self.shared.with(|state| {
            state.collect_handed();
            let was_connected = state.machine.is_restored();
            let is_closed = matches!(result, Err(ConnectionError::ClosedByBroker));
            let is_takeover = is_closed && state.machine.is_connected();
            state.machine.counters.closed_by_broker += u64::from(is_takeover);
            state.machine.handle_close();
            was_connected
        });
        // Some may not want to wait for the next connection.
        self.shared.room.notify_waiters();
        self.out.clear();
        match result {
            Ok(()) => {
                // After DISCONNECT the client closes the connection [MQTT-3.14.4-1]. The broker may
                // be gone already.
                let _ = timeout(LINGER, transport.shutdown()).await;
                Ok(())
            }
            Err(ConnectionError::Aborted) => Ok(()),
            Err(cause) => Err((cause, was_connected)),
        }
    }

    /// One turn.
    fn poll(
        &mut self,
        io: &mut dyn Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        let now = Instant::now();
        self.shared.set_waiting(false);
        // Nothing can be accepted or sent any more that has to be stored first.
        self.stopped()?;
        let is_late = match self.stop(now) {
            Stop::Abort => return Poll::Ready(Err(ConnectionError::Aborted)),
            Stop::By(by) => by <= now.into_std(),
            Stop::No => false,
        };
        let has_more = self.read(io, cx, now)?;
        self.write(io, cx, now)?;
        let due = self.shared.with(|state| {
            // In this order: a stream that does not see that the task waits has counted before, and
            // is seen here.
            self.shared.set_waiting(true);
            state.collect_handed();
            state.machine.handle_timeout(now.into_std())?;
            state.is_write_blocked = !self.out.is_empty();
            let closing = state.machine.is_closing() && self.out.is_empty();
            let more = state.machine.wants_transmit() && self.out.is_empty();
            if !more {
                state.driver = Some(cx.waker().clone());
            }
            let by = match state.stop {
                Stop::By(by) if !is_late => Some(by),
                _ => None,
            };
            let resume = self.paused_until.map(Instant::into_std);
            let deadline = [state.machine.poll_timeout(), by, resume].into_iter().flatten().min();
            Ok::<_, ConnectionError>((closing, more, deadline))
        });
        let (closing, more, deadline) = due?;
        if closing || (is_late && !more) {
            return Poll::Ready(Ok(()));
        }
        if has_more || more {
            // The application and the other tasks get their turn first.
            cx.waker().wake_by_ref();
        }
        self.arm(cx, deadline);
        Poll::Pending
    }

    /// Whether to stop, and sends DISCONNECT when the time for the rest is up.
    fn stop(&self, now: Instant) -> Stop {
        self.shared.with(|state| {
            if let Stop::By(by) = state.stop
                && by <= now.into_std()
            {
                state.machine.disconnect_now();
            }
            state.stop
        })
    }

    /// Reads what is there, up to a bound. True when there may be more.
    fn read(
        &mut self,
        io: &mut dyn Transport,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<bool, ConnectionError> {
        for _ in 0..READS_A_TURN {
            if !self.may_read(now) {
                // Whoever takes messages wakes the task.
                return Ok(false);
            }
            if self.buffer.is_empty() {
                self.buffer = vec![0; READ_SIZE.0];
            }
            let mut buf = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *io).poll_read(cx, &mut buf) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(ConnectionError::io(Step::Read, error)),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                    return Err(ConnectionError::ClosedByBroker);
                }
                Poll::Ready(Ok(())) => {
                    let bytes = buf.filled();
                    let now = now.into_std();
                    self.shared.with(|state| state.machine.handle_input(bytes, now))?;
                    let is_full = bytes.len() == self.buffer.len();
                    if is_full && self.buffer.len() < READ_SIZE.1 {
                        self.buffer = vec![0; READ_SIZE.1];
                    }
                }
            }
        }
        Ok(true)
    }

    fn may_read(&mut self, now: Instant) -> bool {
        let mut state = self.shared.lock();
        let wait = match self.paused_until {
            _ if state.machine.unread < PAUSE_FROM => None,
            None => Some(now + PAUSE),
            Some(until) if now < until => Some(until),
            // Its time is up: one read, and then another pause.
            Some(_) => None,
        };
        self.paused_until = wait;
        state.is_read_paused = wait.is_some();
        wait.is_none() && state.machine.wants_input() && !state.machine.owes_too_much()
    }

    /// Writes what is due, until the transport takes no more or nothing is left.
    fn write(
        &mut self,
        io: &mut dyn Transport,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let mut written = 0;
        loop {
            // What the last write took, and what comes next, under one lock.
            self.shared.with(|state| {
                if written > 0 {
                    state.machine.handle_written(written, now.into_std());
                }
                if self.out.is_empty() {
                    state.collect_handed();
                    state.machine.poll_transmit(&mut self.out, now.into_std());
                    state.submit_changes();
                    self.gate = state.store.as_ref().map_or(0, |store| store.submitted);
                }
            });
            if self.out.is_empty() {
                // A transport with a buffer of its own, such as TLS, may hold the last bytes.
                return match Pin::new(&mut *io).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Err(ConnectionError::io(Step::Write, error)),
                    _ => Ok(()),
                };
            }
            if self.gate > 0 {
                let durable = self.shared.lock().is_durable(self.gate, cx.waker());
                if !durable.map_err(ConnectionError::Store)? {
                    return Ok(());
                }
                self.gate = 0;
            }
            written = 0;
            while !self.out.is_empty() {
                let end = match poll_write(Pin::new(&mut *io), cx, &self.out) {
                    Poll::Ready(Ok(taken)) => {
                        self.out.advance(taken);
                        written += taken;
                        continue;
                    }
                    Poll::Ready(Err(error)) => Err(ConnectionError::io(Step::Write, error)),
                    Poll::Pending => Ok(()),
                };
                // Also before an error: a QoS 0 message that was taken whole is not sent again.
                if written > 0 {
                    self.shared.with(|state| {
                        state.machine.handle_written(written, now.into_std());
                    });
                }
                return end;
            }
        }
    }

    /// Sees to it that the task is woken at `deadline`. The timer is not moved when the deadline
    /// moves to later, as it does with each packet: it fires, and is set anew then.
    fn arm(&mut self, cx: &mut Context<'_>, deadline: Option<std::time::Instant>) {
        let Some(deadline) = deadline.map(Instant::from_std) else { return };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                cx.waker().wake_by_ref();
                return;
            }
            // It was set for an earlier deadline: the connection was busy, and maybe is no more.
            if self.buffer.len() > READ_SIZE.0 {
                self.buffer = Vec::new();
            }
            self.out.shrink();
            self.shared.lock().machine.shrink();
            timer.as_mut().reset(deadline);
        }
    }
}

/// Opens a transport to one of the brokers, and has the credentials for it.
async fn open(
    options: Options,
    broker: usize,
) -> Result<(Box<dyn Transport>, Credentials), ConnectionError> {
    let Some(endpoint) = options.endpoints.get(broker) else {
        let error = io::Error::new(io::ErrorKind::NotFound, "no broker is given");
        return Err(ConnectionError::io(Step::Resolve, error));
    };
    let credentials = match &options.credentials {
        None => endpoint.user.clone(),
        Some(provider) => match timeout(options.timeouts.credentials, provider()).await {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(error)) => return Err(ConnectionError::Credentials(Arc::new(error))),
            Err(_) => return Err(ConnectionError::Timeout(Step::Credentials)),
        },
    };
    let transport = options.transports.open(endpoint, &options.timeouts).await?;
    Ok((transport, credentials))
}

/// Writes some of `out`.
fn poll_write(
    io: Pin<&mut dyn Transport>,
    cx: &mut Context<'_>,
    out: &SendBuffer,
) -> Poll<io::Result<usize>> {
    let (chunk, is_all) = out.chunk();
    let written = if is_all {
        std::task::ready!(io.poll_write(cx, chunk))?
    } else {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let used = out.chunks(&mut parts);
        std::task::ready!(io.poll_write_vectored(cx, &parts[..used]))?
    };
    Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
}
