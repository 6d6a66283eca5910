//! The client against a broker that follows a script: exact bytes, no network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{QUICK, scripted};
use mqtt_client::{
    ConnectReturnCode, ConnectionError, Delivered, Direction, Publish, QoS, SubscribeError,
    Undelivered,
};
use mqtt_codec::PacketType;

/// CONNECT with client id `c`, clean session, keep alive 60.
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c";

// MQTT-3.1.0-1
#[tokio::test(start_paused = true)]
async fn the_first_packet_is_connect_and_the_last_is_disconnect() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.accept().await;
    peer.expect(CONNECT).await;
    peer.send(b"\x20\x02\0\0").await;
    client.connected().await.unwrap();
    let left = client.shutdown(Duration::from_secs(1)).await;
    assert!(left.is_empty());
    peer.expect(b"\xe0\0").await;
    // MQTT-3.14.4-1, MQTT-3.14.4-2
    peer.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn each_qos_is_answered_to_its_end() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    // MQTT-4.3.1-1
    let receipt = client.publish(("t", "0")).await.unwrap();
    peer.expect(b"\x30\x04\0\x01t0").await;
    assert_eq!(receipt.await, Ok(Delivered::Written));
    // MQTT-4.3.2-1
    let receipt = client.publish(Publish::new("t", "1").qos(QoS::AtLeastOnce)).await.unwrap();
    peer.expect(b"\x32\x06\0\x01t\0\x011").await;
    peer.send(b"\x40\x02\0\x01").await;
    assert_eq!(receipt.await, Ok(Delivered::Acknowledged));
    // MQTT-4.3.3-1
    let receipt = client.publish(Publish::new("t", "2").qos(QoS::ExactlyOnce)).await.unwrap();
    peer.expect(b"\x34\x06\0\x01t\0\x022").await;
    peer.send(b"\x50\x02\0\x02").await;
    peer.expect(b"\x62\x02\0\x02").await;
    peer.send(b"\x70\x02\0\x02").await;
    assert_eq!(receipt.await, Ok(Delivered::Completed));
    let stats = client.stats();
    assert_eq!((stats.counters.published, stats.counters.ended()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_names_the_code() {
    let (builder, mut listener) = scripted();
    let refusing = tokio::spawn(async move {
        let mut peer = listener.accept().await;
        peer.read_connect().await;
        peer.send(b"\x20\x02\0\x04").await;
    });
    let error = builder.connect().await.unwrap_err();
    assert!(
        matches!(error, ConnectionError::Refused(ConnectReturnCode::BadUserNameOrPassword)),
        "{error}"
    );
    refusing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_is_an_error() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe("a/#", QoS::AtLeastOnce).await.map(drop) }
    });
    peer.expect(b"\x82\x08\0\x01\0\x03a/#\x01").await;
    peer.send(b"\x90\x03\0\x01\x80").await;
    assert_eq!(subscribing.await.unwrap(), Err(SubscribeError::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_clean_session_is_made_anew_and_the_queue_survives() {
    let (builder, mut listener) = scripted();
    let (builder, mut lights) = builder.reconnect(QUICK).subscription("l/+", QoS::AtLeastOnce);
    let client = builder.inflight(2).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x82\x08\0\x01\0\x03l/+\x01").await;
    peer.send(b"\x90\x03\0\x01\x01").await;
    client.connected().await.unwrap();
    let mut receipts = Vec::new();
    for (payload, qos) in [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce), ("3", QoS::AtMostOnce)]
    {
        receipts.push(client.publish(Publish::new("t", payload).qos(qos)).await.unwrap());
    }
    receipts.push(client.publish(Publish::new("t", "4").qos(QoS::AtLeastOnce)).await.unwrap());
    peer.expect(b"\x32\x06\0\x01t\0\x021\x34\x06\0\x01t\0\x032\x30\x04\0\x01t3").await;
    drop(peer);
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x82\x08\0\x01\0\x03l/+\x01").await;
    // 1 as new, without DUP; 2 is lost; 4 was never sent.
    peer.expect(b"\x32\x06\0\x01t\0\x021\x32\x06\0\x01t\0\x034").await;
    peer.send(b"\x90\x03\0\x01\x01\x40\x02\0\x02\x40\x02\0\x03").await;
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push(receipt.await);
    }
    assert_eq!(
        outcomes,
        [
            Ok(Delivered::Acknowledged),
            Err(Undelivered::SessionLost),
            Ok(Delivered::Written),
            Ok(Delivered::Acknowledged)
        ]
    );
    peer.send(b"\x32\x09\0\x03l/a\0\x09on").await;
    let message = lights.recv().await.unwrap();
    assert_eq!((message.topic().as_str(), message.payload()), ("l/a", &b"on"[..]));
    peer.expect(b"\x40\x02\0\x09").await;
}

