//! What a message costs in allocations.

use std::time::Duration;

use mqtt_broker_core::{Broker, Config, serve_connection};
use mqtt_client::{Bytes, Client, Publish, QoS, TopicNameBuf};
use tokio::net::TcpListener;

const MESSAGES: u64 = 20_000;

#[test]
fn publishing_a_prepared_message_at_qos_0_allocates_nothing() {
    let url = broker();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let client = runtime.block_on(Client::builder(&url).connect()).unwrap();
    let topic = TopicNameBuf::new("a/b").unwrap();
    let payload = Bytes::from_static(b"a payload of some length");
    let publish = || {
        runtime.block_on(async {
            for _ in 0..MESSAGES {
                let message = Publish::new(topic.clone(), payload.clone());
                drop(client.publish(message).await.unwrap());
            }
        });
    };
    // Queues and buffers get their size.
    publish();
    let measured = allocation_counter::measure(publish);
    // A few for each batch of a thousand: buffers that an idle client does not keep.
    let most = MESSAGES / 1000;
    assert!(measured.count_total < most, "{} for {MESSAGES} messages", measured.count_total);
    assert!(runtime.block_on(client.shutdown(Duration::from_secs(20))).is_empty());
}

#[test]
fn messages_that_come_together_share_an_allocation() {
    let url = broker();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    // A block of 4 KiB is two allocations. It holds a hundred of these, or what the broker's window of
    // 20 lets it send at a time.
    for (qos, most) in [(QoS::AtMostOnce, MESSAGES / 20), (QoS::AtLeastOnce, MESSAGES / 8)] {
        let (client, mut all) = runtime.block_on(async {
            let builder = Client::builder(&url).inflight(1000);
            let (builder, all) = builder.subscription("a/b", qos);
            (builder.connect().await.unwrap(), all)
        });
        let message = Publish::new("a/b", "a payload of some length").qos(qos);
        let mut round = || {
            runtime.block_on(async {
                for _ in 0..MESSAGES / 1000 {
                    for _ in 0..1000 {
                        drop(client.publish(message.clone()).await.unwrap());
                    }
                    for _ in 0..1000 {
                        assert_eq!(all.recv().await.unwrap().payload().len(), 24);
                    }
                }
            });
        };
        round();
        let measured = allocation_counter::measure(round);
        let count = measured.count_total;
        assert!(count < most, "{count} for {MESSAGES} messages, {qos:?}");
        drop(all);
        assert!(runtime.block_on(client.shutdown(Duration::from_secs(20))).is_empty());
    }
}

/// More than this is not to be held for a client that is connected and does nothing.
const IDLE: i64 = 8 << 10;

#[test]
fn an_idle_client_holds_little_memory() {
    const CLIENTS: i64 = 50;
    let url = broker();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let mut clients = Vec::with_capacity(CLIENTS as usize);
    // What the first one makes for all.
    clients.push(runtime.block_on(Client::builder(&url).connect()).unwrap());
    let measured = allocation_counter::measure(|| {
        for _ in 0..CLIENTS {
            clients.push(runtime.block_on(Client::builder(&url).connect()).unwrap());
        }
    });
    let each = measured.bytes_current / CLIENTS;
    println!("{each} bytes a client");
    assert!(each < IDLE, "{each} bytes a client");
}

/// A broker of ours on its own thread, whose allocations are not counted. Gives its URL.
fn broker() -> String {
    let (port, ports) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            port.send(listener.local_addr().unwrap().port()).unwrap();
            let broker = Broker::new(Config::default(), ());
            while let Ok((socket, peer)) = listener.accept().await {
                let broker = broker.clone();
                tokio::spawn(async move { serve_connection(&broker, socket, peer).await });
            }
        });
    });
    format!("mqtt://127.0.0.1:{}", ports.recv().unwrap())
}
