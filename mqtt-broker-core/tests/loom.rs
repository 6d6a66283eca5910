//! What threads share, in every order in which they can come to it up to a number of preemptions.
//! `LOOM_MAX_PREEMPTIONS` sets another number.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p mqtt-broker-core --release --test loom
//! ```
//!
//! A wake-up that is lost is a deadlock here, and fails.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Buf;
use loom::future::block_on;
use loom::thread;
use mqtt_broker_core::{
    Batch, Broker, Closed, CommitError, Config, Connection, ConnectionError, Message, MessageId,
    PeerInfo, Recovered, SessionId, Store, Transmit, Worker,
};

/// Switches of threads where none is due. Nearly all models are complete in seconds without a bound;
/// the takeover, with three threads, is not in minutes.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    let orders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

const CLEAN: u8 = 2;
const KEPT: u8 = 0;

fn connect(client_id: u8, flags: u8) -> Vec<u8> {
    vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 0, 0, 1, client_id]
}

fn subscribe(topic: u8) -> [u8; 8] {
    [0x82, 6, 0, 9, 0, 1, topic, 1]
}

fn unsubscribe(topic: u8) -> [u8; 7] {
    [0xa2, 5, 0, 9, 0, 1, topic]
}

fn publish(topic: u8, id: u8) -> [u8; 7] {
    [0x32, 5, 0, 1, topic, 0, id]
}

fn puback(id: u8) -> [u8; 4] {
    [0x40, 2, 0, id]
}

fn config(change: impl Fn(&mut Config)) -> Config {
    let mut config = Config::default();
    config.hash_seed = 7;
    change(&mut config);
    config
}

fn broker(change: impl Fn(&mut Config)) -> Broker {
    Broker::new(config(change), ())
}

struct Client {
    connection: Connection,
    worker: Worker,
    now: Instant,
    received: Vec<u8>,
    ended: Option<Result<Closed, ConnectionError>>,
}

impl Client {
    fn new(broker: &Broker) -> Self {
        let now = Instant::now();
        let connection = broker.connection(PeerInfo::default(), now).unwrap();
        Self { connection, worker: Worker::new(), now, received: Vec::new(), ended: None }
    }

    /// One that is connected and has read everything.
    fn connected(broker: &Broker, client_id: u8, flags: u8) -> Self {
        let mut client = Self::new(broker);
        client.send(&connect(client_id, flags));
        client.read_all();
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.connection.handle_input(&mut self.worker, bytes, self.now);
    }

