//! Encoding and decoding by workload. The comparison with other codecs is in `compare/`.

use std::hint::black_box;

use bytes::{Buf, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqtt_codec::{
    Connect, ConnectFields, Decoder, Delivery, MAX_PACKET, Packet, PacketBuf, PacketId, Publish,
    PublishBuf, QoS, Subscribe, Text, TopicFilter, TopicName, Will, decode,
};

const ID: PacketId = PacketId::new(1234).unwrap();

/// One packet of each workload, by name.
fn for_each_workload(mut run: impl FnMut(&str, Packet<'_>)) {
    let topic = TopicName::new("house/kitchen/oven/t").unwrap();
    let delivery = Delivery::AtLeastOnce { id: ID, dup: false };
    let small = Publish { topic, payload: &[7; 16], delivery: Delivery::AtMostOnce, retain: false };
    run("publish 16 B", small.into());
    run("publish 256 B", Publish { payload: &[7; 256], delivery, ..small }.into());
    run("publish 64 KiB", Publish { payload: &[7; 65_536], delivery, ..small }.into());
    run("puback", Packet::PubAck(ID));

    let text = |text| Text::new(text).unwrap();
    let will = Will { topic, message: b"offline", qos: QoS::AtLeastOnce, retain: true };
    let fields = ConnectFields {
        keep_alive: 60,
        will: Some(will),
        user_name: Some(text("thermostat")),
        password: Some(b"correct horse"),
        ..ConnectFields::new(text("thermostat-17"))
    };
    run("connect", Connect::new(&fields).unwrap().into());

    let filters = ["a/b/c", "house/+/temperature", "house/garden/#", "+/status", "alerts/fire"];
    let filters = [filters, filters].concat();
    let filters: Vec<_> = filters
        .iter()
        .map(|filter| (TopicFilter::new(filter).unwrap(), QoS::AtLeastOnce))
        .collect();
    run("subscribe 10", Subscribe::new(ID, &filters).unwrap().into());
}

fn encoded(packet: Packet<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    packet.encode(&mut frame);
    frame
}

/// Of ten packets six are PUBLISH with QoS 0, two with QoS 1 or 2, and two are acknowledgements;
/// with one CONNECT and one SUBSCRIBE in a hundred.
fn mixed() -> (Vec<u8>, u64) {
    let (mut stream, mut packets) = (Vec::new(), 0);
    let topics = ["a/b", "house/kitchen/temperature", "clients/thermostat-17/state", "lights/1"];
    let mut rare = Vec::new();
    for_each_workload(|name, packet| {
        if matches!(name, "connect" | "subscribe 10") {
            rare.push(encoded(packet));
        }
    });
    for round in 0..10 {
        for step in 0..10 {
            let topic = TopicName::new(topics[(round + step) % topics.len()]).unwrap();
            let delivery = match step {
                0..6 => Delivery::AtMostOnce,
                6 => Delivery::AtLeastOnce { id: ID, dup: false },
                _ => Delivery::ExactlyOnce { id: ID, dup: false },
            };
            let payload = &[b'p'; 200][..8 + (round * 37 + step * 11) % 190];
            let packet = match step {
                8 => Packet::PubAck(ID),
                9 => Packet::PubRel(ID),
                _ => Publish { topic, payload, delivery, retain: false }.into(),
            };
            stream.extend(encoded(packet));
            packets += 1;
        }
    }
    for frame in rare {
        stream.extend(frame);
        packets += 1;
    }
    (stream, packets)
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for_each_workload(|name, packet| {
        let frame = encoded(packet);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&decode(black_box(&frame), MAX_PACKET)).is_ok());
        });
    });
    let (stream, packets) = mixed();
    group.throughput(Throughput::Elements(packets));
    group.bench_function("mixed", |bencher| {
        bencher.iter(|| {
            let mut rest = &stream[..];
            while let Ok(Some((packet, length))) = &decode(rest, MAX_PACKET) {
                black_box(packet);
                rest = &rest[*length..];
            }
        });
    });
    group.bench_function("mixed in 7-byte chunks", |bencher| {
        let mut received = BytesMut::with_capacity(2 * stream.len());
        bencher.iter(|| {
            let mut decoder = Decoder::new(MAX_PACKET);
            received.clear();
            for chunk in stream.chunks(7) {
                received.extend_from_slice(chunk);
                while let Ok(Some((packet, length))) = &decoder.next(&received) {
                    black_box(packet);
                    let length = *length;
                    received.advance(length);
                }
            }
        });
    });
    group.bench_function("mixed, owned", |bencher| {
        bencher.iter_batched_ref(
            || BytesMut::from(&stream[..]),
            |received| {
                while let Ok(Some(packet)) = &PacketBuf::decode(received, MAX_PACKET) {
                    black_box(packet);
                }
            },
            criterion::BatchSize::SmallInput,
        );
    });
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for_each_workload(|name, packet| {
        let mut frame = vec![0; packet.encoded_len()];
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&packet).encode_to_slice(black_box(&mut frame)));
        });
    });
    let (stream, count) = mixed();
    let mut packets = Vec::new();
    let mut rest = &stream[..];
    while let Ok(Some((packet, length))) = decode(rest, MAX_PACKET) {
        packets.push(packet);
        rest = &rest[length..];
    }
    group.throughput(Throughput::Elements(count));
    let mut out = vec![0; stream.len()];
    group.bench_function("mixed", |bencher| {
        bencher.iter(|| {
            let mut rest = &mut out[..];
            for packet in &packets {
                let length = packet.encode_to_slice(rest).unwrap();
                rest = &mut rest[length..];
            }
        });
    });
    let mut out = BytesMut::with_capacity(stream.len());
    group.bench_function("mixed into BytesMut", |bencher| {
        bencher.iter(|| {
            out.clear();
            for packet in &packets {
                packet.encode(&mut out);
            }
        });
    });
}

/// One message to many receivers, each with its own packet id.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out");
    let topic = TopicName::new("house/kitchen/oven/t").unwrap();
    for (name, len) in [("16 B", 16), ("256 B", 256), ("64 KiB", 65_536)] {
        let payload = vec![7; len];
        let message = PublishBuf::from_parts(topic, &payload, QoS::AtLeastOnce, false).unwrap();
        let delivery = Delivery::AtLeastOnce { id: ID, dup: false };
        let mut out = BytesMut::with_capacity(len + 64);
        group.bench_function(format!("copied, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&message).encode(black_box(delivery), false, &mut out);
            });
        });
        let mut slice = vec![0; len + 64];
        group.bench_function(format!("copied into a slice, {name}"), |bencher| {
            bencher.iter(|| {
                black_box(&message).encode_to_slice(black_box(delivery), false, &mut slice)
            });
        });
        group.bench_function(format!("shared, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&message).encode_head(black_box(delivery), false, &mut out);
                black_box(message.payload_bytes());
            });
        });
        group.bench_function(format!("made anew, {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let publish = Publish { topic, payload: &payload, delivery, retain: false };
                black_box(&publish).encode(&mut out);
            });
        });
    }
}

criterion_group!(benches, decoding, encoding, fan_out);
criterion_main!(benches);
