//! What a store keeps of the machine: taken up at the start, and told of every change.

use std::time::Instant;

use mqtt_broker_core::qos::{AckedQoS, Seen};
use mqtt_codec::PacketId;

use super::{Machine, Outgoing, Pushed, Queued, Token};
use crate::receipt::Delivered;
use crate::store::{Change, Snapshot, Stage as Stored, StoredMessage};

impl Machine {
    /// Takes up what a store kept, and tells it of every change from now on. The tokens are for
    /// those messages, in their order.
    pub(crate) fn restore(
        &mut self,
        snapshot: Snapshot,
        mut slot: impl FnMut() -> usize,
        expires: impl Fn(u64) -> Option<Instant>,
    ) {
        self.journal = Some(Vec::new());
        let mut sent = Vec::new();
        let mut messages = snapshot.messages;
        messages.sort_by_key(|(number, _)| *number);
        for (number, stored) in messages {
            self.next_stored = self.next_stored.max(number + 1);
            self.counters.published += 1;
            let token = Token { slot: slot(), stored: number };
            let StoredMessage { topic, payload, qos, retain, replaceable, .. } = stored;
            let order = match stored.stage {
                Stored::Queued => 0,
                Stored::Sent(_, order) | Stored::Released(_, order) => order,
            };
            let message = Outgoing { topic, payload, retain, token, order };
            match stored.stage {
                Stored::Queued => {
                    let expires = expires(stored.expires);
                    let queued =
                        Queued { message, qos, expires, replaceable, fails_offline: false };
                    if let Pushed::Replaced(older) = self.queue.push(queued) {
                        self.end(older, Ok(Delivered::Superseded));
                    }
                }
                Stored::Sent(id, _) => sent.push((order, id, AckedQoS::new(qos), message)),
                Stored::Released(id, _) => sent.push((order, id, None, message)),
            }
        }
        sent.sort_by_key(|(order, ..)| *order);
        for (order, id, qos, message) in sent {
            self.next_sending = self.next_sending.max(order + 1);
            let token = message.token;
            match qos {
                Some(qos) => drop(self.sender.restore(id, Some((qos, message)))),
                None => {
                    self.sender.restore(id, None);
                    self.released.push_back((id, token));
                }
            }
        }
        for id in snapshot.received {
            // Every id may be open.
            let _ = self.receiver.handle_publish(id);
        }
    }

    /// What the store is to be told.
    pub(crate) fn take_journal(&mut self) -> Vec<Change> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change());
        }
    }

    /// The application has taken a QoS 2 message: it is not to get it again, in no life, also if the
    /// PUBREC does not leave in this one.
    pub(super) fn note_received(&mut self, id: PacketId) {
        // A broker that has sent PUBREL already gives the id to another message.
        if let Ok(Seen::Again) = self.receiver.look_up(id) {
            self.note(|| Change::Received(id));
        }
    }

    pub(super) fn note_stage(&mut self, token: Token, stage: Stored) {
        if token.stored != 0 {
            self.note(|| Change::Stage(token.stored, stage));
        }
    }
}
