//! Conversions, comparisons and texts of the types, as code and logs use them.

use std::collections::HashSet;
use std::num::NonZeroU16;

use bytes::Bytes;
use mqtt_codec::{
    Ack, ConnAck, Connect, ConnectFields, ConnectReturnCode, DecodeError, Decoder, Delivery,
    EncodeError, MAX_PACKET, Packet, PacketBuf, PacketId, PacketType, Protocol, Publish,
    PublishBuf, QoS, SubAck, Subscribe, SubscribeReturnCode, Text, TextError, TopicError,
    TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf, Unsubscribe, Will, decode,
};

const ID: PacketId = PacketId::new(9).unwrap();

fn publish() -> Publish<'static> {
    let topic = TopicName::new("a/b").unwrap();
    let delivery = Delivery::ExactlyOnce { id: ID, dup: true };
    Publish { topic, payload: b"hi", delivery, retain: true }
}

#[test]
fn a_packet_knows_its_type_and_its_id() {
    let filter = TopicFilter::new("a/#").unwrap();
    let subscribed = [(filter, QoS::AtLeastOnce)];
    let unsubscribed = [filter];
    let codes = [SubscribeReturnCode::Failure];
    let fields = ConnectFields::new(Text::new("c").unwrap());
    let code = ConnectReturnCode::Accepted;
    let packets = [
        (Connect::new(&fields).unwrap().into(), PacketType::Connect, None),
        (ConnAck { session_present: false, code }.into(), PacketType::ConnAck, None),
        (publish().into(), PacketType::Publish, Some(ID)),
        (Ack::PubAck(ID).into(), PacketType::PubAck, Some(ID)),
        (Ack::PubRec(ID).into(), PacketType::PubRec, Some(ID)),
        (Ack::PubRel(ID).into(), PacketType::PubRel, Some(ID)),
        (Ack::PubComp(ID).into(), PacketType::PubComp, Some(ID)),
        (Subscribe::new(ID, &subscribed).unwrap().into(), PacketType::Subscribe, Some(ID)),
        (SubAck::new(ID, &codes).unwrap().into(), PacketType::SubAck, Some(ID)),
        (Unsubscribe::new(ID, &unsubscribed).unwrap().into(), PacketType::Unsubscribe, Some(ID)),
        (Ack::UnsubAck(ID).into(), PacketType::UnsubAck, Some(ID)),
        (Packet::PingReq, PacketType::PingReq, None),
        (Packet::PingResp, PacketType::PingResp, None),
        (Packet::Disconnect, PacketType::Disconnect, None),
    ];
    for (at, (packet, packet_type, id)) in packets.into_iter().enumerate() {
        assert_eq!((packet.packet_type(), packet.packet_id()), (packet_type, id));
        assert_eq!(packet_type as usize, at + 1);
        let frame = PacketBuf::new(&packet).unwrap();
        assert_eq!(PacketType::from_first_byte(frame.as_bytes()[0]), Some(packet_type));
    }
}

#[test]
fn delivery_holds_what_belongs_together() {
    let once = Delivery::AtLeastOnce { id: ID, dup: false };
    assert_eq!((once.qos(), once.packet_id(), once.is_dup()), (QoS::AtLeastOnce, Some(ID), false));
    let none = Delivery::AtMostOnce;
    assert_eq!((none.qos(), none.packet_id(), none.is_dup()), (QoS::AtMostOnce, None, false));
    assert_eq!((publish().qos(), publish().delivery.is_dup()), (QoS::ExactlyOnce, true));
}

