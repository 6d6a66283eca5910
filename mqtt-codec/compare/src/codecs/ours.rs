use std::hint::black_box;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_codec::{
    Connect, ConnectFields, Decoder, MAX_PACKET, Packet, PacketBuf, QoS, Subscribe, TopicFilter,
    decode,
};

use super::{Codec, Verdict, buffer, chunks};
use crate::meter::Meter;

/// Borrowed packets, encoded into a slice.
pub struct Borrowed;

/// One shared buffer a packet, encoded into `BytesMut`.
pub struct Owned;

/// Heads are written, payloads are shared.
pub struct Vectored;

impl Codec for Borrowed {
    fn decode(&self, stream: &[u8], meter: &mut Meter) {
        meter.measure(|| {
            let (mut rest, mut packets) = (stream, 0);
            while let Ok(Some((packet, length))) = &decode(rest, MAX_PACKET) {
                black_box(packet);
                rest = &rest[*length..];
                packets += 1;
            }
            packets
        });
    }

    fn decode_chunks(&self, stream: &[u8], chunk: usize, meter: &mut Meter) {
        let mut received = buffer();
        meter.measure(|| {
            let mut decoder = Decoder::new(MAX_PACKET);
            let mut packets = 0;
            for chunk in chunks(stream, chunk) {
                received.extend_from_slice(chunk);
                while let Ok(Some((packet, length))) = &decoder.next(&received) {
                    black_box(packet);
                    let length = *length;
                    received.advance(length);
                    packets += 1;
                }
            }
            packets
        });
    }

    fn encode(&self, stream: &[u8], meter: &mut Meter) {
        let mut out = vec![0; stream.len()];
        with_packets(stream, |packets| {
            meter.measure(|| {
                let mut rest = &mut out[..];
                for packet in packets {
                    let length = packet.encode_to_slice(rest).unwrap();
                    rest = &mut rest[length..];
                }
                packets.len()
            });
        });
        assert!(out == stream);
    }

    fn decode_one(&self, bytes: &[u8]) -> Verdict {
        Verdict::of(decode(bytes, MAX_PACKET))
    }
}

impl Codec for Owned {
    fn decode(&self, stream: &[u8], meter: &mut Meter) {
        let mut received = BytesMut::from(stream);
        meter.measure(|| {
            let mut packets = 0;
            while let Ok(Some(packet)) = &PacketBuf::decode(&mut received, MAX_PACKET) {
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
                while let Ok(Some(packet)) = &PacketBuf::decode(&mut received, MAX_PACKET) {
                    black_box(packet);
                    packets += 1;
                }
            }
            packets
        });
    }

    fn encode(&self, stream: &[u8], meter: &mut Meter) {
        let mut out = BytesMut::with_capacity(stream.len());
        with_packets(stream, |packets| {
            meter.measure(|| {
                for packet in packets {
                    packet.encode(&mut out);
                }
                packets.len()
            });
        });
        assert!(out == stream);
    }

    fn decode_one(&self, bytes: &[u8]) -> Verdict {
        Verdict::of(PacketBuf::decode(&mut BytesMut::from(bytes), MAX_PACKET))
    }
}

impl Codec for Vectored {
    fn decode(&self, _: &[u8], _: &mut Meter) {
        unimplemented!("only encoding is vectored");
    }

    fn decode_chunks(&self, _: &[u8], _: usize, _: &mut Meter) {
        unimplemented!("only encoding is vectored");
    }

    fn encode(&self, stream: &[u8], meter: &mut Meter) {
        with_packets(stream, |packets| {
            let mut messages = Vec::new();
            for packet in packets {
                if let Packet::Publish(publish) = packet {
                    messages.push((*publish, Bytes::copy_from_slice(publish.payload)));
                }
            }
            let mut payloads: Vec<Bytes> = Vec::new();
            // The second clone of `Bytes` is the cheap one.
            payloads.extend(messages.iter().map(|(_, payload)| payload.clone()));
            payloads.clear();
            let mut heads = vec![0; 64 * messages.len()];
            meter.measure(|| {
                let mut rest = &mut heads[..];
                for (publish, payload) in &messages {
                    let length = publish.encode_head_to_slice(rest).unwrap();
                    rest = &mut rest[length..];
                    payloads.push(payload.clone());
                }
                messages.len()
            });
            black_box((&heads, &payloads));
        });
    }

    fn decode_one(&self, _: &[u8]) -> Verdict {
        unimplemented!("only encoding is vectored");
    }
}

/// The packets of a stream, those with many fields made of fields, as a sender makes them.
fn with_packets(stream: &[u8], run: impl FnOnce(&[Packet<'_>])) {
    let mut decoded = Vec::new();
    let mut rest = stream;
    while let Some((packet, length)) = decode(rest, MAX_PACKET).unwrap() {
        decoded.push(packet);
        rest = &rest[length..];
    }
    let connects: Vec<Option<ConnectFields<'_>>> = decoded
        .iter()
        .map(|packet| match packet {
            Packet::Connect(connect) => Some(connect.fields()),
            _ => None,
        })
        .collect();
    let subscribes: Vec<Vec<(TopicFilter<'_>, QoS)>> = decoded
        .iter()
        .map(|packet| match packet {
            Packet::Subscribe(subscribe) => subscribe.filters().collect(),
            _ => Vec::new(),
        })
        .collect();
    let packets: Vec<Packet<'_>> = decoded
        .iter()
        .zip(connects.iter().zip(&subscribes))
        .map(|(packet, (connect, filters))| match (packet, connect) {
            (Packet::Subscribe(subscribe), _) => {
                Subscribe::new(subscribe.packet_id(), filters).unwrap().into()
            }
            (_, Some(fields)) => Connect::new(fields).unwrap().into(),
            _ => *packet,
        })
        .collect();
    run(&packets);
}
