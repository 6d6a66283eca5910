//! What the standard calls malformed is refused, with the rule; what it allows is accepted.

use bytes::BytesMut;
use mqtt_codec::{
    ConnectReturnCode, DecodeError, Decoder, Delivery, MAX_PACKET, Packet, PacketBuf, Text,
    TextError, TopicError, TopicFilter, TopicName, decode,
};

#[path = "packets/packets.rs"]
mod packets;

use packets::{field, frame, legal, malformed};

// MQTT-2.2.2-2, MQTT-2.3.1-1, MQTT-3.1.2-1, MQTT-3.1.2-3, MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-13,
// MQTT-3.1.2-14, MQTT-3.1.2-15, MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.2-20, MQTT-3.1.2-21,
// MQTT-3.1.2-22, MQTT-3.1.3-3, MQTT-3.1.3-4, MQTT-3.1.3-10, MQTT-3.1.3-11, MQTT-3.2.2-4,
// MQTT-3.3.1-2, MQTT-3.3.1-4, MQTT-3.3.2-1, MQTT-3.3.2-2, MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.8.3-1,
// MQTT-3.8.3-3, MQTT-3.8.3-4, MQTT-3.9.3-2, MQTT-3.10.1-1, MQTT-3.10.3-1, MQTT-3.10.3-2,
// MQTT-3.14.1-1, MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1, MQTT-1.5.3-1, MQTT-1.5.3-2
#[test]
fn each_malformed_packet_is_refused_with_its_rule() {
    let table = malformed();
    assert!(table.len() >= 67, "{} rows", table.len());
    for row in &table {
        let name = &row.name;
        assert_eq!(decode(&row.bytes, MAX_PACKET), Err(row.error), "{name}");
        assert_eq!(row.error.statement(), row.statement, "{name}");
        // What follows in the buffer is not taken for the missing part.
        let followed = [&row.bytes, &b"\xC0\0".repeat(40)[..]].concat();
        assert_eq!(decode(&followed, MAX_PACKET), Err(row.error), "{name}, followed");
        let mut received = BytesMut::from(&followed[..]);
        assert_eq!(PacketBuf::decode(&mut received, MAX_PACKET), Err(row.error), "{name}, owned");
        assert_eq!(received, followed);
    }
}

#[test]
fn each_malformed_packet_is_refused_the_same_byte_by_byte() {
    for row in &malformed() {
        let mut decoder = Decoder::new(MAX_PACKET);
        let error = (0..=row.bytes.len()).find_map(|end| match decoder.next(&row.bytes[..end]) {
            Ok(None) => None,
            Ok(Some(packet)) => panic!("{}: {packet:?}", row.name),
            Err(error) => Some(error),
        });
        assert_eq!(error, Some(row.error), "{}", row.name);
    }
}

