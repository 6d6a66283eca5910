use std::collections::VecDeque;

use mqtt_broker_core::qos::AckedQoS;
use mqtt_codec::PacketId;

/// What was received with QoS 1 and 2 and is not acknowledged: acknowledgements leave in the order
/// of the messages, whatever the order in which the application is done with them
/// [MQTT-4.6.0-2], [MQTT-4.6.0-3].
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Number of `entries[0]`. Numbers are never used again, so that what the application says
    /// about a message of an earlier connection finds nothing.
    first: u64,
    entries: VecDeque<Entry>,
    /// QoS 2 messages of earlier connections that the application still has to take. The broker
    /// sends them again, and they are not delivered again.
    orphans: Vec<Orphan>,
}

#[derive(Debug)]
struct Entry {
    id: PacketId,
    qos: AckedQoS,
    /// How many streams have not taken it.
    waiting: u32,
}

#[derive(Debug)]
struct Orphan {
    number: u64,
    id: PacketId,
    waiting: u32,
    /// The entry of the broker's repetition, if it came.
    again: Option<u64>,
}

impl Ledger {
    /// A message to deliver to `waiting` streams. Gives it a number.
    pub(crate) fn receive(&mut self, id: PacketId, qos: AckedQoS, waiting: u32) -> u64 {
        self.entries.push_back(Entry { id, qos, waiting });
        self.first + self.entries.len() as u64 - 1
    }

    /// A QoS 2 message that was delivered before. It is acknowledged when the application has taken
    /// what was delivered.
    pub(crate) fn receive_again(&mut self, id: PacketId) {
        let number = self.receive(id, AckedQoS::ExactlyOnce, 0);
        let orphan = self.orphans.iter_mut().find(|orphan| orphan.id == id);
        if let (Some(orphan), Some(entry)) = (orphan, self.entries.back_mut()) {
            entry.waiting = 1;
            orphan.again = Some(number);
        }
    }

    /// One stream has taken message `number`. Gives the id of a QoS 2 message that all have taken now.
    pub(crate) fn take(&mut self, number: u64) -> Option<PacketId> {
        if let Some(entry) = self.entry(number) {
            entry.waiting = entry.waiting.saturating_sub(1);
            let is_taken = entry.waiting == 0 && entry.qos == AckedQoS::ExactlyOnce;
            return is_taken.then_some(entry.id);
        }
        let at = self.orphans.iter().position(|orphan| orphan.number == number)?;
        self.orphans[at].waiting -= 1;
        if self.orphans[at].waiting > 0 {
            return None;
        }
        let Orphan { id, again, .. } = self.orphans.swap_remove(at);
        if let Some(entry) = again.and_then(|number| self.entry(number)) {
            entry.waiting = 0;
        }
        Some(id)
    }

    /// Whether the broker waits for the acknowledgement of message `number`.
    pub(crate) fn is_awaited(&self, number: u64) -> bool {
        let past = self.first + self.entries.len() as u64;
        (self.first..past).contains(&number)
            || self.orphans.iter().any(|orphan| orphan.number == number && orphan.again.is_some())
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Whether [`pop_ready`](Self::pop_ready) has something.
    pub(crate) fn is_ready(&self) -> bool {
        self.entries.front().is_some_and(|entry| entry.waiting == 0)
    }

    /// The next acknowledgement that may leave.
    pub(crate) fn pop_ready(&mut self) -> Option<(AckedQoS, PacketId)> {
        if !self.is_ready() {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.first += 1;
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
        Some((entry.qos, entry.id))
    }

    /// Messages that are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The connection ended: nothing of it can be acknowledged any more.
    pub(crate) fn end_connection(&mut self) {
        for orphan in &mut self.orphans {
            orphan.again = None;
        }
        let numbers = self.first..;
        self.first += self.entries.len() as u64;
        for (number, Entry { id, qos, waiting }) in numbers.zip(self.entries.drain(..)) {
            let known = self.orphans.iter().any(|orphan| orphan.id == id);
            if qos == AckedQoS::ExactlyOnce && waiting > 0 && !known {
                self.orphans.push(Orphan { number, id, waiting, again: None });
            }
        }
    }

    /// The broker forgot the session: packet ids mean other messages now.
    pub(crate) fn end_session(&mut self) {
        self.orphans.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AckedQoS::{AtLeastOnce, ExactlyOnce};

    fn id(n: u16) -> PacketId {
        PacketId::new(n).unwrap()
    }

    fn ready(ledger: &mut Ledger) -> Vec<u16> {
        std::iter::from_fn(|| ledger.pop_ready()).map(|(_, id)| id.get()).collect()
    }

    // MQTT-4.6.0-2, MQTT-4.6.0-3
    #[test]
    fn acknowledgements_leave_in_the_order_of_the_messages() {
        let mut ledger = Ledger::default();
        let numbers: Vec<_> = (1..=4)
            .map(|n| ledger.receive(id(n), if n % 2 == 0 { ExactlyOnce } else { AtLeastOnce }, 1))
            .collect();
        ledger.take(numbers[2]);
        ledger.take(numbers[1]);
        assert_eq!(ready(&mut ledger), [0; 0]);
        ledger.take(numbers[0]);
        assert_eq!(ready(&mut ledger), [1, 2, 3]);
        ledger.take(numbers[3]);
        assert_eq!(ready(&mut ledger), [4]);
    }

    #[test]
    fn a_message_for_two_streams_waits_for_both() {
        let mut ledger = Ledger::default();
        let number = ledger.receive(id(1), AtLeastOnce, 2);
        ledger.take(number);
        assert!(!ledger.is_ready());
        ledger.take(number);
        assert!(ledger.is_ready());
    }

    #[test]
    fn what_outlives_its_connection_acknowledges_nothing_of_the_next() {
        let mut ledger = Ledger::default();
        let stale = ledger.receive(id(1), AtLeastOnce, 1);
        ledger.end_connection();
        ledger.receive(id(1), AtLeastOnce, 1);
        ledger.take(stale);
        assert!(!ledger.is_ready());
    }

    #[test]
    fn a_repeated_qos_2_message_waits_for_the_copy_that_was_delivered() {
        let mut ledger = Ledger::default();
        let first = ledger.receive(id(7), ExactlyOnce, 2);
        ledger.end_connection();
        ledger.receive_again(id(7));
        ledger.take(first);
        ledger.end_connection();
        ledger.receive_again(id(7));
        assert!(!ledger.is_ready());
        ledger.take(first);
        assert_eq!(ready(&mut ledger), [7]);
        // Taken before it came again.
        let second = ledger.receive(id(8), ExactlyOnce, 1);
        ledger.end_connection();
        ledger.take(second);
        ledger.receive_again(id(8));
        assert_eq!(ready(&mut ledger), [8]);
    }
}
