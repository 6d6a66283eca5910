//! Statements of the standard that bind a client and have no better place.

use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{ConnectionError, Delivered, ProtocolError, Publish, QoS, Status};
use tokio::io::AsyncWriteExt;

use crate::support::{QUICK, SOON, Wire, scripted};

/// What the client thinks of these bytes after CONNACK.
async fn judgement(bytes: &[u8]) -> ConnectionError {
    let (builder, mut listener) = scripted();
    let client = builder.reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    let mut status = client.status();
    peer.send(bytes).await;
    let status = status.wait_for(|status| matches!(status, Status::Waiting { .. })).await.unwrap();
    let Status::Waiting { cause, .. } = &*status else { unreachable!("it was waited for") };
    // MQTT-4.8.0-1: the connection is closed, and a new one is made.
    peer.expect_end().await;
    cause.clone()
}

// MQTT-2.2.2-1, MQTT-2.2.2-2
#[tokio::test(start_paused = true)]
async fn wrong_flags_end_the_connection() {
    for (right, rest) in [
        (0x40_u8, &b"\x02\0\x01"[..]),
        (0x50, b"\x02\0\x01"),
        (0x62, b"\x02\0\x01"),
        (0x70, b"\x02\0\x01"),
        (0x90, b"\x03\0\x01\0"),
        (0xb0, b"\x02\0\x01"),
        (0xd0, b"\0"),
    ] {
        for flags in 0..16 {
            let first = right & 0xf0 | flags;
            if first != right {
                let error = judgement(&[&[first], rest].concat()).await;
                assert!(
                    matches!(&error, ConnectionError::Protocol(ProtocolError::Malformed(_))),
                    "{first:#x}: {error}"
                );
            }
        }
    }
}

// MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-3.3.1-4, MQTT-3.3.2-2, MQTT-4.8.0-1
#[tokio::test(start_paused = true)]
async fn malformed_packets_end_the_connection() {
    for bytes in [
        &b"\x30\x03\0\x01\xff"[..],
        b"\x30\x03\0\x01\0",
        b"\x36\x05\0\x01t\0\x01",
        b"\x30\x03\0\x01#",
        b"\x32\x05\0\x01t\0\0",
        b"\x30\xff\xff\xff\xff\x01",
        b"\xf0\0",
    ] {
        let error = judgement(bytes).await;
        assert!(
            matches!(error, ConnectionError::Protocol(ProtocolError::Malformed(_))),
            "{bytes:02x?}: {error}"
        );
    }
}

