//! A broker, its clock and clients, all on one thread.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Buf;
use mqtt_broker_core::{
    Admission, Broker, Closed, Config, Connection, ConnectionError, Event, Hooks, PeerInfo,
    Transmit, Worker,
};

use crate::wire::{self, Wire};

pub(crate) struct World {
    pub(crate) broker: Broker,
    now: Rc<Cell<Instant>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_hooks(change, ())
    }

    pub(crate) fn with_hooks(change: impl FnOnce(&mut Config), hooks: impl Hooks) -> Self {
        let mut config = Config::default();
        config.hash_seed = 7;
        change(&mut config);
        Self { broker: Broker::new(config, hooks), now: Rc::new(Cell::new(Instant::now())) }
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// A transport on which nothing was sent.
    pub(crate) fn open(&self) -> Client {
        self.open_from(PeerInfo::default())
    }

    /// The same from a place.
    pub(crate) fn open_from(&self, peer: PeerInfo) -> Client {
        Client {
            connection: self.broker.connection(peer, self.now()).unwrap(),
            worker: Worker::new(),
            now: Rc::clone(&self.now),
            ended: None,
            largest_write: 0,
        }
    }

    /// A client whose CONNECT was sent, with these flags.
    pub(crate) fn connecting(&self, client_id: &str, flags: u8) -> Client {
        let mut client = self.open();
        client.send(&wire::connect(flags, 0, &[client_id.as_bytes()]));
        client
    }

    /// A connected client with a clean session.
    pub(crate) fn client(&self, client_id: &str) -> Client {
        let mut client = self.connecting(client_id, wire::CLEAN);
        client.expect(&[&wire::connack(false, 0)]);
        client
    }

    /// A connected client with a kept session, which is there already or not.
    pub(crate) fn kept(&self, client_id: &str, session_present: bool) -> Client {
        let mut client = self.connecting(client_id, wire::KEPT);
        client.expect(&[&wire::connack(session_present, 0)]);
        client
    }

    /// A connected client with a clean session and one subscription.
    pub(crate) fn subscriber(&self, client_id: &str, filter: &str, qos: u8) -> Client {
        let mut client = self.client(client_id);
        client.subscribe(filter, qos);
        client
    }
}

pub(crate) struct Client {
    connection: Connection,
    worker: Worker,
    now: Rc<Cell<Instant>>,
    ended: Option<Result<Closed, ConnectionError>>,
    /// Bytes that the broker has handed over at once, at most.
    pub(crate) largest_write: usize,
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The result is told again at the end of the connection.
        let _ = self.connection.handle_input(&mut self.worker, bytes, self.now.get());
    }

    /// Everything that the broker has sent since the last call.
    pub(crate) fn received(&mut self) -> Wire {
        let mut bytes = Vec::new();
        let now = self.now.get();
        if self.connection.poll_timeout().is_some_and(|deadline| deadline <= now) {
            let _ = self.connection.handle_timeout(&mut self.worker, now);
        }
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match self.connection.poll_transmit(&mut self.worker, &mut cx) {
                Poll::Ready(Transmit::Write(mut out)) => {
                    self.largest_write = self.largest_write.max(out.len());
                    while out.has_remaining() {
                        let len = out.chunk().len();
                        bytes.extend_from_slice(out.chunk());
                        out.advance(len);
                    }
                    self.worker.recycle(out);
                }
                Poll::Ready(Transmit::Close(result)) => {
                    self.ended = Some(result);
                    return Wire(bytes);
                }
                Poll::Pending => return Wire(bytes),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, packets: &[&[u8]]) {
        assert_eq!(self.received(), Wire(packets.concat()));
        assert_eq!(self.ended, None, "the connection has ended");
    }

    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.expect(&[]);
    }

    /// The connection ends without another byte.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) -> Result<Closed, ConnectionError> {
        self.expect_last(&[])
    }

    /// The connection ends, with whatever was still to be sent.
    #[track_caller]
    pub(crate) fn expect_end_after_any(&mut self) -> Result<Closed, ConnectionError> {
        self.received();
        self.ended.expect("the connection goes on")
    }

    /// The connection ends with these packets.
    #[track_caller]
    pub(crate) fn expect_last(&mut self, packets: &[&[u8]]) -> Result<Closed, ConnectionError> {
        assert_eq!(self.received(), Wire(packets.concat()));
        self.ended.expect("the connection goes on")
    }

    /// Sends a request and expects its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &[u8], answer: &[u8]) {
        self.send(request);
        self.expect(&[answer]);
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        self.ask(&wire::subscribe(9, &[(filter, qos)]), &wire::suback(9, &[qos]));
    }

    /// Publishes at QoS 1 and expects the PUBACK.
    #[track_caller]
    pub(crate) fn publish1(&mut self, topic: &str, payload: &str) {
        self.ask(&wire::publish(0x32, topic, 1, payload), &wire::puback(1));
    }

    /// Publishes with RETAIN at QoS 1 and expects the PUBACK.
    #[track_caller]
    pub(crate) fn retain(&mut self, topic: &str, payload: &str) {
        self.ask(&wire::publish(0x33, topic, 1, payload), &wire::puback(1));
    }

    /// The transport breaks.
    pub(crate) fn cut(mut self) {
        self.connection.handle_end_of_stream(&mut self.worker, self.now.get());
    }

    /// DISCONNECT, then the end.
    #[track_caller]
    pub(crate) fn leave(mut self) {
        self.send(wire::DISCONNECT);
        assert_eq!(self.expect_end(), Ok(Closed::Disconnect));
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.connection.wants_input()
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    pub(crate) fn event(&mut self) -> Option<Event> {
        self.connection.poll_event()
    }

    pub(crate) fn admit(&mut self, admission: Admission) {
        let _ = self.connection.admit(&mut self.worker, admission, self.now.get());
    }
}
