use std::collections::{HashMap, HashSet, VecDeque};

use mqtt_codec::{Packet, PacketId, Publish, decode};

/// What was seen on the wire, and so what the client may send.
#[derive(Default)]
pub(super) struct Wire {
    up: Vec<u8>,
    down: Vec<u8>,
    /// Which connection this is.
    connection: u32,
    /// Exchanges of the session that the client began and that no acknowledgement has ended.
    pub(super) open: HashMap<PacketId, Exchange>,
    pub(super) acknowledgeable: VecDeque<PacketId>,
    /// What was delivered with QoS 2, and of that what PUBREC has left for.
    pub(super) delivered: HashMap<PacketId, u32>,
    pub(super) recorded: HashSet<u32>,
    /// A PUBLISH may have been cut off before it was whole, or been lost with the program: what
    /// comes with DUP may not have been seen.
    pub(super) may_miss: bool,
}

#[derive(Debug)]
pub(super) struct Exchange {
    /// The connection on which PUBLISH was last sent.
    connection: u32,
    payload: Vec<u8>,
    /// PUBREC came, so that PUBREL is due and PUBLISH is not allowed.
    pub(super) released: bool,
}

impl Wire {
    pub(super) fn connect(&mut self) {
        self.connection += 1;
        self.up.clear();
        self.down.clear();
        self.acknowledgeable.clear();
    }

    /// Looks at the client's packets: what it may not send is noticed here.
    pub(super) fn watch_up(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
        let mut up = std::mem::take(&mut self.up);
        let mut at = 0;
        while let Some((packet, len)) = decode(&up[at..], 1 << 20).unwrap() {
            at += len;
            match packet {
                Packet::Connect(connect) if connect.clean_session() => self.open.clear(),
                Packet::Publish(publish) => self.watch_publish(&publish),
                Packet::PubRel(id) => {
                    let open = self.open.get(&id);
                    assert!(open.is_none_or(|open| open.released), "PUBREL {id} before its PUBREC");
                }
                Packet::PubAck(id) | Packet::PubRec(id) => {
                    if let Packet::PubRec(id) = packet {
                        self.recorded.extend(self.delivered.get(&id));
                    }
                    // MQTT-4.6.0-2, MQTT-4.6.0-3: those before it may be repetitions that are not
                    // delivered, but no later one comes first.
                    if let Some(place) = self.acknowledgeable.iter().position(|other| *other == id)
                    {
                        assert_eq!(place, 0, "{id} is acknowledged before its turn");
                        self.acknowledgeable.pop_front();
                    }
                }
                _ => {}
            }
        }
        up.drain(..at);
        self.up = up;
    }

    fn watch_publish(&mut self, publish: &Publish<'_>) {
        let Some(id) = publish.packet_id() else { return };
        let (connection, payload) = (self.connection, publish.payload.to_vec());
        let before = self.open.insert(id, Exchange { connection, payload, released: false });
        match (publish.delivery.is_dup(), before) {
            (false, None) => {}
            // MQTT-3.3.1-1, MQTT-4.4.0-1
            (true, Some(before)) => {
                assert!(before.connection < connection, "{id} again on the same connection");
                assert!(!before.released, "PUBLISH {id} after its PUBREL");
                assert_eq!(before.payload, publish.payload, "{id} is another message");
            }
            (true, None) => assert!(self.may_miss, "DUP on the first sending of {id}"),
            // MQTT-2.3.1-2, MQTT-3.3.1-1
            (false, Some(before)) => panic!("no DUP on {id}, or it is given out twice: {before:?}"),
        }
    }

    /// Looks at what reaches the client: it ends exchanges.
    pub(super) fn watch_down(&mut self, bytes: &[u8]) {
        self.down.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((packet, len)) = decode(&self.down[at..], 1 << 20).unwrap() {
            at += len;
            match packet {
                Packet::ConnAck(connack) if !connack.session_present => self.open.clear(),
                Packet::PubAck(id) | Packet::PubComp(id) => drop(self.open.remove(&id)),
                Packet::PubRec(id) => {
                    self.open.entry(id).and_modify(|open| open.released = true);
                }
                _ => {}
            }
        }
        self.down.drain(..at);
    }
}
