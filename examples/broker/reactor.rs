//! TCP connections that take little memory while they are idle.
//!
//! A socket of tokio's is 300 bytes, a third of what an idle client took. Here it is 8, and 32 in a table.
//! The connections of a thread have an epoll of their own for that, which tokio's watches as one file: a
//! system call more each time that something happens, 2 µs of 10 for a thread that serves one message at
//! a time. So a connection that is busy goes over to tokio, and comes back with the first byte after a
//! pause, which for a client with nothing to say is its PINGREQ.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Registry, Token};
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;
use tracing::error;

/// Events that are taken from the system at a time, as many as tokio takes.
const EVENTS: usize = 1024;

/// A connection is busy when it was read from so often with not more than a second between: more than it
/// takes to connect and to subscribe.
const BUSY: u8 = 16;

/// Seconds without a byte after which a busy connection has become quiet. To go over and come back takes
/// eight system calls.
const QUIET: u32 = 10;

/// Watches the connections that one thread serves. A handle.
#[derive(Clone)]
pub struct Reactor(Arc<Table>);

/// A connection over TCP, as a transport.
pub struct TcpConnection {
    watch: Watch,
    pace: Pace,
    table: Arc<Table>,
}

/// Who watches a connection.
enum Watch {
    Table { stream: TcpStream, place: u32 },
    Tokio(Box<tokio::net::TcpStream>),
}

/// How often a connection was read from lately.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// The second of the last time.
    last: u32,
    /// How often with not more than a second between.
    streak: u8,
}

struct Table {
    registry: Registry,
    slots: Mutex<Slab<Slot>>,
    start: Instant,
}

/// What is known of a connection, and whom to wake.
#[derive(Default)]
struct Slot {
    read: Readiness,
    write: Readiness,
    reader: Option<Waker>,
    /// Few wait for the room to write: no room for them in each slot.
    writer: Option<Box<Waker>>,
}

/// The system tells once that something is possible; it is so until it was tried in vain.
#[derive(Clone, Copy, Default)]
struct Readiness {
    is_ready: bool,
    /// The end has come, which is told once and stays.
    is_closed: bool,
    /// Counts what the system has told, which may come while something is tried in vain.
    tick: u8,
}

/// What a connection is ready for.
#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl Reactor {
    /// Begins to watch on the runtime in whose context it is called. A task of that runtime watches as
    /// long as it runs.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub fn start() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let table = Arc::new(Table { registry, slots: Mutex::default(), start: Instant::now() });
        let poll = readable(poll)?;
        tokio::spawn(watch(poll, Arc::clone(&table)));
        Ok(Self(table))
    }

    /// Makes a transport of an accepted connection, to be served by the thread of the reactor.
    ///
    /// # Errors
    /// When the system cannot watch any more.
    pub fn watch(&self, stream: TcpStream) -> io::Result<TcpConnection> {
        let table = Arc::clone(&self.0);
        let pace = Pace { last: table.now(), streak: 0 };
        Ok(TcpConnection { watch: table.watch(stream)?, pace, table })
    }
}

/// Has tokio tell when something that belongs to the system can be read.
///
/// # Errors
/// When the system cannot watch any more.
#[allow(
    deprecated,
    reason = "what came in its place is unsafe, for types that change their descriptor: none of ours does"
)]
pub(crate) fn readable<T: AsRawFd>(file: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(file, tokio::io::Interest::READABLE)
}

/// Wakes the tasks of connections with which something has happened.
async fn watch(mut poll: AsyncFd<mio::Poll>, table: Arc<Table>) {
    let mut events = Events::with_capacity(EVENTS);
    let mut wakes = Vec::new();
    loop {
        let looked = match poll.readable_mut().await {
            Ok(mut ready) => {
                let looked = ready.get_inner_mut().poll(&mut events, Some(Duration::ZERO));
                if looked.is_ok() && events.iter().count() < EVENTS {
                    // That was all. What comes from now on is told anew.
                    ready.clear_ready();
                }
                looked
            }
            Err(error) => Err(error),
        };
        match looked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return error!("connections are not watched any more: {error}"),
        }
        {
            let mut slots = table.slots();
            for event in &events {
                // Its connection may have been closed meanwhile.
                if let Some(slot) = slots.get_mut(event.token().0) {
                    slot.note(event, &mut wakes);
                }
            }
        }
        wakes.drain(..).for_each(Waker::wake);
    }
}

