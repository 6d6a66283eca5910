//! Offline policies, acknowledgement modes, time limits, refusals, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mqtt_client::{
    AckMode, ConfigError, ConnectReturnCode, ConnectionError, Delivered, Leftover, Limit, Offline,
    Publish, PublishError, QoS, Reconnect, RequestError, Status, Step, SubscribeError, Timeouts,
    Undelivered, WhenFull,
};
use tokio::time::Instant;

use crate::support::{Listener, QUICK, SOON, scripted};

fn limit(messages: usize, when_full: WhenFull) -> Limit {
    Limit { messages, bytes: 1 << 20, when_full }
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_the_policy_fail_fails() {
    let (builder, mut listener) = scripted();
    let client = builder.offline(Offline::Fail).reconnect(QUICK).start().unwrap();
    let error = client.publish(("t", "1")).await.unwrap_err();
    assert!(matches!(error, PublishError::NotConnected));
    let waits = client.publish(Publish::new("t", "2").offline(Offline::Queue)).await.unwrap();
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x30\x04\0\x01t2").await;
    assert_eq!(waits.await, Ok(Delivered::Written));
    // What cannot be written before the end fails too.
    let large = client.publish(("t", vec![0; 2 << 20])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(peer);
    assert_eq!(large.await, Err(Undelivered::NotConnected));
}

#[tokio::test(start_paused = true)]
async fn only_the_latest_of_a_topic_is_sent_after_an_outage() {
    let (builder, mut listener) = scripted();
    let client = builder.offline(Offline::Latest).start().unwrap();
    let mut receipts = Vec::new();
    for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
        receipts.push(client.publish((topic, payload)).await.unwrap());
    }
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x30\x04\0\x01a4\x30\x04\0\x01b5").await;
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(receipt.await.unwrap());
    }
    use Delivered::{Superseded, Written};
    assert_eq!(outcomes, [Superseded, Superseded, Superseded, Written, Written]);
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_the_connection_leaves_at_its_pace_and_what_comes_later_at_once() {
    let (builder, mut listener) = scripted();
    let client = builder.replay_rate(10).start().unwrap();
    for payload in ["1", "2", "3"] {
        drop(client.publish(("t", payload)).await.unwrap());
    }
    let mut peer = listener.welcome(false).await;
    let begin = Instant::now();
    let millis = || begin.elapsed().as_millis();
    peer.expect(b"\x30\x04\0\x01t1").await;
    assert_eq!(millis(), 0);
    drop(client.publish(Publish::new("t", "4").qos(QoS::AtLeastOnce)).await.unwrap());
    for (n, packet) in [&b"\x30\x04\0\x01t2"[..], b"\x30\x04\0\x01t3"].into_iter().enumerate() {
        peer.expect(packet).await;
        assert!((100..110).contains(&(millis() / (n as u128 + 1))), "{n} after {} ms", millis());
    }
    peer.expect(b"\x32\x06\0\x01t\0\x014").await;
    assert!((300..310).contains(&millis()), "behind those that waited, after {} ms", millis());
    let caught_up = millis();
    for payload in ["5", "6", "7"] {
        drop(client.publish(("t", payload)).await.unwrap());
    }
    peer.expect(b"\x30\x04\0\x01t5\x30\x04\0\x01t6\x30\x04\0\x01t7").await;
    assert_eq!(millis(), caught_up);
    peer.send(b"\x40\x02\0\x01").await;
    // Without a backlog a connection has no pace.
    drop(peer);
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    let begin = Instant::now();
    drop(client.publish(("t", "8")).await.unwrap());
    drop(client.publish(("t", "9")).await.unwrap());
    peer.expect(b"\x30\x04\0\x01t8\x30\x04\0\x01t9").await;
    assert_eq!(begin.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_not_sent() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let short = Publish::new("t", "1").expires_after(Duration::from_secs(5));
    let long = Publish::new("t", "2").expires_after(Duration::from_secs(50));
    let (short, long) = (client.publish(short).await.unwrap(), client.publish(long).await.unwrap());
    let begin = Instant::now();
    // Also while there is no connection at all.
    assert_eq!(short.await, Err(Undelivered::Expired));
    assert_eq!(begin.elapsed().as_secs(), 5);
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x30\x04\0\x01t2").await;
    assert_eq!(long.await, Ok(Delivered::Written));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_waits_rejects_or_drops_as_it_is_told() {
    let three = ["1", "2", "3"];
    let (builder, _listener) = scripted();
    let client = builder.queue_limit(limit(2, WhenFull::Wait)).start().unwrap();
    for payload in &three[..2] {
        drop(client.try_publish(("t", *payload)).unwrap());
    }
    let error = client.try_publish(Publish::new("t", "3").retain(true)).unwrap_err();
    assert!(matches!(error.cause, PublishError::QueueFull));
    let waiting = client.publish(error.message);
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    assert_eq!(client.stats().queued, 2, "cancelled, it was not accepted");

    let (builder, _listener) = scripted();
    let client = builder.queue_limit(limit(2, WhenFull::Reject)).start().unwrap();
    for payload in &three[..2] {
        drop(client.publish(("t", *payload)).await.unwrap());
    }
    assert!(matches!(client.publish(("t", "3")).await, Err(PublishError::QueueFull)));

    for (policy, lost) in [(WhenFull::DropOldest, 0), (WhenFull::DropNewest, 2)] {
        let (builder, mut listener) = scripted();
        let client = builder.queue_limit(limit(2, policy)).start().unwrap();
        let mut receipts = Vec::new();
        for payload in three {
            receipts.push(client.publish(("t", payload)).await.unwrap());
        }
        let _peer = listener.welcome(false).await;
        for (n, receipt) in receipts.into_iter().enumerate() {
            let expected =
                if n == lost { Err(Undelivered::Dropped) } else { Ok(Delivered::Written) };
            assert_eq!(receipt.await, expected, "{n} with {policy:?}");
        }
        assert_eq!(client.stats().counters.dropped, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_room_all_get_it_in_the_end() {
    let (builder, mut listener) = scripted();
    let client = builder.queue_limit(limit(3, WhenFull::Wait)).start().unwrap();
    let mut tasks = Vec::new();
    for task in 0..20 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let sending = client.publish(Publish::new("t", "x").qos(QoS::AtMostOnce));
                // Every third gives up early, and must not take another's place with it.
                if task % 3 == 0 {
                    let _ = tokio::time::timeout(Duration::from_millis(1), sending).await;
                } else {
                    drop(sending.await.unwrap());
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let _peer = listener.welcome(false).await;
    for task in tasks {
        tokio::time::timeout(SOON, task).await.expect("one was forgotten").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_fails_where_it_is_published() {
    let (builder, _listener) = scripted();
    let client = builder.max_packet(1000, 100).start().unwrap();
    let error = client.publish(("t", vec![0; 100])).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { limit: 100, .. }), "{error}");
    // MQTT-3.3.2-2
    let error = client.publish(("a/#", "")).await.unwrap_err();
    assert!(matches!(error, PublishError::InvalidTopic(_)), "{error}");
}

// MQTT-4.6.0-2
#[tokio::test(start_paused = true)]
async fn acknowledgements_wait_for_the_application_and_keep_their_order() {
    let (builder, mut listener) = scripted();
    let (builder, mut taken) = builder.subscription("a", QoS::AtLeastOnce);
    let (builder, mut manual) = builder.subscription_with("b", QoS::AtLeastOnce, AckMode::Manual);
    let (builder, _received) = builder.subscription_with("c", QoS::AtLeastOnce, AckMode::Received);
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x82\x0e\0\x01\0\x01a\x01\0\x01b\x01\0\x01c\x01").await;
    peer.send(b"\x90\x05\0\x01\x01\x01\x01").await;
    client.connected().await.unwrap();
    peer.send(
        b"\x32\x05\0\x01a\0\x01\x32\x05\0\x01b\0\x02\x32\x05\0\x01c\0\x03\x32\x05\0\x01b\0\x04",
    )
    .await;
    let first = manual.recv().await.unwrap();
    let second = manual.recv().await.unwrap();
    second.ack();
    peer.expect_silence().await;
    taken.recv().await.unwrap();
    peer.expect(b"\x40\x02\0\x01").await;
    peer.expect_silence().await;
    first.ack();
    peer.expect(b"\x40\x02\0\x02\x40\x02\0\x03\x40\x02\0\x04").await;
    assert_eq!(client.stats().unacknowledged, 0);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_of_an_earlier_connection_is_not_sent() {
    let (builder, mut listener) = scripted();
    let builder = builder.acks(AckMode::Manual).persistent_session().reconnect(QUICK);
    let (builder, mut all) = builder.subscription("#", QoS::AtLeastOnce);
    let _client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::AtLeastOnce).await;
    peer.send(b"\x32\x05\0\x01t\0\x07").await;
    let stale = all.recv().await.unwrap();
    drop(peer);
    let mut peer = listener.welcome(true).await;
    peer.send(b"\x3a\x05\0\x01t\0\x07").await;
    let again = all.recv().await.unwrap();
    assert!(again.dup());
    stale.ack();
    peer.expect_silence().await;
    again.ack();
    peer.expect(b"\x40\x02\0\x07").await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_dropped_and_not_acknowledged_are_counted() {
    let (builder, mut listener) = scripted();
    let builder = builder.acks(AckMode::Manual).persistent_session().reconnect(QUICK);
    let (builder, mut all) = builder.subscription("#", QoS::ExactlyOnce);
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::ExactlyOnce).await;
    peer.send(b"\x32\x05\0\x01t\0\x07\x32\x05\0\x01t\0\x08\x32\x05\0\x01t\0\x09\x30\x03\0\x01t")
        .await;
    let (acknowledged, dropped, late) =
        (all.recv().await.unwrap(), all.recv().await.unwrap(), all.recv().await.unwrap());
    acknowledged.ack();
    drop(dropped);
    // QoS 0 has nothing to acknowledge.
    drop(all.recv().await.unwrap());
    let never_acknowledged = || client.stats().counters.never_acknowledged;
    assert_eq!(never_acknowledged(), 1);
    drop(peer);
    let _peer = listener.welcome(true).await;
    // The broker sends it again.
    drop(late);
    assert_eq!(never_acknowledged(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_drops_the_oldest_of_qos_0() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.stream_limit(2, 1 << 20).subscription("#", QoS::AtLeastOnce);
    let _client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::AtLeastOnce).await;
    peer.send(b"\x30\x04\0\x01t1\x32\x06\0\x01t\0\x012\x30\x04\0\x01t3\x30\x04\0\x01t4").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut payloads = Vec::new();
    while let Some(message) = all.try_recv() {
        payloads.extend_from_slice(message.payload());
    }
    assert_eq!((&payloads[..], all.missed()), (&b"24"[..], 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_the_application_leaves_too_much_untaken() {
    const LIMIT: usize = 100_000;
    let (builder, mut listener) = scripted();
    let builder = builder.max_unread(LIMIT).keep_alive(Duration::from_secs(10), Duration::ZERO);
    let (builder, mut all) = builder.subscription("#", QoS::AtLeastOnce);
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::AtLeastOnce).await;
    // A broker without a window, that sends as long as the transport takes it.
    let message = [&b"\x32\x69\0\x01t\0\x07"[..], &[b'x'; 100]].concat();
    let mut sent = 0;
    let flooding = async {
        loop {
            peer.send(&message).await;
            sent += 1;
        }
    };
    // Long enough for several keep alives: what we do not read does not count against the broker.
    assert!(tokio::time::timeout(Duration::from_secs(60), flooding).await.is_err());
    let stats = client.stats();
    // One turn of reads may go over it.
    assert!((LIMIT..LIMIT + (600 << 10)).contains(&stats.unread_bytes), "{stats:?}");
    assert!(sent * message.len() > 1 << 20, "the transport is full too");
    for _ in 0..sent {
        assert_eq!(all.recv().await.unwrap().payload().len(), 100);
    }
    assert_eq!(client.stats().unread_bytes, 0);
    assert_eq!(client.stats().counters.connections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_unsubscribes_and_acknowledges_what_it_held() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe("#", QoS::AtLeastOnce).await.unwrap() }
    });
    peer.grant("#", 1, QoS::AtLeastOnce).await;
    let all = subscribing.await.unwrap();
    peer.send(b"\x32\x05\0\x01t\0\x07").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let ending = tokio::spawn(all.unsubscribe());
    peer.expect(b"\x40\x02\0\x07\xa2\x05\0\x02\0\x01#").await;
    assert!(!ending.is_finished());
    peer.send(b"\xb0\x02\0\x02").await;
    ending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_step_has_a_limit_that_its_error_names() {
    let (builder, mut listener) = scripted();
    let silent = tokio::spawn(async move {
        let peer = listener.accept().await;
        tokio::time::sleep(SOON).await;
        drop(peer);
    });
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, ConnectionError::Timeout(Step::Connack)), "{error}");
    silent.await.unwrap();

    let (builder, _) = scripted();
    let builder = builder.credentials_from(std::future::pending);
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, ConnectionError::Timeout(Step::Credentials)), "{error}");

    let builder = mqtt_client::Client::builder("mqtt://nowhere").connector(|_| async {
        std::future::pending::<()>().await;
        Ok(tokio::io::duplex(1).0)
    });
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, ConnectionError::Timeout(Step::Connect)), "{error}");

    let mut timeouts = Timeouts::default();
    timeouts.ack = Some(Duration::from_secs(3));
    let (builder, mut listener) = scripted();
    let client = builder.timeouts(timeouts).reconnect(QUICK).start().unwrap();
    let _peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    drop(client.publish(Publish::new("t", "").qos(QoS::AtLeastOnce)).await.unwrap());
    let mut status = client.status();
    let waiting = status.wait_for(|status| matches!(status, Status::Waiting { .. })).await;
    assert!(matches!(
        &*waiting.unwrap(),
        Status::Waiting { cause: ConnectionError::Timeout(Step::Ack), .. }
    ));

    let (builder, mut listener) = scripted();
    let (builder, _all) = builder.subscription("#", QoS::AtMostOnce);
    let connecting = tokio::spawn(builder.connect());
    let _peer = listener.welcome(false).await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Timeout(Step::Suback)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_at_each_attempt() {
    let (builder, mut listener) = scripted();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let builder = builder.reconnect(QUICK).credentials_from(move || {
        let token = format!("{}", count.fetch_add(1, Ordering::Relaxed));
        async move { Ok(("me".to_owned(), Some(token.into()))) }
    });
    let _client = builder.start().unwrap();
    for round in ["0", "1", "2"] {
        let mut peer = listener.accept().await;
        let connect = peer.read_connect().await;
        assert!(connect.ends_with(format!("\0\x02me\0\x01{round}").as_bytes()), "{connect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_wait_for_the_longest_delay_or_end_the_client() {
    let refuse = |mut listener: Listener| {
        tokio::spawn(async move {
            loop {
                let mut peer = listener.accept().await;
                peer.read_connect().await;
                peer.send(b"\x20\x02\0\x05").await;
            }
        })
    };
    let (builder, listener) = scripted();
    let client = builder.reconnect(Reconnect { max: SOON, ..QUICK }).start().unwrap();
    let broker = refuse(listener);
    let mut status = client.status();
    let waiting = status.wait_for(|status| matches!(status, Status::Waiting { .. })).await.unwrap();
    assert!(matches!(&*waiting, Status::Waiting { retry_in: SOON, .. }), "{waiting:?}");
    drop(waiting);
    broker.abort();

    let (builder, listener) = scripted();
    let reconnect = Reconnect { retry_refused: false, ..QUICK };
    let client = builder.reconnect(reconnect).start().unwrap();
    let broker = refuse(listener);
    let closed = client.connected().await.unwrap_err();
    assert!(matches!(
        closed.cause,
        Some(ConnectionError::Refused(ConnectReturnCode::NotAuthorized))
    ));
    assert!(matches!(client.publish(("t", "")).await, Err(PublishError::Closed)));
    broker.abort();
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_at_once_is_tried_again_with_growing_delays() {
    let (builder, mut listener) = scripted();
    let reconnect = Reconnect { min: Duration::from_secs(1), max: SOON, ..Reconnect::default() };
    let _client = builder.reconnect(reconnect).start().unwrap();
    let begin = Instant::now();
    let mut attempts = 0;
    while begin.elapsed() < Duration::from_secs(600) {
        drop(listener.welcome(false).await);
        attempts += 1;
    }
    // Without a delay it would be millions, without growth some 1,200.
    assert!((30..150).contains(&attempts), "{attempts} attempts in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn after_a_stable_connection_the_first_attempt_is_at_once() {
    let (builder, mut listener) = scripted();
    let reconnect = Reconnect { min: SOON, ..Reconnect::default() };
    let _client = builder.reconnect(reconnect).start().unwrap();
    let peer = listener.welcome(false).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let begin = Instant::now();
    drop(peer);
    listener.welcome(false).await;
    assert!(begin.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn two_clients_with_one_id_take_over_from_each_other_ever_more_slowly() {
    let wire = crate::support::Wire::new(&mqtt_broker_core::Broker::new(Default::default(), ()));
    let twin = || wire.builder("twin").start().unwrap();
    let twins = [twin(), twin()];
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for client in twins {
        let counters = client.stats().counters;
        assert_eq!(counters.closed_by_broker, counters.disconnections);
        assert!((20..200).contains(&counters.connections), "{counters:?}");
    }
}

#[tokio::test]
async fn brokers_are_tried_in_turn() {
    let dead = crate::support::free_port();
    let wire = crate::support::Wire::new(&mqtt_broker_core::Broker::new(Default::default(), ()));
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    let client = mqtt_client::Client::builder(&format!("mqtt://127.0.0.1:{dead}"))
        .brokers(["mqtt://other"])
        .connector(move |to: mqtt_client::Endpoint| {
            let wire = wire.clone();
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                match to.host.as_str() {
                    "other" => Ok(wire.connect()),
                    _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
                }
            }
        })
        .connect()
        .await
        .unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    assert!(client.shutdown(SOON).await.is_empty());
}

// A broker may admit a client and close the connection at once, each time.
#[tokio::test(start_paused = true)]
async fn a_first_connection_that_is_over_at_once_was_one() {
    let (builder, mut listener) = scripted();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.welcome(false).await);
        }
    });
    let client = tokio::time::timeout(SOON, builder.connect()).await.unwrap().unwrap();
    assert!(!matches!(*client.status().borrow(), Status::Stopped(_)));
    closing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_has_a_limit_and_says_what_was_left() {
    let (builder, mut listener) = scripted();
    let client = builder.inflight(1).start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    let one = client.publish(Publish::new("t", "1").qos(QoS::AtLeastOnce)).await.unwrap();
    let two = client.publish(Publish::new("t", "2").qos(QoS::AtLeastOnce)).await.unwrap();
    let begin = Instant::now();
    let leftover = client.shutdown(Duration::from_secs(3)).await;
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!(leftover, Leftover { queued: 1, unacknowledged: 1 });
    assert_eq!((one.await, two.await), (Err(Undelivered::Closed), Err(Undelivered::Closed)));
    peer.expect(b"\x32\x06\0\x01t\0\x011\xe0\0").await;
    peer.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_connects_for_what_is_left() {
    let (builder, mut listener) = scripted();
    let client = builder.reconnect(QUICK).start().unwrap();
    let receipt = client.publish(Publish::new("t", "1").qos(QoS::AtLeastOnce)).await.unwrap();
    let ending = tokio::spawn(async move { client.shutdown(SOON).await });
    drop(listener.accept().await);
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x32\x06\0\x01t\0\x011").await;
    peer.send(b"\x40\x02\0\x01").await;
    assert!(ending.await.unwrap().is_empty());
    assert_eq!(receipt.await, Ok(Delivered::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tries_once_more_before_the_next_attempt_is_due() {
    let (builder, mut listener) = scripted();
    let hour = Duration::from_secs(3600);
    let client = builder.reconnect(Reconnect { max: hour, ..QUICK }).start().unwrap();
    // After a refusal the longest delay is waited for.
    let refuse = async |listener: &mut Listener| {
        let mut peer = listener.accept().await;
        peer.read_connect().await;
        peer.send(&[0x20, 2, 0, 5]).await;
        peer.expect_end().await;
    };
    refuse(&mut listener).await;
    let receipt = client.publish(Publish::new("t", "1").qos(QoS::AtLeastOnce)).await.unwrap();
    let ending = client.clone();
    let ending = tokio::spawn(async move { ending.shutdown(SOON).await });
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x32\x06\0\x01t\0\x011").await;
    peer.send(b"\x40\x02\0\x01").await;
    assert!(ending.await.unwrap().is_empty());
    assert_eq!(receipt.await, Ok(Delivered::Acknowledged));

    let (builder, mut listener) = scripted();
    let client = builder.reconnect(Reconnect { max: hour, ..QUICK }).start().unwrap();
    refuse(&mut listener).await;
    let _left = client.publish(("t", "1")).await.unwrap();
    let begin = Instant::now();
    let ending = tokio::spawn(async move { client.shutdown(SOON).await });
    refuse(&mut listener).await;
    assert_eq!(ending.await.unwrap(), Leftover { queued: 1, unacknowledged: 0 });
    assert_eq!(begin.elapsed().as_secs(), SOON.as_secs(), "and not again and again");
}

#[tokio::test(start_paused = true)]
async fn limits_that_no_clock_goes_as_far_as_are_none() {
    let max = Duration::MAX;
    let mut timeouts = Timeouts::default();
    (timeouts.resolve, timeouts.connect, timeouts.credentials) = (max, max, max);
    (timeouts.reply, timeouts.ack) = (max, Some(max));
    let (builder, mut listener) = scripted();
    let builder = builder.keep_alive(Duration::from_secs(60), max).timeouts(timeouts);
    let (builder, _all) = builder.subscription("#", QoS::AtMostOnce);
    let client = builder.start().unwrap();
    let message = Publish::new("t", "1").qos(QoS::AtLeastOnce).expires_after(max);
    let receipt = client.publish(message).await.unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::AtMostOnce).await;
    peer.expect(b"\x32\x06\0\x01t\0\x021").await;
    // A PINGREQ, whose answer is waited for as well.
    tokio::time::sleep(Duration::from_secs(100)).await;
    peer.expect(b"\xc0\0").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let ending = tokio::spawn(async move { client.shutdown(max).await });
    peer.send(b"\x40\x02\0\x02").await;
    assert!(ending.await.unwrap().is_empty());
    assert_eq!(receipt.await, Ok(Delivered::Acknowledged));
}

#[tokio::test(start_paused = true)]
async fn an_abort_sends_no_disconnect() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::AtMostOnce);
    let client = builder.will(Publish::new("w", "gone").retain(true)).start().unwrap();
    let mut peer = listener.accept().await;
    let connect = peer.read_connect().await;
    // MQTT-3.1.2-8 and its fields: will and retain flags, topic, message.
    assert_eq!(connect[9], 0b0010_0110);
    assert!(connect.ends_with(b"\0\x01c\0\x01w\0\x04gone"));
    peer.send(b"\x20\x02\0\0").await;
    peer.grant("#", 1, QoS::AtMostOnce).await;
    client.connected().await.unwrap();
    client.abort().await;
    peer.expect_end().await;
    assert!(all.recv().await.is_none());
    assert_eq!(all.ended(), Some(SubscribeError::Closed));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_delivers_and_disconnects() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let receipt = client.publish(Publish::new("t", "1").qos(QoS::AtLeastOnce)).await.unwrap();
    drop(client);
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x32\x06\0\x01t\0\x011").await;
    peer.send(b"\x40\x02\0\x01").await;
    assert_eq!(receipt.await, Ok(Delivered::Acknowledged));
    peer.expect(b"\xe0\0").await;
    peer.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_its_reply_or_a_timeout() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    let limit = Duration::from_secs(5);
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.request(("ask", "?"), "reply/1", limit).await }
    });
    // Granted before the request leaves.
    peer.grant("reply/1", 1, QoS::AtMostOnce).await;
    peer.expect(b"\x30\x06\0\x03ask?").await;
    peer.send(b"\x30\x0a\0\x07reply/1!").await;
    assert_eq!(asking.await.unwrap().unwrap().payload(), b"!");
    peer.expect(b"\xa2\x0b\0\x02\0\x07reply/1").await;
    let error = client.request(("ask", "?"), "reply/2", limit).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout(_)));
}

// MQTT-3.1.3-7
#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let builder = || mqtt_client::Client::builder("mqtt://h");
    let error = builder().client_id("").persistent_session().start().unwrap_err();
    assert_eq!(error, ConfigError::EmptyClientId);
    for builder in [
        builder().inflight(0),
        builder().queue_limit(limit(0, WhenFull::Wait)),
        builder().keep_alive(Duration::from_secs(65_536), Duration::ZERO),
        builder().keep_alive(Duration::from_millis(10), Duration::ZERO),
        builder().will(("a/#", "")),
        builder().will(("a", vec![0; 65_536])),
        builder().client_id("\0"),
        builder().subscription("#/a", QoS::AtMostOnce).0,
        mqtt_client::Client::builder("http://h"),
    ] {
        assert!(builder.start().is_err());
    }
}

#[tokio::test]
async fn a_flood_of_qos_0_is_not_dropped_while_the_application_takes_it() {
    const COUNT: usize = 200_000;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let flooding = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        let mut buffer = [0; 1000];
        // CONNECT, then SUBSCRIBE.
        assert!(socket.read(&mut buffer).unwrap() > 0);
        socket.write_all(b"\x20\x02\0\0").unwrap();
        assert!(socket.read(&mut buffer).unwrap() > 0);
        socket.write_all(b"\x90\x03\0\x01\0").unwrap();
        socket.write_all(&b"\x30\x0d\0\x01tsome bytes".repeat(COUNT)).unwrap();
        socket
    });
    let (builder, mut all) = mqtt_client::Client::builder(&url).subscription("#", QoS::AtMostOnce);
    let client = builder.connect().await.unwrap();
    let counting = async {
        for _ in 0..COUNT {
            all.recv().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(SOON * 2, counting).await;
    assert!(in_time.is_ok(), "{:?}", client.stats());
    assert_eq!(client.stats().counters.missed, 0);
    drop(flooding.join().unwrap());
}

/// The stream counts what it hands out without the client's lock, on another thread than the task: a
/// wake-up that got lost would stop everything, as the broker waits for each acknowledgement. With
/// one of the looks at that count left out, this fails in one run of three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledgement_is_forgotten_between_threads() {
    const COUNT: u32 = 40_000;
    let mut config = mqtt_broker_core::Config::default();
    config.max_inflight = 1;
    let wire = crate::support::Wire::new(&mqtt_broker_core::Broker::new(config, ()));
    let publisher = wire.builder("publisher").connect().await.unwrap();
    let (builder, mut all) = wire.builder("receiver").subscription("t", QoS::AtLeastOnce);
    let client = builder.connect().await.unwrap();
    let publishing = tokio::spawn(async move {
        for number in 0..COUNT {
            let message = Publish::new("t", number.to_string()).qos(QoS::AtLeastOnce);
            drop(publisher.publish(message).await.unwrap());
        }
        publisher.shutdown(SOON).await
    });
    let taking = tokio::spawn(async move {
        for number in 0..COUNT {
            let message = tokio::time::timeout(SOON, all.recv()).await;
            let message = message.unwrap_or_else(|_| panic!("{number} does not come")).unwrap();
            assert_eq!(message.payload(), number.to_string().as_bytes());
        }
        all
    });
    let _all = taking.await.unwrap();
    assert!(publishing.await.unwrap().is_empty());
    // The last acknowledgements are on their way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.stats().unacknowledged, 0);
}
