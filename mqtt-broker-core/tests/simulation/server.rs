//! The broker's end of a link, polled only when something woke it: a wake-up that is forgotten shows
//! as work that is never done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Buf;
use fastrand::Rng;
use mqtt_broker_core::{Connection, SendBuffer, Transmit, Worker};

/// Two pipes with a bound, and who still holds which end.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) to_server: VecDeque<u8>,
    pub(crate) to_client: VecDeque<u8>,
    /// The client's end is closed and the server can see it.
    pub(crate) is_closed_by_client: bool,
    /// The server's end is closed; the client sees it when it has read all.
    pub(crate) is_closed_by_server: bool,
    /// Packets get lost: nobody sees anything any more.
    pub(crate) is_dead: bool,
}

/// Bytes on the way to a client before the broker cannot write any more.
const CAPACITY: usize = 3000;

pub(crate) struct Server {
    pub(crate) serial: usize,
    pub(crate) connection: Connection,
    pub(crate) link: Link,
    out: Option<Box<SendBuffer>>,
    woken: Arc<Woken>,
    /// When a driver's timer would fire.
    timer: Option<Instant>,
    pub(crate) is_over: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Server {
    pub(crate) fn new(serial: usize, connection: Connection) -> Self {
        Self {
            serial,
            timer: connection.poll_timeout(),
            connection,
            link: Link::default(),
            out: None,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            is_over: false,
        }
    }

    /// The transport has news.
    pub(crate) fn wake(&self) {
        self.woken.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.is_over
            && (self.woken.0.load(Ordering::Relaxed)
                || self.timer.is_some_and(|timer| timer <= now))
    }

    /// One turn, as the tokio driver takes it, with reads of any size.
    pub(crate) fn turn(&mut self, worker: &mut Worker, rng: &mut Rng, now: Instant) {
        self.woken.0.store(false, Ordering::Relaxed);
        self.time_out(worker, now);
        for _ in 0..4 {
            if !self.connection.wants_input() {
                break;
            }
            if self.link.to_server.is_empty() {
                if self.link.is_closed_by_client {
                    self.connection.handle_end_of_stream(worker, now);
                    self.is_over = true;
                    return;
                }
                break;
            }
            let most = if rng.bool() { 20 } else { 2000 };
            let len = rng.usize(1..=most).min(self.link.to_server.len());
            let bytes: Vec<u8> = self.link.to_server.drain(..len).collect();
            let _ = self.connection.handle_input(worker, &bytes, now);
        }
        if self.write(worker, rng) {
            self.link.is_closed_by_server = true;
            self.is_over = true;
            return;
        }
        self.time_out(worker, now);
        if self.connection.wants_input() && !self.link.to_server.is_empty() {
            self.wake();
        }
        self.timer = self.connection.poll_timeout();
    }

    fn time_out(&mut self, worker: &mut Worker, now: Instant) {
        if self.connection.poll_timeout().is_some_and(|deadline| deadline <= now) {
            let _ = self.connection.handle_timeout(worker, now);
        }
    }

    /// Writes what there is room for. True when the connection is over.
    fn write(&mut self, worker: &mut Worker, rng: &mut Rng) -> bool {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Some(out) = &mut self.out {
                while out.has_remaining() {
                    // A dead link takes what its buffers hold.
                    let room = CAPACITY.saturating_sub(self.link.to_client.len());
                    if room == 0 {
                        return self.connection.poll_abort(worker, &mut cx).is_ready();
                    }
                    let chunk = out.chunk();
                    let len = rng.usize(1..=room).min(chunk.len());
                    self.link.to_client.extend(&chunk[..len]);
                    out.advance(len);
                }
                worker.recycle(self.out.take().unwrap());
            }
            match self.connection.poll_transmit(worker, &mut cx) {
                Poll::Ready(Transmit::Write(out)) => self.out = Some(out),
                Poll::Ready(Transmit::Close(_)) => return true,
                Poll::Pending => return false,
            }
        }
    }
}