// An alert of TLS and an answer of HTTP are what a client of another port gets.
#[tokio::test(start_paused = true)]
async fn what_answers_is_no_broker_or_a_broken_one() {
    let alert = &b"\x15\x03\x03\0\x02\x02\x28"[..];
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    for (answer, is_mqtt) in [(alert, false), (http, false), (b"\x2f\x02\0\0", true)] {
        for cut in [0, 1] {
            let (builder, mut listener) = scripted();
            let connecting = tokio::spawn(builder.connect());
            let mut peer = listener.accept().await;
            peer.read_connect().await;
            for part in [&answer[..cut], &answer[cut..]] {
                // The first byte may have been enough.
                let _ = peer.io.write_all(part).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            match connecting.await.unwrap().unwrap_err() {
                ConnectionError::Protocol(ProtocolError::Malformed(_)) => assert!(is_mqtt),
                ConnectionError::Protocol(ProtocolError::NotMqtt(_)) => assert!(!is_mqtt),
                other => panic!("{answer:02x?}: {other}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn packets_that_only_clients_send_and_a_second_connack_end_the_connection() {
    for bytes in [
        &b"\x20\x02\0\0"[..],
        b"\x82\x06\0\x01\0\x01t\0",
        b"\xa2\x05\0\x01\0\x01t",
        b"\xc0\0",
        b"\xe0\0",
    ] {
        let error = judgement(bytes).await;
        assert!(
            matches!(error, ConnectionError::Protocol(ProtocolError::Unexpected(_))),
            "{bytes:02x?}: {error}"
        );
    }
}

// MQTT-3.2.0-1
#[tokio::test(start_paused = true)]
async fn anything_before_connack_ends_the_connection() {
    let (builder, mut listener) = scripted();
    let connecting = tokio::spawn(builder.connect());
    let mut peer = listener.accept().await;
    peer.read_connect().await;
    peer.send(b"\xd0\0").await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Protocol(ProtocolError::NotConnack(_))), "{error}");
}

// MQTT-3.3.4-1
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_of_the_wrong_kind_ends_the_connection_and_an_unknown_one_does_not() {
    let (builder, mut listener) = scripted();
    let client = builder.reconnect(QUICK).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.send(b"\x40\x02\0\x63\x50\x02\0\x63\x70\x02\0\x63\x90\x03\0\x63\0\xb0\x02\0\x63").await;
    // A PUBREC is answered all the same.
    peer.expect(b"\x62\x02\0\x63").await;
    assert_eq!(client.stats().counters.unknown_acks, 5);
    drop(client.publish(Publish::new("t", "").qos(QoS::ExactlyOnce)).await.unwrap());
    peer.expect(b"\x34\x05\0\x01t\0\x01").await;
    peer.send(b"\x40\x02\0\x01").await;
    peer.expect_end().await;
}

// MQTT-2.3.1-6
#[tokio::test(start_paused = true)]
async fn acknowledgements_carry_the_id_of_their_publish() {
    let (builder, mut listener) = scripted();
    let _client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.send(b"\x32\x05\0\x01t\x01\x2c\x34\x05\0\x01t\x01\x2d").await;
    peer.expect(b"\x40\x02\x01\x2c\x50\x02\x01\x2d").await;
    peer.send(b"\x50\x02\x01\x2e").await;
    peer.expect(b"\x62\x02\x01\x2e").await;
}

// MQTT-4.6.0-4
#[tokio::test(start_paused = true)]
async fn pubrels_leave_in_the_order_of_the_pubrecs() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    for _ in 0..4 {
        drop(client.publish(Publish::new("t", "").qos(QoS::ExactlyOnce)).await.unwrap());
    }
    peer.expect(
        b"\x34\x05\0\x01t\0\x01\x34\x05\0\x01t\0\x02\x34\x05\0\x01t\0\x03\x34\x05\0\x01t\0\x04",
    )
    .await;
    peer.send(b"\x50\x02\0\x03\x50\x02\0\x01\x50\x02\0\x04\x50\x02\0\x02").await;
    peer.expect(b"\x62\x02\0\x03\x62\x02\0\x01\x62\x02\0\x04\x62\x02\0\x02").await;
}

// MQTT-3.1.2-4, MQTT-3.1.2-6, MQTT-3.1.3-2, MQTT-4.1.0-1, MQTT-4.1.0-2
#[tokio::test]
async fn a_session_belongs_to_its_client_id_and_a_clean_one_ends_it() {
    let wire = Wire::new(&Broker::new(Config::default(), ()));
    let publisher = wire.builder("publisher").connect().await.unwrap();
    let publish = async |payload: &'static str| {
        let message = Publish::new("t", payload).qos(QoS::AtLeastOnce);
        let receipt = publisher.publish(message).await.unwrap();
        assert_eq!(receipt.await, Ok(Delivered::Acknowledged));
    };
    for (id, persistent) in [("one", true), ("two", true), ("three", false)] {
        let builder = wire.builder(id);
        let builder = if persistent { builder.persistent_session() } else { builder };
        let (builder, all) = builder.subscription("t", QoS::AtLeastOnce);
        let client = builder.connect().await.unwrap();
        client.shutdown(SOON).await;
        drop(all);
    }
    publish("while away").await;
    // A clean session in between ends the kept one of `two`.
    wire.builder("two").connect().await.unwrap().shutdown(SOON).await;
    for (id, present) in [("one", true), ("two", false), ("three", false)] {
        let builder = wire.builder(id).persistent_session();
        let (builder, mut all) = builder.subscription("t", QoS::AtLeastOnce);
        let client = builder.connect().await.unwrap();
        let status = client.status().borrow().clone();
        assert!(
            matches!(status, Status::Connected { session_present } if session_present == present),
            "{id}: {status:?}"
        );
        if present {
            assert_eq!(all.recv().await.unwrap().payload(), b"while away");
        }
        assert!(all.try_recv().is_none());
    }
}
