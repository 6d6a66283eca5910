//! The tokio driver over in-memory pipes, on a paused clock.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mqtt_broker_core::{
    Broker, Client, Closed, Config, ConnectionError, Hooks, Message, PeerInfo, Permission,
    ServeError, serve_connection,
};
use mqtt_codec::{Publish, QoS, TopicFilter, TopicName};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinHandle;

const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01a";

fn serve(broker: &Broker) -> (DuplexStream, JoinHandle<Result<Closed, ServeError>>) {
    let (near, far) = duplex(1 << 16);
    (near, tokio::spawn(serve_connection(broker, far, PeerInfo::default())))
}

async fn expect(io: &mut DuplexStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    io.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
}

#[tokio::test(start_paused = true)]
async fn a_client_connects_subscribes_and_gets_its_own_message() {
    let broker = Broker::new(Config::default(), ());
    let (mut io, task) = serve(&broker);
    io.write_all(CONNECT).await.unwrap();
    expect(&mut io, b"\x20\x02\0\0").await;
    io.write_all(b"\x82\x06\0\x07\0\x01t\x01").await.unwrap();
    expect(&mut io, b"\x90\x03\0\x07\x01").await;
    io.write_all(b"\x32\x06\0\x01t\0\x09x").await.unwrap();
    expect(&mut io, b"\x32\x06\0\x01t\0\x01x\x40\x02\0\x09").await;
    io.write_all(b"\x40\x02\0\x01\xe0\0").await.unwrap();
    assert!(matches!(task.await.unwrap(), Ok(Closed::Disconnect)));
    assert_eq!(broker.stats().clients_connected, 0);
}

// The way through the broker is what a message waits for; its publisher can wait.
#[tokio::test(start_paused = true)]
async fn a_message_leaves_before_its_acknowledgement() {
    let broker = Broker::new(Config::default(), ());
    let [(mut subscriber, _), (mut publisher, _)] = [serve(&broker), serve(&broker)];
    subscriber.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01b").await.unwrap();
    expect(&mut subscriber, b"\x20\x02\0\0").await;
    subscriber.write_all(b"\x82\x06\0\x07\0\x01t\x01").await.unwrap();
    expect(&mut subscriber, b"\x90\x03\0\x07\x01").await;
    publisher.write_all(CONNECT).await.unwrap();
    expect(&mut publisher, b"\x20\x02\0\0").await;

    let (came, mut order) = tokio::sync::mpsc::unbounded_channel();
    let (mut publisher, mut to_broker) = tokio::io::split(publisher);
    let told = came.clone();
    // Tasks are woken in the order in which the broker writes, and run in the order in which they are
    // woken.
    tokio::spawn(async move { publisher.read_u8().await.map(|byte| told.send(byte)) });
    tokio::spawn(async move { subscriber.read_u8().await.map(|byte| came.send(byte)) });
    let sent = tokio::time::Instant::now();
    to_broker.write_all(b"\x32\x06\0\x01t\0\x09x").await.unwrap();
    assert_eq!([order.recv().await, order.recv().await], [Some(0x32), Some(0x40)]);
    // It waits for its turn, and not for the alarm of the keep alive.
    assert!(sent.elapsed() < Duration::from_secs(1));
}

/// A publisher that always has another message, one a turn. Counts the bytes of its answers.
struct Chatterbox {
    connect: Option<&'static [u8]>,
    is_turn_over: bool,
    answers: Arc<AtomicUsize>,
}

