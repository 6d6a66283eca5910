//! How often the transport is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{Client, Publish, QoS, TopicNameBuf};
use tokio::time::Instant;

use crate::counted::Counted;
use crate::support::{SOON, Wire, scripted};

#[tokio::test]
async fn under_load_a_write_carries_at_least_32_messages() {
    const MESSAGES: usize = 32_000;
    let wire = Wire::new(&Broker::new(Config::default(), ()));
    let topic = TopicNameBuf::new("a/b").unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let writes = Arc::new(AtomicUsize::new(0));
        let (wire, counter) = (wire.clone(), writes.clone());
        let connect = move |_| {
            let transport = Counted { transport: wire.connect(), writes: counter.clone() };
            std::future::ready(Ok(transport))
        };
        let builder = Client::builder("mqtt://counted").inflight(100).connector(connect);
        let client = builder.connect().await.unwrap();
        for _ in 0..MESSAGES {
            let message = Publish::new(topic.clone(), "a payload").qos(qos);
            drop(client.publish(message).await.unwrap());
        }
        assert!(client.shutdown(SOON).await.is_empty());
        let writes = writes.load(Ordering::Relaxed);
        assert!(writes <= MESSAGES / 32, "{writes} writes for {MESSAGES} messages, {qos:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_alone_is_written_at_once() {
    let (builder, mut listener) = scripted();
    let client = builder.start().unwrap();
    let mut peer = listener.welcome(false).await;
    client.connected().await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = Instant::now();
        drop(client.publish(("t", "1")).await.unwrap());
        peer.expect(b"\x30\x04\0\x01t1").await;
        assert_eq!(before.elapsed(), Duration::ZERO, "the clock stood still");
    }
}