impl Table {
    fn watch(&self, mut stream: TcpStream) -> io::Result<Watch> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // Before the system is told: its events need a place.
        let key = self.slots().insert(Slot::default());
        if let Err(error) = self.registry.register(&mut stream, Token(key), interest) {
            self.slots().remove(key);
            return Err(error);
        }
        let place = u32::try_from(key).expect("there are fewer descriptors");
        Ok(Watch::Table { stream, place })
    }

    /// Leaves a connection to tokio. Who waits for it has to wait there.
    fn hand_over(&self, place: u32) {
        let slot = self.slots().try_remove(place as usize);
        let Some(Slot { reader, writer, .. }) = slot else { return };
        reader.into_iter().chain(writer.map(|writer| *writer)).for_each(Waker::wake);
    }

    /// In seconds.
    fn now(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn slots(&self) -> MutexGuard<'_, Slab<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn note(&mut self, event: &Event, wakes: &mut Vec<Waker>) {
        let has_failed = event.is_error();
        if self.read.note(event.is_readable(), event.is_read_closed() || has_failed) {
            wakes.extend(self.reader.take());
        }
        if self.write.note(event.is_writable(), event.is_write_closed() || has_failed) {
            wakes.extend(self.writer.take().map(|writer| *writer));
        }
    }

    fn readiness(&mut self, direction: Direction) -> &mut Readiness {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Leaves the waker to be called when there is news.
    fn wait(&mut self, direction: Direction, waker: &Waker) {
        match direction {
            Direction::Read => match &mut self.reader {
                Some(reader) => reader.clone_from(waker),
                none => *none = Some(waker.clone()),
            },
            Direction::Write => match &mut self.writer {
                Some(writer) => (**writer).clone_from(waker),
                none => *none = Some(Box::new(waker.clone())),
            },
        }
    }
}

impl Readiness {
    /// Takes note of what the system tells. True when that is something.
    fn note(&mut self, is_ready: bool, is_closed: bool) -> bool {
        if is_ready || is_closed {
            self.is_ready = true;
            self.is_closed |= is_closed;
            self.tick = self.tick.wrapping_add(1);
        }
        is_ready || is_closed
    }
}

