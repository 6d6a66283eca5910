use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::{Connect, Wire, subscribe};

/// Numbered messages that have an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    AtLeastOnce(u8),
    ExactlyOnce(u8),
    /// Of a publisher, and one of its topics.
    Retained(u8, u8),
}

impl Stream {
    pub(crate) fn topic(self) -> String {
        match self {
            Self::AtLeastOnce(publisher) => format!("1/{publisher}"),
            Self::ExactlyOnce(publisher) => format!("2/{publisher}"),
            Self::Retained(publisher, topic) => format!("r/{publisher}/{topic}"),
        }
    }

    pub(crate) fn of(topic: &[u8]) -> Self {
        let topic = str::from_utf8(topic).expect("a topic is UTF-8");
        let number = |text: &str| text.parse().expect("a number");
        match topic.split('/').collect::<Vec<_>>()[..] {
            ["1", publisher] => Self::AtLeastOnce(number(publisher)),
            ["2", publisher] => Self::ExactlyOnce(number(publisher)),
            ["r", publisher, topic] => Self::Retained(number(publisher), number(topic)),
            _ => panic!("nobody publishes to {topic}"),
        }
    }
}

/// Every acknowledgement, and what came of it.
#[derive(Default)]
pub(crate) struct Ledger(RefCell<Books>);

#[derive(Default)]
struct Books {
    /// What was begun and not yet audited, in order: whether it was acknowledged.
    streams: BTreeMap<Stream, BTreeMap<u32, bool>>,
    /// By subscriber: how often each message of a stream came.
    delivered: BTreeMap<(&'static str, Stream), Delivered>,
    acknowledged: [usize; 3],
    lost: [usize; 3],
    duplicates: usize,
    inversions: usize,
    sessions_lost: usize,
    restarts: Vec<Duration>,
}

#[derive(Default)]
struct Delivered {
    times: BTreeMap<u32, u32>,
    last: Option<u32>,
}

const SUBSCRIBERS: [&str; 3] = ["always", "sometimes", "seldom"];

impl Ledger {
    pub(crate) fn begin(&self, stream: Stream, number: u32) {
        self.0.borrow_mut().streams.entry(stream).or_default().insert(number, false);
    }

    pub(crate) fn acknowledge(&self, stream: Stream, number: u32) {
        let mut books = self.0.borrow_mut();
        let begun = books.streams.get_mut(&stream).and_then(|stream| stream.get_mut(&number));
        *begun.expect("what is acknowledged was begun, and not audited") = true;
        let kind = match stream {
            Stream::AtLeastOnce(_) => 0,
            Stream::ExactlyOnce(_) => 1,
            Stream::Retained(..) => 2,
        };
        books.acknowledged[kind] += 1;
    }

    pub(crate) fn deliver(&self, subscriber: &'static str, stream: Stream, number: u32) {
        let mut books = self.0.borrow_mut();
        let delivered = books.delivered.entry((subscriber, stream)).or_default();
        let times = delivered.times.entry(number).or_default();
        *times += 1;
        let times = *times;
        let last = delivered.last;
        delivered.last = last.max(Some(number));
        if times == 1 {
            books.inversions += usize::from(last > Some(number));
        } else if matches!(stream, Stream::ExactlyOnce(_)) {
            books.duplicates += 1;
        }
    }

    pub(crate) fn lose_session(&self) {
        self.0.borrow_mut().sessions_lost += 1;
    }

    pub(crate) fn restarted(&self, after: Duration) {
        self.0.borrow_mut().restarts.push(after);
    }

    /// Messages that were acknowledged and have not come to a subscriber.
    pub(crate) fn missing(&self) -> usize {
        let books = self.0.borrow();
        SUBSCRIBERS.iter().map(|name| books.missing(name).iter().sum::<usize>()).sum()
    }

    /// Everything is acknowledged and delivered.
    pub(crate) fn is_settled(&self) -> bool {
        let is_done = |(stream, begun): (&Stream, &BTreeMap<u32, bool>)| {
            matches!(stream, Stream::Retained(..)) || begun.values().all(|done| *done)
        };
        self.missing() == 0 && self.0.borrow().streams.iter().all(is_done)
    }

