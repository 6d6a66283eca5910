//! Packets from a byte stream and back.

use mqtt_codec::{Delivery, MAX_PACKET, Packet, Publish, TopicName, decode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = Vec::new();
    let topic = TopicName::new("garden/fan")?;
    for payload in ["on", "off"] {
        let publish = Publish {
            topic,
            payload: payload.as_bytes(),
            delivery: Delivery::AtMostOnce,
            retain: false,
        };
        Packet::Publish(publish).encode(&mut stream);
    }
    Packet::PingReq.encode(&mut stream);

    let mut rest = &stream[..];
    while let Some((packet, len)) = decode(rest, MAX_PACKET)? {
        rest = &rest[len..];
        println!("{packet:?}");
    }
    Ok(())
}