impl Table {
    /// Does something as soon as the system says that it is possible. `attempt` tells how many bytes of how
    /// many have gone.
    fn poll_io(
        &self,
        place: u32,
        direction: Direction,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> io::Result<(usize, usize)>,
    ) -> Poll<io::Result<usize>> {
        let proceed = ready!(poll_proceed(cx));
        let mut tried = None;
        loop {
            if let Some(slot) = self.slots().get_mut(place as usize) {
                let readiness = slot.readiness(direction);
                if tried == Some(readiness.tick) {
                    readiness.is_ready = false;
                }
                if !readiness.is_ready {
                    slot.wait(direction, cx.waker());
                    return Poll::Pending;
                }
                tried = Some(readiness.tick);
            }
            match attempt() {
                Ok((done, wanted)) => {
                    // Another attempt would be in vain: a system call is saved.
                    if 0 < done && done < wanted {
                        self.exhaust(place, direction, tried);
                    }
                    proceed.made_progress();
                    return Poll::Ready(Ok(done));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => tried = None,
                Err(error) => {
                    proceed.made_progress();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Nothing is possible until there is news, unless there has been some.
    fn exhaust(&self, place: u32, direction: Direction, tried: Option<u8>) {
        if let Some(slot) = self.slots().get_mut(place as usize) {
            let readiness = slot.readiness(direction);
            if tried == Some(readiness.tick) && !readiness.is_closed {
                readiness.is_ready = false;
            }
        }
    }
}

impl TcpConnection {
    /// Goes over to who watches best at this pace. Where that fails, it stays where it is.
    fn keep_pace(&mut self, now: u32) {
        let is_quiet = self.pace.note(now);
        let watch = match &mut self.watch {
            Watch::Table { stream, .. } if self.pace.streak >= BUSY => {
                let table = &self.table;
                copy(&*stream).and_then(tokio::net::TcpStream::from_std).and_then(|copy| {
                    table.registry.deregister(stream)?;
                    Ok(Watch::Tokio(Box::new(copy)))
                })
            }
            // Who waits for room to write is known to tokio only.
            Watch::Tokio(stream) if is_quiet && stream.try_write(b"").is_ok() => {
                copy(stream).and_then(|copy| self.table.watch(TcpStream::from_std(copy)))
            }
            _ => return,
        };
        if let Ok(watch) = watch
            && let Watch::Table { place, .. } = std::mem::replace(&mut self.watch, watch)
        {
            self.table.hand_over(place);
        }
    }
}

/// Another descriptor of a connection.
fn copy(stream: &impl AsFd) -> io::Result<std::net::TcpStream> {
    stream.as_fd().try_clone_to_owned().map(Into::into)
}

impl Pace {
    /// Takes note of a read. True when it was quiet before.
    fn note(&mut self, now: u32) -> bool {
        let pause = now.saturating_sub(self.last);
        self.last = now;
        self.streak = if pause <= 1 { self.streak.saturating_add(1) } else { 0 };
        pause >= QUIET
    }
}

impl AsyncRead for TcpConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, wanted) = (buf.filled().len(), buf.remaining());
        let Self { watch, table, .. } = &mut *self;
        match watch {
            Watch::Table { stream, place } => {
                let read = table.poll_io(*place, Direction::Read, cx, || {
                    stream.read(buf.initialize_unfilled()).map(|done| (done, wanted))
                });
                let done = ready!(read)?;
                buf.advance(done);
            }
            Watch::Tokio(stream) => ready!(Pin::new(&mut **stream).poll_read(cx, buf))?,
        }
        if buf.filled().len() > before {
            let now = self.table.now();
            self.keep_pace(now);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { watch, table, .. } = &mut *self;
        match watch {
            Watch::Table { stream, place } => table.poll_io(*place, Direction::Write, cx, || {
                stream.write(bytes).map(|done| (done, bytes.len()))
            }),
            Watch::Tokio(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { watch, table, .. } = &mut *self;
        match watch {
            Watch::Table { stream, place } => {
                let wanted = parts.iter().map(|part| part.len()).sum();
                table.poll_io(*place, Direction::Write, cx, || {
                    stream.write_vectored(parts).map(|done| (done, wanted))
                })
            }
            Watch::Tokio(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.watch {
            Watch::Table { stream, .. } => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Watch::Tokio(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        if let Watch::Table { place, .. } = &self.watch {
            // The system forgets it when it is closed, as it is now.
            let slot = self.table.slots().try_remove(*place as usize);
            // Not under the lock: a waker can be the last handle of its task.
            drop(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::descriptors;

    async fn pair(reactor: &Reactor) -> (tokio::net::TcpStream, TcpConnection) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let near = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let (far, _) = listener.accept().await.expect("it comes");
        let far = TcpStream::from_std(far.into_std().expect("it is given away"));
        (near, reactor.watch(far).expect("it can be watched"))
    }

    #[tokio::test]
    async fn bytes_come_through_both_ways_in_any_pieces() {
        let reactor = Reactor::start().expect("a descriptor is left");
        let (near, far) = pair(&reactor).await;
        let (mut from, mut to) = near.into_split();
        let (mut far_from, mut far_to) = tokio::io::split(far);
        // More than the buffers of both sockets hold, so that each side waits for the other one.
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
        let echo = tokio::spawn(async move {
            let copied = tokio::io::copy(&mut far_from, &mut far_to).await;
            far_to.shutdown().await.expect("it is open");
            copied
        });
        let sent = bytes.clone();
        let sender = tokio::spawn(async move {
            for part in sent.chunks(777_777) {
                to.write_all(part).await.expect("it is read");
            }
            to.shutdown().await.expect("it is open");
        });
        let mut got = Vec::new();
        from.read_to_end(&mut got).await.expect("it is sent");
        assert!(got == bytes, "{} bytes", got.len());
        sender.await.expect("all is sent");
        assert_eq!(echo.await.expect("no panic").expect("no error"), bytes.len() as u64);
    }

    #[tokio::test]
    async fn the_end_is_seen_whether_it_comes_with_bytes_or_alone() {
        let reactor = Reactor::start().expect("a descriptor is left");
        for bytes in [&b""[..], b"last words"] {
            for is_awaited in [false, true] {
                let (mut near, mut far) = pair(&reactor).await;
                let reader = tokio::spawn(async move {
                    let mut got = Vec::new();
                    far.read_to_end(&mut got).await.map(|_| got)
                });
                if is_awaited {
                    tokio::task::yield_now().await;
                }
                near.write_all(bytes).await.expect("it is open");
                drop(near);
                assert_eq!(reader.await.expect("no panic").expect("no error"), bytes);
            }
        }
    }

    #[tokio::test]
    async fn what_was_tried_in_vain_is_waited_for() {
        let reactor = Reactor::start().expect("a descriptor is left");
        let (mut near, mut far) = pair(&reactor).await;
        near.write_all(b"1").await.expect("it is open");
        // A read that is filled does not tell whether there is more.
        assert_eq!(far.read_u8().await.expect("it was sent"), b'1');
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut far).poll_read(&mut cx, &mut buf).is_pending());
        // Another task goes on with it.
        let reader = tokio::spawn(async move { far.read_u8().await });
        tokio::task::yield_now().await;
        near.write_all(b"2").await.expect("it is open");
        assert_eq!(reader.await.expect("no panic").expect("it was sent"), b'2');
    }

    #[tokio::test]
    async fn what_the_system_tells_meanwhile_is_not_forgotten() {
        let reactor = Reactor::start().expect("a descriptor is left");
        let (table, place) = (&*reactor.0, reactor.0.slots().insert(Slot::default()));
        let tell = || table.slots()[place].read.note(true, false);
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |attempt: &mut dyn FnMut() -> io::Result<(usize, usize)>| {
            table.poll_io(place as u32, Direction::Read, &mut cx, attempt)
        };
        tell();
        let mut attempts = 0;
        let polled = poll(&mut || {
            attempts += 1;
            match attempts {
                1 => {
                    tell();
                    Err(io::ErrorKind::WouldBlock.into())
                }
                _ => {
                    tell();
                    Ok((1, 10))
                }
            }
        });
        assert!(matches!(polled, Poll::Ready(Ok(1))) && attempts == 2);
        assert!(matches!(poll(&mut || Ok((1, 10))), Poll::Ready(Ok(1))), "told with the last one");
        assert!(poll(&mut || Ok((1, 10))).is_pending(), "all that there was");
    }

    #[tokio::test]
    async fn a_writer_is_woken_when_there_is_room_again() {
        let reactor = Reactor::start().expect("a descriptor is left");
        let (mut near, mut far) = pair(&reactor).await;
        let writer = tokio::spawn(async move { far.write_all(&[7; 20_000_000]).await });
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.expect("it is sent");
        writer.await.expect("no panic").expect("all is sent");
        assert_eq!(got.len(), 20_000_000);
    }

    /// Remembers that somebody was woken.
    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    // One task reads and another one writes.
    #[tokio::test]
    async fn a_writer_that_waits_is_woken_whoever_watches() {
        let reactor = Reactor::start().expect("a descriptor is left");
        for comes_back in [false, true] {
            let (mut near, mut far) = pair(&reactor).await;
            let now = far.table.now();
            if comes_back {
                (0..BUSY).for_each(|_| far.keep_pace(now));
                assert!(matches!(far.watch, Watch::Tokio(_)));
                far.write_all(b"x").await.expect("it is open");
            }
            let bell = Arc::new(Bell::default());
            let waker = Waker::from(Arc::clone(&bell));
            let mut cx = Context::from_waker(&waker);
            while Pin::new(&mut far).poll_write(&mut cx, &[7; 100_000]).is_ready() {
                // Room for tokio's budget of a task as well.
                tokio::task::yield_now().await;
            }
            match comes_back {
                true => far.keep_pace(now + QUIET),
                false => (0..BUSY).for_each(|_| far.keep_pace(now)),
            }
            let mut bytes = vec![0; 100_000];
            for _ in 0..1000 {
                if bell.0.load(Ordering::Relaxed) {
                    break;
                }
                // It may be woken when all is read.
                let read = near.read(&mut bytes);
                let _ = tokio::time::timeout(Duration::from_millis(10), read).await;
            }
            assert!(bell.0.load(Ordering::Relaxed), "comes back: {comes_back}");
        }
    }

    #[tokio::test]
    async fn what_was_said_before_a_shutdown_can_be_answered() {
        let reactor = Reactor::start().expect("a descriptor is left");
        let (mut near, mut far) = pair(&reactor).await;
        far.write_all(b"?").await.expect("it is open");
        far.shutdown().await.expect("it is open");
        let mut got = Vec::new();
        near.read_to_end(&mut got).await.expect("it is sent");
        assert_eq!(got, b"?");
        near.write_all(b"!").await.expect("it is half open");
        assert_eq!(far.read_u8().await.expect("it was sent"), b'!');
    }

    #[tokio::test]
    async fn more_connections_than_the_system_tells_of_at_a_time_are_served() {
        descriptors::raise_limit();
        let reactor = Reactor::start().expect("a descriptor is left");
        let mut readers = Vec::new();
        let mut nears = Vec::new();
        for _ in 0..EVENTS + 100 {
            let (near, mut far) = pair(&reactor).await;
            nears.push(near);
            readers.push(tokio::spawn(async move { far.read_u8().await }));
        }
        tokio::task::yield_now().await;
        for near in &mut nears {
            near.try_write(b"x").expect("it is open");
        }
        for reader in readers {
            assert_eq!(reader.await.expect("no panic").expect("it was sent"), b'x');
        }
    }

    #[tokio::test]
    async fn a_busy_connection_goes_over_to_tokio_and_a_quiet_one_comes_back() {
        let reactor = Reactor::start().expect("a descriptor is left");
        let (mut near, mut far) = pair(&reactor).await;
        for n in 0..70 {
            // The clock is as if it had been quiet since the last one, for nearly long enough.
            match n {
                50 => far.keep_pace(far.table.now() + QUIET - 1),
                60 => far.keep_pace(far.table.now() + QUIET - 1 + QUIET),
                _ => {}
            }
            near.write_all(&[n]).await.expect("it is open");
            assert_eq!(far.read_u8().await.expect("it was sent"), n);
            let is_busy = matches!(far.watch, Watch::Tokio(_));
            assert_eq!(is_busy, matches!(n, 15..60), "{n}");
            assert_eq!(reactor.0.slots().len(), usize::from(!is_busy));
            far.write_u8(n).await.expect("it is open");
            assert_eq!(near.read_u8().await.expect("it was sent"), n);
        }
    }

    #[tokio::test]
    async fn a_place_is_given_back() {
        let reactor = Reactor::start().expect("a descriptor is left");
        for _ in 0..100 {
            let (mut near, mut far) = pair(&reactor).await;
            near.write_all(b"x").await.expect("it is open");
            assert_eq!(far.read_u8().await.expect("it was sent"), b'x');
        }
        assert!(reactor.0.slots().is_empty() && reactor.0.slots().capacity() < 10);
    }

    #[test]
    fn what_is_kept_of_a_connection_is_small() {
        // With the checks of a debug build, a socket of mio's is larger.
        let checks = if cfg!(debug_assertions) { 16 } else { 0 };
        assert!(size_of::<TcpConnection>() <= 32 + checks, "{} bytes", size_of::<TcpConnection>());
        assert!(size_of::<Slot>() <= 32);
    }
}
