use mqtt_codec::{
    Connect, ConnectFields, Delivery, Packet, PacketId, Publish, QoS, Subscribe, Text, TopicFilter,
    TopicName, Will,
};

/// About as much as stays in the second cache, and enough packets that a clock tick is nothing.
const STREAM_BYTES: usize = 256 * 1024;

/// The bytes of one of the streams of packets that the rows name.
pub fn stream(name: &str) -> Vec<u8> {
    match name {
        "publish 16 B" => repeat(&publish(20, 16, QoS::AtMostOnce)),
        "publish 256 B" => repeat(&publish(20, 256, QoS::AtLeastOnce)),
        "publish 64 KiB" => repeat(&publish(20, 65_536, QoS::AtLeastOnce)),
        "puback" => repeat(&encode(Packet::PubAck(PacketId::MAX))),
        "connect" => repeat(&connect()),
        "subscribe 10" => repeat(&subscribe()),
        "mixed" => mixed(),
        other => panic!("no stream is called {other}"),
    }
}

fn encode<'a>(packet: impl Into<Packet<'a>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.into().encode(&mut bytes);
    bytes
}

fn repeat(packet: &[u8]) -> Vec<u8> {
    packet.repeat((STREAM_BYTES / packet.len()).max(32))
}

fn publish(topic: usize, payload: usize, qos: QoS) -> Vec<u8> {
    let text = &"building/floor/room/sensors/temperature/celsius"[..topic];
    let id = PacketId::new(1234).unwrap();
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup: false },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup: false },
    };
    let topic = TopicName::new(text).unwrap();
    encode(Publish { topic, payload: &vec![b'p'; payload], delivery, retain: false })
}

fn connect() -> Vec<u8> {
    let text = |text| Text::new(text).unwrap();
    let topic = TopicName::new("clients/thermostat-17/state").unwrap();
    let will = Will { topic, message: b"offline", qos: QoS::AtLeastOnce, retain: true };
    let fields = ConnectFields {
        keep_alive: 60,
        will: Some(will),
        user_name: Some(text("thermostat")),
        password: Some(b"correct horse"),
        ..ConnectFields::new(text("thermostat-17"))
    };
    encode(Connect::new(&fields).unwrap())
}

fn subscribe() -> Vec<u8> {
    let filters = [
        "house/kitchen/temperature",
        "house/kitchen/+",
        "house/+/temperature",
        "house/garden/#",
        "clients/thermostat-17/commands",
        "$SYS/broker/uptime",
        "+/status",
        "a/b/c/d/e/f/g/h",
        "alerts/fire",
        "#",
    ];
    let filters = filters.map(|text| (TopicFilter::new(text).unwrap(), QoS::AtLeastOnce));
    encode(Subscribe::new(PacketId::MAX, &filters).unwrap())
}

/// What a broker receives: 60 % PUBLISH QoS 0, 22 % QoS 1 and 2, 13 % acknowledgements, the rest.
/// The numbers are from a fixed linear congruential generator: the same stream in every run.
fn mixed() -> Vec<u8> {
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut stream = Vec::new();
    while stream.len() < STREAM_BYTES {
        let (topic, payload) = (12 + random(30), 8 + random(120));
        let packet = match random(100) {
            0..60 => publish(topic, payload, QoS::AtMostOnce),
            60..77 => publish(topic, payload, QoS::AtLeastOnce),
            77..82 => publish(topic, payload, QoS::ExactlyOnce),
            82..91 => encode(Packet::PubAck(PacketId::MAX)),
            91..93 => encode(Packet::PubRec(PacketId::MAX)),
            93..95 => encode(Packet::PubRel(PacketId::MAX)),
            95..98 => encode(Packet::PingReq),
            98 => subscribe(),
            _ => connect(),
        };
        stream.extend(packet);
    }
    stream
}
