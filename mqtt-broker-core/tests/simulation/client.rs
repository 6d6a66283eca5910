//! A client with a session of its own, written on the codec and on nothing of the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use mqtt_codec::{
    ConnectFields, Delivery, Packet, PacketId, Publish, QoS, Subscribe, Text, TopicFilter,
    TopicName, Unsubscribe, Will,
};

use crate::groups::{GROUPS, is_shared};
use crate::oracle::{Message, Oracle, Received};
use crate::server::Link;

pub(crate) const TOPICS: [&str; 7] = ["a", "a/b", "a/c", "b/b", "a/b/c", "$x/a", "a/"];
const FILTERS: [&str; 12] =
    ["#", "a/#", "+/b", "a/+", "a/b", "b/b", "+", "a/b/c", "$x/#", "+/+/c", "a", "+/+"];

/// What the payload of a will begins with. The rest is the connection's number.
pub(crate) const WILL: &str = "will of ";

#[derive(Default)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) clean: bool,
    /// Which connection it has, and whether its CONNACK has come.
    pub(crate) serial: Option<usize>,
    pub(crate) is_connected: bool,
    input: Vec<u8>,
    /// Bytes that it reads in one step, 0 when it has stopped.
    pub(crate) appetite: usize,
    /// Its own QoS 1 and 2 messages, in the order of sending.
    outgoing: VecDeque<Outgoing>,
    /// QoS 2 ids that are received and not released.
    unreleased: BTreeSet<u16>,
    /// QoS 1 and 2 ids on this connection that it has not answered.
    unanswered: BTreeSet<u16>,
    answers: VecDeque<Answer>,
    /// SUBSCRIBEs and UNSUBSCRIBEs that are not answered, with their filters.
    requests: BTreeMap<u16, Vec<String>>,
    next_id: u16,
    sent: u64,
    /// A message without DUP has come, so none with DUP may.
    has_new: bool,
    session_present: bool,
    /// Which connection made the session that it knows.
    session: Option<usize>,
    pub(crate) packets: u64,
    pub(crate) window: usize,
    /// Ids that the broker uses, by how many messages they carry at the moment.
    in_flight: BTreeMap<u16, QoS>,
    /// Those of QoS 1 that carry messages of groups: others may have them while it is away.
    shared: BTreeSet<u16>,
    pub(crate) is_in_groups: bool,
}

struct Outgoing {
    id: u16,
    message: Message,
    /// PUBREC has come.
    is_received: bool,
}

/// PUBACK, PUBREC or PUBCOMP.
enum Answer {
    Received(u16),
    Recorded(u16),
    Completed(u16),
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn qos(qos: u8) -> QoS {
    QoS::try_from(qos).unwrap()
}

fn send(link: &mut Link, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    link.to_server.extend(bytes);
}

impl Client {
    pub(crate) fn new(name: String, window: u16) -> Self {
        let window = window.into();
        Self { name, window, next_id: 1, appetite: 10_000, ..Self::default() }
    }

    /// Sends CONNECT. What the session holds on this side stays until CONNACK says otherwise.
    pub(crate) fn connect(
        &mut self,
        rng: &mut Rng,
        oracle: &mut Oracle,
        serial: usize,
        link: &mut Link,
    ) {
        self.serial = Some(serial);
        self.is_connected = false;
        self.input.clear();
        self.answers.clear();
        self.unanswered.clear();
        self.requests.clear();
        let shared = std::mem::take(&mut self.shared);
        self.in_flight.retain(|id, _| !shared.contains(id));
        let payload = format!("{WILL}{serial}");
        let has_will = rng.bool();
        let fields = ConnectFields {
            clean_session: self.clean,
            keep_alive: if rng.bool() { 0 } else { rng.u16(5..60) },
            will: has_will.then(|| Will {
                topic: TopicName::new(TOPICS[rng.usize(..TOPICS.len())]).unwrap(),
                message: payload.as_bytes(),
                qos: qos(rng.u8(..3)),
                retain: rng.u8(..4) == 0,
            }),
            ..ConnectFields::new(Text::new(&self.name).unwrap())
        };
        oracle.connecting(serial, self.clean, has_will.then(|| payload.clone().into()));
        send(link, &Packet::from(mqtt_codec::Connect::new(&fields).unwrap()));
    }

    /// Does something of its own accord.
    pub(crate) fn act(&mut self, rng: &mut Rng, link: &mut Link) {
        if self.is_in_groups && rng.u8(..4) == 0 {
            return self.act_in_group(rng, link);
        }
        match rng.u8(..20) {
            0..10 => self.publish(rng, link),
            10..13 => self.subscribe(rng, link),
            13 => {
                let filters = [TopicFilter::new(FILTERS[rng.usize(..FILTERS.len())]).unwrap()];
                let request = self.request_id(vec![filters[0].to_string()]);
                let unsubscribe = Unsubscribe::new(id(request), &filters).unwrap();
                send(link, &Packet::from(unsubscribe));
            }
            14 => send(link, &Packet::PingReq),
            _ => self.answer(link, rng.usize(1..10)),
        }
    }

