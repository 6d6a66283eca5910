//! Each of the 14 packet types from fields to bytes and back, in every form.

use bytes::BytesMut;
use mqtt_codec::{
    Connect, ConnectFields, ConnectReturnCode, Delivery, MAX_PACKET, Packet, PacketBuf, PacketId,
    Protocol, Publish, PublishBuf, QoS, SubAck, Subscribe, SubscribeReturnCode, Text, TopicFilter,
    TopicName, Unsubscribe, Will, decode,
};

const ID: PacketId = PacketId::new(0x1234).unwrap();

/// Encodes in all ways, compares with the expected bytes, decodes in all ways.
fn round_trip(packet: Packet<'_>, expected: &[u8]) {
    let mut slice = vec![0xEE; expected.len() + 1];
    assert_eq!(packet.encode_to_slice(&mut slice), Ok(expected.len()));
    assert_eq!(slice.pop(), Some(0xEE), "written past the end");
    assert_eq!(slice, expected);
    assert_eq!(packet.encoded_len(), expected.len());
    let short = &mut slice[1..];
    assert_eq!(packet.encode_to_slice(short).unwrap_err().needed, expected.len());
    assert_eq!(short, &expected[1..], "written in spite of the error");

    let mut vec = b"before".to_vec();
    packet.encode(&mut vec);
    assert_eq!(vec.strip_prefix(b"before"), Some(expected));

    assert_eq!(decode(expected, MAX_PACKET), Ok(Some((packet, expected.len()))));
    for end in 0..expected.len() {
        assert_eq!(decode(&expected[..end], MAX_PACKET), Ok(None), "{end}");
    }
    let (again, _) = decode(expected, MAX_PACKET).unwrap().unwrap();
    assert_eq!(again.packet_type() as u8, expected[0] >> 4);
    let mut slice = vec![0; expected.len()];
    again.encode_to_slice(&mut slice).unwrap();
    assert_eq!(slice, expected, "the wire form encodes differently");

    let owned = PacketBuf::new(&packet).unwrap();
    assert_eq!((owned.packet(), owned.as_bytes()), (packet, expected));
    let mut received = BytesMut::from(expected);
    received.extend_from_slice(b"\xC0");
    let owned = PacketBuf::decode(&mut received, MAX_PACKET).unwrap().unwrap();
    assert_eq!((owned.packet(), owned.as_bytes()), (packet, expected));
    assert_eq!(received, &b"\xC0"[..]);
}

// MQTT-3.1.3-1
#[test]
fn connect_has_its_fields_in_the_order_of_the_standard() {
    let plain = ConnectFields::new(Text::new("id").unwrap());
    let fields = ConnectFields {
        clean_session: false,
        keep_alive: 0x0102,
        will: Some(Will {
            topic: TopicName::new("w/t").unwrap(),
            message: b"\0\xFF",
            qos: QoS::ExactlyOnce,
            retain: true,
        }),
        user_name: Some(Text::new("ann").unwrap()),
        password: Some(b"\0\xFE"),
        ..plain
    };
    let connect = Connect::new(&fields).unwrap();
    round_trip(
        connect.into(),
        b"\x10\x20\0\x04MQTT\x04\xF4\x01\x02\0\x02id\0\x03w/t\0\x02\0\xFF\0\x03ann\0\x02\0\xFE",
    );
    let old = ConnectFields { protocol: Protocol::V310, ..plain };
    round_trip(Connect::new(&old).unwrap().into(), b"\x10\x10\0\x06MQIsdp\x03\x02\0\0\0\x02id");
}

#[test]
fn publish_has_a_packet_id_above_qos_0_only() {
    let topic = TopicName::new("a/b").unwrap();
    for (delivery, retain, expected) in [
        (Delivery::AtMostOnce, false, &b"\x30\x07\0\x03a/bhi"[..]),
        (Delivery::AtMostOnce, true, b"\x31\x07\0\x03a/bhi"),
        (Delivery::AtLeastOnce { id: ID, dup: false }, false, b"\x32\x09\0\x03a/b\x12\x34hi"),
        (Delivery::AtLeastOnce { id: ID, dup: true }, true, b"\x3B\x09\0\x03a/b\x12\x34hi"),
        (Delivery::ExactlyOnce { id: ID, dup: false }, true, b"\x35\x09\0\x03a/b\x12\x34hi"),
        (Delivery::ExactlyOnce { id: ID, dup: true }, false, b"\x3C\x09\0\x03a/b\x12\x34hi"),
    ] {
        let publish = Publish { topic, payload: b"hi", delivery, retain };
        round_trip(publish.into(), expected);
        let mut head = Vec::new();
        publish.encode_head(&mut head);
        assert_eq!(head, expected[..expected.len() - 2]);
        assert_eq!(head.len(), publish.head_len());
        let mut slice = [0; 16];
        assert_eq!(publish.encode_head_to_slice(&mut slice), Ok(head.len()));
        assert_eq!(slice[..head.len()], head);
    }
}

