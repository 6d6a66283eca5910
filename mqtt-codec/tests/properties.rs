//! Properties of any packet, any split, any mutation and any bytes.
//!
//! 256 cases each; `PROPTEST_CASES=100000 cargo test --release -p mqtt-codec --test properties` is
//! what CI runs.

use bytes::BytesMut;
use mqtt_codec::{
    Ack, ConnAck, Connect, ConnectFields, ConnectReturnCode, Decoder, Delivery, MAX_PACKET, Packet,
    PacketBuf, PacketId, Protocol, Publish, PublishBuf, QoS, SubAck, Subscribe,
    SubscribeReturnCode, Text, TopicFilter, TopicName, Unsubscribe, Will, decode,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[path = "model/model.rs"]
mod model;

use model::{check_canonical, is_filter, is_name, matches};

/// The fields of any packet, owned.
#[derive(Clone, Debug)]
enum Fields {
    Connect {
        protocol: Protocol,
        clean_session: bool,
        keep_alive: u16,
        client_id: String,
        will: Option<(String, Vec<u8>, QoS, bool)>,
        login: Option<(String, Option<Vec<u8>>)>,
    },
    ConnAck(ConnAck),
    Publish {
        topic: String,
        payload: Vec<u8>,
        delivery: Delivery,
        retain: bool,
    },
    Ack(Ack),
    Subscribe(PacketId, Vec<(String, QoS)>),
    SubAck(PacketId, Vec<SubscribeReturnCode>),
    Unsubscribe(PacketId, Vec<String>),
    Other(Packet<'static>),
}

impl Fields {
    fn with_packet<R>(&self, run: impl FnOnce(Packet<'_>) -> R) -> R {
        match self {
            Self::Connect { protocol, clean_session, keep_alive, client_id, will, login } => {
                let will = will.as_ref().map(|(topic, message, qos, retain)| Will {
                    topic: TopicName::new(topic).unwrap(),
                    message,
                    qos: *qos,
                    retain: *retain,
                });
                let fields = ConnectFields {
                    protocol: *protocol,
                    clean_session: *clean_session,
                    keep_alive: *keep_alive,
                    client_id: Text::new(client_id).unwrap(),
                    will,
                    user_name: login.as_ref().map(|(name, _)| Text::new(name).unwrap()),
                    password: login.as_ref().and_then(|(_, password)| password.as_deref()),
                };
                run(Connect::new(&fields).unwrap().into())
            }
            Self::ConnAck(connack) => run((*connack).into()),
            Self::Publish { topic, payload, delivery, retain } => {
                let topic = TopicName::new(topic).unwrap();
                run(Publish { topic, payload, delivery: *delivery, retain: *retain }.into())
            }
            Self::Ack(ack) => run((*ack).into()),
            Self::Subscribe(id, filters) => {
                let filters: Vec<_> = filters
                    .iter()
                    .map(|(filter, qos)| (TopicFilter::new(filter).unwrap(), *qos))
                    .collect();
                run(Subscribe::new(*id, &filters).unwrap().into())
            }
            Self::SubAck(id, codes) => run(SubAck::new(*id, codes).unwrap().into()),
            Self::Unsubscribe(id, filters) => {
                let filters: Vec<_> =
                    filters.iter().map(|filter| TopicFilter::new(filter).unwrap()).collect();
                run(Unsubscribe::new(*id, &filters).unwrap().into())
            }
            Self::Other(packet) => run(*packet),
        }
    }

    fn encode(&self) -> Vec<u8> {
        self.with_packet(|packet| {
            let mut frame = Vec::new();
            packet.encode(&mut frame);
            frame
        })
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9/]{0,40}", "[^\0]{0,20}", "[+#/a]{0,9}"]
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9/$ ]{1,40}", 1 => "[^\0+#]{1,20}", 1 => "[a-z/]{120,300}"]
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => "[^\0+#/]{0,9}", 1 => Just("+".to_owned())];
    (vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, all)| {
        if all || levels == [""] {
            levels.push("#".to_owned());
        }
        levels.join("/")
    })
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn id() -> impl Strategy<Value = PacketId> {
    prop_oneof![1..=3_u16, any::<u16>().prop_map(|id| id.max(1))]
        .prop_map(|id| PacketId::new(id).unwrap())
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (qos(), id(), any::<bool>()).prop_map(|(qos, id, dup)| match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 100..400)]
}

fn connect() -> impl Strategy<Value = Fields> {
    let will = option::of((topic(), bytes(), qos(), any::<bool>()));
    let login = option::of((text(), option::of(bytes())));
    (any::<bool>(), any::<bool>(), any::<u16>(), text(), will, login).prop_map(
        |(old, clean_session, keep_alive, mut client_id, will, login)| {
            let protocol = if old { Protocol::V310 } else { Protocol::V311 };
            if old || !clean_session {
                client_id.push('x');
            }
            Fields::Connect { protocol, clean_session, keep_alive, client_id, will, login }
        },
    )
}

fn fields() -> impl Strategy<Value = Fields> {
    let code = (qos(), any::<bool>()).prop_map(|(qos, failed)| {
        if failed { SubscribeReturnCode::Failure } else { SubscribeReturnCode::Granted(qos) }
    });
    prop_oneof![
        2 => connect(),
        1 => (0..=6_u8).prop_map(|code| Fields::ConnAck(ConnAck {
            session_present: code == 6,
            code: ConnectReturnCode::try_from(code % 6).unwrap(),
        })),
        4 => (topic(), bytes(), delivery(), any::<bool>()).prop_map(
            |(topic, payload, delivery, retain)| Fields::Publish { topic, payload, delivery, retain }
        ),
        2 => (0..5, id()).prop_map(|(kind, id)| Fields::Ack(match kind {
            0 => Ack::PubAck(id),
            1 => Ack::PubRec(id),
            2 => Ack::PubRel(id),
            3 => Ack::PubComp(id),
            _ => Ack::UnsubAck(id),
        })),
        2 => (id(), vec((filter(), qos()), 1..12)).prop_map(|(id, list)| Fields::Subscribe(id, list)),
        1 => (id(), vec(code, 1..200)).prop_map(|(id, codes)| Fields::SubAck(id, codes)),
        1 => (id(), vec(filter(), 1..12)).prop_map(|(id, list)| Fields::Unsubscribe(id, list)),
        1 => select(vec![Packet::PingReq, Packet::PingResp, Packet::Disconnect])
            .prop_map(Fields::Other),
    ]
}

/// A change of the bytes of a packet.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    FlipBit(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    /// Only the remaining length changes, so that fields and packet disagree.
    Length(i8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = prop_oneof![any::<u8>(), select(b"\0\x01+#/\x7F\x80\xC0\xED\xFF".to_vec())];
    prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        any::<Index>().prop_map(Mutation::Remove),
        (-3..=3_i8).prop_map(Mutation::Length),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    match mutation {
        Mutation::Set(at, byte) if !bytes.is_empty() => *at.get_mut(bytes) = *byte,
        Mutation::FlipBit(at, bit) if !bytes.is_empty() => *at.get_mut(bytes) ^= 1 << bit,
        Mutation::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
        Mutation::Remove(at) if !bytes.is_empty() => {
            bytes.remove(at.index(bytes.len()));
        }
        Mutation::Length(by) if bytes.len() > 1 => bytes[1] = bytes[1].wrapping_add_signed(*by),
        _ => {}
    }
}

/// Small under miri, which is slow and cannot write the file of failed cases.
fn config() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() }
    } else {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_packet_comes_back_from_its_bytes(fields in fields()) {
        fields.with_packet(|packet| {
            let mut frame = vec![0; packet.encoded_len()];
            prop_assert_eq!(packet.encode_to_slice(&mut frame), Ok(frame.len()));
            let mut appended = BytesMut::new();
            packet.encode(&mut appended);
            prop_assert_eq!(&appended[..], &frame[..]);
            prop_assert_eq!(decode(&frame, frame.len()), Ok(Some((packet, frame.len()))));
            let owned = PacketBuf::decode(&mut appended, MAX_PACKET).unwrap().unwrap();
            prop_assert_eq!(owned.packet(), packet);
            prop_assert_eq!(owned.as_bytes(), &frame[..]);
            let owned = PacketBuf::new(&packet).unwrap();
            prop_assert_eq!(owned.as_bytes(), &frame[..]);
            check_canonical(&frame);
            Ok(())
        })?;
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_packets(
        packets in vec(fields(), 1..8),
        sizes in vec(1..30_usize, 1..20),
    ) {
        let frames: Vec<Vec<u8>> = packets.iter().map(Fields::encode).collect();
        let stream = frames.concat();
        let mut decoder = Decoder::new(MAX_PACKET);
        let (mut buffer, mut shared) = (Vec::new(), BytesMut::new());
        let (mut found, mut found_owned) = (Vec::new(), Vec::new());
        let mut rest = &stream[..];
        for size in sizes.iter().cycle() {
            let (chunk, left) = rest.split_at(rest.len().min(*size));
            rest = left;
            buffer.extend_from_slice(chunk);
            shared.extend_from_slice(chunk);
            while let Some((packet, length)) = decoder.next(&buffer).unwrap() {
                let owned = PacketBuf::new(&packet).unwrap();
                prop_assert_eq!(owned.as_bytes(), &buffer[..length]);
                found.push(buffer.drain(..length).collect::<Vec<u8>>());
            }
            prop_assert!(decoder.needed() > buffer.len());
            while let Some(packet) = PacketBuf::decode(&mut shared, MAX_PACKET).unwrap() {
                found_owned.push(packet.as_bytes().to_vec());
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&found, &frames);
        prop_assert_eq!(&found_owned, &frames);
        prop_assert!(buffer.is_empty() && shared.is_empty());
    }

    #[test]
    fn any_mutation_is_refused_or_encodes_to_the_same_bytes(
        fields in fields(),
        mutations in vec(mutation(), 1..4),
    ) {
        let mut bytes = fields.encode();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        check_canonical(&bytes);
        // Whatever follows, and however the bytes arrive, the answer is the same.
        let whole = decode(&bytes, MAX_PACKET);
        let mut decoder = Decoder::new(MAX_PACKET);
        let stepwise = (0..=bytes.len())
            .map(|end| decoder.next(&bytes[..end]))
            .find(|answer| !matches!(answer, Ok(None)))
            .unwrap_or(Ok(None));
        prop_assert_eq!(&stepwise, &whole);
        if !matches!(whole, Ok(None)) {
            let followed = [&bytes[..], b"\xC0\0\xC0\0"].concat();
            prop_assert_eq!(decode(&followed, MAX_PACKET), whole);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_encode_to_the_same_bytes(
        first in prop_oneof![any::<u8>(), select(b"\x10\x20\x30\x32\x34\x3D\x82\x90\xA2".to_vec())],
        body in vec(any::<u8>(), 0..60),
    ) {
        check_canonical(&[&[first, body.len() as u8], &body[..]].concat());
        check_canonical(&body);
    }

    // MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1, MQTT-4.7.3-2
    #[test]
    fn topics_are_accepted_as_the_rules_say(
        parts in vec(select(vec![
            &b"a"[..], b"bcd", b"/", b"/", b"+", b"#", b"$", b"\0", b"\xC3\xA9", b"\xE2\x82",
            b"\x80", b"\xFF", b"\xED\xA0\x80", b"\xEF\xBB\xBF", b"longer than a word",
        ]), 0..8),
    ) {
        let bytes = parts.concat();
        prop_assert_eq!(TopicName::try_from(&bytes[..]).is_ok(), is_name(&bytes));
        prop_assert_eq!(TopicFilter::try_from(&bytes[..]).is_ok(), is_filter(&bytes));
        let text = std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'));
        prop_assert_eq!(Text::try_from(&bytes[..]).is_ok(), text);
    }

    #[test]
    fn filters_match_as_the_rules_say(
        filter in vec(select(vec!["a", "b", "", "+", "+", "$x"]), 1..5),
        all in any::<bool>(),
        name in vec(select(vec!["a", "b", "", "$x"]), 1..5),
    ) {
        let mut filter = filter;
        if all {
            filter.push("#");
        }
        let hidden = name[0].starts_with('$') && ["+", "#"].contains(&filter[0]);
        let expected = !hidden && matches(&filter, &name);
        let (filter, name) = (filter.join("/"), name.join("/"));
        if filter.is_empty() || name.is_empty() {
            return Ok(());
        }
        let (filter, name) = (TopicFilter::new(&filter).unwrap(), TopicName::new(&name).unwrap());
        prop_assert_eq!(filter.matches(name), expected, "{} {}", filter, name);
    }

    #[test]
    fn a_kept_message_is_sent_as_if_it_was_made_anew(
        topic in topic(),
        payload in bytes(),
        kept in delivery(),
        sent in delivery(),
        retain in any::<bool>(),
    ) {
        let publish = Publish {
            topic: TopicName::new(&topic).unwrap(),
            payload: &payload,
            delivery: kept,
            retain,
        };
        let message = PublishBuf::new(&publish).unwrap();
        prop_assert_eq!(message.publish(), publish);
        let (mut expected, mut out) = (Vec::new(), Vec::new());
        Publish { delivery: sent, retain: !retain, ..publish }.encode(&mut expected);
        message.encode(sent, !retain, &mut out);
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(message.encoded_len(sent.qos()), out.len());
        prop_assert_eq!(message.content_len(), topic.len() + payload.len());
        message.encode_to_vec(sent, !retain, &mut out);
        prop_assert_eq!(&out, &expected.repeat(2));
    }
}
