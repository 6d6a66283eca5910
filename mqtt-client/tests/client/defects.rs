//! Defects that were found in other clients, A to J, and what this one does.

use std::time::Duration;

use mqtt_client::{ConnectionError, Delivered, Publish, QoS, Reconnect, Status, Step};
use tokio::time::Instant;

use crate::support::{QUICK, SOON, scripted};

// A. MQTT-4.3.3-2
#[tokio::test(start_paused = true)]
async fn a_qos_2_message_that_comes_twice_is_delivered_once() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::ExactlyOnce);
    let _client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::ExactlyOnce).await;
    peer.send(b"\x34\x05\0\x01t\0\x07\x3c\x05\0\x01t\0\x07").await;
    assert!(!all.recv().await.unwrap().dup());
    peer.expect(b"\x50\x02\0\x07\x50\x02\0\x07").await;
    peer.send(b"\x62\x02\0\x07").await;
    peer.expect(b"\x70\x02\0\x07").await;
    assert!(all.try_recv().is_none());
    // After PUBREL the id is a new message.
    peer.send(b"\x34\x05\0\x01t\0\x07").await;
    all.recv().await.unwrap();
}

// B. MQTT-4.3.3-2
#[tokio::test(start_paused = true)]
async fn a_pubrel_after_a_resumed_session_is_answered() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::ExactlyOnce);
    let client = builder.persistent_session().reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::ExactlyOnce).await;
    peer.send(b"\x34\x05\0\x01t\0\x07").await;
    all.recv().await.unwrap();
    peer.expect(b"\x50\x02\0\x07").await;
    drop(peer);
    let mut peer = listener.welcome(true).await;
    // The known one, and one that nobody knows.
    peer.send(b"\x62\x02\0\x07\x62\x02\0\x09").await;
    peer.expect(b"\x70\x02\0\x07\x70\x02\0\x09").await;
    assert_eq!(client.stats().counters.disconnections, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_session_an_open_id_is_another_message() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::ExactlyOnce);
    let _client = builder.persistent_session().reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::ExactlyOnce).await;
    peer.send(b"\x34\x06\0\x01t\0\x071").await;
    all.recv().await.unwrap();
    peer.expect(b"\x50\x02\0\x07").await;
    drop(peer);
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::ExactlyOnce).await;
    peer.send(b"\x34\x06\0\x01t\0\x072").await;
    assert_eq!(all.recv().await.unwrap().payload(), b"2");
    peer.expect(b"\x50\x02\0\x07").await;
}

// C. MQTT-2.3.1-2, MQTT-2.3.1-3
#[tokio::test(start_paused = true)]
async fn an_id_that_awaits_pubcomp_is_not_given_out() {
    let (builder, mut listener) = scripted();
    let client = builder.inflight(u16::MAX).start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    let first = client.publish(Publish::new("t", "").qos(QoS::ExactlyOnce)).await.unwrap();
    peer.expect(b"\x34\x05\0\x01t\0\x01").await;
    peer.send(b"\x50\x02\0\x01").await;
    peer.expect(b"\x62\x02\0\x01").await;
    // Once around all the other ids; the next one waits.
    for id in 2..=u16::MAX {
        drop(client.publish(Publish::new("t", "").qos(QoS::AtLeastOnce)).await.unwrap());
        let [high, low] = id.to_be_bytes();
        peer.expect(&[0x32, 5, 0, 1, b't', high, low]).await;
        peer.send(&[0x40, 2, high, low]).await;
    }
    drop(client.publish(Publish::new("t", "").qos(QoS::AtLeastOnce)).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((client.stats().queued, client.stats().in_flight), (1, 1));
    peer.send(b"\x70\x02\0\x01").await;
    peer.expect(b"\x32\x05\0\x01t\0\x01").await;
    assert_eq!(first.await, Ok(Delivered::Completed));
}

// D. MQTT-2.3.1-2
#[tokio::test(start_paused = true)]
async fn subscribe_and_publish_take_ids_from_one_place() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    drop(client.publish(Publish::new("t", "").qos(QoS::AtLeastOnce)).await.unwrap());
    peer.expect(b"\x32\x05\0\x01t\0\x01").await;
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe("#", QoS::AtMostOnce).await }
    });
    peer.grant("#", 2, QoS::AtMostOnce).await;
    let all = subscribing.await.unwrap().unwrap();
    drop(client.publish(Publish::new("t", "").qos(QoS::AtLeastOnce)).await.unwrap());
    peer.expect(b"\x32\x05\0\x01t\0\x03").await;
    drop(all);
    // MQTT-3.10.3-2 holds by construction: there is a filter.
    peer.expect(b"\xa2\x05\0\x04\0\x01#").await;
}