#[test]
fn the_remaining_length_grows_with_the_payload() {
    for len in [0, 1, 122, 123, 16_378, 16_379, 2_097_146, 2_097_147] {
        let publish = Publish {
            topic: TopicName::new("a/b").unwrap(),
            payload: &vec![7; len],
            delivery: Delivery::AtMostOnce,
            retain: false,
        };
        let mut frame = Vec::new();
        publish.encode(&mut frame);
        assert_eq!(frame.len(), publish.encoded_len());
        assert_eq!(decode(&frame, MAX_PACKET), Ok(Some((publish.into(), frame.len()))), "{len}");
    }
}

#[test]
fn the_short_packets_are_two_or_four_bytes() {
    round_trip(Packet::PubAck(ID), b"\x40\x02\x12\x34");
    round_trip(Packet::PubRec(ID), b"\x50\x02\x12\x34");
    round_trip(Packet::PubRel(ID), b"\x62\x02\x12\x34");
    round_trip(Packet::PubComp(ID), b"\x70\x02\x12\x34");
    round_trip(Packet::UnsubAck(ID), b"\xB0\x02\x12\x34");
    round_trip(Packet::PingReq, b"\xC0\0");
    round_trip(Packet::PingResp, b"\xD0\0");
    round_trip(Packet::Disconnect, b"\xE0\0");
}

#[test]
fn connack_says_accepted_or_why_not() {
    use mqtt_codec::ConnAck;
    let accepted = ConnectReturnCode::Accepted;
    round_trip(ConnAck { session_present: true, code: accepted }.into(), b"\x20\x02\x01\0");
    for code in 0..=5 {
        let code = ConnectReturnCode::try_from(code).unwrap();
        round_trip(ConnAck { session_present: false, code }.into(), &[0x20, 2, 0, code as u8]);
    }
}

#[test]
fn the_lists_keep_their_order() {
    let filter = |text| TopicFilter::new(text).unwrap();
    let filters = [(filter("a/#"), QoS::ExactlyOnce), (filter("+"), QoS::AtMostOnce)];
    let subscribe = Subscribe::new(ID, &filters).unwrap();
    round_trip(subscribe.into(), b"\x82\x0C\x12\x34\0\x03a/#\x02\0\x01+\0");
    assert_eq!(subscribe.filters().len(), 2);
    let filters = [filter("a/#"), filter("+")];
    let unsubscribe = Unsubscribe::new(ID, &filters).unwrap();
    round_trip(unsubscribe.into(), b"\xA2\x0A\x12\x34\0\x03a/#\0\x01+");
    let codes = [
        SubscribeReturnCode::Granted(QoS::AtMostOnce),
        SubscribeReturnCode::Granted(QoS::AtLeastOnce),
        SubscribeReturnCode::Granted(QoS::ExactlyOnce),
        SubscribeReturnCode::Failure,
    ];
    round_trip(SubAck::new(ID, &codes).unwrap().into(), b"\x90\x06\x12\x34\0\x01\x02\x80");
}

#[test]
fn an_empty_list_is_no_packet() {
    assert!(Subscribe::new(ID, &[]).is_err());
    assert!(Unsubscribe::new(ID, &[]).is_err());
    assert!(SubAck::new(ID, &[]).is_err());
}

#[test]
fn a_kept_message_goes_out_with_any_id_qos_and_flags() {
    let topic = TopicName::new("a/b").unwrap();
    let deliveries = [
        Delivery::AtMostOnce,
        Delivery::AtLeastOnce { id: ID, dup: false },
        Delivery::ExactlyOnce { id: PacketId::MAX, dup: true },
    ];
    for payload in [&b""[..], b"hi", &[0; 200]] {
        for kept in deliveries {
            let message =
                PublishBuf::new(&Publish { topic, payload, delivery: kept, retain: true }).unwrap();
            assert_eq!((message.topic(), message.payload()), (topic, payload));
            assert_eq!((message.qos(), message.retain()), (kept.qos(), true));
            assert_eq!(message.payload_bytes(), payload);
            for delivery in deliveries {
                let expected = Publish { topic, payload, delivery, retain: false };
                let mut out = Vec::new();
                message.encode(delivery, false, &mut out);
                assert_eq!(decode(&out, MAX_PACKET), Ok(Some((expected.into(), out.len()))));
                assert_eq!(message.encoded_len(delivery.qos()), out.len());
                let mut slice = vec![0xEE; out.len() + 1];
                assert_eq!(message.encode_to_slice(delivery, false, &mut slice), Ok(out.len()));
                assert_eq!(slice.pop(), Some(0xEE));
                assert_eq!(slice, out);
                let short = &mut slice[1..];
                let error = message.encode_to_slice(delivery, false, short).unwrap_err();
                assert_eq!(error.needed, out.len());
                let mut head = Vec::new();
                message.encode_head(delivery, false, &mut head);
                assert_eq!([&head, payload].concat(), out);
            }
        }
    }
    assert_eq!(size_of::<PublishBuf>(), 40);
}
