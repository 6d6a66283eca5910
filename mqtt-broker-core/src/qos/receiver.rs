use mqtt_codec::PacketId;
use thiserror::Error;

/// The receiving half of QoS 2: ids whose PUBLISH has come and whose PUBREL has not.
///
/// QoS 1 needs no memory at all: after its PUBACK the same id is a new message [MQTT-4.3.2-2].
///
/// Ids come in rising order from nearly every sender, so they are kept as ranges: usually one.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// First and last id of each range; ordered, apart by at least one id.
    ranges: Vec<(u16, u16)>,
    open: usize,
    limit: usize,
}

/// Whether a QoS 2 PUBLISH is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Deliver it and answer PUBREC.
    First,
    /// The same message again: answer PUBREC and do not deliver [MQTT-4.3.3-2].
    Again,
}

/// The sender opens more QoS 2 exchanges than it is allowed to without a PUBREL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more than {limit} QoS 2 messages are received and not released")]
pub struct TooManyOpen {
    /// The limit.
    pub limit: usize,
}

impl Receiver {
    /// At most `limit` ids open at a time; each range of them costs 4 bytes.
    pub const fn new(limit: usize) -> Self {
        Self { ranges: Vec::new(), open: 0, limit }
    }

    /// How many ids are open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The open ids, rising.
    pub fn ids(&self) -> impl Iterator<Item = PacketId> {
        self.ranges.iter().flat_map(|&(first, last)| first..=last).filter_map(PacketId::new)
    }

    /// The open ids as ranges: the first and the last of each, rising.
    pub fn ranges(&self) -> impl Iterator<Item = (PacketId, PacketId)> {
        let ranges = self.ranges.iter();
        ranges.filter_map(|&(first, last)| Some((PacketId::new(first)?, PacketId::new(last)?)))
    }

    /// What [`handle_publish`](Self::handle_publish) would say.
    pub fn look_up(&self, id: PacketId) -> Result<Seen, TooManyOpen> {
        let id = id.get();
        let next = self.ranges.partition_point(|&(first, _)| first <= id);
        let before = next.checked_sub(1).and_then(|n| self.ranges.get(n));
        match before {
            Some(&(_, last)) if id <= last => Ok(Seen::Again),
            _ if self.open >= self.limit => Err(TooManyOpen { limit: self.limit }),
            _ => Ok(Seen::First),
        }
    }

    /// Whether none of the ids from `first` to `last` is open, and `count` of them may be.
    pub fn are_free(&self, first: PacketId, last: PacketId, count: usize) -> bool {
        let behind = self.ranges.partition_point(|&(start, _)| start <= last.get());
        let before = behind.checked_sub(1).and_then(|n| self.ranges.get(n));
        before.is_none_or(|&(_, end)| end < first.get()) && self.open + count <= self.limit
    }