    fn publish(&mut self, rng: &mut Rng, link: &mut Link) {
        self.sent += 1;
        let retain = rng.u8(..6) == 0;
        let padding = match rng.u8(..40) {
            0 => rng.usize(16_000..20_000),
            1..10 => rng.usize(..400),
            _ => 0,
        };
        let payload = match retain && rng.u8(..3) == 0 {
            true => Vec::new(),
            false => format!("{}:{}:{:padding$}", self.name, self.sent, "").into_bytes(),
        };
        let level = if payload.is_empty() { 0 } else { rng.u8(..3) };
        let topic = TOPICS[rng.usize(..TOPICS.len())].to_string();
        self.publish_message(Message { topic, payload, qos: level, retain }, link);
    }

    fn act_in_group(&mut self, rng: &mut Rng, link: &mut Link) {
        let group = rng.usize(..GROUPS.len());
        let filter = TopicFilter::new(GROUPS[group]).unwrap();
        match rng.u8(..10) {
            0..2 => {
                let request = self.request_id(vec![filter.to_string()]);
                let filters = [(filter, qos(rng.u8(1..3)))];
                send(link, &Packet::from(Subscribe::new(id(request), &filters).unwrap()));
            }
            2 => {
                let request = self.request_id(vec![filter.to_string()]);
                send(link, &Packet::from(Unsubscribe::new(id(request), &[filter]).unwrap()));
            }
            _ => {
                self.sent += 1;
                let topic = format!("${}/{}:{}", ["g", "h"][group], self.name, self.sent);
                let payload = topic.clone().into_bytes();
                let message = Message { topic, payload, qos: rng.u8(1..3), retain: false };
                self.publish_message(message, link);
            }
        }
    }

    fn publish_message(&mut self, message: Message, link: &mut Link) {
        let level = message.qos;
        let outgoing = Outgoing {
            id: if level == 0 { 1 } else { self.free_id() },
            message,
            is_received: false,
        };
        if self.outgoing.len() < 10 || level == 0 {
            outgoing.send(link, false);
            if level > 0 {
                self.outgoing.push_back(outgoing);
            }
        }
    }

    fn subscribe(&mut self, rng: &mut Rng, link: &mut Link) {
        let filters: Vec<_> = (0..rng.usize(1..4))
            .map(|_| {
                (TopicFilter::new(FILTERS[rng.usize(..FILTERS.len())]).unwrap(), qos(rng.u8(..3)))
            })
            .collect();
        let names = filters.iter().map(|(filter, _)| filter.to_string()).collect();
        let request = self.request_id(names);
        send(link, &Packet::from(Subscribe::new(id(request), &filters).unwrap()));
    }

    fn free_id(&mut self) -> u16 {
        // A small space, so that ids are used again soon.
        loop {
            let id = self.next_id;
            self.next_id = id % 15 + 1;
            if !self.outgoing.iter().any(|outgoing| outgoing.id == id) {
                return id;
            }
        }
    }

    fn request_id(&mut self, filters: Vec<String>) -> u16 {
        let id = (1000..).find(|id| !self.requests.contains_key(id)).unwrap();
        self.requests.insert(id, filters);
        id
    }

    /// Sends answers that it owes, in their order.
    pub(crate) fn answer(&mut self, link: &mut Link, count: usize) {
        for _ in 0..count {
            let Some(answer) = self.answers.pop_front() else { return };
            let packet = match answer {
                Answer::Received(n) => {
                    self.unanswered.remove(&n);
                    self.in_flight.remove(&n);
                    Packet::PubAck(id(n))
                }
                Answer::Recorded(n) => {
                    self.unanswered.remove(&n);
                    Packet::PubRec(id(n))
                }
                Answer::Completed(n) => {
                    self.in_flight.remove(&n);
                    Packet::PubComp(id(n))
                }
            };
            send(link, &packet);
        }
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.answers.is_empty() && self.outgoing.is_empty() && self.requests.is_empty()
    }

    /// Forgets the connection; the session stays.
    pub(crate) fn disconnect(&mut self) {
        self.serial = None;
        self.is_connected = false;
    }

    /// The broker's process is gone: what was in flight may not be known to the next one.
    pub(crate) fn lose_broker(&mut self) {
        self.disconnect();
        self.in_flight.retain(|_, qos| *qos == QoS::ExactlyOnce);
    }

    /// Reads some of what has come. False when the broker has closed and all is read.
    pub(crate) fn read(&mut self, oracle: &mut Oracle, link: &mut Link) -> bool {
        let len = self.appetite.min(link.to_client.len());
        self.input.extend(link.to_client.drain(..len));
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((packet, len)) =
            mqtt_codec::decode(rest, mqtt_codec::MAX_PACKET).expect("the broker sent rubbish")
        {
            rest = &rest[len..];
            self.packets += 1;
            self.handle(&packet, oracle, link);
        }
        self.input = rest.to_vec();
        !(link.is_closed_by_server && link.to_client.is_empty())
    }

