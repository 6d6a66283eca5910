//! Writes the seeds of the fuzz targets into `corpus/`: packets of our own encoder, and the tables of
//! malformed and of unusual legal packets.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use mqtt_codec::{
    Ack, ConnAck, Connect, ConnectFields, ConnectReturnCode, Delivery, Packet, PacketId, Publish,
    QoS, SubAck, Subscribe, SubscribeReturnCode, Text, TopicFilter, TopicName, Unsubscribe, Will,
};

#[path = "../../mqtt-codec/tests/packets/packets.rs"]
#[allow(dead_code, reason = "the tests look at more fields")]
mod packets;

fn main() -> Result<()> {
    let frames = frames();
    let tables = packets::malformed()
        .into_iter()
        .map(|row| row.bytes)
        .chain(packets::legal().into_iter().map(|row| row.bytes))
        // The long ones only slow the fuzzer down.
        .filter(|bytes| bytes.len() < 2000);
    let all: Vec<Vec<u8>> = frames.iter().cloned().chain(tables).collect();
    let stream = frames.concat();

    write("decode", all.iter().cloned().chain([stream.clone()]))?;
    // `chunks` takes its numbers from the end of the input, and the stream from the front.
    write("chunks", all.iter().chain([&stream]).map(|bytes| [&bytes[..], &[3, 0, 1, 7]].concat()))?;
    write("roundtrip", all)?;
    let topics = [
        "a/b\na/b",
        "#\na",
        "+/b\na/b",
        "a/#\na",
        "$SYS/#\n$SYS/x",
        "#\n$SYS",
        "/+\n/",
        "+\na/b",
        "a+\na",
        "a/#/b\na",
        "\u{feff}/+\n\u{feff}/x",
        "a much longer filter/with/+/and/#\na",
    ];
    write("topic", topics.map(|topic| topic.as_bytes().to_vec()))
}

fn write(target: &str, seeds: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "corpus", target].iter().collect();
    fs::create_dir_all(&folder)?;
    let mut count = 0;
    for seed in seeds {
        fs::write(Path::new(&folder).join(format!("seed-{count:03}")), seed)?;
        count += 1;
    }
    println!("{target}: {count} seeds");
    Ok(())
}

/// At least one packet of each type.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut add = |packet: Packet<'_>| {
        let mut frame = Vec::new();
        packet.encode(&mut frame);
        frames.push(frame);
    };
    let id = PacketId::new(7).unwrap();
    let text = |text| Text::new(text).unwrap();
    let topic = TopicName::new("house/kitchen/temperature").unwrap();
    let will = Will { topic, message: b"gone", qos: QoS::ExactlyOnce, retain: true };
    let plain = ConnectFields::new(text("c"));
    let full = ConnectFields {
        keep_alive: 60,
        will: Some(will),
        user_name: Some(text("user")),
        password: Some(b"\0\xFF"),
        ..plain
    };
    add(Connect::new(&plain).unwrap().into());
    add(Connect::new(&full).unwrap().into());
    add(ConnAck { session_present: true, code: ConnectReturnCode::Accepted }.into());
    for delivery in [
        Delivery::AtMostOnce,
        Delivery::AtLeastOnce { id, dup: false },
        Delivery::ExactlyOnce { id, dup: true },
    ] {
        add(Publish { topic, payload: b"21.5", delivery, retain: true }.into());
        add(Publish { topic, payload: &[b'x'; 300], delivery, retain: false }.into());
    }
    for ack in
        [Ack::PubAck(id), Ack::PubRec(id), Ack::PubRel(id), Ack::PubComp(id), Ack::UnsubAck(id)]
    {
        add(ack.into());
    }
    let filters = ["house/#", "+/kitchen/+", "\u{e9}/+", "a"];
    let filters = filters.map(|filter| (TopicFilter::new(filter).unwrap(), QoS::AtLeastOnce));
    add(Subscribe::new(id, &filters).unwrap().into());
    add(Unsubscribe::new(id, &filters.map(|(filter, _)| filter)).unwrap().into());
    let codes = [SubscribeReturnCode::Granted(QoS::ExactlyOnce), SubscribeReturnCode::Failure];
    add(SubAck::new(id, &codes).unwrap().into());
    for packet in [Packet::PingReq, Packet::PingResp, Packet::Disconnect] {
        add(packet);
    }
    frames
}
