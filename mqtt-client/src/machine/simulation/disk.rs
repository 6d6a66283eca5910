use std::collections::{BTreeMap, BTreeSet};

use mqtt_codec::PacketId;

use crate::store::{Change, Snapshot, Stage, StoredMessage};

/// What a store keeps, and the changes that it has not carried out yet.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) messages: BTreeMap<u64, StoredMessage>,
    pub(super) received: BTreeSet<PacketId>,
    pub(super) pending: Vec<Change>,
}

impl Disk {
    /// The first of the changes that are pending.
    pub(super) fn carry_out(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            match change {
                Change::Put(number, message) => {
                    assert_eq!(message.stage, Stage::Queued);
                    assert!(self.messages.insert(number, message).is_none(), "{number} is taken");
                }
                Change::Stage(number, stage) => {
                    self.messages.get_mut(&number).expect("it is there").stage = stage;
                }
                Change::Remove(number) => {
                    self.messages.remove(&number).expect("it is there");
                }
                Change::Received(id) => drop(self.received.insert(id)),
                Change::Forgotten(id) => drop(self.received.remove(&id)),
                Change::ForgotAll => self.received.clear(),
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let messages = self.messages.iter().map(|(number, stored)| (*number, stored.clone()));
        let received = self.received.iter().copied();
        Snapshot { messages: messages.collect(), received: received.collect() }
    }
}
