use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use mqtt_codec::{QoS, TopicNameBuf};

use super::Token;
use crate::offline::{Limit, WhenFull};

/// A message of ours on its way.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: TopicNameBuf,
    pub(crate) payload: Bytes,
    pub(crate) retain: bool,
    pub(crate) token: Token,
    /// As the so-manieth it was sent, for the store.
    pub(crate) order: u64,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        self.topic.as_bytes().len() + self.payload.len()
    }
}

/// A message that waits to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) message: Outgoing,
    pub(crate) qos: QoS,
    pub(crate) expires: Option<Instant>,
    /// A newer message with its topic takes its place.
    pub(crate) replaceable: bool,
    /// It fails when there is no connection.
    pub(crate) fails_offline: bool,
}

/// The messages that wait to be sent, in order, within a bound.
#[derive(Debug)]
pub(crate) struct Queue {
    limit: Limit,
    /// Place of `entries[0]`. Places only grow at the back and shrink at the front.
    first: u64,
    /// Emptied places stay until they come to the front.
    entries: VecDeque<Option<Queued>>,
    len: usize,
    bytes: usize,
    /// The places of the messages that may be replaced.
    latest: HashMap<TopicNameBuf, u64>,
    /// Messages that expire, soonest first. They may be gone, and another in their place.
    expiries: BinaryHeap<Reverse<(Instant, u64)>>,
    failing: usize,
}

/// Far from both ends of the numbers, so that places can be added in front.
const FIRST_PLACE: u64 = 1 << 63;

/// So many places and expiries of messages that are gone are kept at any length of the queue, so that
/// a short one is not gone through each time.
const SPARE: usize = 64;

/// What became of a message that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is in the queue.
    Queued,
    /// It is in the queue, and this one with its topic is not any more.
    Replaced(Token),
}

impl Queue {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            limit,
            first: FIRST_PLACE,
            entries: VecDeque::new(),
            len: 0,
            bytes: 0,
            latest: HashMap::new(),
            expiries: BinaryHeap::new(),
            failing: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn when_full(&self) -> WhenFull {
        self.limit.when_full
    }