#[test]
fn numbers_convert_both_ways() {
    assert_eq!(u16::from(ID), 9);
    assert_eq!(NonZeroU16::from(ID), NonZeroU16::new(9).unwrap());
    assert_eq!(PacketId::from(NonZeroU16::MAX), PacketId::MAX);
    assert_eq!("9".parse(), Ok(ID));
    assert_eq!(PacketId::try_from(9), Ok(ID));
    assert_eq!(ID.to_string(), "9");
    assert_eq!(PacketId::try_from(0).unwrap_err().to_string(), "not a value of PacketId");
    for number in 0..=255 {
        if let Ok(code) = ConnectReturnCode::try_from(number) {
            assert_eq!(u8::from(code), number);
            assert!(!code.to_string().is_empty());
        }
        if let Ok(code) = SubscribeReturnCode::try_from(number) {
            assert_eq!(u8::from(code), number);
        }
    }
    assert_eq!((Protocol::V310.name(), Protocol::V310.level()), ("MQIsdp", 3));
    assert_eq!((Protocol::default().name(), Protocol::default().level()), ("MQTT", 4));
}

#[test]
fn topics_are_compared_and_shown_as_text() {
    let (name, filter) = (TopicName::new("a/b").unwrap(), TopicFilter::new("a/+").unwrap());
    assert!(name == "a/b" && name == *"a/b" && filter == "a/+" && filter == *"a/+");
    assert_eq!(format!("{name} {name:?} {filter} {filter:?}"), r#"a/b "a/b" a/+ "a/+""#);
    assert_eq!((name.as_str(), name.as_ref()), ("a/b", &b"a/b"[..]));
    assert_eq!((filter.as_text().as_str(), filter.as_ref()), ("a/+", &b"a/+"[..]));
    assert_eq!(TopicName::try_from("a/b"), Ok(name));
    assert_eq!(TopicFilter::try_from("a/+"), Ok(filter));
    assert!(name < TopicName::new("b").unwrap());

    let (name_buf, filter_buf) = (TopicNameBuf::from(name), TopicFilterBuf::from(filter));
    assert!(name_buf == "a/b" && name_buf == *"a/b" && filter_buf == "a/+" && filter_buf == *"a/+");
    assert_eq!(format!("{name_buf} {name_buf:?}"), r#"a/b "a/b""#);
    assert_eq!(format!("{filter_buf} {filter_buf:?}"), r#"a/+ "a/+""#);
    assert_eq!((name_buf.as_str(), name_buf.as_ref()), ("a/b", &b"a/b"[..]));
    assert_eq!((filter_buf.as_bytes(), filter_buf.as_ref()), (&b"a/+"[..], &b"a/+"[..]));
    assert_eq!(TopicName::from(&name_buf), name);
    assert_eq!(TopicFilter::from(&filter_buf), filter);
    assert_eq!("a/b".parse(), Ok(name_buf.clone()));
    assert_eq!(TopicFilterBuf::try_from("a/+"), Ok(filter_buf.clone()));
    assert_eq!(TopicFilterBuf::from(name_buf.clone()), name_buf.to_filter());
    assert!(HashSet::from([filter_buf]).contains(&b"a/+"[..]));

    let text = Text::new("id").unwrap();
    assert!(text == "id" && text == *"id");
    assert_eq!((text.to_string(), text.as_ref()), ("id".to_owned(), &b"id"[..]));
    assert_eq!(Text::try_from("id"), Ok(text));
    assert_eq!(Text::default(), "");
}

#[test]
fn logs_show_packets_as_fields() {
    let filter = TopicFilter::new("a/#").unwrap();
    let filters = [(filter, QoS::AtLeastOnce)];
    let shown = format!("{:?}", Subscribe::new(ID, &filters).unwrap());
    assert!(shown.contains(r#"("a/#", AtLeastOnce)"#), "{shown}");
    let shown = format!("{:?}", Unsubscribe::new(ID, &[filter]).unwrap());
    assert!(shown.contains(r#"["a/#"]"#), "{shown}");
    let shown = format!("{:?}", SubAck::new(ID, &[SubscribeReturnCode::Failure]).unwrap());
    assert!(shown.contains("[Failure]"), "{shown}");
    let owned = PacketBuf::new(&publish().into()).unwrap();
    assert_eq!(format!("{owned:?}"), format!("{:?}", Packet::from(publish())));
    let message = PublishBuf::new(&publish()).unwrap();
    assert_eq!(format!("{message:?}"), format!("{:?}", publish()));
}

#[test]
fn each_error_says_what_is_wrong() {
    for error in [
        DecodeError::TooLarge { len: 11, max: 10 }.to_string(),
        DecodeError::ReservedFlags { packet: PacketType::PubRel, flags: 1 }.to_string(),
        DecodeError::RequestedQos(3).to_string(),
        EncodeError::TooLarge { len: 300_000_000 }.to_string(),
        EncodeError::EmptyList.to_string(),
        TextError::NulCharacter.to_string(),
        TopicError::Text(TextError::TooLong).to_string(),
        TopicError::MultiLevelWildcard.to_string(),
        Packet::PingReq.encode_to_slice(&mut []).unwrap_err().to_string(),
    ] {
        assert!(error.len() > 8 && !error.ends_with('.'), "{error}");
    }
    let error = std::io::Error::from(DecodeError::PublishQos);
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_part_of_a_packet_encodes_alone() {
    fn appended(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }
    let connack = ConnAck { session_present: true, code: ConnectReturnCode::Accepted };
    let frame = appended(|out| connack.encode(out));
    assert_eq!(frame, connack.to_bytes());
    assert_eq!((connack.encoded_len(), frame.len()), (4, 4));
    let mut slice = [0; 4];
    assert_eq!(connack.encode_to_slice(&mut slice), Ok(4));
    assert_eq!(slice, connack.to_bytes());

    let fields = ConnectFields::new(Text::new("c").unwrap());
    let connect = Connect::new(&fields).unwrap();
    let frame = appended(|out| connect.encode(out));
    assert_eq!(frame.len(), connect.encoded_len());
    assert_eq!(decode(&frame, MAX_PACKET), Ok(Some((connect.into(), frame.len()))));

    let codes = [SubscribeReturnCode::Granted(QoS::AtLeastOnce)];
    let suback = SubAck::new(ID, &codes).unwrap();
    assert_eq!(appended(|out| suback.encode(out)), b"\x90\x03\0\x09\x01");
}

#[test]
fn an_owned_packet_shares_its_payload() {
    let owned = PacketBuf::new(&publish().into()).unwrap();
    let payload = owned.payload().unwrap();
    assert_eq!(payload, b"hi"[..]);
    assert_eq!(payload.as_ptr(), owned.as_bytes()[owned.as_bytes().len() - 2..].as_ptr());
    assert_eq!(PacketBuf::new(&Packet::PingReq).unwrap().payload(), None);
    assert_eq!(owned.clone(), owned);
    let mut out = Vec::new();
    owned.encode(&mut out);
    assert_eq!(out, owned.as_bytes());
}

/// Whatever byte of the frame is another one, it is not the message, or one with another payload.
#[test]
fn an_owned_message_is_made_in_its_frame_and_in_no_other() {
    let mut frame = Vec::new();
    publish().encode(&mut frame);
    let shared = Bytes::from(frame.clone());
    let message = PublishBuf::from_frame(shared.clone(), &publish()).unwrap();
    assert_eq!(message.publish(), publish());
    assert!(shared.as_ptr_range().contains(&message.payload().as_ptr()), "it is not a copy");
    assert_eq!(PublishBuf::from_frame(shared.slice(..frame.len() - 1), &publish()), None);
    assert_eq!(PublishBuf::from_frame([&frame[..], b"x"].concat().into(), &publish()), None);
    let head = frame.len() - publish().payload.len();
    for at in 0..frame.len() {
        for flip in 1..=255 {
            let mut other = frame.clone();
            other[at] ^= flip;
            let message = PublishBuf::from_frame(other.into(), &publish());
            assert_eq!(message.is_some(), at >= head, "byte {at} with {flip:#x}");
        }
    }
    // A remaining length in two bytes where one is enough.
    let padded = [&frame[..1], &[frame[1] | 0x80, 0], &frame[2..]].concat();
    assert_eq!(PublishBuf::from_frame(padded.into(), &publish()), None);
}

#[test]
fn two_owned_messages_are_equal_if_their_packets_are() {
    let message = PublishBuf::new(&publish()).unwrap();
    assert_eq!(message, message.clone());
    assert_ne!(message, PublishBuf::new(&Publish { retain: false, ..publish() }).unwrap());
    assert_eq!(message.publish(), publish());
}

/// Each accessor reads its own field: five different values come back in their places.
// MQTT-3.1.3-1, MQTT-3.1.2-9
#[test]
fn connect_gives_back_each_field() {
    let topic = TopicName::new("will/topic").unwrap();
    let will = Will { topic, message: b"will message", qos: QoS::ExactlyOnce, retain: true };
    let fields = ConnectFields {
        protocol: Protocol::V310,
        clean_session: false,
        keep_alive: 513,
        client_id: Text::new("client").unwrap(),
        will: Some(will),
        user_name: Some(Text::new("user").unwrap()),
        password: Some(b"password"),
    };
    let made = Connect::new(&fields).unwrap();
    let mut frame = Vec::new();
    made.encode(&mut frame);
    let Some((Packet::Connect(decoded), _)) = decode(&frame, MAX_PACKET).unwrap() else {
        panic!("no CONNECT");
    };
    for connect in [made, decoded] {
        assert_eq!(connect.fields(), fields);
        assert_eq!((connect.protocol(), connect.keep_alive()), (Protocol::V310, 513));
        assert!(!connect.clean_session());
        assert_eq!(connect.client_id(), "client");
        assert_eq!(connect.will(), Some(will));
        assert_eq!(connect.user_name(), Text::new("user").ok());
        assert_eq!(connect.password(), Some(&b"password"[..]));
    }
}

#[test]
fn a_decoder_of_owned_packets_waits_and_remembers() {
    let mut decoder = Decoder::new(100);
    assert_eq!(decoder.max_packet(), 100);
    let mut received = bytes::BytesMut::from(&b"\x40\x02\0"[..]);
    assert_eq!(PacketBuf::decode_next(&mut decoder, &mut received), Ok(None));
    assert_eq!(decoder.needed(), 4);
    received.extend_from_slice(b"\x09");
    let packet = PacketBuf::decode_next(&mut decoder, &mut received).unwrap().unwrap();
    assert_eq!(packet.packet(), Packet::PubAck(ID));
    assert_eq!(decoder.needed(), 0);
}

/// The one case in which encoding panics: better than a length that breaks the whole stream.
#[test]
#[cfg_attr(miri, ignore = "takes 256 MiB")]
fn a_packet_over_the_longest_is_refused_loudly() {
    let payload = vec![0; MAX_PACKET - 5 - 3];
    let topic = TopicName::new("t").unwrap();
    let delivery = Delivery::AtMostOnce;
    let longest = Publish { topic, payload: &payload, delivery, retain: false };
    assert_eq!(longest.encoded_len(), MAX_PACKET);
    let mut head = [0; 16];
    assert_eq!(longest.encode_head_to_slice(&mut head), Ok(8));
    assert_eq!(&head[..8], b"\x30\xFF\xFF\xFF\x7F\0\x01t");
    // With room for a packet id it would be too long.
    let error = EncodeError::TooLarge { len: MAX_PACKET + 2 };
    assert_eq!(PublishBuf::new(&longest), Err(error));
    let too_long = Publish { delivery: Delivery::AtLeastOnce { id: ID, dup: false }, ..longest };
    assert_eq!(PacketBuf::new(&too_long.into()), Err(error));
    assert!(std::panic::catch_unwind(|| too_long.encode_head_to_slice(&mut [0; 16])).is_err());
}