    /// What is missing now is lost. What was begun and never acknowledged stays open.
    pub(crate) fn close(&self) {
        let mut books = self.0.borrow_mut();
        for name in SUBSCRIBERS {
            let missing = books.missing(name);
            books.lost[0] += missing[0];
            books.lost[1] += missing[1];
        }
        let Books { streams, delivered, .. } = &mut *books;
        for (stream, begun) in streams.iter_mut() {
            if !matches!(stream, Stream::Retained(..)) {
                // Their numbers stay in `delivered`, for duplicates.
                begun.retain(|_, is_acknowledged| !*is_acknowledged);
            }
        }
        for delivered in delivered.values_mut() {
            // Nobody repeats what is older than a whole audit.
            let newest = delivered.last.unwrap_or_default();
            delivered.times.retain(|number, _| number + 100_000 > newest);
        }
    }

    /// Each topic has the message that was acknowledged last, or one behind it.
    pub(crate) async fn check_retained(&self, address: SocketAddr) {
        let found = tokio::task::spawn_blocking(move || {
            let mut wire = Wire::connect_at(address, &Connect::new("auditor"));
            wire.send(&subscribe(1, &[("r/#", 0)]));
            wire.expect_suback();
            let before = wire.ping();
            before.iter().map(|packet| packet.body.clone()).collect::<Vec<_>>()
        });
        let mut values = BTreeMap::new();
        for body in found.await.expect("the broker answers") {
            let (length, rest) = body.split_at(2);
            let topic = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let (topic, payload) = rest.split_at(topic);
            let number: u32 = str::from_utf8(payload).unwrap().trim_end().parse().unwrap();
            values.insert(Stream::of(topic), number);
        }
        let mut books = self.0.borrow_mut();
        let mut lost = 0;
        for (stream, begun) in &mut books.streams {
            if let Stream::Retained(..) = stream {
                let value = values.get(stream).copied();
                // Each acknowledged one behind the value counts.
                let behind = begun.iter().filter(|(number, is_acknowledged)| {
                    **is_acknowledged && value.is_none_or(|value| value < **number)
                });
                lost += behind.count();
                begun.retain(|_, is_acknowledged| !*is_acknowledged);
            }
        }
        books.lost[2] += lost;
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.0.borrow().acknowledged.iter().sum()
    }

    pub(crate) fn is_clean(&self) -> bool {
        let books = self.0.borrow();
        books.lost == [0; 3]
            && (books.duplicates, books.inversions, books.sessions_lost) == (0, 0, 0)
    }

    /// Two lines of the README's table: what was acknowledged, and what is missing.
    pub(crate) fn table(&self, name: &str, rounds: usize) -> String {
        let books = self.0.borrow();
        let mut restarts = books.restarts.clone();
        restarts.sort_unstable();
        let median = restarts.get(restarts.len() / 2).copied().unwrap_or_default();
        let [at_least, exactly, retained] = books.acknowledged;
        let [lost_at_least, lost_exactly, lost_retained] = books.lost;
        let mut text = String::from(
            "| broker | kills | acknowledged: QoS 1, QoS 2, retained | lost at a subscriber: QoS 1, QoS 2 \
             | retained lost | QoS 2 twice | out of order | sessions lost | listens again after |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        let _ = writeln!(
            text,
            "| {name} | {rounds} | {at_least}, {exactly}, {retained} \
             | {lost_at_least}, {lost_exactly} | {lost_retained} | {} | {} | {} | {} ms |",
            books.duplicates,
            books.inversions,
            books.sessions_lost,
            median.as_millis()
        );
        text
    }
}

impl Books {
    /// Acknowledged at QoS 1 and 2, and not delivered.
    fn missing(&self, subscriber: &'static str) -> [usize; 2] {
        let mut missing = [0; 2];
        for (stream, begun) in &self.streams {
            let kind = match stream {
                Stream::AtLeastOnce(_) => 0,
                Stream::ExactlyOnce(_) => 1,
                Stream::Retained(..) => continue,
            };
            let delivered = self.delivered.get(&(subscriber, *stream));
            let has_come = |number| delivered.is_some_and(|one| one.times.contains_key(number));
            missing[kind] +=
                begun.iter().filter(|(number, done)| **done && !has_come(number)).count();
        }
        missing
    }
}