// MQTT-3.3.1-1, MQTT-4.4.0-1, MQTT-4.6.0-1, MQTT-2.3.1-3
#[tokio::test(start_paused = true)]
async fn a_kept_session_is_taken_up_in_order_with_dup() {
    let (builder, mut listener) = scripted();
    let (builder, _lights) = builder.reconnect(QUICK).subscription("l/+", QoS::AtLeastOnce);
    let client = builder.persistent_session().start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.expect(b"\x82\x08\0\x01\0\x03l/+\x01").await;
    peer.send(b"\x90\x03\0\x01\x01").await;
    client.connected().await.unwrap();
    let mut receipts = Vec::new();
    for (payload, qos) in
        [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce), ("3", QoS::ExactlyOnce)]
    {
        receipts.push(client.publish(Publish::new("t", payload).qos(qos)).await.unwrap());
    }
    peer.expect(b"\x32\x06\0\x01t\0\x021\x34\x06\0\x01t\0\x032\x34\x06\0\x01t\0\x043").await;
    peer.send(b"\x50\x02\0\x03").await;
    peer.expect(b"\x62\x02\0\x03").await;
    drop(peer);
    let mut peer = listener.welcome(true).await;
    // No SUBSCRIBE: the broker has it. No PUBLISH after a PUBREL.
    peer.expect(b"\x3a\x06\0\x01t\0\x021\x62\x02\0\x03\x3c\x06\0\x01t\0\x043").await;
    peer.send(b"\x40\x02\0\x02\x70\x02\0\x03\x50\x02\0\x04").await;
    peer.expect(b"\x62\x02\0\x04").await;
    peer.send(b"\x70\x02\0\x04").await;
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert_eq!(client.stats().counters.resent, 2);
}

// MQTT-3.1.2-23
#[tokio::test(start_paused = true)]
async fn a_silent_client_pings_and_gives_up_a_broker_that_does_not_answer() {
    let (builder, mut listener) = scripted();
    let builder = builder.keep_alive(Duration::from_secs(8), Duration::from_secs(3));
    let client = builder.reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    let begin = tokio::time::Instant::now();
    let whole_seconds = |begin: tokio::time::Instant| (begin.elapsed().as_millis() + 50) / 100;
    peer.expect(b"\xc0\0").await;
    assert_eq!(whole_seconds(begin), 60);
    peer.send(b"\xd0\0").await;
    peer.expect(b"\xc0\0").await;
    assert_eq!(whole_seconds(begin), 120);
    peer.expect_end().await;
    assert_eq!(whole_seconds(begin), 150);
    listener.welcome(false).await;
}

// MQTT-4.5.0-2
#[tokio::test(start_paused = true)]
async fn what_nobody_asked_for_is_acknowledged() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.send(b"\x32\x05\0\x01x\0\x05\x34\x05\0\x01x\0\x06\x30\x03\0\x01x").await;
    peer.expect(b"\x40\x02\0\x05\x50\x02\0\x06").await;
    peer.send(b"\x62\x02\0\x06").await;
    peer.expect(b"\x70\x02\0\x06").await;
    assert_eq!(client.stats().counters.unrouted, 3);
}

#[tokio::test(start_paused = true)]
async fn the_packets_that_pass_can_be_watched() {
    let (builder, mut listener) = scripted();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let builder = builder.watch_packets(move |direction, packet| {
        notes.lock().unwrap().push((direction, packet.packet_type()));
    });
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    drop(client.publish(Publish::new("t", "1").qos(QoS::AtLeastOnce)).await.unwrap());
    peer.expect(b"\x32\x06\0\x01t\0\x011").await;
    for byte in b"\x40\x02\0\x01" {
        peer.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    client.shutdown(Duration::from_secs(1)).await;
    use Direction::{Received, Sent};
    use PacketType::{ConnAck, Connect, Disconnect, PubAck, Publish as PublishPacket};
    let expected = [
        (Sent, Connect),
        (Received, ConnAck),
        (Sent, PublishPacket),
        (Received, PubAck),
        (Sent, Disconnect),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}
