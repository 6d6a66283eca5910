#![no_main]
//! Any packet that can be made of fields comes back from its bytes.

use arbitrary::Arbitrary;
use libfuzzer_sys::{Corpus, fuzz_target};
use mqtt_codec::{
    Ack, ConnAck, Connect, ConnectFields, ConnectReturnCode, Delivery, MAX_PACKET, Packet,
    PacketBuf, PacketId, Protocol, Publish, PublishBuf, QoS, SubAck, Subscribe,
    SubscribeReturnCode, Text, TopicFilter, TopicName, Unsubscribe, Will, decode,
};

#[derive(Arbitrary, Debug)]
enum Fields<'a> {
    Connect {
        old: bool,
        clean_session: bool,
        keep_alive: u16,
        client_id: &'a str,
        will: Option<(&'a str, &'a [u8], u8, bool)>,
        user_name: Option<&'a str>,
        password: Option<&'a [u8]>,
    },
    ConnAck {
        session_present: bool,
        code: u8,
    },
    Publish {
        topic: &'a str,
        payload: &'a [u8],
        qos: u8,
        id: u16,
        dup: bool,
        retain: bool,
    },
    Ack {
        kind: u8,
        id: u16,
    },
    Subscribe {
        id: u16,
        filters: Vec<(&'a str, u8)>,
    },
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<&'a str>,
    },
    Empty {
        kind: u8,
    },
}

fuzz_target!(|fields: Fields<'_>| -> Corpus {
    match with_packet(&fields, check) {
        Some(()) => Corpus::Keep,
        None => Corpus::Reject,
    }
});

fn check(packet: Packet<'_>) {
    let mut frame = vec![0; packet.encoded_len()];
    assert_eq!(packet.encode_to_slice(&mut frame), Ok(frame.len()));
    let short = frame.len() - 1;
    assert!(packet.encode_to_slice(&mut vec![0; short]).is_err());
    let mut appended = Vec::new();
    packet.encode(&mut appended);
    assert_eq!(appended, frame);
    assert_eq!(decode(&frame, MAX_PACKET), Ok(Some((packet, frame.len()))));
    assert_eq!(decode(&frame[..short], MAX_PACKET), Ok(None));
    assert_eq!(PacketBuf::new(&packet).unwrap().as_bytes(), frame);
    if let Packet::Publish(publish) = packet {
        let message = PublishBuf::new(&publish).unwrap();
        for qos in [0, 1, 2] {
            let retain = !publish.retain;
            let sent = Publish { delivery: delivery(qos, 77, false).unwrap(), retain, ..publish };
            let (mut expected, mut out) = (Vec::new(), Vec::new());
            sent.encode(&mut expected);
            message.encode(sent.delivery, retain, &mut out);
            assert_eq!(out, expected);
            assert_eq!(
                message.encode_to_slice(sent.delivery, retain, &mut out),
                Ok(expected.len())
            );
            assert_eq!(out, expected);
            assert_eq!(message.encoded_len(sent.qos()), out.len());
        }
    }
}

/// `None` where the fields make no packet.
fn with_packet(fields: &Fields<'_>, run: impl FnOnce(Packet<'_>)) -> Option<()> {
    match fields {
        Fields::Connect {
            old,
            clean_session,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
        } => {
            let will = match will {
                Some((topic, message, qos, retain)) => Some(Will {
                    topic: TopicName::new(topic).ok()?,
                    message,
                    qos: qos_of(*qos),
                    retain: *retain,
                }),
                None => None,
            };
            let user_name = match user_name {
                Some(user_name) => Some(Text::new(user_name).ok()?),
                None => None,
            };
            let fields = ConnectFields {
                protocol: if *old { Protocol::V310 } else { Protocol::V311 },
                clean_session: *clean_session,
                keep_alive: *keep_alive,
                client_id: Text::new(client_id).ok()?,
                will,
                user_name,
                password: *password,
            };
            run(Connect::new(&fields).ok()?.into());
        }
        Fields::ConnAck { session_present, code } => {
            let code = ConnectReturnCode::try_from(code % 6).ok()?;
            let session_present = *session_present && code == ConnectReturnCode::Accepted;
            run(ConnAck { session_present, code }.into());
        }
        Fields::Publish { topic, payload, qos, id, dup, retain } => {
            let topic = TopicName::new(topic).ok()?;
            let delivery = delivery(*qos, *id, *dup)?;
            run(Publish { topic, payload, delivery, retain: *retain }.into());
        }
        Fields::Ack { kind, id } => {
            let id = PacketId::new(*id)?;
            run(match kind % 5 {
                0 => Ack::PubAck(id),
                1 => Ack::PubRec(id),
                2 => Ack::PubRel(id),
                3 => Ack::PubComp(id),
                _ => Ack::UnsubAck(id),
            }
            .into());
        }
        Fields::Subscribe { id, filters } => {
            let filters: Vec<_> = filters
                .iter()
                .filter_map(|(filter, qos)| Some((TopicFilter::new(filter).ok()?, qos_of(*qos))))
                .collect();
            run(Subscribe::new(PacketId::new(*id)?, &filters).ok()?.into());
        }
        Fields::SubAck { id, codes } => {
            let codes: Vec<_> = codes
                .iter()
                .map(|code| match code % 4 {
                    3 => SubscribeReturnCode::Failure,
                    qos => SubscribeReturnCode::Granted(qos_of(qos)),
                })
                .collect();
            run(SubAck::new(PacketId::new(*id)?, &codes).ok()?.into());
        }
        Fields::Unsubscribe { id, filters } => {
            let filters: Vec<_> =
                filters.iter().filter_map(|filter| TopicFilter::new(filter).ok()).collect();
            run(Unsubscribe::new(PacketId::new(*id)?, &filters).ok()?.into());
        }
        Fields::Empty { kind } => run(match kind % 3 {
            0 => Packet::PingReq,
            1 => Packet::PingResp,
            _ => Packet::Disconnect,
        }),
    }
    Some(())
}

fn qos_of(qos: u8) -> QoS {
    QoS::try_from(qos % 3).unwrap()
}

fn delivery(qos: u8, id: u16, dup: bool) -> Option<Delivery> {
    let id = PacketId::new(id)?;
    Some(match qos_of(qos) {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    })
}
