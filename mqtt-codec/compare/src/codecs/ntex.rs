use std::hint::black_box;

use ntex_bytes::{BytePages, BytesMut};
use ntex_codec::{Decoder, Encoder};
use ntex_mqtt::v3::codec::{Codec as Ntex, Decoded, Encoded};

use super::{Codec, Verdict, chunks};
use crate::meter::Meter;

/// Has a buffer type of its own, and splits off payloads.
pub struct NtexMqtt;

impl Codec for NtexMqtt {
    fn decode(&self, stream: &[u8], meter: &mut Meter) {
        let mut received = BytesMut::from(stream);
        let codec = Ntex::new();
        meter.measure(|| {
            let mut packets = 0;
            while let Ok(Some(packet)) = &codec.decode(&mut received) {
                packets += usize::from(!matches!(packet, Decoded::PayloadChunk(..)));
                black_box(packet);
            }
            packets
        });
    }

    fn decode_chunks(&self, stream: &[u8], chunk: usize, meter: &mut Meter) {
        let mut received = BytesMut::with_capacity(4 * 1024 * 1024);
        let codec = Ntex::new();
        // Whole payloads, as the others give them.
        codec.set_min_chunk_size(u32::MAX);
        meter.measure(|| {
            let mut packets = 0;
            for chunk in chunks(stream, chunk) {
                received.extend_from_slice(chunk);
                while let Ok(Some(packet)) = &codec.decode(&mut received) {
                    packets += usize::from(!matches!(packet, Decoded::PayloadChunk(..)));
                    black_box(packet);
                }
            }
            packets
        });
    }

    fn encode(&self, stream: &[u8], meter: &mut Meter) {
        let mut received = BytesMut::from(stream);
        let codec = Ntex::new();
        let mut packets = Vec::new();
        while let Some(packet) = codec.decode(&mut received).unwrap() {
            packets.push(match packet {
                Decoded::Packet(packet, _) => Encoded::Packet(packet),
                Decoded::Publish(publish, payload, _) => Encoded::Publish(publish, Some(payload)),
                Decoded::PayloadChunk(chunk, _) => Encoded::PayloadChunk(chunk),
            });
        }
        let codec = Ntex::new();
        let mut out = BytePages::default();
        let count = packets.len();
        meter.measure(|| {
            for packet in packets {
                codec.encodev(packet, &mut out).unwrap();
            }
            count
        });
        black_box(&out);
    }

    fn decode_one(&self, bytes: &[u8]) -> Verdict {
        Verdict::of(Ntex::new().decode(&mut BytesMut::from(bytes)))
    }
}