// E. MQTT-4.3.3-1
#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_full_window_is_sent_later_and_tracked() {
    let (builder, mut listener) = scripted();
    let client = builder.persistent_session().inflight(1).reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    let mut receipts = Vec::new();
    for payload in ["1", "2"] {
        let message = Publish::new("t", payload).qos(QoS::ExactlyOnce);
        receipts.push(client.publish(message).await.unwrap());
    }
    peer.expect(b"\x34\x06\0\x01t\0\x011").await;
    peer.send(b"\x50\x02\0\x01").await;
    peer.expect(b"\x62\x02\0\x01").await;
    peer.send(b"\x70\x02\0\x01").await;
    peer.expect(b"\x34\x06\0\x01t\0\x022").await;
    drop(peer);
    let mut peer = listener.welcome(true).await;
    peer.expect(b"\x3c\x06\0\x01t\0\x022").await;
    peer.send(b"\x50\x02\0\x02").await;
    peer.expect(b"\x62\x02\0\x02").await;
    peer.send(b"\x70\x02\0\x02").await;
    for receipt in receipts {
        assert_eq!(receipt.await, Ok(Delivered::Completed));
    }
}

// F is `a_kept_session_is_taken_up_in_order_with_dup`,
// G is `a_clean_session_is_made_anew_and_the_queue_survives`, both in `scripted`.

// H
#[tokio::test(start_paused = true)]
async fn the_task_that_consumes_may_publish_more_than_fits() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::AtLeastOnce);
    let client = builder.inflight(5).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::AtLeastOnce).await;
    peer.send(b"\x32\x05\0\x01t\0\x01").await;
    let consuming = tokio::spawn(async move {
        all.recv().await.unwrap();
        for _ in 0..3000 {
            drop(client.publish(Publish::new("t", "").qos(QoS::AtLeastOnce)).await.unwrap());
        }
        client.shutdown(SOON).await
    });
    peer.expect(b"\x40\x02\0\x01").await;
    for id in 2..3002_u16 {
        let [high, low] = id.to_be_bytes();
        peer.expect(&[0x32, 5, 0, 1, b't', high, low]).await;
        peer.send(&[0x40, 2, high, low]).await;
    }
    assert!(consuming.await.unwrap().is_empty());
}

// I
#[tokio::test(start_paused = true)]
async fn a_tick_in_a_select_does_not_cut_a_slow_connection() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let broker = tokio::spawn(async move {
        let mut peer = listener.accept().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.read_connect().await;
        peer.send(b"\x20\x02\0\0").await;
        peer
    });
    let mut ticks = 0;
    loop {
        tokio::select! {
            connected = client.connected() => break connected.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(3)) => ticks += 1,
        }
    }
    assert!(ticks > 20, "{ticks}");
    assert_eq!(client.stats().counters.connections, 1);
    drop(broker.await.unwrap());
}

// J
#[tokio::test(start_paused = true)]
async fn reading_goes_on_while_the_broker_does_not_read_until_it_counts_as_dead() {
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::AtMostOnce);
    let client = builder
        .keep_alive(Duration::from_secs(60), Duration::from_secs(7))
        .reconnect(Reconnect { min: SOON, ..QUICK })
        .start()
        .unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::AtMostOnce).await;
    client.connected().await.unwrap();
    // More than the pipe holds.
    let begin = Instant::now();
    drop(client.publish(("t", vec![0; 2 << 20])).await.unwrap());
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.send(b"\x30\x03\0\x01t").await;
        all.recv().await.unwrap();
    }
    let mut status = client.status();
    let cause = loop {
        status.changed().await.unwrap();
        if let Status::Waiting { cause, .. } = &*status.borrow() {
            break cause.clone();
        }
    };
    assert!(matches!(cause, ConnectionError::Timeout(Step::Write)), "{cause}");
    assert_eq!(begin.elapsed().as_secs(), 7);
    // The message is kept: its last byte was not written.
    assert_eq!(client.stats().queued, 1);
}
