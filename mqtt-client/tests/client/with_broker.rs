//! The client and our own broker in one process.

use std::time::Duration;

use crate::support::{QUICK, SOON, Wire};
use mqtt_broker_core::{Broker, Config};
use mqtt_client::{Publish, QoS};

#[tokio::test]
async fn messages_of_every_qos_come_through_a_broker() {
    let wire = Wire::new(&Broker::new(Config::default(), ()));
    let client = wire.builder("one").connect().await.unwrap();
    let mut all = client.subscribe("#", QoS::ExactlyOnce).await.unwrap();
    assert_eq!(all.granted(), Some(QoS::ExactlyOnce));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let message = Publish::new("a/b", format!("at {qos:?}")).qos(qos);
        client.publish(message).await.unwrap().await.unwrap();
        let message = all.recv().await.unwrap();
        assert_eq!(message.payload(), format!("at {qos:?}").as_bytes());
        assert_eq!((message.qos(), message.dup(), message.retain()), (qos, false, false));
    }
    all.unsubscribe().await;
    client.publish(("a/b", "nobody")).await.unwrap().await.unwrap();
    assert!(client.shutdown(SOON).await.is_empty());
    assert!(client.publish(("a/b", "late")).await.is_err());
}

#[tokio::test]
async fn nothing_is_lost_and_qos_2_comes_once_over_a_hundred_cuts() {
    let broker = Broker::new(Config::default(), ());
    let (cut, whole) = (Wire::new(&broker), Wire::new(&broker));
    let observer = whole.builder("observer").connect().await.unwrap();
    let mut seen = observer.subscribe("t/+", QoS::ExactlyOnce).await.unwrap();
    let client =
        cut.builder("device").persistent_session().reconnect(QUICK).connect().await.unwrap();
    let cutting = tokio::spawn(async move {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(3)).await;
            cut.cut();
        }
    });
    let mut sent = 0;
    let mut receipts = Vec::new();
    while !cutting.is_finished() {
        let message = Publish::new("t/2", format!("{sent}")).qos(QoS::ExactlyOnce);
        receipts.push(client.publish(message).await.unwrap());
        sent += 1;
        if sent % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let counting = tokio::spawn(async move {
        for expected in 0..sent {
            let message = seen.recv().await.unwrap();
            assert_eq!(message.payload(), format!("{expected}").as_bytes());
        }
        assert!(seen.try_recv().is_none());
    });
    for receipt in receipts {
        tokio::time::timeout(SOON, receipt).await.expect("a receipt hangs").unwrap();
    }
    tokio::time::timeout(SOON, counting).await.expect("messages are missing").unwrap();
    assert!(client.stats().counters.connections > 20, "{:?}", client.stats());
}

#[cfg(feature = "json")]
#[tokio::test]
async fn a_payload_can_be_json() {
    let wire = Wire::new(&Broker::new(Config::default(), ()));
    let client = wire.builder("json").connect().await.unwrap();
    let mut all = client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
    drop(client.publish(Publish::json("t", &("on", 21.5)).unwrap()).await.unwrap());
    let message = all.recv().await.unwrap();
    assert_eq!(message.payload(), br#"["on",21.5]"#);
    assert_eq!(message.json::<(&str, f64)>().unwrap(), ("on", 21.5));
    assert!(message.json::<u32>().is_err());
}

#[cfg(feature = "blocking")]
#[test]
fn a_program_without_async_can_use_it() {
    let broker = Broker::new(Config::default(), ());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        listener.set_nonblocking(true).unwrap();
        let (socket, peer) =
            tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        let _ = mqtt_broker_core::serve_connection(&broker, socket, peer).await;
    });
    let builder = mqtt_client::Client::builder(&url);
    let client = mqtt_client::blocking::Client::connect(builder).unwrap();
    let mut all = client.subscribe("#", QoS::AtLeastOnce).unwrap();
    let outcome = client.deliver(Publish::new("t", "x").qos(QoS::ExactlyOnce)).unwrap();
    assert_eq!(outcome, Ok(mqtt_client::Delivered::Completed));
    assert_eq!(all.next().unwrap().payload(), b"x");
    assert!(all.recv_timeout(Duration::from_millis(1)).is_none());
    assert!(client.shutdown(SOON).is_empty());
}

// More than the window: most are accepted and not sent when the client is dropped.
#[cfg(feature = "blocking")]
#[test]
fn a_program_without_async_that_ends_has_delivered_what_was_accepted() {
    let broker = Broker::new(Config::default(), ());
    let filter = mqtt_client::TopicFilter::new("#").unwrap();
    let mut all = broker.subscribe(filter, QoS::AtLeastOnce);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = format!("mqtt://127.0.0.1:{}", runtime.block_on(crate::support::listen(&broker)));
    let builder = mqtt_client::Client::builder(&url).inflight(1);
    let client = mqtt_client::blocking::Client::connect(builder).unwrap();
    // A handle that the program still has does not hold up the end.
    let kept = client.inner().clone();
    for n in 0..100_u8 {
        drop(client.publish(Publish::new("t", vec![n]).qos(QoS::AtLeastOnce)).unwrap());
    }
    drop(client);
    for n in 0..100 {
        assert_eq!(all.try_recv().expect("a message").payload(), [n]);
    }
    assert!(matches!(*kept.status().borrow(), mqtt_client::Status::Stopped(None)));
}
