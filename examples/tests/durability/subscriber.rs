use std::collections::BTreeSet;

use crate::client::{Peer, packet_id};
use crate::ledger::{Ledger, Stream};
use crate::wire::{Packet, packet, subscribe};

/// Reads and acknowledges everything, with a session that is kept.
pub(crate) struct Subscriber {
    name: &'static str,
    is_subscribed: bool,
    /// QoS 2 messages that are received and not released.
    received: BTreeSet<u16>,
}

impl Subscriber {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, is_subscribed: false, received: BTreeSet::new() }
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    fn handle_publish(&mut self, publish: &Packet, ledger: &Ledger, out: &mut Vec<u8>) {
        let (length, rest) = publish.body.split_at(2);
        let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let (id, payload) = rest.split_at(2);
        let stream = Stream::of(topic);
        let number = str::from_utf8(payload).expect("it is a number").trim_end();
        let number = number.parse().expect("it is a number");
        let id = u16::from_be_bytes([id[0], id[1]]);
        if publish.first & 6 == 4 {
            if self.received.insert(id) {
                ledger.deliver(self.name, stream, number);
            }
            out.extend(packet(0x50, &id.to_be_bytes()));
        } else {
            ledger.deliver(self.name, stream, number);
            out.extend(packet(0x40, &id.to_be_bytes()));
        }
    }
}

impl Peer for Subscriber {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn handle_connack(&mut self, session_present: bool, ledger: &Ledger, out: &mut Vec<u8>) {
        if !session_present {
            if self.is_subscribed {
                ledger.lose_session();
            }
            self.received.clear();
        }
        if !session_present || !self.is_subscribed {
            out.extend(subscribe(1, &[("1/+", 1), ("2/+", 2)]));
        }
    }

    fn handle(&mut self, publish: &Packet, ledger: &Ledger, out: &mut Vec<u8>) {
        match publish.first {
            0x90 => self.is_subscribed = true,
            0x62 => {
                self.received.remove(&packet_id(publish));
                out.extend(packet(0x70, &publish.body));
            }
            first if first >> 4 == 3 => self.handle_publish(publish, ledger, out),
            first => panic!("a subscriber gets {first:#x}"),
        }
    }
}
