//! rumqttc: a client in Rust that shares no code with ours.

use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker_process::BrokerProcess;
use crate::program::DEADLINE;

/// How long 1,000 clients may take until each has its subscription.
///
/// "A few seconds" on a machine of its own; twice that on two cores with a debug build.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_qos_goes_both_ways() {
    let broker = BrokerProcess::start();
    let (client, mut events) = client("both", &broker);
    client.subscribe("both/#", QoS::ExactlyOnce).await.expect("the client takes it");
    granted(&mut events).await;
    for (number, qos) in
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate()
    {
        let topic = format!("both/{number}");
        client.publish(&topic, qos, false, "hello").await.expect("the client takes it");
        let message = message(&mut events).await;
        assert_eq!((message.topic, message.qos), (topic, qos));
        assert_eq!(message.payload, "hello");
    }
}

#[tokio::test]
async fn a_thousand_clients_connect_and_each_receives_its_message() {
    let broker = BrokerProcess::start();
    let start = Instant::now();
    let mut connecting = JoinSet::new();
    for number in 0..1000 {
        let (client, mut events) = client(&format!("client-{number}"), &broker);
        connecting.spawn(async move {
            let filter = format!("clients/{number}");
            client.subscribe(filter, QoS::AtLeastOnce).await.expect("the client takes it");
            granted(&mut events).await;
            (number, client, events)
        });
    }
    let clients = connecting.join_all().await;
    let connected = start.elapsed();

    let mut receiving = JoinSet::new();
    for (number, client, mut events) in clients {
        receiving.spawn(async move {
            let message = message(&mut events).await;
            // A client that is dropped ends its connection.
            drop(client);
            (number, message)
        });
    }
    let (publisher, mut events) = client("publisher", &broker);
    let publishing = tokio::spawn(async move {
        let mut acknowledged = 0;
        while acknowledged < 1000 {
            if let Event::Incoming(Packet::PubAck(_)) = next(&mut events).await {
                acknowledged += 1;
            }
        }
    });
    for number in 0..1000 {
        let topic = format!("clients/{number}");
        let payload = number.to_string();
        publisher.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("it is taken");
    }
    publishing.await.expect("the broker acknowledges each");
    for (number, message) in receiving.join_all().await {
        assert_eq!(message.topic, format!("clients/{number}"));
        assert_eq!(message.payload, number.to_string());
    }
    println!(
        "1,000 clients were subscribed after {connected:?}, served after {:?}",
        start.elapsed()
    );
    assert!(connected < CONNECTED_WITHIN, "connecting took {connected:?}");
}

// MQTT-3.2.2-2 and MQTT-3.2.2-3: session present in CONNACK.
#[tokio::test]
async fn a_kept_session_is_present_at_the_second_connection() {
    let broker = BrokerProcess::start();
    let mut options = options("keeper", &broker);
    options.set_clean_session(false);
    for expected in [false, true] {
        let (client, mut events) = AsyncClient::new(options.clone(), 10);
        let connack = loop {
            if let Event::Incoming(Packet::ConnAck(connack)) = next(&mut events).await {
                break connack;
            }
        };
        assert_eq!(connack.session_present, expected);
        client.disconnect().await.expect("the client takes it");
        while let Ok(Ok(_)) = timeout(DEADLINE, events.poll()).await {}
    }
}

fn options(client_id: &str, broker: &BrokerProcess) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(60));
    options
}

fn client(client_id: &str, broker: &BrokerProcess) -> (AsyncClient, EventLoop) {
    AsyncClient::new(options(client_id, broker), 10)
}

async fn next(events: &mut EventLoop) -> Event {
    let event = timeout(DEADLINE, events.poll()).await.expect("something happens in time");
    event.expect("the connection holds")
}

async fn granted(events: &mut EventLoop) {
    loop {
        if let Event::Incoming(Packet::SubAck(_)) = next(events).await {
            return;
        }
    }
}

async fn message(events: &mut EventLoop) -> Publish {
    loop {
        if let Event::Incoming(Packet::Publish(message)) = next(events).await {
            return message;
        }
    }
}
