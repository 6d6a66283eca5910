#![no_main]
//! Any bytes: no panic, and what decodes encodes to the bytes that it came from.

use std::hint::black_box;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtt_codec::{MAX_PACKET, Packet, PacketBuf, PublishBuf, decode};

#[path = "../../mqtt-codec/tests/model/model.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod model;

fuzz_target!(|bytes: &[u8]| {
    let mut received = BytesMut::from(bytes);
    let mut rest = bytes;
    loop {
        model::check_canonical(rest);
        let borrowed = decode(rest, MAX_PACKET);
        let owned = PacketBuf::decode(&mut received, MAX_PACKET);
        let (packet, length) = match borrowed {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return assert_eq!(owned, Ok(None)),
            Err(error) => {
                assert_eq!(owned, Err(error));
                black_box((error.to_string(), error.statement(), error.connack_code()));
                return;
            }
        };
        let owned = owned.unwrap().unwrap();
        assert_eq!(owned.packet(), packet);
        assert_eq!(owned.as_bytes(), &rest[..length]);
        read_all(&packet);
        rest = &rest[length..];
        assert_eq!(&received[..], rest);
    }
});

/// Looks at every part of a packet, so that what the decoder left unchecked would panic.
fn read_all(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            let fields = connect.fields();
            assert_eq!(connect.client_id(), fields.client_id);
            assert_eq!(connect.will(), fields.will);
            assert_eq!(connect.user_name(), fields.user_name);
            assert_eq!(connect.password(), fields.password);
        }
        Packet::Publish(publish) => {
            let message = PublishBuf::new(publish).unwrap();
            assert_eq!(message.publish(), *publish);
            assert_eq!(
                publish.topic.levels().collect::<Vec<_>>().join(&b'/'),
                publish.topic.as_bytes()
            );
        }
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.filters().len(), subscribe.filters().count());
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters().len(), unsubscribe.filters().count());
        }
        Packet::SubAck(suback) => assert_eq!(suback.codes().len(), suback.codes().count()),
        _ => {}
    }
    black_box(format!("{packet:?}"));
}