impl AsyncRead for Chatterbox {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_turn_over = !self.is_turn_over;
        if !self.is_turn_over {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        buf.put_slice(self.connect.take().unwrap_or(b"\x32\x06\0\x01t\0\x09x"));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chatterbox {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answers.fetch_add(bytes.len(), Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_not_put_off_for_messages_that_keep_coming() {
    let broker = Broker::new(Config::default(), ());
    let mut subscription = broker.subscribe(TopicFilter::new("t").unwrap(), QoS::AtLeastOnce);
    let answers = Arc::<AtomicUsize>::default();
    let (is_turn_over, told) = (false, Arc::clone(&answers));
    let io = Chatterbox { connect: Some(CONNECT), is_turn_over, answers: told };
    tokio::spawn(serve_connection(&broker, io, PeerInfo::default()));
    // A task as well, so that it waits again whenever the next message comes.
    let receiver = tokio::spawn(async move {
        for _ in 0..100 {
            subscription.recv().await;
        }
        answers.load(Ordering::Relaxed)
    });
    let answers = receiver.await.unwrap();
    // CONNACK, and all but what the last turns owe.
    assert!(answers >= 4 + 4 * 90, "{answers} bytes");
}

// They are handled together, and so are those who wait for them.
#[tokio::test(start_paused = true)]
async fn messages_that_come_together_wake_who_waits_for_them() {
    let broker = Broker::new(Config::default(), ());
    for qos in [0, 1, 2] {
        let [(mut subscriber, _), (mut publisher, _)] = [serve(&broker), serve(&broker)];
        subscriber.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01b").await.unwrap();
        expect(&mut subscriber, b"\x20\x02\0\0").await;
        subscriber.write_all(&[0x82, 6, 0, 7, 0, 1, b't', qos]).await.unwrap();
        expect(&mut subscriber, &[0x90, 3, 0, 7, qos]).await;
        publisher.write_all(CONNECT).await.unwrap();
        expect(&mut publisher, b"\x20\x02\0\0").await;
        let first = 0x30 | qos << 1;
        let run = match qos {
            0 => b"\x30\x04\0\x01tx\x30\x04\0\x01ty".to_vec(),
            _ => [[first, 6, 0, 1, b't', 0, 1, b'x'], [first, 6, 0, 1, b't', 0, 2, b'y']].concat(),
        };
        let sent = tokio::time::Instant::now();
        publisher.write_all(&run).await.unwrap();
        expect(&mut subscriber, &run).await;
        // And not by the alarm of the keep alive.
        assert!(sent.elapsed() < Duration::from_secs(1));
    }
}

// MQTT-3.1.2-24
#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_off_after_one_and_a_half_keep_alives() {
    let broker = Broker::new(Config::default(), ());
    // For this one the time is kept all along.
    let (mut patient, _patient) = serve(&broker);
    patient.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\xff\xff\0\x01b").await.unwrap();
    expect(&mut patient, b"\x20\x02\0\0").await;
    let (mut io, task) = serve(&broker);
    io.write_all(CONNECT).await.unwrap();
    expect(&mut io, b"\x20\x02\0\0").await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    io.write_all(b"\xc0\0").await.unwrap();
    expect(&mut io, b"\xd0\0").await;
    let before = tokio::time::Instant::now();
    let result = task.await.unwrap();
    assert!(matches!(result, Err(ServeError::Connection(ConnectionError::KeepAliveTimeout))));
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(15), "{waited:?}");
    assert!(waited < Duration::from_secs(17), "{waited:?}");
}

// MQTT-3.1.2-24
#[tokio::test(start_paused = true)]
async fn each_client_has_its_own_keep_alive() {
    let broker = Broker::new(Config::default(), ());
    let start = tokio::time::Instant::now();
    let mut clients = Vec::new();
    for (seconds, id) in [(60, b'a'), (2, b'b'), (1000, b'c'), (3, b'd'), (2, b'e')] {
        let (mut io, task) = serve(&broker);
        let mut connect = CONNECT.to_vec();
        connect[10..12].copy_from_slice(&u16::to_be_bytes(seconds));
        connect[14] = id;
        io.write_all(&connect).await.unwrap();
        expect(&mut io, b"\x20\x02\0\0").await;
        // The end is told when the task ends, the time is taken there.
        let task = tokio::spawn(async move { (task.await.unwrap(), start.elapsed()) });
        clients.push((io, task, Duration::from_secs(seconds.into()) * 3 / 2));
    }
    for (io, task, silence) in clients {
        let (result, waited) = task.await.unwrap();
        assert!(matches!(result, Err(ServeError::Connection(ConnectionError::KeepAliveTimeout))));
        assert!(
            waited >= silence && waited < silence * 11 / 10 + Duration::from_secs(1),
            "{waited:?}"
        );
        drop(io);
    }
}

// MQTT-3.1.2-24
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_handed_to_another_task_keeps_its_keep_alive() {
    let broker = Broker::new(Config::default(), ());
    let (mut io, far) = duplex(1 << 16);
    let mut connection = Box::pin(serve_connection(&broker, far, PeerInfo::default()));
    io.write_all(CONNECT).await.unwrap();
    for _ in 0..3 {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(connection.as_mut().poll(&mut cx).is_pending());
    }
    expect(&mut io, b"\x20\x02\0\0").await;
    let task = tokio::time::timeout(Duration::from_secs(20), tokio::spawn(connection));
    let result = task.await.expect("it is cut off").unwrap();
    assert!(matches!(result, Err(ServeError::Connection(ConnectionError::KeepAliveTimeout))));
}

// MQTT-3.1.2-24
#[test]
fn keep_alives_go_on_when_one_of_several_runtimes_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let broker = Broker::new(Config::default(), ());
    let connect = async |id| {
        let (mut io, task) = serve(&broker);
        let mut connect = CONNECT.to_vec();
        connect[11] = 1;
        connect[14] = id;
        io.write_all(&connect).await.unwrap();
        expect(&mut io, b"\x20\x02\0\0").await;
        (io, task)
    };
    let _gone = first.block_on(connect(b'a'));
    let (_io, task) = second.block_on(connect(b'b'));
    drop(first);
    let result =
        second.block_on(async { tokio::time::timeout(Duration::from_secs(20), task).await });
    let result = result.expect("it is cut off").unwrap();
    assert!(matches!(result, Err(ServeError::Connection(ConnectionError::KeepAliveTimeout))));
}

#[tokio::test(start_paused = true)]
async fn a_transport_without_connect_is_closed_in_time() {
    let broker = Broker::new(Config::default(), ());
    let (mut io, task) = serve(&broker);
    io.write_all(&CONNECT[..5]).await.unwrap();
    let result = task.await.unwrap();
    assert!(matches!(result, Err(ServeError::Connection(ConnectionError::ConnectTimeout))));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_sent_before_the_end() {
    let broker = Broker::new(Config::default(), ());
    let (mut io, task) = serve(&broker);
    io.write_all(b"\x10\x0d\0\x04MQTT\x05\x02\0\x0a\0\x01a\x30\x03\0\x01t").await.unwrap();
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"\x20\x02\0\x01");
    drop(io);
    assert!(task.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_large_payload_arrives_whole_through_a_narrow_pipe() {
    let broker = Broker::new(Config::default(), ());
    let (near, far) = duplex(1000);
    let mut near = near;
    let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
    tokio::spawn(serve_connection(&broker, far, peer));
    near.write_all(CONNECT).await.unwrap();
    expect(&mut near, b"\x20\x02\0\0").await;
    near.write_all(b"\x82\x06\0\x07\0\x01t\x02").await.unwrap();
    expect(&mut near, b"\x90\x03\0\x07\x02").await;
    let payload: Vec<u8> = (0..500_000).map(|n| (n % 251) as u8).collect();
    let topic = TopicName::new("t").unwrap();
    for qos in [QoS::AtMostOnce, QoS::ExactlyOnce] {
        let message = Message::new(topic, &payload, qos).unwrap();
        assert_eq!(broker.publish(&message).receivers, 1);
    }
    // 500,000 + 3 and + 5 bytes remain.
    expect(&mut near, b"\x30\xa3\xc2\x1e\0\x01t").await;
    expect(&mut near, &payload).await;
    expect(&mut near, b"\x34\xa5\xc2\x1e\0\x01t\0\x01").await;
    expect(&mut near, &payload).await;
}

#[tokio::test(start_paused = true)]
async fn the_program_itself_gets_what_clients_publish() {
    let broker = Broker::new(Config::default(), ());
    let mut subscription = broker.subscribe(TopicFilter::new("#").unwrap(), QoS::ExactlyOnce);
    let (mut io, _task) = serve(&broker);
    io.write_all(CONNECT).await.unwrap();
    io.write_all(b"\x31\x04\0\x01tx").await.unwrap();
    let message = subscription.recv().await;
    assert_eq!((message.payload(), message.retain()), (&b"x"[..], false));
    let mut late = broker.subscribe(TopicFilter::new("t").unwrap(), QoS::AtMostOnce);
    assert!(late.recv().await.retain());
}

/// Panics on everything that has to do with one client.
struct Grudge;

impl Hooks for Grudge {
    fn authorize_publish(&self, client: &Client, _: &Publish<'_>) -> Permission {
        assert_ne!(client.client_id(), "b", "publish");
        Permission::Allow
    }

    fn connected(&self, client: &Client, _: bool) {
        assert_ne!(client.client_id(), "c", "connected");
    }

    fn disconnected(&self, client: &Client, _: &Result<Closed, ConnectionError>) {
        assert!(!["b", "c", "d"].contains(&client.client_id()), "disconnected");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_harms_its_own_connection_at_most() {
    let broker = Broker::new(Config::default(), Grudge);
    let (mut good, _task) = serve(&broker);
    good.write_all(CONNECT).await.unwrap();
    expect(&mut good, b"\x20\x02\0\0").await;
    good.write_all(b"\x82\x06\0\x07\0\x01t\x01").await.unwrap();
    expect(&mut good, b"\x90\x03\0\x07\x01").await;

    // `b` has a will, publishes, and panics with its message, its will and its end.
    let (mut bad, task) = serve(&broker);
    bad.write_all(b"\x10\x13\0\x04MQTT\x04\x06\0\x0a\0\x01b\0\x01t\0\x01w").await.unwrap();
    expect(&mut bad, b"\x20\x02\0\0").await;
    bad.write_all(b"\x32\x06\0\x01t\0\x09x").await.unwrap();
    assert!(task.await.unwrap_err().is_panic());

    // `c` panics when it connects.
    let (mut bad, task) = serve(&broker);
    bad.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c").await.unwrap();
    assert!(task.await.unwrap_err().is_panic());

    // `b` again is taken over: its will panics on the new connection's behalf, which lives on.
    let (mut first, _first) = serve(&broker);
    first.write_all(b"\x10\x13\0\x04MQTT\x04\x06\0\x0a\0\x01b\0\x01t\0\x01w").await.unwrap();
    expect(&mut first, b"\x20\x02\0\0").await;
    let (mut second, _second) = serve(&broker);
    second.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01b").await.unwrap();
    expect(&mut second, b"\x20\x02\0\0").await;

    // `d` is dropped by its driver, and panics in the middle of that.
    let (mut bad, task) = serve(&broker);
    bad.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01d").await.unwrap();
    expect(&mut bad, b"\x20\x02\0\0").await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());

    good.write_all(b"\x32\x06\0\x01t\0\x09x").await.unwrap();
    expect(&mut good, b"\x32\x06\0\x01t\0\x01x\x40\x02\0\x09").await;
    let stats = broker.stats();
    assert_eq!((stats.clients_connected, stats.sessions, stats.subscriptions), (2, 2, 1));
}

#[test]
fn the_future_of_a_connection_is_small() {
    let broker = Broker::new(Config::default(), ());
    let (_, far) = duplex(1);
    let size = size_of_val(&far);
    let future = serve_connection(&broker, far, PeerInfo::default());
    // With a socket of tokio's, 32 bytes, there is room for two words more: then a task is 256 bytes,
    // and else 384.
    assert!(size_of_val(&future) <= size + 104, "{} bytes", size_of_val(&future));
}