    fn handle(&mut self, packet: &Packet<'_>, oracle: &mut Oracle, link: &mut Link) {
        if let Packet::ConnAck(connack) = packet {
            assert!(!self.is_connected, "a second CONNACK");
            let session = self.serial.and_then(|serial| oracle.session_of(serial));
            let session_present = connack.session_present && session == self.session;
            self.session = session;
            self.handle_connack(session_present, link);
            self.session_present = connack.session_present;
            return;
        }
        assert!(self.is_connected, "{packet:?} before CONNACK");
        match packet {
            Packet::Publish(publish) => self.handle_publish(publish, oracle),
            Packet::PubAck(n) => self.handle_ack(n.get(), 1, oracle),
            Packet::PubRec(n) => {
                self.handle_ack(n.get(), 2, oracle);
                send(link, &Packet::PubRel(*n));
            }
            Packet::PubRel(n) => {
                self.unreleased.remove(&n.get());
                self.answers.push_back(Answer::Completed(n.get()));
            }
            Packet::PubComp(n) => {
                let at = self.outgoing.iter().position(|o| o.id == n.get() && o.is_received);
                at.map(|at| self.outgoing.remove(at));
            }
            Packet::SubAck(suback) => {
                let filters = self.requests.remove(&suback.packet_id().get());
                let filters = filters.unwrap_or_else(|| panic!("unasked {suback:?}"));
                // One that it asks about again may be on its way out and in.
                let is_open = |filter: &String| self.requests.values().any(|r| r.contains(filter));
                let filters = filters.into_iter().filter(|filter| !is_open(filter)).collect();
                oracle.grant(&self.name, self.serial.expect("it is connected"), filters);
            }
            Packet::UnsubAck(n) => {
                assert!(self.requests.remove(&n.get()).is_some(), "unasked UNSUBACK");
            }
            Packet::PingResp => {}
            other => panic!("a server does not send {other:?}"),
        }
    }

    fn handle_connack(&mut self, session_present: bool, link: &mut Link) {
        self.is_connected = true;
        self.has_new = false;
        if session_present {
            for outgoing in &self.outgoing {
                outgoing.send(link, true);
            }
        } else {
            // The session is lost, and with it all promises that were not acknowledged.
            self.outgoing.clear();
            self.unreleased.clear();
            self.in_flight.clear();
        }
    }

    /// PUBACK at QoS 1, PUBREC at QoS 2.
    fn handle_ack(&mut self, n: u16, level: u8, oracle: &mut Oracle) {
        let Some(at) = self.outgoing.iter().position(|outgoing| outgoing.id == n) else { return };
        let outgoing = &mut self.outgoing[at];
        assert_eq!(outgoing.message.qos, level, "an answer to another message");
        oracle.acknowledge(&outgoing.message.payload);
        outgoing.is_received = true;
        if level == 1 {
            self.outgoing.remove(at);
        }
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, oracle: &mut Oracle) {
        let level = publish.qos();
        let n = publish.packet_id().map_or(0, PacketId::get);
        let dup = publish.delivery.is_dup();
        let received = Received {
            message: Message {
                topic: publish.topic.to_string(),
                payload: publish.payload.to_vec(),
                qos: level.into(),
                retain: publish.retain,
            },
            id: n,
            dup,
            known: level == QoS::ExactlyOnce && self.unreleased.contains(&n),
        };
        let serial = self.serial.expect("who reads has a connection");
        oracle.received(&self.name, serial, &received);
        if level == QoS::AtMostOnce {
            return;
        }
        assert!(!dup || self.session_present && !self.has_new, "DUP on a first sending");
        self.has_new |= !dup;
        assert!(self.unanswered.insert(n), "id {n} is open twice");
        self.in_flight.insert(n, level);
        if level == QoS::AtLeastOnce && is_shared(publish.topic.as_str()) {
            self.shared.insert(n);
        } else {
            self.shared.remove(&n);
        }
        assert!(
            self.in_flight.len() <= self.window,
            "{} in flight, {} allowed",
            self.in_flight.len(),
            self.window
        );
        if level == QoS::AtLeastOnce {
            self.answers.push_back(Answer::Received(n));
        } else {
            self.unreleased.insert(n);
            self.answers.push_back(Answer::Recorded(n));
        }
    }
}

impl Outgoing {
    /// Sends the PUBLISH, or the PUBREL when the broker owns the message.
    fn send(&self, link: &mut Link, dup: bool) {
        let id = id(self.id);
        let delivery = match self.message.qos {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce { id, dup },
            _ => Delivery::ExactlyOnce { id, dup },
        };
        if self.is_received {
            send(link, &Packet::PubRel(id));
        } else {
            let topic = TopicName::new(&self.message.topic).unwrap();
            let Message { payload, retain, .. } = &self.message;
            send(link, &Packet::Publish(Publish { topic, payload, delivery, retain: *retain }));
        }
    }
}
