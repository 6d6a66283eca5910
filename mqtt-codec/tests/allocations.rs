//! What is allocated: nothing by decoding and by encoding into a slice, one buffer for an owned
//! packet.

use std::hint::black_box;

use bytes::BytesMut;
use mqtt_codec::{
    Ack, ConnAck, Connect, ConnectFields, ConnectReturnCode, Decoder, Delivery, MAX_PACKET, Packet,
    PacketBuf, PacketId, Publish, PublishBuf, QoS, SubAck, Subscribe, SubscribeReturnCode, Text,
    TopicFilter, TopicName, Unsubscribe, Will, decode,
};

/// Runs `test` with one packet of each of the 14 types.
fn for_each_type(mut test: impl FnMut(Packet<'_>)) {
    let id = PacketId::MAX;
    let topic = TopicName::new("sensors/kitchen/temperature").unwrap();
    let filter = TopicFilter::new("sensors/+/temp\u{e9}rature/#").unwrap();
    let text = Text::new("na\u{ef}ve text").unwrap();
    let will = Will { topic, message: &[0xFF; 100], qos: QoS::ExactlyOnce, retain: true };
    let fields = ConnectFields {
        keep_alive: 60,
        will: Some(will),
        user_name: Some(text),
        password: Some(b"\0\xFF"),
        ..ConnectFields::new(text)
    };
    let filters = [(filter, QoS::AtLeastOnce); 10];
    let unsubscribed = [filter; 10];
    let codes = [SubscribeReturnCode::Failure; 10];
    let delivery = Delivery::AtLeastOnce { id, dup: true };
    test(Connect::new(&fields).unwrap().into());
    test(ConnAck { session_present: true, code: ConnectReturnCode::Accepted }.into());
    test(Publish { topic, payload: &[7; 256], delivery, retain: true }.into());
    for ack in
        [Ack::PubAck(id), Ack::PubRec(id), Ack::PubRel(id), Ack::PubComp(id), Ack::UnsubAck(id)]
    {
        test(ack.into());
    }
    test(Subscribe::new(id, &filters).unwrap().into());
    test(SubAck::new(id, &codes).unwrap().into());
    test(Unsubscribe::new(id, &unsubscribed).unwrap().into());
    test(Packet::PingReq);
    test(Packet::PingResp);
    test(Packet::Disconnect);
}

/// Looks at every part of a packet.
fn read_all(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            black_box(connect.fields());
        }
        Packet::Subscribe(subscribe) => subscribe.filters().for_each(|filter| {
            black_box(filter);
        }),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters().for_each(|filter| {
            black_box(filter);
        }),
        Packet::SubAck(suback) => suback.codes().for_each(|code| {
            black_box(code);
        }),
        other => {
            black_box(other);
        }
    }
}

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn decoding_and_encoding_into_a_slice_allocate_nothing() {
    let mut types = 0;
    for_each_type(|packet| {
        let mut frame = vec![0; packet.encoded_len()];
        let encoding = allocations(|| {
            packet.encode_to_slice(&mut frame).unwrap();
        });
        assert_eq!(encoding, 0, "encoding {packet:?}");
        let decoding = allocations(|| {
            let (packet, _) = decode(&frame, MAX_PACKET).unwrap().unwrap();
            read_all(&packet);
        });
        assert_eq!(decoding, 0, "decoding {packet:?}");
        let in_steps = allocations(|| {
            let mut decoder = Decoder::new(MAX_PACKET);
            for end in 0..frame.len() {
                assert_eq!(decoder.next(&frame[..end]), Ok(None));
            }
            read_all(&decoder.next(&frame).unwrap().unwrap().0);
        });
        assert_eq!(in_steps, 0, "decoding {packet:?} byte by byte");
        types += 1;
    });
    assert_eq!(types, 14);
}

#[test]
fn refusing_allocates_nothing() {
    let bad: [&[u8]; 4] = [b"\xF0\0", b"\x30\x03\0\x01#", b"\x10\x06\0\x04MQTT", b"\x82\x02\0\x01"];
    for bytes in bad {
        assert_eq!(allocations(|| assert!(black_box(decode(bytes, MAX_PACKET)).is_err())), 0);
    }
}

#[test]
fn encoding_into_a_buffer_with_room_allocates_nothing() {
    for_each_type(|packet| {
        let mut out = Vec::with_capacity(packet.encoded_len());
        assert_eq!(allocations(|| packet.encode(&mut out)), 0, "{packet:?}");
        let mut out = BytesMut::with_capacity(packet.encoded_len());
        assert_eq!(allocations(|| packet.encode(&mut out)), 0, "{packet:?}");
    });
}

#[test]
fn an_owned_packet_is_one_buffer_and_a_short_one_none() {
    for_each_type(|packet| {
        let buffers = u64::from(packet.encoded_len() > 4);
        let count = allocations(|| {
            black_box(PacketBuf::new(&packet).unwrap());
        });
        assert_eq!(count, buffers, "{packet:?}");
        let owned = PacketBuf::new(&packet).unwrap();
        assert_eq!(allocations(|| read_all(&owned.packet())), 0);
    });
}

#[test]
fn an_owned_packet_that_is_taken_out_of_a_buffer_shares_it() {
    for_each_type(|packet| {
        let mut received = BytesMut::new();
        packet.encode(&mut received);
        packet.encode(&mut received);
        packet.encode(&mut received);
        // The first one makes the buffer a shared one: one allocation a buffer.
        let first = PacketBuf::decode(&mut received, MAX_PACKET).unwrap();
        let count = allocations(|| {
            black_box(PacketBuf::decode(&mut received, MAX_PACKET).unwrap().unwrap());
        });
        assert_eq!(count, 0, "{packet:?}");
        drop(first);
    });
}

#[test]
fn an_owned_publish_is_one_buffer_and_sending_it_takes_none() {
    let topic = TopicName::new("a/b").unwrap();
    let mut kept = None;
    let count = allocations(|| {
        kept = PublishBuf::from_parts(topic, &[0; 1000], QoS::AtLeastOnce, false).ok();
    });
    assert_eq!(count, 1);
    let message = kept.unwrap();
    // The first clone makes the buffer a shared one.
    let first = message.clone();
    let mut out = Vec::with_capacity(2000);
    let count = allocations(|| {
        let shared = black_box(message.clone());
        black_box(shared.payload_bytes());
        shared.encode(Delivery::AtLeastOnce { id: PacketId::MAX, dup: false }, false, &mut out);
        shared.encode_head(Delivery::AtMostOnce, false, &mut out);
    });
    assert_eq!(count, 0);
    drop(first);
}
