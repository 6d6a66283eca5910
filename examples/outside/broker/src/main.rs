//! A broker in the program itself: one client over a pipe, and the program as another.

use std::error::Error;

use mqtt_broker_core::{Broker, Config, Message, PeerInfo, serve_connection};
use mqtt_codec::{QoS, TopicFilter, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = Broker::new(Config::default(), ());
    let mut telemetry = broker.subscribe(TopicFilter::new("telemetry/#")?, QoS::AtLeastOnce);

    let (mut device, transport) = tokio::io::duplex(1024);
    tokio::spawn(serve_connection(&broker, transport, PeerInfo::default()));

    // CONNECT of the client `d`, SUBSCRIBE to `fan`, PUBLISH to `telemetry/d`.
    device.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01d").await?;
    device.write_all(b"\x82\x08\0\x01\0\x03fan\0").await?;
    device.write_all(b"\x30\x0f\0\x0btelemetry/d21").await?;
    let message = telemetry.recv().await;
    println!("{}: {}", message.topic(), String::from_utf8_lossy(message.payload()));

    broker.publish(&Message::new(TopicName::new("fan")?, b"on", QoS::AtMostOnce)?);
    // CONNACK, SUBACK, PUBLISH.
    let mut answers = [0; 4 + 5 + 9];
    device.read_exact(&mut answers).await?;
    assert_eq!(&answers[9..], b"\x30\x07\0\x03fanon");
    println!("fan: on");
    Ok(())
}