// MQTT-1.5.3-3, MQTT-4.7.3-3
#[test]
fn each_unusual_legal_packet_is_accepted() {
    let table = legal();
    assert!(table.len() >= 15, "{} rows", table.len());
    for row in &table {
        let name = row.name;
        assert!(!row.allowed_by.is_empty());
        let (packet, length) = match decode(&row.bytes, MAX_PACKET) {
            Ok(Some(decoded)) => decoded,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(length, row.bytes.len(), "{name}");
        let mut again = Vec::new();
        packet.encode(&mut again);
        // Only a padded remaining length is not written again as it came.
        if !name.contains("padded") {
            assert_eq!(again, row.bytes, "{name}");
        }
        assert_eq!(decode(&again, MAX_PACKET), Ok(Some((packet, again.len()))), "{name}");
        let mut received = BytesMut::from(&row.bytes[..]);
        let owned = PacketBuf::decode(&mut received, MAX_PACKET).unwrap().unwrap();
        assert_eq!(owned.packet(), packet, "{name}");
        assert_eq!(owned.as_bytes(), row.bytes, "{name}");
    }
}

// MQTT-3.1.2-1
#[test]
fn errors_that_a_server_answers_say_with_what() {
    let mut answered = 0;
    for row in &malformed() {
        let expected = match row.error {
            DecodeError::UnsupportedProtocolLevel(_) => {
                Some(ConnectReturnCode::UnacceptableProtocolVersion)
            }
            DecodeError::EmptyClientId => Some(ConnectReturnCode::IdentifierRejected),
            _ => None,
        };
        assert_eq!(row.error.connack_code(), expected, "{}", row.name);
        answered += usize::from(expected.is_some());
    }
    assert_eq!(answered, 9);
    // A CONNECT with other faults is not answered as if it only lacked an id.
    let bytes = frame(0x10, &[b"\0\x04MQTT\x04\0\0\0\0\0", b"surplus"]);
    assert_eq!(decode(&bytes, MAX_PACKET), Err(DecodeError::TrailingBytes));
}

// MQTT-2.3.1-5
#[test]
fn at_qos_0_the_bytes_after_the_topic_are_payload() {
    let bytes = frame(0x30, &[b"\0\x03a/b", b"\x12\x34"]);
    match decode(&bytes, MAX_PACKET) {
        Ok(Some((Packet::Publish(publish), _))) => {
            assert_eq!(publish.packet_id(), None);
            assert_eq!(publish.payload, b"\x12\x34");
        }
        other => panic!("{other:?}"),
    }
}

// MQTT-3.3.1-2, MQTT-4.3.1-1
#[test]
fn no_publish_with_qos_0_can_be_encoded_with_dup_or_a_packet_id() {
    let publish = mqtt_codec::Publish {
        topic: TopicName::new("t").unwrap(),
        payload: b"",
        delivery: Delivery::AtMostOnce,
        retain: true,
    };
    let mut frame = Vec::new();
    publish.encode(&mut frame);
    assert_eq!(frame, b"\x31\x03\0\x01t");
}

// MQTT-3.2.2-4
#[test]
fn a_refusing_connack_is_never_sent_with_session_present() {
    let code = ConnectReturnCode::NotAuthorized;
    let connack = mqtt_codec::ConnAck { session_present: true, code };
    assert_eq!(connack.to_bytes(), [0x20, 2, 0, 5]);
}

// MQTT-4.7.3-2, MQTT-4.7.3-3, MQTT-4.7.1-1
#[test]
fn text_that_no_packet_can_carry_is_refused_before_it_is_sent() {
    let long = "x".repeat(65_536);
    assert_eq!(Text::new(&long), Err(TextError::TooLong));
    assert_eq!(TopicName::new(&long), Err(TextError::TooLong.into()));
    assert_eq!(TopicFilter::new(&long), Err(TextError::TooLong.into()));
    assert!(TopicName::new(&long[1..]).is_ok());
    assert_eq!(TopicName::new("a\0"), Err(TextError::NulCharacter.into()));
    assert_eq!(TopicFilter::new("a\0/#"), Err(TextError::NulCharacter.into()));
    assert_eq!(TopicName::new("a/#"), Err(TopicError::WildcardInTopicName));
    assert_eq!(TopicName::new(""), Err(TopicError::Empty));
    assert_eq!(Text::try_from(&b"\xFF"[..]), Err(TextError::InvalidUtf8));
}

#[test]
fn the_limit_is_enforced_from_the_fixed_header_alone() {
    let header = b"\x30\xFF\xFF\xFF\x7F";
    let error = DecodeError::TooLarge { len: 268_435_460, max: 1000 };
    assert_eq!(decode(header, 1000), Err(error));
    assert_eq!(error.statement(), "");
    assert_eq!(decode(header, MAX_PACKET), Ok(None));
    let whole = frame(0x30, &[&field(b"t"), b"payload"]);
    assert!(decode(&whole, whole.len()).unwrap().is_some());
    assert!(decode(&whole, whole.len() - 1).is_err());
}
