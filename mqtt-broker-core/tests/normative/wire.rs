//! Packets as the tests write them: bytes, built without the codec's encoder.

use std::fmt;

/// The bytes of some packets. Compared as bytes, shown as packets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wire(pub(crate) Vec<u8>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        let mut rest = &self.0[..];
        while let Ok(Some((packet, len))) = mqtt_codec::decode(rest, usize::MAX) {
            list.entry(&packet);
            rest = &rest[len..];
        }
        if !rest.is_empty() {
            list.entry(&rest);
        }
        list.finish()
    }
}

/// A packet of a first byte and a body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let digit = (len % 128) as u8;
        len /= 128;
        bytes.push(if len > 0 { digit | 0x80 } else { digit });
        if len == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A string with its length.
pub(crate) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// A CONNECT of MQTT 3.1.1: flags, keep alive in seconds, and payload fields.
pub(crate) fn connect(flags: u8, keep_alive: u16, fields: &[&[u8]]) -> Vec<u8> {
    connect_as("MQTT", 4, flags, keep_alive, fields)
}

pub(crate) fn connect_as(
    name: &str,
    level: u8,
    flags: u8,
    keep_alive: u16,
    fields: &[&[u8]],
) -> Vec<u8> {
    let mut body = text(name);
    body.extend_from_slice(&[level, flags]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    body.extend(fields.iter().flat_map(text));
    packet(0x10, &body)
}

pub(crate) const CLEAN: u8 = 0x02;
pub(crate) const KEPT: u8 = 0x00;

pub(crate) fn connack(session_present: bool, code: u8) -> Vec<u8> {
    vec![0x20, 2, session_present.into(), code]
}

/// A PUBLISH of QoS 0.
pub(crate) fn publish0(topic: &str, payload: &str) -> Vec<u8> {
    publish(0x30, topic, 0, payload)
}

/// A PUBLISH with its first byte; `id` is left out at QoS 0.
pub(crate) fn publish(first: u8, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    if first & 0x06 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload.as_bytes());
    packet(first, &body)
}

pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(crate) fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), codes].concat())
}

pub(crate) fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(filters.iter().flat_map(text));
    packet(0xa2, &body)
}

fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(crate) fn puback(id: u16) -> Vec<u8> {
    ack(0x40, id)
}

pub(crate) fn pubrec(id: u16) -> Vec<u8> {
    ack(0x50, id)
}

pub(crate) fn pubrel(id: u16) -> Vec<u8> {
    ack(0x62, id)
}

pub(crate) fn pubcomp(id: u16) -> Vec<u8> {
    ack(0x70, id)
}

pub(crate) fn unsuback(id: u16) -> Vec<u8> {
    ack(0xb0, id)
}

pub(crate) const PINGREQ: &[u8] = &[0xc0, 0];
pub(crate) const PINGRESP: &[u8] = &[0xd0, 0];
pub(crate) const DISCONNECT: &[u8] = &[0xe0, 0];
