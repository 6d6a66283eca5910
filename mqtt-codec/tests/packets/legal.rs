//! Packets that look odd and that the standard allows.

use super::{field, frame};

/// One unusual packet.
pub(crate) struct Legal {
    /// What is unusual.
    pub(crate) name: &'static str,
    /// The bytes of one whole packet.
    pub(crate) bytes: Vec<u8>,
    /// The statement or section that allows it.
    pub(crate) allowed_by: &'static str,
}

/// The table.
pub(crate) fn legal() -> Vec<Legal> {
    let mut table = Vec::new();
    let mut add = |name, bytes: Vec<u8>, allowed_by| table.push(Legal { name, bytes, allowed_by });

    let longest = vec![b'x'; 65_535];
    let publish = |topic: &[u8]| frame(0x30, &[&field(topic), b"payload"]);
    add("a topic that is one slash", publish(b"/"), "4.7.1.1");
    add("a topic of empty levels", publish(b"///"), "4.7.1.1");
    add("a topic with spaces", publish(b" a / b "), "4.7.3");
    add("a topic that starts with $", publish(b"$SYS/x"), "4.7.2");
    add("a topic of 65,535 bytes", publish(&longest), "MQTT-4.7.3-3");
    add("a topic that starts with U+FEFF", publish(b"\xEF\xBB\xBFt"), "MQTT-1.5.3-3");
    add("a topic with U+FEFF inside", publish(b"abcdefgh\xEF\xBB\xBFt"), "MQTT-1.5.3-3");
    add("a topic with a control character", publish(b"a\x01\x7Fb"), "1.5.3");
    add("a topic with U+10FFFF and U+1F600", publish(b"\xF4\x8F\xBF\xBF\xF0\x9F\x98\x80"), "1.5.3");
    add("a topic with U+D7FF and U+E000", publish(b"\xED\x9F\xBF\xEE\x80\x80"), "1.5.3");
    add("an empty payload", frame(0x31, &[b"\0\x01a"]), "3.3.3");
    add("a payload that looks like a packet id", frame(0x30, &[b"\0\x01a\0\0"]), "MQTT-2.3.1-5");
    add("a payload of one byte at QoS 0", frame(0x30, &[b"\0\x01a\x01"]), "MQTT-2.3.1-5");
    add("DUP and RETAIN at QoS 2", frame(0x3D, &[b"\0\x01a\xFF\xFFx"]), "3.3.1");
    add("packet id 65,535", frame(0x40, &[b"\xFF\xFF"]), "2.3.1");
    add("a padded remaining length", b"\x30\x84\x80\x80\0\0\x01ax".to_vec(), "2.2.3");
    add("a padded PUBACK", b"\x40\x82\0\0\x01".to_vec(), "2.2.3");
    add("a padded PINGREQ", b"\xC0\x80\x80\0".to_vec(), "2.2.3");

    let connect = |flags: u8, payload: &[&[u8]]| {
        frame(0x10, &[b"\0\x04MQTT\x04", &[flags, 0xFF, 0xFF], &payload.concat()])
    };
    add("an empty client id", connect(0x02, &[b"\0\0"]), "MQTT-3.1.3-6");
    add("a client id of 65,535 bytes", connect(0x00, &[&field(&longest)]), "MQTT-3.1.3-5");
    add("a client id with wildcards", connect(0x02, &[b"\0\x05+/#$a"]), "MQTT-3.1.3-5");
    add("a client id that is not ASCII", connect(0x02, &[b"\0\x02\xC3\xA9"]), "MQTT-3.1.3-4");
    let will = |flags, topic, message: &[u8]| {
        connect(flags, &[b"\0\x01c", &field(topic), &field(message)])
    };
    add("a binary will message", will(0x06, b"t", b"\0\xFF\xC0\x80"), "3.1.3.3");
    add("an empty will message", will(0x36, b"t", b""), "3.1.3.3");
    add("a will message of 65,535 bytes", will(0x2E, b"/", &longest), "3.1.3.3");
    let login =
        |name, password: &[u8]| connect(0xC2, &[b"\0\x01c", &field(name), &field(password)]);
    add("a binary password", login(b"u", b"\0\xFF\xED\xA0\x80"), "3.1.3.5");
    add("an empty user name and password", login(b"", b""), "3.1.3.4");
    add("a user name without password", connect(0x82, &[b"\0\x01c\0\x01u"]), "MQTT-3.1.2-21");
    let old = frame(0x10, &[b"\0\x06MQIsdp\x03\x02\0\0", &field(&[b'x'; 30])]);
    add("MQTT 3.1 with a client id over 23 bytes", old, "MQTT-3.1.2-1");

    let subscribe = |filter: &[u8]| frame(0x82, &[b"\0\x01", &field(filter), b"\x02"]);
    for filter in ["#", "+", "/", "/#", "+/+", "+/#", "/+/", "$SYS/#", "a//+/#", "\u{feff}/+"] {
        add("a filter with wildcards", subscribe(filter.as_bytes()), "4.7.1");
    }
    add("a filter of 65,535 bytes", subscribe(&longest), "MQTT-4.7.3-3");
    add("the same filter twice", frame(0x82, &[b"\0\x01\0\x01a\0\0\x01a\x01"]), "3.8.4");
    add("SUBACK that refuses", frame(0x90, &[b"\0\x01\x80\x80"]), "MQTT-3.9.3-2");
    add("CONNACK with a session", frame(0x20, &[b"\x01\0"]), "MQTT-3.2.2-2");
    table
}