    /// PUBLISH of QoS 2.
    #[expect(
        clippy::indexing_slicing,
        reason = "`next` and the range before it are looked at first"
    )]
    pub fn handle_publish(&mut self, id: PacketId) -> Result<Seen, TooManyOpen> {
        let id = id.get();
        // The first range that begins behind `id`; the one before it is the only one to hold it.
        let next = self.ranges.partition_point(|&(first, _)| first <= id);
        let before = next.checked_sub(1).and_then(|n| self.ranges.get(n)).copied();
        if before.is_some_and(|(_, last)| id <= last) {
            return Ok(Seen::Again);
        }
        if self.open >= self.limit {
            return Err(TooManyOpen { limit: self.limit });
        }
        self.open += 1;
        let joins_before = before.is_some_and(|(_, last)| last + 1 == id);
        let joins_next = self.ranges.get(next).is_some_and(|&(first, _)| id + 1 == first);
        match (joins_before, joins_next) {
            (false, false) => self.ranges.insert(next, (id, id)),
            (true, false) => self.ranges[next - 1].1 = id,
            (false, true) => self.ranges[next].0 = id,
            (true, true) => self.ranges[next - 1].1 = self.ranges.remove(next).1,
        }
        Ok(Seen::First)
    }

    /// PUBREL: the id is free. Answer PUBCOMP whatever this returns [MQTT-4.3.3-2]; false when the
    /// id was not open.
    #[expect(clippy::indexing_slicing, reason = "the range before the first one behind the id")]
    pub fn handle_pubrel(&mut self, id: PacketId) -> bool {
        let id = id.get();
        let next = self.ranges.partition_point(|&(first, _)| first <= id);
        let Some(at) = next.checked_sub(1) else { return false };
        let (first, last) = self.ranges[at];
        if id > last {
            return false;
        }
        self.open -= 1;
        match (id == first, id == last) {
            (true, true) => drop(self.ranges.remove(at)),
            (true, false) => self.ranges[at].0 += 1,
            (false, true) => self.ranges[at].1 -= 1,
            (false, false) => {
                self.ranges[at].1 = id - 1;
                self.ranges.insert(next, (id + 1, last));
            }
        }
        true
    }

    /// Takes up what was open in an earlier life of the program: [`ranges`](Self::ranges) of then.
    /// The limit holds again when they are released.
    pub fn restore(&mut self, ranges: &[(PacketId, PacketId)]) {
        self.ranges = ranges.iter().map(|(first, last)| (first.get(), last.get())).collect();
        self.open = self.ids().count();
    }

    /// Forgets every id, because the session is lost.
    pub fn clear(&mut self) {
        self.ranges = Vec::new();
        self.open = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).unwrap()
    }

    // MQTT-4.3.3-2
    #[test]
    fn the_same_id_is_the_same_message_until_pubrel() {
        let mut receiver = Receiver::new(10);
        assert_eq!(receiver.handle_publish(id(7)), Ok(Seen::First));
        assert_eq!(receiver.handle_publish(id(7)), Ok(Seen::Again));
        assert!(receiver.handle_pubrel(id(7)));
        assert!(!receiver.handle_pubrel(id(7)));
        assert_eq!(receiver.handle_publish(id(7)), Ok(Seen::First));
    }

    #[test]
    fn the_number_of_open_ids_is_bounded() {
        let mut receiver = Receiver::new(2);
        receiver.handle_publish(id(1)).unwrap();
        receiver.handle_publish(id(9)).unwrap();
        assert_eq!(receiver.handle_publish(id(5)), Err(TooManyOpen { limit: 2 }));
        assert_eq!(receiver.handle_publish(id(9)), Ok(Seen::Again), "a repetition is no new id");
        receiver.handle_pubrel(id(1));
        assert_eq!(receiver.handle_publish(id(5)), Ok(Seen::First));
    }

    #[test]
    fn the_last_ids_of_the_space_join_without_overflow() {
        let mut receiver = Receiver::new(10);
        for n in [65_535, 65_534, 1, 2] {
            assert_eq!(receiver.handle_publish(id(n)), Ok(Seen::First));
        }
        assert_eq!(receiver.ranges, [(1, 2), (65_534, 65_535)]);
        assert_eq!(receiver.handle_publish(id(65_535)), Ok(Seen::Again));
    }

    proptest! {
        #[test]
        fn ranges_hold_the_same_ids_as_a_set(
            steps in prop::collection::vec((any::<bool>(), 1u16..40), 0..400),
            (first, more, count) in (1u16..40, 0u16..10, 0usize..30),
        ) {
            let mut receiver = Receiver::new(30);
            let mut set = BTreeSet::new();
            for (publish, n) in steps {
                if publish {
                    let expected = match (set.contains(&n), set.len()) {
                        (true, _) => Ok(Seen::Again),
                        (false, 30..) => Err(TooManyOpen { limit: 30 }),
                        (false, _) => Ok(Seen::First),
                    };
                    prop_assert_eq!(receiver.handle_publish(id(n)), expected);
                    if expected == Ok(Seen::First) {
                        set.insert(n);
                    }
                } else {
                    prop_assert_eq!(receiver.handle_pubrel(id(n)), set.remove(&n));
                }
                prop_assert_eq!(receiver.open(), set.len());
                prop_assert!(receiver.ids().map(PacketId::get).eq(set.iter().copied()));
                let are_free = set.range(first..=first + more).next().is_none();
                prop_assert_eq!(
                    receiver.are_free(id(first), id(first + more), count),
                    are_free && set.len() + count <= 30
                );
                prop_assert!(receiver.ranges.is_sorted());
                prop_assert!(receiver.ranges.windows(2).all(|w| w[0].1 + 1 < w[1].0), "joined");
            }
        }
    }
}