    /// What a driver does when its task is woken.
    fn turn(&mut self, cx: &mut Context<'_>) {
        if self.connection.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            let _ = self.connection.handle_timeout(&mut self.worker, self.now);
        }
        loop {
            match self.connection.poll_transmit(&mut self.worker, cx) {
                Poll::Ready(Transmit::Write(mut out)) => {
                    while out.has_remaining() {
                        let len = out.chunk().len();
                        self.received.extend_from_slice(out.chunk());
                        out.advance(len);
                    }
                }
                Poll::Ready(Transmit::Close(result)) => {
                    self.ended = Some(result);
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

    fn read_all(&mut self) {
        self.turn(&mut Context::from_waker(Waker::noop()));
    }

    /// Drives the connection, only when it is woken, until something is so.
    fn drive_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        block_on(std::future::poll_fn(|cx| {
            self.turn(cx);
            if is_so(self) { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    fn has(&self, packet: &[u8]) -> bool {
        self.received.windows(packet.len()).any(|window| window == packet)
    }
}

#[test]
fn a_receiver_that_goes_to_sleep_is_woken_for_a_message() {
    explore(|| {
        let broker = broker(|_| {});
        let mut receiver = Client::connected(&broker, b'r', CLEAN);
        receiver.send(&subscribe(b't'));
        receiver.read_all();
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        let publisher = thread::spawn(move || publisher.send(&publish(b't', 1)));
        receiver.drive_until(|receiver| receiver.has(&publish(b't', 1)));
        publisher.join().unwrap();
    });
}

#[test]
fn a_local_subscription_that_goes_to_sleep_is_woken_for_a_message() {
    explore(|| {
        let broker = broker(|_| {});
        let filter = mqtt_codec::TopicFilter::new("t").unwrap();
        let mut receiver = broker.subscribe(filter, mqtt_codec::QoS::AtLeastOnce);
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        let publisher = thread::spawn(move || publisher.send(&publish(b't', 1)));
        let message = block_on(receiver.recv());
        assert_eq!(message.topic().as_bytes(), b"t");
        publisher.join().unwrap();
    });
}

/// A disk that is as fast as it is large.
struct Instantly;

impl Store for Instantly {
    fn commit(&mut self, _: &Batch) -> Result<(), CommitError> {
        Ok(())
    }

    fn load(
        &mut self,
        _: SessionId,
        _: &[MessageId],
    ) -> Result<Vec<(MessageId, Message)>, CommitError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_committer_that_goes_to_sleep_is_woken_and_wakes_who_waits_for_it() {
    explore(|| {
        let now = Instant::now();
        let (broker, mut journal) = Broker::restore(config(|_| {}), (), Recovered::default(), now);
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        let committer = thread::spawn(move || {
            assert!(block_on(std::future::poll_fn(|cx| journal.poll_ready(cx))));
            assert!(journal.commit(&mut Instantly).unwrap());
            journal
        });
        // With RETAIN, so that it has to survive.
        let mut retained = publish(b't', 1).to_vec();
        retained[0] |= 1;
        publisher.send(&retained);
        publisher.drive_until(|publisher| publisher.has(&puback(1)));
        committer.join().unwrap();
    });
}

// MQTT-3.1.4-2
#[test]
fn a_takeover_ends_the_old_connection_and_loses_no_message() {
    explore(|| {
        let broker = broker(|_| {});
        let mut old = Client::connected(&broker, b'r', KEPT);
        old.send(&subscribe(b't'));
        old.read_all();
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        let mut new = Client::new(&broker);
        let publisher = thread::spawn(move || publisher.send(&publish(b't', 1)));
        let new = thread::spawn(move || {
            new.send(&connect(b'r', KEPT));
            new
        });
        old.drive_until(|old| old.ended.is_some());
        assert_eq!(old.ended, Some(Ok(Closed::TakenOver)));
        publisher.join().unwrap();
        let mut new = new.join().unwrap();
        new.read_all();
        assert!(new.received.starts_with(&[0x20, 2, 1, 0]));
        let mut again = publish(b't', 1);
        again[0] |= 8;
        assert!(new.has(&publish(b't', 1)) || new.has(&again));
        assert_eq!(broker.stats().clients_connected, 1);
        drop((old, new));
        assert_eq!(broker.stats().clients_connected, 0);
    });
}

// Each of the two connections sent what it had looked up.
#[test]
fn a_takeover_while_retained_messages_are_sent_repeats_none() {
    explore(|| {
        let broker = broker(|_| {});
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        publisher.send(&[0x33, 6, 0, 1, b't', 0, 1, b'x']);
        let mut old = Client::connected(&broker, b'r', KEPT);
        old.send(&subscribe(b't'));
        let mut new = Client::new(&broker);
        let old = thread::spawn(move || {
            old.read_all();
            old
        });
        new.send(&connect(b'r', KEPT));
        new.read_all();
        let old = old.join().unwrap();
        new.read_all();
        let topic = [0, 1, b't', 0];
        assert_eq!(new.received.windows(4).filter(|window| *window == topic).count(), 1);
        drop(old);
    });
}

#[test]
fn of_two_connections_that_come_at_once_one_stays() {
    explore(|| {
        let broker = broker(|_| {});
        let mut one = Client::new(&broker);
        let mut two = Client::new(&broker);
        let one = thread::spawn(move || {
            one.send(&connect(b'r', CLEAN));
            one.read_all();
            one
        });
        two.send(&connect(b'r', CLEAN));
        two.read_all();
        let mut one = one.join().unwrap();
        one.read_all();
        two.read_all();
        assert_eq!(one.ended.is_some(), two.ended.is_none());
        let stats = broker.stats();
        assert_eq!((stats.clients_connected, stats.sessions), (1, 1));
    });
}

#[test]
fn a_session_that_ends_while_it_subscribes_leaves_no_route_behind() {
    explore(|| {
        let broker = broker(|_| {});
        let mut old = Client::connected(&broker, b'r', CLEAN);
        let mut new = Client::new(&broker);
        let old = thread::spawn(move || {
            old.send(&subscribe(b't'));
            old
        });
        new.send(&connect(b'r', CLEAN));
        let old = old.join().unwrap();
        assert_eq!(broker.stats().subscriptions, 0);
        drop((old, new));
    });
}

// A subscription that its own session did not know stayed in the router for ever.
#[test]
fn a_connection_that_is_taken_over_while_it_subscribes_leaves_nothing_that_the_session_does_not_know()
 {
    explore(|| {
        let broker = broker(|_| {});
        let mut old = Client::connected(&broker, b'r', KEPT);
        let mut new = Client::new(&broker);
        let old = thread::spawn(move || {
            old.send(&subscribe(b't'));
            old
        });
        new.send(&connect(b'r', KEPT));
        new.send(&unsubscribe(b't'));
        let old = old.join().unwrap();
        let known: usize = broker.sessions().iter().map(|s| s.subscriptions.len()).sum();
        assert_eq!(broker.stats().subscriptions, known as u64);
        drop((old, new));
        assert!(broker.delete_session("r"));
        assert_eq!(broker.stats().subscriptions, 0);
    });
}

/// A window and a queue of one message.
fn narrow(config: &mut Config) {
    config.max_inflight = 1;
    config.max_queued_messages = 1;
}

#[test]
fn a_publisher_that_is_held_back_is_woken_when_there_is_room() {
    explore(|| {
        let broker = broker(narrow);
        let mut receiver = Client::connected(&broker, b'r', CLEAN);
        receiver.send(&subscribe(b't'));
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        publisher.send(&[publish(b't', 1), publish(b't', 2)].concat());
        assert!(!publisher.connection.wants_input());
        receiver.read_all();
        let receiver = thread::spawn(move || {
            receiver.send(&puback(1));
            receiver
        });
        publisher.drive_until(|publisher| publisher.connection.wants_input());
        assert!(publisher.has(&puback(2)));
        drop(receiver.join().unwrap());
    });
}

#[test]
fn a_publisher_that_is_held_back_is_woken_when_its_receiver_is_gone() {
    explore(|| {
        let broker = broker(narrow);
        let mut receiver = Client::connected(&broker, b'r', CLEAN);
        receiver.send(&subscribe(b't'));
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        publisher.send(&[publish(b't', 1), publish(b't', 2)].concat());
        assert!(!publisher.connection.wants_input());
        let receiver = thread::spawn(move || drop(receiver));
        publisher.drive_until(|publisher| publisher.connection.wants_input());
        receiver.join().unwrap();
    });
}

// It slept until its time was up when the message came between two looks at the queue.
#[test]
fn a_publisher_that_is_held_back_by_a_local_subscription_is_woken() {
    explore(|| {
        let broker = broker(narrow);
        let filter = mqtt_codec::TopicFilter::new("t").unwrap();
        let mut receiver = broker.subscribe(filter, mqtt_codec::QoS::AtLeastOnce);
        let mut publisher = Client::connected(&broker, b'p', CLEAN);
        let publisher = thread::spawn(move || {
            publisher.send(&publish(b't', 1));
            publisher.drive_until(|publisher| publisher.connection.wants_input());
        });
        block_on(receiver.recv());
        publisher.join().unwrap();
    });
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn two_clients_that_flood_each_other_are_not_both_held_back() {
    explore(|| {
        let broker = broker(narrow);
        let client = |id, topic| {
            let mut client = Client::connected(&broker, id, CLEAN);
            client.send(&subscribe(topic));
            client.read_all();
            client
        };
        let flood = |mut client: Client, topic| {
            move || {
                client.send(&[publish(topic, 1), publish(topic, 2)].concat());
                let woken = Arc::new(Woken::default());
                client.turn(&mut Context::from_waker(&Waker::from(Arc::clone(&woken))));
                (client, woken)
            }
        };
        let (one, two) = (client(b'1', b'a'), client(b'2', b'b'));
        let one = thread::spawn(flood(one, b'b'));
        let two = flood(two, b'a')();
        let mut both = [one.join().unwrap(), two];
        while let Some((client, woken)) =
            both.iter_mut().find(|(_, woken)| woken.0.swap(false, Ordering::Relaxed))
        {
            let waker = Waker::from(Arc::clone(woken));
            client.turn(&mut Context::from_waker(&waker));
        }
        assert!(both.iter().any(|(client, _)| client.connection.wants_input()));
    });
}
