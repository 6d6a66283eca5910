//! A broker inside a program of one's own: `cargo run --example embedded_broker`.
//!
//! Then `mosquitto_pub -t garden/temperature -m 21.5` and `mosquitto_sub -t garden/fan` work.

use std::time::{Duration, Instant};

use mqtt_broker_core::{Broker, Config, Message, serve_connection};
use mqtt_codec::{QoS, TopicFilter, TopicName};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::new(Config::default(), ());

    // The program's own part: it switches a fan when it reads a temperature.
    let mut temperatures =
        broker.subscribe(TopicFilter::new("garden/temperature")?, QoS::AtLeastOnce);
    let publisher = broker.clone();
    tokio::spawn(async move {
        let fan = TopicName::new("garden/fan").expect("a valid topic name");
        loop {
            let message = temperatures.recv().await;
            let degrees: f32 = String::from_utf8_lossy(message.payload()).parse().unwrap_or(0.0);
            let state: &[u8] = if degrees > 20.0 { b"on" } else { b"off" };
            let message = Message::new(fan, state, QoS::AtLeastOnce).expect("a short message");
            publisher.publish(&message.retained());
        }
    });

    // Sessions of clients that stay away for long are ended.
    let sweeper = broker.clone();
    tokio::spawn(async move {
        loop {
            sweeper.sweep(Instant::now());
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });

    // The clients' part: a task for each connection.
    let listener = TcpListener::bind("127.0.0.1:1883").await?;
    loop {
        let (socket, peer) = listener.accept().await?;
        tokio::spawn(serve_connection(&broker, socket, peer));
    }
}
