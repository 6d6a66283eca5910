//! States that a client is rarely in: nothing is to be lost, to hang or to grow there either.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt_client::{
    AckMode, Change, Client, Delivered, Limit, Offline, Publish, PublishError, QoS, Reconnect,
    Snapshot, Store, SubscribeError, Timeouts, Undelivered, WhenFull,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{sleep, timeout};

use crate::counted::Counted;
use crate::support::{QUICK, SOON, scripted};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at_least_once(payload: &'static str) -> Publish {
    Publish::new("t", payload).qos(QoS::AtLeastOnce)
}

#[tokio::test(start_paused = true)]
async fn the_time_for_an_acknowledgement_begins_when_the_message_is_sent() {
    let (builder, mut listener) = scripted();
    let mut timeouts = Timeouts::default();
    timeouts.ack = Some(seconds(5));
    let client = builder.timeouts(timeouts).start().unwrap();
    let mut peer = listener.welcome(false).await;
    for id in 1..=3 {
        let receipt = client.publish(at_least_once("1")).await.unwrap();
        peer.expect(&[0x32, 6, 0, 1, b't', 0, id, b'1']).await;
        sleep(seconds(4)).await;
        peer.send(&[0x40, 2, 0, id]).await;
        assert_eq!(receipt.await, Ok(Delivered::Acknowledged));
        sleep(seconds(6)).await;
    }
    assert_eq!(client.stats().counters.disconnections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_is_told_of_the_end_of_a_subscription_whatever_became_of_the_connection() {
    let (builder, mut listener) = scripted();
    let client = builder.persistent_session().reconnect(QUICK).start().unwrap();
    let ending = tokio::spawn({
        let client = client.clone();
        async move { client.unsubscribe("old").await }
    });
    tokio::task::yield_now().await;
    // It is there from an earlier run of the program.
    let mut peer = listener.welcome(true).await;
    peer.expect(b"\xa2\x07\0\x01\0\x03old").await;
    drop(peer);
    // This CONNACK might have said that the session is lost.
    drop(listener.accept().await);
    let mut peer = listener.welcome(true).await;
    peer.expect(b"\xa2\x07\0\x02\0\x03old").await;
    assert!(!ending.is_finished());
    peer.send(b"\xb0\x02\0\x02").await;
    ending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_takes_longer_than_the_keep_alive_to_send_arrives() {
    let (builder, mut listener) = scripted();
    let client = builder.keep_alive(seconds(8), seconds(2)).reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    let mut receipt = client.publish(("t", vec![0; 20 << 20])).await.unwrap();
    let mut part = vec![0; 1 << 20];
    while timeout(seconds(1), &mut receipt).await.is_err() {
        let read = peer.io.read(&mut part).await.unwrap();
        assert!(read > 0, "given up");
    }
    // The PINGREQ that was due meanwhile has its time from now on.
    sleep(seconds(1)).await;
    let end = peer.io.read_to_end(&mut part);
    assert!(timeout(Duration::from_millis(500), end).await.is_err());
    assert!(part.ends_with(b"\xc0\0"), "PINGREQ");
    let end = peer.io.read_to_end(&mut part);
    assert!(timeout(seconds(2), end).await.is_ok(), "it was not answered");
}

#[tokio::test]
async fn a_transport_that_takes_nothing_is_not_asked_again_and_again() {
    let (asked, (near, mut far)) = (Arc::new(AtomicUsize::new(0)), duplex(100));
    let near = Mutex::new(Some(Counted { transport: near, writes: asked.clone() }));
    let builder = Client::builder("mqtt://one").connector(move |_| {
        let near = near.lock().unwrap().take();
        async move { near.ok_or(io::ErrorKind::ConnectionRefused.into()) }
    });
    let client = builder.start().unwrap();
    far.write_all(b"\x20\x02\0\0").await.unwrap();
    client.connected().await.unwrap();
    for _ in 0..3 {
        drop(client.publish(("t", vec![0; 200 << 10])).await.unwrap());
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.stats().queued, 2);
    assert!(asked.load(Ordering::Relaxed) < 20, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_leaves_no_subscription_in_a_kept_session() {
    let (builder, mut listener) = scripted();
    let client = builder.persistent_session().start().unwrap();
    let mut peer = listener.welcome(true).await;
    let asking = client.clone();
    let request = tokio::spawn(async move { asking.request(("t", "1"), "r", SOON).await });
    peer.grant("r", 1, QoS::AtMostOnce).await;
    peer.expect(b"\x30\x04\0\x01t1").await;
    peer.send(b"\x30\x04\0\x01r2").await;
    assert_eq!(request.await.unwrap().unwrap().payload(), b"2");
    peer.expect(b"\xa2\x05\0\x02\0\x01r").await;
}

#[test]
fn a_client_whose_runtime_never_ran_it_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let early = runtime();
    let (client, receipt) = early.block_on(async {
        let client = scripted().0.start().unwrap();
        let receipt = client.try_publish(("t", "1")).unwrap();
        (client, receipt)
    });
    drop(early);
    runtime().block_on(async {
        assert_eq!(timeout(SOON, receipt).await.unwrap(), Err(Undelivered::Closed));
        assert_eq!(timeout(SOON, client.shutdown(SOON)).await.unwrap().queued, 1);
    });
}

#[tokio::test]
async fn streams_end_with_a_client_that_never_began() {
    let (builder, mut stream) = scripted().0.subscription("a", QoS::AtMostOnce);
    builder.inflight(0).connect().await.unwrap_err();
    assert!(timeout(SOON, stream.recv()).await.unwrap().is_none());
    assert_eq!(stream.ended(), Some(SubscribeError::Closed));
    let (builder, mut stream) = scripted().0.subscription("a", QoS::AtMostOnce);
    drop(builder);
    assert!(timeout(SOON, stream.recv()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_expires_also_when_a_connection_took_a_part_of_it() {
    let (builder, mut listener) = scripted();
    let client = builder.reconnect(QUICK).start().unwrap();
    let peer = listener.welcome(false).await;
    let large = Publish::new("t", vec![0; 2 << 20]).expires_after(seconds(5));
    let receipt = client.publish(large).await.unwrap();
    sleep(seconds(1)).await;
    drop(peer);
    let _silent = listener.accept().await;
    assert_eq!(timeout(seconds(6), receipt).await.unwrap(), Err(Undelivered::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_given_twice_delivers_once() {
    let (builder, mut listener) = scripted();
    let twice = [("a", QoS::AtMostOnce), ("a", QoS::AtLeastOnce)];
    let (builder, mut stream) = builder.subscription_all(twice, AckMode::Taken);
    let _client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.read_packet().await;
    peer.send(b"\x90\x03\0\x01\x01\x32\x06\0\x01a\0\x071\x30\x04\0\x01a2").await;
    for payload in [b"1", b"2"] {
        let message = timeout(SOON, stream.recv()).await.expect("nothing came").unwrap();
        assert_eq!(message.payload(), payload);
    }
    peer.expect(b"\x40\x02\0\x07").await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_room_and_not_for_a_connection_hear_of_its_end() {
    let (builder, mut listener) = scripted();
    let limit = Limit { messages: 1, bytes: 100, when_full: WhenFull::Wait };
    let hours = Reconnect { min: seconds(36_000), max: seconds(36_000), ..QUICK };
    let client = builder.queue_limit(limit).inflight(1).reconnect(hours).start().unwrap();
    let peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    for payload in ["1", "2"] {
        drop(client.publish(at_least_once(payload)).await.unwrap());
    }
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            let message = at_least_once("3").offline(Offline::Fail);
            tokio::spawn(async move { client.publish(message).await.map(drop) })
        })
        .collect();
    sleep(seconds(1)).await;
    drop((peer, listener));
    for waiting in waiting {
        let error = timeout(Duration::from_millis(1), waiting).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, PublishError::NotConnected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_when_a_stream_is_dropped_that_was_not_read() {
    let (builder, mut listener) = scripted();
    let (builder, full) = builder.subscription("a", QoS::AtMostOnce);
    let (builder, mut other) = builder.subscription("b", QoS::AtMostOnce);
    let builder = builder.persistent_session().keep_alive(Duration::ZERO, SOON).max_unread(1);
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.read_packet().await;
    peer.send(b"\x90\x04\0\x01\0\0\x30\x04\0\x01a1").await;
    client.connected().await.unwrap();
    // Until no time limit of the start wakes it.
    sleep(seconds(60)).await;
    peer.send(b"\x30\x04\0\x01b2").await;
    sleep(seconds(1)).await;
    drop(full);
    assert_eq!(timeout(SOON, other.recv()).await.unwrap().unwrap().payload(), b"2");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_no_answers_gets_no_more_to_ask() {
    for packet in [b"\x62\x02\0\x01".repeat(4096), b"\x32\x05\0\x01t\0\x01".repeat(4096)] {
        let (builder, mut listener) = scripted();
        let _client = builder.start().unwrap();
        let mut peer = listener.welcome(false).await;
        let mut sent = 0;
        while sent < 64 << 20
            && let Ok(Ok(())) = timeout(seconds(1), peer.io.write_all(&packet)).await
        {
            sent += packet.len();
        }
        assert!(sent < 8 << 20, "{sent} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suback_that_does_not_fit_is_asked_for_again() {
    let (builder, mut listener) = scripted();
    let (builder, _stream) = builder.subscription("a", QoS::AtMostOnce);
    let _client = builder.persistent_session().reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("a", 1, QoS::AtMostOnce).await;
    drop(peer);
    let (mut peer, asked) = (listener.welcome(true).await, _client.clone());
    let asked = tokio::spawn(async move { asked.subscribe("b", QoS::AtMostOnce).await });
    peer.expect(b"\x82\x06\0\x02\0\x01b\0").await;
    peer.send(b"\x90\x04\0\x02\0\0").await;
    let mut peer = listener.welcome(true).await;
    peer.expect(b"\x82\x06\0\x03\0\x01b\0").await;
    peer.send(b"\x90\x03\0\x03\0").await;
    asked.await.unwrap().unwrap();
}

/// A store with a bug.
struct Broken;

impl Store for Broken {
    fn load(&mut self, _: &str) -> io::Result<Snapshot> {
        Ok(Snapshot::default())
    }

    fn write(&mut self, _: &[Change]) -> io::Result<()> {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_store_that_panics_ends_the_client() {
    let (builder, _listener) = scripted();
    let client = builder.store(Broken).start().unwrap();
    let error = timeout(SOON, client.publish(at_least_once("1"))).await.unwrap().unwrap_err();
    assert!(matches!(error, PublishError::Store(_)), "{error}");
    assert!(timeout(SOON, client.connected()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_message_of_just_the_longest_packet_is_sent() {
    let (builder, mut listener) = scripted();
    let client: Client = builder.max_packet(100, 100).start().unwrap();
    for (qos, most) in [(QoS::AtMostOnce, 95), (QoS::AtLeastOnce, 93), (QoS::ExactlyOnce, 93)] {
        let message = |bytes: usize| Publish::new("t", vec![0; bytes]).qos(qos);
        assert!(client.try_publish(message(most)).is_ok(), "{qos:?}");
        let error = client.try_publish(message(most + 1)).unwrap_err().cause;
        assert!(matches!(error, PublishError::TooLarge { size: 101, limit: 100 }), "{error}");
    }
    assert_eq!(listener.welcome(false).await.read_packet().await.len(), 100);
}
