//! Packets that the standard calls malformed, each with what is to be said of it.

use mqtt_codec::{DecodeError, PacketType};

use super::{field, frame};

/// One malformed packet.
pub(crate) struct Malformed {
    /// What is wrong.
    pub(crate) name: String,
    /// The bytes of one whole packet.
    pub(crate) bytes: Vec<u8>,
    /// What the decoder says.
    pub(crate) error: DecodeError,
    /// The statement that is broken.
    pub(crate) statement: &'static str,
}

const fn flags(packet: PacketType, flags: u8) -> DecodeError {
    DecodeError::ReservedFlags { packet, flags }
}

const fn length(packet: PacketType, remaining: u32) -> DecodeError {
    DecodeError::FixedLength { packet, remaining }
}

/// Ill-formed UTF-8: what is wrong, and the bytes.
const NOT_UTF8: [(&str, &[u8]); 8] = [
    ("a lone surrogate", b"a\xED\xA0\x80"),
    ("a surrogate pair", b"\xED\xA0\xBD\xED\xB8\x80"),
    ("an overlong U+0000", b"\xC0\x80"),
    ("an overlong slash", b"abcdefgh\xC0\xAF"),
    ("more than U+10FFFF", b"\xF4\x90\x80\x80"),
    ("a stray continuation", b"a\x80b"),
    ("0xFF", b"0123456789\xFF"),
    ("a cut sequence", b"abcdefghijk\xE2\x82"),
];

/// U+0000 at the start, in the middle and at the end.
const NUL: [(&str, &[u8]); 3] = [
    ("U+0000 at the start", b"\0abcdefgh"),
    ("U+0000 in the middle", b"abcde\0fghi"),
    ("U+0000 at the end", b"ab\0"),
];