    /// Whether a message of so many bytes fits in.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.len < self.limit.messages && (self.len == 0 || self.bytes + bytes <= self.limit.bytes)
    }

    /// Whether a message of so many bytes would take the place of another, and fits there.
    pub(crate) fn replaces(&self, topic: &TopicNameBuf, bytes: usize) -> bool {
        let older = self.latest.get(topic).and_then(|place| self.at(*place));
        older.map(|older| older.message.bytes()).is_some_and(|older| {
            self.len == 1 || bytes <= older || self.bytes - older + bytes <= self.limit.bytes
        })
    }

    /// Adds a message at the end, whether there is room or not.
    pub(crate) fn push(&mut self, queued: Queued) -> Pushed {
        self.compact();
        let place = self.first + self.entries.len() as u64;
        self.len += 1;
        self.bytes += queued.message.bytes();
        self.failing += usize::from(queued.fails_offline);
        if let Some(expires) = queued.expires {
            self.expiries.push(Reverse((expires, place)));
        }
        let older = match queued.replaceable {
            true => self.latest.insert(queued.message.topic.clone(), place),
            false => None,
        };
        self.entries.push_back(Some(queued));
        match older.and_then(|place| self.take(place)) {
            Some(older) => Pushed::Replaced(older.message.token),
            None => Pushed::Queued,
        }
    }

    /// Puts a message back that was taken from the front. There may be a newer one of its topic.
    pub(crate) fn push_front(&mut self, queued: Queued) {
        self.compact();
        self.first -= 1;
        self.len += 1;
        self.bytes += queued.message.bytes();
        self.failing += usize::from(queued.fails_offline);
        if let Some(expires) = queued.expires {
            self.expiries.push(Reverse((expires, self.first)));
        }
        self.entries.push_front(Some(Queued { replaceable: false, ..queued }));
    }

    /// The message that is next.
    pub(crate) fn front(&self) -> Option<&Queued> {
        self.entries.front().and_then(Option::as_ref)
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        self.take(self.first)
    }

    /// When the next message expires; it may be gone by then.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.peek().map(|Reverse((expires, _))| *expires)
    }

    /// A message whose time is up.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<Queued> {
        while self.next_expiry().is_some_and(|expires| expires <= now) {
            let Reverse((expires, place)) = self.expiries.pop()?;
            if self.at(place).is_some_and(|queued| queued.expires == Some(expires)) {
                return self.take(place);
            }
        }
        None
    }

    /// A message that is not to wait for a connection.
    pub(crate) fn pop_failing(&mut self) -> Option<Queued> {
        if self.failing == 0 {
            return None;
        }
        let fails = |entry: &Option<Queued>| entry.as_ref().is_some_and(|e| e.fails_offline);
        let index = self.entries.iter().position(fails)?;
        self.take(self.first + index as u64)
    }

    /// Lets go of memory that an idle client does not need.
    pub(crate) fn shrink(&mut self) {
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
            self.latest = HashMap::new();
            self.expiries = BinaryHeap::new();
        }
    }

    /// Lets go of what is left of messages that are gone, when it is the most of what is held. Behind
    /// a first message that waits for long it would pile up.
    fn compact(&mut self) {
        let most = 2 * self.len + SPARE;
        if self.entries.len().max(self.expiries.len()) <= most {
            return;
        }
        self.entries.retain(Option::is_some);
        self.expiries.clear();
        for (place, queued) in (self.first..).zip(self.entries.iter().flatten()) {
            self.expiries.extend(queued.expires.map(|expires| Reverse((expires, place))));
            if queued.replaceable {
                self.latest.insert(queued.message.topic.clone(), place);
            }
        }
    }

    fn at(&self, place: u64) -> Option<&Queued> {
        self.entries.get(self.index(place)?)?.as_ref()
    }

    fn index(&self, place: u64) -> Option<usize> {
        usize::try_from(place.checked_sub(self.first)?).ok()
    }

    /// Takes the message at `place` out, and lets go of empty places at the front.
    fn take(&mut self, place: u64) -> Option<Queued> {
        let index = self.index(place)?;
        let queued = self.entries.get_mut(index)?.take()?;
        self.len -= 1;
        self.bytes -= queued.message.bytes();
        self.failing -= usize::from(queued.fails_offline);
        if queued.replaceable && self.latest.get(&queued.message.topic) == Some(&place) {
            self.latest.remove(&queued.message.topic);
        }
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        Some(queued)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queued(topic: &str, slot: usize) -> Queued {
        let topic = TopicNameBuf::new(topic).unwrap();
        let payload = Bytes::from_static(b"12345");
        Queued {
            message: Outgoing { topic, payload, retain: false, token: token(slot), order: 0 },
            qos: QoS::AtMostOnce,
            expires: None,
            replaceable: false,
            fails_offline: false,
        }
    }

    fn latest(topic: &str, slot: usize) -> Queued {
        Queued { replaceable: true, ..queued(topic, slot) }
    }

    fn token(slot: usize) -> Token {
        Token { slot, stored: 0 }
    }

    fn drained(queue: &mut Queue) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop()).map(|queued| queued.message.token.slot).collect()
    }

    #[test]
    fn the_newest_of_a_topic_takes_its_place_in_time() {
        let mut queue = Queue::new(Limit::default());
        assert_eq!(queue.push(latest("a", 1)), Pushed::Queued);
        assert_eq!(queue.push(queued("b", 2)), Pushed::Queued);
        assert_eq!(queue.push(latest("a", 3)), Pushed::Replaced(token(1)));
        assert_eq!(queue.push(queued("a", 4)), Pushed::Queued, "not of the policy");
        assert_eq!(queue.push(latest("a", 5)), Pushed::Replaced(token(3)));
        assert_eq!((queue.len(), queue.bytes()), (3, 18));
        assert_eq!(drained(&mut queue), [2, 4, 5]);
        assert_eq!(queue.push(latest("a", 6)), Pushed::Queued, "the others are gone");
        assert!(queue.entries.len() == 1 && queue.latest.len() == 1);
    }

    #[test]
    fn a_message_expires_unless_it_is_gone() {
        let now = Instant::now();
        let at = |seconds| Some(now + Duration::from_secs(seconds));
        let mut queue = Queue::new(Limit::default());
        queue.push(Queued { expires: at(3), ..queued("a", 1) });
        queue.push(Queued { expires: at(1), ..queued("b", 2) });
        queue.push(queued("c", 3));
        assert_eq!(queue.next_expiry(), at(1));
        assert!(queue.pop_expired(now).is_none());
        assert_eq!(queue.pop().unwrap().message.token.slot, 1);
        let expired = queue.pop_expired(now + Duration::from_secs(5)).unwrap();
        assert_eq!(expired.message.token.slot, 2);
        assert!(queue.pop_expired(now + Duration::from_secs(5)).is_none());
        assert_eq!(drained(&mut queue), [3]);
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let mut queue = Queue::new(Limit::default());
        queue.push(queued("a", 1));
        queue.push(queued("a", 2));
        let first = queue.pop().unwrap();
        queue.push_front(first);
        queue.push_front(queued("a", 0));
        assert_eq!(drained(&mut queue), [0, 1, 2]);
    }

    #[test]
    fn what_is_put_back_still_expires() {
        let now = Instant::now();
        let mut queue = Queue::new(Limit::default());
        queue.push(Queued { expires: Some(now), ..queued("a", 1) });
        let first = queue.pop().unwrap();
        queue.push_front(first);
        assert_eq!(queue.pop_expired(now).unwrap().message.token.slot, 1);
        assert!(queue.pop_expired(now).is_none() && queue.is_empty());
    }

    #[test]
    fn messages_that_are_gone_take_no_memory() {
        let now = Instant::now();
        let mut queue = Queue::new(Limit::default());
        queue.push(queued("first", 0));
        queue.push(latest("b", 1));
        for slot in 2..1000 {
            queue.push(Queued { expires: Some(now), ..latest("a", slot) });
            assert!(queue.entries.len() <= 100 && queue.expiries.len() <= 100);
        }
        assert_eq!(queue.push(latest("b", 1000)), Pushed::Replaced(token(1)));
        let first = queue.pop().unwrap();
        for _ in 0..1000 {
            queue.push_front(Queued { expires: Some(now), ..first.clone() });
            queue.pop();
        }
        assert!(queue.expiries.len() <= 100);
        assert_eq!(queue.pop_expired(now).unwrap().message.token.slot, 999);
        assert_eq!(drained(&mut queue), [1000]);
    }

    #[test]
    fn a_newer_message_replaces_if_it_fits_there() {
        let mut queue = Queue::new(Limit { messages: 2, bytes: 16, when_full: WhenFull::Wait });
        let topic = TopicNameBuf::new("a").unwrap();
        assert!(!queue.replaces(&topic, 1));
        queue.push(latest("a", 1));
        assert!(queue.replaces(&topic, 1000), "there is no other");
        queue.push(queued("b", 2));
        assert!(queue.replaces(&topic, 10) && !queue.replaces(&topic, 11));
    }

    #[test]
    fn what_is_put_back_does_not_expire_in_the_place_of_another() {
        let now = Instant::now();
        let mut queue = Queue::new(Limit::default());
        queue.push(queued("a", 1));
        queue.push(Queued { expires: Some(now), ..queued("a", 2) });
        let (first, _) = (queue.pop().unwrap(), queue.pop().unwrap());
        queue.push_front(first);
        assert!(queue.pop_expired(now).is_none());
        assert_eq!(drained(&mut queue), [1]);
    }

    #[test]
    fn both_bounds_hold_but_one_message_always_fits() {
        let limit = Limit { messages: 2, bytes: 10, when_full: WhenFull::Wait };
        let mut queue = Queue::new(limit);
        assert!(queue.has_room(1000));
        queue.push(queued("a", 1));
        assert!(queue.has_room(4) && !queue.has_room(5));
        queue.push(queued("a", 2));
        assert!(!queue.has_room(0));
    }

    #[test]
    fn those_that_do_not_wait_are_found() {
        let mut queue = Queue::new(Limit::default());
        queue.push(queued("a", 1));
        queue.push(Queued { fails_offline: true, ..queued("a", 2) });
        queue.push(queued("a", 3));
        assert_eq!(queue.pop_failing().unwrap().message.token.slot, 2);
        assert!(queue.pop_failing().is_none());
        assert_eq!(drained(&mut queue), [1, 3]);
    }
}
