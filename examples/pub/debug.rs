//! What `-d` prints: each packet, in Mosquitto's words.

use std::io::Write;
use std::sync::Mutex;

use mqtt_client::{Builder, Direction, Packet, PacketId};
use mqtt_codec::{Publish, SubscribeReturnCode};

/// Prints what is sent and received.
pub(crate) fn watch(builder: Builder) -> Builder {
    let state = Mutex::new((String::new(), 0));
    builder.watch_packets(move |direction, packet| {
        let Ok(mut state) = state.lock() else { return };
        let (client, last_id) = &mut *state;
        if let Packet::Connect(connect) = packet {
            *client = connect.client_id().as_str().to_owned();
        }
        // Whoever read it may be gone.
        let mut out = std::io::stdout().lock();
        for line in lines(direction, packet, last_id) {
            let _ = match line.starts_with("Subscribed") {
                true => writeln!(out, "{line}"),
                false => writeln!(out, "Client {client} {line}"),
            };
        }
    })
}

fn lines(direction: Direction, packet: &Packet<'_>, last_id: &mut u16) -> Vec<String> {
    if direction == Direction::Sent { sent(packet, last_id) } else { received(packet) }
}

fn sent(packet: &Packet<'_>, last_id: &mut u16) -> Vec<String> {
    let line = match packet {
        Packet::Connect(_) => "CONNECT".to_owned(),
        Packet::Publish(publish) => {
            // Mosquitto counts messages of QoS 0 too.
            *last_id = publish.packet_id().map_or(last_id.wrapping_add(1), PacketId::get);
            format!("PUBLISH {}", shown(publish, *last_id))
        }
        Packet::PubAck(id) => format!("PUBACK (m{id}, rc0)"),
        Packet::PubRec(id) => format!("PUBREC (m{id}, rc0)"),
        Packet::PubRel(id) => format!("PUBREL (m{id})"),
        Packet::PubComp(id) => format!("PUBCOMP (m{id})"),
        Packet::Subscribe(subscribe) => {
            let id = subscribe.packet_id();
            let line = |(filter, qos)| {
                format!("sending SUBSCRIBE (Mid: {id}, Topic: {filter}, QoS: {qos}, Options: 0x00)")
            };
            return subscribe.filters().map(line).collect();
        }
        Packet::Unsubscribe(unsubscribe) => {
            let id = unsubscribe.packet_id();
            let line = |filter| format!("sending UNSUBSCRIBE (Mid: {id}, Topic: {filter})");
            return unsubscribe.filters().map(line).collect();
        }
        Packet::PingReq => "PINGREQ".to_owned(),
        Packet::Disconnect => "DISCONNECT".to_owned(),
        other => format!("{other:?}"),
    };
    vec![format!("sending {line}")]
}

fn received(packet: &Packet<'_>) -> Vec<String> {
    let line = match packet {
        Packet::ConnAck(connack) => format!("CONNACK ({})", u8::from(connack.code)),
        Packet::Publish(publish) => {
            let id = publish.packet_id().map_or(0, PacketId::get);
            format!("PUBLISH {}", shown(publish, id))
        }
        Packet::PubAck(id) => format!("PUBACK (Mid: {id}, RC:0)"),
        Packet::PubRec(id) => format!("PUBREC (Mid: {id})"),
        Packet::PubRel(id) => format!("PUBREL (Mid: {id})"),
        Packet::PubComp(id) => format!("PUBCOMP (Mid: {id}, RC:0)"),
        Packet::SubAck(suback) => {
            let code = |code| match code {
                SubscribeReturnCode::Granted(qos) => u8::from(qos).to_string(),
                SubscribeReturnCode::Failure => "128".to_owned(),
            };
            let codes: Vec<_> = suback.codes().map(code).collect();
            let subscribed =
                format!("Subscribed (mid: {}): {}", suback.packet_id(), codes.join(", "));
            return vec!["received SUBACK".to_owned(), subscribed];
        }
        Packet::UnsubAck(_) => "UNSUBACK".to_owned(),
        Packet::PingResp => "PINGRESP".to_owned(),
        other => format!("{other:?}"),
    };
    vec![format!("received {line}")]
}

fn shown(publish: &Publish<'_>, id: u16) -> String {
    format!(
        "(d{}, q{}, r{}, m{id}, '{}', ... ({} bytes))",
        u8::from(publish.delivery.is_dup()),
        publish.qos(),
        u8::from(publish.retain),
        publish.topic,
        publish.payload.len()
    )
}