/// The table.
pub(crate) fn malformed() -> Vec<Malformed> {
    use DecodeError as E;
    use PacketType as T;

    let mut table = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, error, statement| {
        table.push(Malformed { name: name.to_owned(), bytes, error, statement });
    };

    // The fixed header.
    add("packet type 0", frame(0x00, &[]), E::ReservedPacketType(0), "MQTT-4.8.0-1");
    add("packet type 15", frame(0xF0, &[]), E::ReservedPacketType(15), "MQTT-4.8.0-1");
    let endless = b"\x30\xFF\xFF\xFF\xFF\x7F".to_vec();
    add("five bytes of length", endless, E::RemainingLength, "MQTT-4.8.0-1");
    let padded = b"\x30\x85\x80\x80\x80\0\0\x03a/b".to_vec();
    add("five bytes of length, padded", padded, E::RemainingLength, "MQTT-4.8.0-1");
    let id = b"\0\x01";
    let connect = b"\0\x04MQTT\x04\x02\0\x3C\0\x01c";
    let filter = b"\0\x01\0\x01a";
    for (name, first, body, packet, statement) in [
        ("CONNECT with flags", 0x11, &connect[..], T::Connect, "MQTT-2.2.2-2"),
        ("CONNACK with flags", 0x22, b"\0\0", T::ConnAck, "MQTT-2.2.2-2"),
        ("PUBACK with flags", 0x42, id, T::PubAck, "MQTT-2.2.2-2"),
        ("PUBREC with flags", 0x52, id, T::PubRec, "MQTT-2.2.2-2"),
        ("PUBREL without its flag", 0x60, id, T::PubRel, "MQTT-3.6.1-1"),
        ("PUBREL with one flag too many", 0x63, id, T::PubRel, "MQTT-3.6.1-1"),
        ("PUBREL with the DUP of MQTT 3.1", 0x6A, id, T::PubRel, "MQTT-3.6.1-1"),
        ("PUBCOMP with flags", 0x72, id, T::PubComp, "MQTT-2.2.2-2"),
        ("SUBSCRIBE without its flag", 0x80, b"\0\x01\0\x01a\0", T::Subscribe, "MQTT-3.8.1-1"),
        ("SUBSCRIBE with two flags", 0x83, b"\0\x01\0\x01a\0", T::Subscribe, "MQTT-3.8.1-1"),
        ("SUBACK with flags", 0x92, b"\0\x01\0", T::SubAck, "MQTT-2.2.2-2"),
        ("UNSUBSCRIBE without its flag", 0xA0, filter, T::Unsubscribe, "MQTT-3.10.1-1"),
        ("UNSUBSCRIBE with two flags", 0xA3, filter, T::Unsubscribe, "MQTT-3.10.1-1"),
        ("UNSUBACK with flags", 0xB2, id, T::UnsubAck, "MQTT-2.2.2-2"),
        ("PINGREQ with flags", 0xC1, b"", T::PingReq, "MQTT-2.2.2-2"),
        ("PINGRESP with flags", 0xD8, b"", T::PingResp, "MQTT-2.2.2-2"),
        ("DISCONNECT with flags", 0xE1, b"", T::Disconnect, "MQTT-3.14.1-1"),
    ] {
        add(name, frame(first, &[body]), flags(packet, first & 0x0F), statement);
    }

    // Packets of fixed length, and the packet id.
    for (name, first, body, packet) in [
        ("CONNACK of 1 byte", 0x20, &b"\0"[..], T::ConnAck),
        ("CONNACK of 3 bytes", 0x20, b"\0\0\0", T::ConnAck),
        ("PUBACK without id", 0x40, b"", T::PubAck),
        ("PUBACK with half an id", 0x40, b"\x01", T::PubAck),
        ("PUBACK of 3 bytes", 0x40, b"\0\x01\0", T::PubAck),
        ("PUBREC of 3 bytes", 0x50, b"\0\x01\0", T::PubRec),
        ("PUBREL with half an id", 0x62, b"\x01", T::PubRel),
        ("PUBCOMP of 4 bytes", 0x70, b"\0\x01\0\x02", T::PubComp),
        ("UNSUBACK with codes, as in MQTT 5", 0xB0, b"\0\x01\0\0", T::UnsubAck),
        ("PINGREQ with a body", 0xC0, b"\0", T::PingReq),
        ("PINGRESP with a body", 0xD0, b"\0", T::PingResp),
        ("DISCONNECT with a code, as in MQTT 5", 0xE0, b"\0", T::Disconnect),
    ] {
        add(name, frame(first, &[body]), length(packet, body.len() as u32), "MQTT-4.8.0-1");
    }
    for (name, first, body) in [
        ("PUBLISH QoS 1 with id 0", 0x32, &b"\0\x01a\0\0x"[..]),
        ("PUBLISH QoS 2 with id 0", 0x34, b"\0\x01a\0\0x"),
        ("PUBACK with id 0", 0x40, b"\0\0"),
        ("PUBREC with id 0", 0x50, b"\0\0"),
        ("PUBREL with id 0", 0x62, b"\0\0"),
        ("PUBCOMP with id 0", 0x70, b"\0\0"),
        ("SUBSCRIBE with id 0", 0x82, b"\0\0\0\x01a\0"),
        ("SUBACK with id 0", 0x90, b"\0\0\0"),
        ("UNSUBSCRIBE with id 0", 0xA2, b"\0\0\0\x01a"),
        ("UNSUBACK with id 0", 0xB0, b"\0\0"),
    ] {
        add(name, frame(first, &[body]), E::ZeroPacketId, "MQTT-2.3.1-1");
    }

    // CONNACK.
    for (name, flag) in [("CONNACK with flag 0x02", 0x02), ("CONNACK with flag 0x80", 0x81)] {
        add(name, frame(0x20, &[&[flag, 0]]), E::ConnAckFlags(flag), "MQTT-4.8.0-1");
    }
    for (name, code) in [("CONNACK with code 6", 6), ("CONNACK with code 255", 255)] {
        add(name, frame(0x20, &[&[0, code]]), E::ConnectReturnCode(code), "MQTT-4.8.0-1");
    }
    let refused = frame(0x20, &[b"\x01\x05"]);
    add("CONNACK that refuses a session", refused, E::SessionPresentRefused, "MQTT-3.2.2-4");

    // PUBLISH.
    let rest = b"\0\x0Btopic/level\0\x01payload";
    for (name, first, error, statement) in [
        ("PUBLISH with QoS 3", 0x36, E::PublishQos, "MQTT-3.3.1-4"),
        ("PUBLISH with QoS 3, DUP and RETAIN", 0x3F, E::PublishQos, "MQTT-3.3.1-4"),
        ("PUBLISH with QoS 0 and DUP", 0x38, E::DupAtMostOnce, "MQTT-3.3.1-2"),
        ("PUBLISH with QoS 0, DUP and RETAIN", 0x39, E::DupAtMostOnce, "MQTT-3.3.1-2"),
    ] {
        add(name, frame(first, &[rest]), error, statement);
    }
    for (name, first, body) in [
        ("PUBLISH without a topic", 0x30, &b""[..]),
        ("PUBLISH with half a topic length", 0x30, b"\0"),
        ("PUBLISH with a topic longer than it", 0x30, b"\0\x05a/b"),
        ("PUBLISH with a topic of 65,535 bytes, cut", 0x30, b"\xFF\xFFabc"),
        ("PUBLISH QoS 1 without id", 0x32, b"\0\x03a/b"),
        ("PUBLISH QoS 2 with half an id", 0x34, b"\0\x03a/b\x01"),
    ] {
        add(name, frame(first, &[body]), E::Truncated, "MQTT-4.8.0-1");
    }
    let empty = frame(0x30, &[b"\0\0payload"]);
    add("PUBLISH with an empty topic", empty, E::EmptyTopic, "MQTT-4.7.3-1");
    for (name, topic) in [
        ("PUBLISH to +", &b"+"[..]),
        ("PUBLISH to a/+/b", b"a/+/b"),
        ("PUBLISH to a/#", b"a/#"),
        ("PUBLISH to a long topic with #", b"abcdefgh/ijklmn/#"),
        ("PUBLISH to a topic with # inside a level", b"\xC3\xA9t#"),
    ] {
        let bytes = frame(0x30, &[&field(topic), b"payload"]);
        add(name, bytes, E::WildcardInTopicName, "MQTT-3.3.2-2");
    }

    // Filters.
    for (name, first, body, error, statement) in [
        ("SUBSCRIBE with nothing", 0x82, &b""[..], E::Truncated, "MQTT-4.8.0-1"),
        ("SUBSCRIBE with an id only", 0x82, id, E::NothingToSubscribe, "MQTT-3.8.3-3"),
        ("SUBSCRIBE without QoS", 0x82, filter, E::Truncated, "MQTT-4.8.0-1"),
        ("SUBSCRIBE with a cut filter", 0x82, b"\0\x01\0\x05a/b", E::Truncated, "MQTT-4.8.0-1"),
        (
            "SUBSCRIBE with a byte too many",
            0x82,
            b"\0\x01\0\x01a\0\0",
            E::Truncated,
            "MQTT-4.8.0-1",
        ),
        ("SUBSCRIBE to nothing", 0x82, b"\0\x01\0\0\0", E::EmptyTopic, "MQTT-4.7.3-1"),
        (
            "SUBSCRIBE with a bad second filter",
            0x82,
            b"\0\x01\0\x01a\0\0\x02b#\0",
            E::MultiLevelWildcard,
            "MQTT-4.7.1-2",
        ),
        ("UNSUBSCRIBE with nothing", 0xA2, b"", E::Truncated, "MQTT-4.8.0-1"),
        ("UNSUBSCRIBE with an id only", 0xA2, id, E::NothingToUnsubscribe, "MQTT-3.10.3-2"),
        ("UNSUBSCRIBE with a cut filter", 0xA2, b"\0\x01\0\x03a", E::Truncated, "MQTT-4.8.0-1"),
        (
            "UNSUBSCRIBE with a byte too many",
            0xA2,
            b"\0\x01\0\x01a\0",
            E::Truncated,
            "MQTT-4.8.0-1",
        ),
        ("UNSUBSCRIBE from nothing", 0xA2, b"\0\x01\0\0", E::EmptyTopic, "MQTT-4.7.3-1"),
        ("SUBACK with nothing", 0x90, b"", E::Truncated, "MQTT-4.8.0-1"),
        ("SUBACK with an id only", 0x90, id, E::NothingGranted, "MQTT-3.9.3-1"),
    ] {
        add(name, frame(first, &[body]), error, statement);
    }
    for (name, qos) in [
        ("SUBSCRIBE with QoS 3", 0x03),
        ("SUBSCRIBE with QoS 4", 0x04),
        ("SUBSCRIBE with QoS byte 0x40", 0x40),
        ("SUBSCRIBE with QoS byte 0x80", 0x80),
        ("SUBSCRIBE with QoS byte 0xFF", 0xFF),
    ] {
        add(name, frame(0x82, &[filter, &[qos]]), E::RequestedQos(qos), "MQTT-3.8.3-4");
    }
    for (name, code) in [
        ("SUBACK with code 3", 0x03),
        ("SUBACK with code 0x7F", 0x7F),
        ("SUBACK with code 0x81", 0x81),
    ] {
        let bytes = frame(0x90, &[b"\0\x01\x02", &[code]]);
        add(name, bytes, E::SubscribeReturnCode(code), "MQTT-3.9.3-2");
    }
    for (subscribe, unsubscribe, text, error, statement) in [
        ("SUBSCRIBE to a#", "UNSUBSCRIBE from a#", "a#", E::MultiLevelWildcard, "MQTT-4.7.1-2"),
        ("SUBSCRIBE to #/a", "UNSUBSCRIBE from #/a", "#/a", E::MultiLevelWildcard, "MQTT-4.7.1-2"),
        ("SUBSCRIBE to a/##", "UNSUBSCRIBE from ##", "##", E::MultiLevelWildcard, "MQTT-4.7.1-2"),
        ("SUBSCRIBE to a+", "UNSUBSCRIBE from a+", "a+", E::SingleLevelWildcard, "MQTT-4.7.1-3"),
        ("SUBSCRIBE to +a", "UNSUBSCRIBE from +a", "+a", E::SingleLevelWildcard, "MQTT-4.7.1-3"),
        ("SUBSCRIBE to ++", "UNSUBSCRIBE from ++", "++", E::SingleLevelWildcard, "MQTT-4.7.1-3"),
    ] {
        let filter = field(text.as_bytes());
        add(subscribe, frame(0x82, &[id, &filter, b"\0"]), error, statement);
        add(unsubscribe, frame(0xA2, &[id, &filter]), error, statement);
    }

    // CONNECT.
    let header =
        |name: &[u8], level: u8, flags: u8| [&field(name)[..], &[level, flags, 0, 60]].concat();
    for (name, protocol) in [
        ("CONNECT for MQTZ", &b"MQTZ"[..]),
        ("CONNECT for mqtt", b"mqtt"),
        ("CONNECT for nothing", b""),
        ("CONNECT for MQTTT", b"MQTTT"),
        ("CONNECT for MQIsdq", b"MQIsdq"),
    ] {
        let bytes = frame(0x10, &[&header(protocol, 4, 2), b"\0\x01c"]);
        add(name, bytes, E::ProtocolName, "MQTT-3.1.2-1");
    }
    for (name, protocol, level) in [
        ("CONNECT with level 0", &b"MQTT"[..], 0),
        ("CONNECT with level 3", b"MQTT", 3),
        ("CONNECT with level 5", b"MQTT", 5),
        ("CONNECT with level 6", b"MQTT", 6),
        ("CONNECT with level 4 of a bridge", b"MQTT", 0x84),
        ("CONNECT with level 3 of a bridge", b"MQIsdp", 0x83),
        ("CONNECT for MQIsdp with level 4", b"MQIsdp", 4),
    ] {
        let bytes = frame(0x10, &[&header(protocol, level, 2), b"\0\x01c"]);
        add(name, bytes, E::UnsupportedProtocolLevel(level), "MQTT-3.1.2-2");
    }
    let all = b"\0\x01c\0\x01t\0\x01m\0\x01u\0\x01p";
    for (name, flags, error, statement) in [
        ("CONNECT with the reserved flag", 0x03, E::ReservedConnectFlag, "MQTT-3.1.2-3"),
        ("CONNECT with will QoS 1, no will", 0x0A, E::WillQosWithoutWill, "MQTT-3.1.2-13"),
        ("CONNECT with will QoS 2, no will", 0x12, E::WillQosWithoutWill, "MQTT-3.1.2-13"),
        ("CONNECT with will retain, no will", 0x22, E::WillRetainWithoutWill, "MQTT-3.1.2-15"),
        ("CONNECT with will QoS 3", 0x1E, E::WillQos, "MQTT-3.1.2-14"),
        ("CONNECT with will QoS 3, no will", 0x1A, E::WillQos, "MQTT-3.1.2-14"),
        ("CONNECT with a nameless password", 0x42, E::PasswordWithoutUserName, "MQTT-3.1.2-22"),
    ] {
        add(name, frame(0x10, &[&header(b"MQTT", 4, flags), all]), error, statement);
    }
    for (name, body) in [
        ("CONNECT with nothing", &b""[..]),
        ("CONNECT with a cut protocol name", b"\0\x04MQ"),
        ("CONNECT without level", b"\0\x04MQTT"),
        ("CONNECT without flags", b"\0\x04MQTT\x04"),
        ("CONNECT without keep-alive", b"\0\x04MQTT\x04\x02\0"),
        ("CONNECT without payload", b"\0\x04MQTT\x04\x02\0\x3C"),
        ("CONNECT with a cut client id", b"\0\x04MQTT\x04\x02\0\x3C\0\x05ab"),
        ("CONNECT with a will, without its fields", b"\0\x04MQTT\x04\x06\0\x3C\0\x01c"),
        ("CONNECT without will message", b"\0\x04MQTT\x04\x06\0\x3C\0\x01c\0\x01t"),
        ("CONNECT with a cut will message", b"\0\x04MQTT\x04\x06\0\x3C\0\x01c\0\x01t\0\x02m"),
        ("CONNECT without its user name", b"\0\x04MQTT\x04\x82\0\x3C\0\x01c"),
        ("CONNECT without its password", b"\0\x04MQTT\x04\xC2\0\x3C\0\x01c\0\x01u"),
        ("CONNECT with a cut password", b"\0\x04MQTT\x04\xC2\0\x3C\0\x01c\0\x01u\0\x09p"),
    ] {
        add(name, frame(0x10, &[body]), E::Truncated, "MQTT-4.8.0-1");
    }
    for (name, body) in [
        (
            "CONNECT with a user name, without its flag",
            &b"\0\x04MQTT\x04\x02\0\0\0\x01c\0\x01u"[..],
        ),
        (
            "CONNECT with a password, without its flag",
            b"\0\x04MQTT\x04\x82\0\0\0\x01c\0\x01u\0\x01p",
        ),
        ("CONNECT with a will, without its flag", b"\0\x04MQTT\x04\x02\0\0\0\x01c\0\x01t\0\x01m"),
        ("CONNECT with one byte too many", b"\0\x04MQTT\x04\x02\0\0\0\x01c\0"),
    ] {
        add(name, frame(0x10, &[body]), E::TrailingBytes, "MQTT-4.8.0-1");
    }
    for (name, topic, error, statement) in [
        ("CONNECT with a will to nothing", &b""[..], E::EmptyTopic, "MQTT-4.7.3-1"),
        ("CONNECT with a will to a/+", b"a/+", E::WildcardInTopicName, "MQTT-3.3.2-2"),
        ("CONNECT with a will to #", b"#", E::WildcardInTopicName, "MQTT-3.3.2-2"),
    ] {
        let will = field(topic);
        let bytes = frame(0x10, &[&header(b"MQTT", 4, 6), b"\0\x01c", &will, b"\0\x01m"]);
        add(name, bytes, error, statement);
    }
    let kept = frame(0x10, &[&header(b"MQTT", 4, 0), b"\0\0"]);
    add("CONNECT without id for a kept session", kept, E::EmptyClientId, "MQTT-3.1.3-8");
    let old = frame(0x10, &[&header(b"MQIsdp", 3, 2), b"\0\0"]);
    add("CONNECT of MQTT 3.1 without id", old, E::EmptyClientId, "MQTT-3.1.3-8");

    // Bad text in every string field.
    let utf8 = NOT_UTF8.map(|(name, text)| (name, text, E::InvalidUtf8, "MQTT-1.5.3-1"));
    let nul = NUL.map(|(name, text)| (name, text, E::NulCharacter, "MQTT-1.5.3-2"));
    for (name, text, error, statement) in utf8.into_iter().chain(nul) {
        let text = &field(text)[..];
        let connect =
            |flags, fields: &[&[u8]]| frame(0x10, &[&header(b"MQTT", 4, flags), &fields.concat()]);
        for (place, bytes) in [
            ("PUBLISH: topic", frame(0x30, &[text, b"payload"])),
            ("SUBSCRIBE: filter", frame(0x82, &[id, text, b"\0"])),
            ("UNSUBSCRIBE: filter", frame(0xA2, &[id, text])),
            ("CONNECT: client id", connect(0x02, &[text])),
            ("CONNECT: will topic", connect(0x06, &[b"\0\x01c", text, b"\0\x01m"])),
            ("CONNECT: user name", connect(0x82, &[b"\0\x01c", text])),
        ] {
            add(&format!("{place} with {name}"), bytes, error, statement);
        }
    }
    table
}
