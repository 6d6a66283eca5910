use std::collections::VecDeque;

use crate::client::{Peer, packet_id};
use crate::ledger::{Ledger, Stream};
use crate::wire::{Packet, packet, publish};

/// Messages that may be on their way. Some are cut off by every kill.
const WINDOW: usize = 40;

/// Topics of retained messages of one publisher.
const RETAINED: u32 = 8;

/// Publishes without end: QoS 1, QoS 2 and retained messages, each numbered.
pub(crate) struct Publisher {
    number: u8,
    /// In the order in which they were sent first.
    unfinished: VecDeque<Sent>,
    next_id: u16,
    /// How many of each stream were begun.
    begun: [u32; 3],
    pub(crate) is_resting: bool,
}

struct Sent {
    id: u16,
    stream: Stream,
    number: u32,
    is_received: bool,
}

impl Publisher {
    pub(crate) fn new(number: u8) -> Self {
        let unfinished = VecDeque::new();
        Self { number, unfinished, next_id: 1, begun: [0; 3], is_resting: false }
    }

    fn fill_window(&mut self, ledger: &Ledger, out: &mut Vec<u8>) {
        while !self.is_resting && self.unfinished.len() < WINDOW {
            // Half of them QoS 1, and some retained.
            let kind = *fastrand::choice(&[0, 0, 0, 1, 1, 2]).expect("there are six");
            let number = self.begun[kind];
            self.begun[kind] += 1;
            let stream = match kind {
                0 => Stream::AtLeastOnce(self.number),
                1 => Stream::ExactlyOnce(self.number),
                _ => Stream::Retained(self.number, (number % RETAINED) as u8),
            };
            let sent = Sent { id: self.next_id, stream, number, is_received: false };
            self.next_id = if self.next_id == u16::MAX { 1 } else { self.next_id + 1 };
            ledger.begin(stream, number);
            sent.write(false, out);
            self.unfinished.push_back(sent);
        }
    }
}

impl Sent {
    fn write(&self, dup: bool, out: &mut Vec<u8>) {
        let first = match self.stream {
            Stream::AtLeastOnce(_) => 0x32,
            Stream::ExactlyOnce(_) => 0x34,
            Stream::Retained(..) => 0x33,
        };
        let payload = format!("{:<120}", self.number);
        let topic = self.stream.topic();
        let first = first | u8::from(dup) << 3;
        out.extend(publish(first, topic.as_bytes(), Some(self.id), payload.as_bytes()));
    }

    fn write_release(&self, out: &mut Vec<u8>) {
        out.extend(packet(0x62, &self.id.to_be_bytes()));
    }
}

impl Peer for Publisher {
    fn name(&self) -> String {
        format!("publisher-{}", self.number)
    }

    fn handle_connack(&mut self, session_present: bool, ledger: &Ledger, out: &mut Vec<u8>) {
        if !session_present {
            // The exchanges behind a PUBREC are over: the broker has the message.
            self.unfinished.retain(|sent| !sent.is_received);
        }
        for sent in &self.unfinished {
            match sent.is_received {
                true => sent.write_release(out),
                false => sent.write(true, out),
            }
        }
        self.fill_window(ledger, out);
    }

    fn handle(&mut self, packet: &Packet, ledger: &Ledger, out: &mut Vec<u8>) {
        let id = packet_id(packet);
        let place = self.unfinished.iter().position(|sent| sent.id == id);
        let sent = place.and_then(|place| self.unfinished.get_mut(place));
        match (packet.first, sent) {
            // PUBACK, PUBREC, PUBCOMP.
            (0x40, Some(sent)) => ledger.acknowledge(sent.stream, sent.number),
            (0x50, Some(sent)) => {
                if !std::mem::replace(&mut sent.is_received, true) {
                    ledger.acknowledge(sent.stream, sent.number);
                }
                sent.write_release(out);
            }
            (0x70, Some(_)) => {}
            (0x50, None) => out.extend(crate::wire::packet(0x62, &id.to_be_bytes())),
            (_, None) => {}
            (first, Some(_)) => panic!("a publisher gets {first:#x}"),
        }
        if packet.first != 0x50 {
            self.unfinished.retain(|sent| sent.id != id);
        }
        self.fill_window(ledger, out);
    }
}
