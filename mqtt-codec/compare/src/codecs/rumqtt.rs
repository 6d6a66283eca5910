//! Two codecs of one family: the crate of its own, and the one inside the client.

use std::hint::black_box;

use bytes::BytesMut;

use super::{Codec, Verdict, buffer, chunks};
use crate::meter::Meter;

const MAX: usize = 268_435_460;

pub struct Mqttbytes;

pub struct Rumqttc;

macro_rules! codec {
    ($codec:ident, $read:path, $error:ident, $write:expr) => {
        impl Codec for $codec {
            fn decode(&self, stream: &[u8], meter: &mut Meter) {
                let mut received = BytesMut::from(stream);
                meter.measure(|| {
                    let mut packets = 0;
                    while let Ok(packet) = &$read(&mut received, MAX) {
                        black_box(packet);
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
                        while let Ok(packet) = &$read(&mut received, MAX) {
                            black_box(packet);
                            packets += 1;
                        }
                    }
                    packets
                });
            }

            fn encode(&self, stream: &[u8], meter: &mut Meter) {
                let mut received = BytesMut::from(stream);
                let mut packets = Vec::new();
                while !received.is_empty() {
                    packets.push($read(&mut received, MAX).unwrap());
                }
                let mut out = BytesMut::with_capacity(stream.len());
                meter.measure(|| {
                    for packet in &packets {
                        $write(packet, &mut out).unwrap();
                    }
                    packets.len()
                });
                black_box(&out);
            }

            fn decode_one(&self, bytes: &[u8]) -> Verdict {
                match $read(&mut BytesMut::from(bytes), MAX) {
                    Ok(_) => Verdict::Accepts,
                    Err($error::Error::InsufficientBytes(_)) => Verdict::Waits,
                    Err(_) => Verdict::Refuses,
                }
            }
        }
    };
}

use rumqttc::mqttbytes as rumqttc_bytes;

codec!(Mqttbytes, mqttbytes::v4::read, mqttbytes, write_mqttbytes);
codec!(Rumqttc, rumqttc::mqttbytes::v4::Packet::read, rumqttc_bytes, write_rumqttc);

fn write_rumqttc(
    packet: &rumqttc::mqttbytes::v4::Packet,
    out: &mut BytesMut,
) -> Result<usize, rumqttc_bytes::Error> {
    packet.write(out, MAX)
}

/// It has no `write` for any packet, so its users write this.
fn write_mqttbytes(
    packet: &mqttbytes::v4::Packet,
    out: &mut BytesMut,
) -> Result<usize, mqttbytes::Error> {
    use mqttbytes::v4::Packet;
    match packet {
        Packet::Connect(packet) => packet.write(out),
        Packet::ConnAck(packet) => packet.write(out),
        Packet::Publish(packet) => packet.write(out),
        Packet::PubAck(packet) => packet.write(out),
        Packet::PubRec(packet) => packet.write(out),
        Packet::PubRel(packet) => packet.write(out),
        Packet::PubComp(packet) => packet.write(out),
        Packet::Subscribe(packet) => packet.write(out),
        Packet::SubAck(packet) => packet.write(out),
        Packet::Unsubscribe(packet) => packet.write(out),
        Packet::UnsubAck(packet) => packet.write(out),
        Packet::PingReq => mqttbytes::v4::PingReq.write(out),
        Packet::PingResp => mqttbytes::v4::PingResp.write(out),
        Packet::Disconnect => mqttbytes::v4::Disconnect.write(out),
    }
}
