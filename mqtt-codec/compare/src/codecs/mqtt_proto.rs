use std::hint::black_box;

use bytes::Buf;
use mqtt_proto::v3::Packet;

use super::{Codec, Verdict, buffer, chunks, packet_length};
use crate::meter::Meter;

/// The length of a packet is not said: as for mqttrs.
pub struct MqttProto;

impl Codec for MqttProto {
    fn decode(&self, stream: &[u8], meter: &mut Meter) {
        let length = packet_length(stream);
        let uniform = stream.chunks(length).all(|packet| packet == &stream[..length]);
        meter.measure(|| {
            let (mut rest, mut packets) = (stream, 0);
            while let Ok(Some(packet)) = &Packet::decode(rest) {
                black_box(packet);
                rest = &rest[if uniform { length } else { packet_length(rest) }..];
                packets += 1;
            }
            packets
        });
    }

    fn decode_chunks(&self, stream: &[u8], chunk: usize, meter: &mut Meter) {
        let mut received = buffer();
        meter.measure(|| {
            let mut packets = 0;
            for chunk in chunks(stream, chunk) {
                received.extend_from_slice(chunk);
                while let Ok(Some(packet)) = &Packet::decode(&received) {
                    black_box(packet);
                    let length = packet_length(&received);
                    received.advance(length);
                    packets += 1;
                }
            }
            packets
        });
    }

    fn encode(&self, stream: &[u8], meter: &mut Meter) {
        let mut packets = Vec::new();
        let mut rest = stream;
        while let Some(packet) = Packet::decode(rest).unwrap() {
            packets.push(packet);
            rest = &rest[packet_length(rest)..];
        }
        meter.measure(|| {
            for packet in &packets {
                black_box(&packet.encode().unwrap());
            }
            packets.len()
        });
    }

    fn decode_one(&self, bytes: &[u8]) -> Verdict {
        Verdict::of(Packet::decode(bytes))
    }
}
