//! The client's machine and the broker's, joined by a pipe that loses connections, in one thread
//! with a virtual clock: the same seed is the same run.
//!
//! `MQTT_SEEDS=100000` runs more schedules than the few that every test run can afford, `MQTT_SEED=n`
//! only one.

mod disk;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use mqtt_broker_core::{Broker, Config as BrokerConfig, Connection, LocalSubscription, Worker};
use mqtt_broker_core::{Event as BrokerEvent, Message, Transmit};
use mqtt_codec::{PacketId, QoS, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

use disk::Disk;
use wire::Wire;

use super::{Config, Event, Machine, Outgoing, Queued, StreamId, Token};
use crate::error::Undelivered;
use crate::offline::{Limit, WhenFull};
use crate::receipt::Delivered;
use crate::send_buffer::SendBuffer;
use crate::store::{Snapshot, Stage as Stored};

/// Schedules of a usual test run.
const SEEDS: u64 = 2000;

/// Steps of trouble in one schedule.
const STEPS: usize = 120;

/// xorshift64*: a test needs no more.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.below(3)]
    }
}

/// The stream that all messages down go to, a second one of its filter, and one of another filter:
/// these two come and go.
const ALL: StreamId = 0;
const BESIDE: StreamId = 1;
const SIDE: StreamId = 2;

/// One schedule.
struct World {
    dice: Dice,
    begin: Instant,
    now: Instant,
    config: Config,
    broker: Broker,
    worker: Worker,
    machine: Machine,
    link: Option<Link>,
    /// Sees what the client publishes.
    observer: LocalSubscription,
    observed: Vec<(QoS, u32)>,
    published: BTreeMap<usize, (QoS, bool)>,
    /// Of these: what a program that ended had not stored, and so never sent; and what it had with
    /// QoS 0, which nobody knows the end of.
    unstored: HashSet<usize>,
    forsaken: HashSet<usize>,
    ended: HashMap<usize, Result<Delivered, Undelivered>>,
    /// What the broker publishes to the client, and what came out there.
    sent_down: Vec<QoS>,
    /// Those before this one the broker may have forgotten.
    forgotten: usize,
    delivered: Vec<(QoS, u32)>,
    /// Delivered by a program that ended before its PUBREC had left.
    may_repeat: HashSet<u32>,
    /// Delivered and not acknowledged.
    untaken: Vec<(StreamId, u64)>,
    /// The streams there are.
    streams: BTreeSet<StreamId>,
    /// Messages to the one with a filter of its own.
    aside: u32,
    disk: Option<Disk>,
    has_restarted: bool,
    /// Whether the broker lost the session while something may have been under way.
    session_lost: bool,
    clean: bool,
    granted: bool,
    wire: Wire,
}

/// One connection.
struct Link {
    connection: Connection,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    out: SendBuffer,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let now = Instant::now();
        let clean = dice.one_in(3);
        let mut config = BrokerConfig::default();
        config.max_inflight = 1 + dice.below(5) as u16;
        config.hash_seed = seed;
        let broker = Broker::new(config, ());
        let observer = broker.subscribe(TopicFilter::new("up/#").unwrap(), QoS::ExactlyOnce);
        let small = dice.one_in(2);
        let when_full =
            [WhenFull::Wait, WhenFull::Reject, WhenFull::DropOldest, WhenFull::DropNewest];
        let limit = Limit {
            messages: if small { 1 + dice.below(4) } else { 40 },
            bytes: if small { 20 } else { 1 << 20 },
            when_full: when_full[dice.below(4)],
        };
        let config = Config {
            client_id: "c".into(),
            clean_session: clean,
            keep_alive: Duration::from_secs(60),
            answer_within: Duration::from_secs(10),
            reply_within: Duration::from_secs(10),
            ack_within: dice.one_in(4).then_some(Duration::from_secs(3)),
            will: None,
            limit,
            window: 1 + dice.below(6) as u16,
            replay_rate: [None, Some(1), Some(50)][dice.below(3)],
            max_incoming: 1 << 20,
            resend_lost: dice.one_in(4),
            max_unread: if dice.one_in(4) { 3 } else { 1 << 20 },
        };
        let mut machine = Machine::new(config.clone(), now);
        if dice.one_in(2) {
            machine.sender.restore_next(PacketId::new(u16::MAX - 3).unwrap());
        }
        let disk = (!clean && dice.one_in(2)).then(Disk::default);
        if disk.is_some() {
            machine.restore(Snapshot::default(), || 0, |_| None);
        }
        machine.subscribe(filter_of(ALL), QoS::ExactlyOnce, ALL, true);
        Self {
            dice,
            begin: now,
            now,
            config,
            broker,
            worker: Worker::new(),
            machine,
            link: None,
            observer,
            observed: Vec::new(),
            published: BTreeMap::new(),
            unstored: HashSet::new(),
            forsaken: HashSet::new(),
            ended: HashMap::new(),
            sent_down: Vec::new(),
            forgotten: 0,
            delivered: Vec::new(),
            may_repeat: HashSet::new(),
            untaken: Vec::new(),
            streams: BTreeSet::from([ALL]),
            aside: 0,
            disk,
            has_restarted: false,
            session_lost: clean,
            clean,
            granted: false,
            wire: Wire::default(),
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.dice.below(22) {
                0..6 => self.publish(),
                6..8 => self.publish_down(),
                8..11 => self.carry(true),
                11..14 => self.carry(false),
                14 | 15 => self.take(),
                16 => self.cut(),
                17 => self.now += Duration::from_millis(self.dice.next() % 4000),
                18 if self.dice.one_in(4) => self.lose_session(),
                19 => self.change_streams(),
                20 if self.dice.one_in(4) => self.restart(),
                _ => self.connect(),
            }
            self.settle();
        }
        match self.dice.below(6) {
            0 => self.machine.shut_down(),
            1 => {
                self.cut();
                self.hear();
                let open = self.published.len()
                    - self.ended.len()
                    - self.unstored.len()
                    - self.forsaken.len();
                let left = self.machine.give_up();
                assert_eq!(left.queued + left.unacknowledged, open);
                self.machine.shut_down();
            }
            _ => {}
        }
        self.heal();
        if !self.machine.is_shutting_down() {
            self.probe();
        }
        self.judge();
    }

    fn publish(&mut self) {
        let token = self.published.len();
        let (qos, replaceable) = (self.dice.qos(), self.dice.one_in(8));
        let expires = self.dice.one_in(8).then(|| self.now + Duration::from_secs(2));
        let topic = TopicNameBuf::new(["up", "up/2"][self.dice.below(2)]).unwrap();
        let payload = Bytes::from(token.to_string());
        let has_room =
            self.machine.has_room(&topic, topic.as_bytes().len() + payload.len(), replaceable);
        if !has_room && matches!(self.machine.when_full(), WhenFull::Wait | WhenFull::Reject) {
            return;
        }
        let message = Outgoing {
            topic,
            payload,
            retain: false,
            token: Token { slot: token, stored: 0 },
            order: 0,
        };
        self.published.insert(token, (qos, replaceable));
        let fails_offline = self.dice.one_in(16) && self.machine.is_connected();
        // As a store keeps it: counted from the beginning.
        let stored = expires.map_or(0, |at| (at - self.begin).as_millis() as u64);
        self.machine.publish(Queued { message, qos, expires, replaceable, fails_offline }, stored);
        let (messages, bytes) = self.machine.queued();
        let limit = self.config.limit;
        // What was put back may be more, and is less with each message from then on.
        let is_within = messages <= limit.messages && bytes <= limit.bytes || messages == 1;
        assert!(is_within || has_room || limit.when_full == WhenFull::DropNewest);
    }

    fn publish_down(&mut self) {
        let qos = self.dice.qos();
        let payload = self.sent_down.len().to_string();
        let topic = format!("down/{}", u8::from(qos));
        let topic = TopicName::new(&topic).unwrap();
        let message = Message::new(topic, payload.as_bytes(), qos).unwrap();
        let published = self.broker.publish(&message);
        // Before the first subscription nobody is there to receive it.
        if published.receivers > 0 {
            self.sent_down.push(qos);
        }
    }

    /// The program begins or ends to listen with one of its streams.
    fn change_streams(&mut self) {
        let stream = [BESIDE, SIDE][self.dice.below(2)];
        if self.streams.insert(stream) {
            let takes = self.dice.one_in(2);
            self.machine.subscribe(filter_of(stream), QoS::ExactlyOnce, stream, takes);
        } else {
            self.streams.remove(&stream);
            let (dropped, untaken) =
                self.untaken.iter().partition(|(untaken, _)| *untaken == stream);
            self.untaken = untaken;
            for (_, number) in dropped {
                self.acknowledge(number);
            }
            self.machine.unsubscribe(&filter_of(stream), stream, true);
        }
        let message = Message::new(TopicName::new("side").unwrap(), b"0", self.dice.qos()).unwrap();
        self.broker.publish(&message);
    }

    /// The program ends at any moment, and a new one takes up what its store has.
    fn restart(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        self.has_restarted = true;
        disk.pending.extend(self.machine.take_journal());
        let carried_out = self.dice.below(disk.pending.len() + 1);
        disk.carry_out(carried_out);
        disk.pending.clear();
        let snapshot = disk.snapshot();
        self.cut();
        self.wire.may_miss = true;
        for (_, stored) in &snapshot.messages {
            // The PUBREC may have come and not been stored, and so no PUBREL have left.
            if let Stored::Sent(id, _) = stored.stage {
                self.wire.open.entry(id).and_modify(|open| open.released = false);
            }
        }
        // What was taken and stored as such does not come again, nor does what PUBREC has left for.
        let taken = snapshot.received.iter().filter_map(|id| self.wire.delivered.get(id));
        let taken: HashSet<_> = taken.chain(&self.wire.recorded).collect();
        let delivered = self.delivered.iter().map(|(_, n)| *n);
        self.may_repeat.extend(delivered.filter(|n| !taken.contains(n)));
        self.untaken.clear();
        // The numbers of the messages in the order of the snapshot, which is that of acceptance.
        let mut tokens =
            snapshot.messages.iter().map(|(_, stored)| number(&stored.payload) as usize);
        let stored: HashSet<_> = tokens.clone().collect();
        for (&token, &(qos, _)) in &self.published {
            if stored.contains(&token) {
                // That it had ended was forgotten.
                self.ended.remove(&token);
            } else if !self.ended.contains_key(&token) {
                match qos {
                    QoS::AtMostOnce => self.forsaken.insert(token),
                    _ => self.unstored.insert(token),
                };
            }
        }
        self.machine = Machine::new(self.config.clone(), self.now);
        let slot = || tokens.next().unwrap();
        let begin = self.begin;
        let expires = |at| (at > 0).then(|| begin + Duration::from_millis(at));
        self.machine.restore(snapshot.clone(), slot, expires);
        assert_eq!(self.machine.counters.published, snapshot.messages.len() as u64);
        self.streams = BTreeSet::from([ALL]);
        self.machine.subscribe(filter_of(ALL), QoS::ExactlyOnce, ALL, true);
        // It does not want any more what the one before may have subscribed to.
        self.machine.unsubscribe_stale(filter_of(SIDE));
    }

    fn acknowledge(&mut self, number: u64) {
        self.machine.acknowledge(number);
        self.machine.unread -= 1;
    }

    fn connect(&mut self) {
        if self.link.is_some() {
            return;
        }
        let peer = "127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap();
        let connection = self.broker.connection(peer, self.now).unwrap();
        self.machine.handle_open(&None, self.now).unwrap();
        let (up, down) = (VecDeque::new(), VecDeque::new());
        self.wire.connect();
        self.link = Some(Link { connection, up, down, out: SendBuffer::default() });
    }

    fn cut(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        // The broker may get a part of what was on its way.
        if self.dice.one_in(2) {
            let some = self.dice.below(link.up.len() + 1);
            let part: Vec<u8> = link.up.drain(..some).collect();
            let _ = link.connection.handle_input(&mut self.worker, &part, self.now);
        }
        link.connection.handle_end_of_stream(&mut self.worker, self.now);
        self.wire.may_miss |= !link.out.is_empty();
        self.machine.handle_close();
        if self.clean {
            self.forgotten = self.sent_down.len();
        }
    }

    fn lose_session(&mut self) {
        self.cut();
        if self.clean || !self.broker.delete_session("c") {
            return;
        }
        self.session_lost = true;
        self.forgotten = self.sent_down.len();
        // If the CONNACK that says so is lost, the next one says "present" of the new session, and
        // MQTT 3.1.1 has no way to tell it from the old one: QoS 2 may then come twice.
        for round in 0.. {
            assert!(round < 10_000, "it never connects: {:?}", self.machine);
            if self.machine.is_connected() {
                break;
            }
            self.connect();
            self.settle();
            self.carry(true);
            self.settle();
            self.carry(false);
        }
    }

    /// Carries a few bytes one way.
    fn carry(&mut self, up: bool) {
        let Some(link) = &mut self.link else { return };
        if !up && !self.machine.wants_input() {
            return;
        }
        let pipe = if up { &mut link.up } else { &mut link.down };
        let most = [1, 7, 100, 10_000][self.dice.below(4)].min(pipe.len());
        let bytes: Vec<u8> = pipe.drain(..most).collect();
        if bytes.is_empty() {
            return;
        }
        if up {
            let result = link.connection.handle_input(&mut self.worker, &bytes, self.now);
            assert_eq!(result, Ok(()), "the broker has nothing to complain of");
            while let Some(BrokerEvent::Authenticate(mut login)) = link.connection.poll_event() {
                let mut cx = Context::from_waker(Waker::noop());
                let Poll::Ready(decision) = login.as_mut().poll(&mut cx) else { continue };
                link.connection.admit(&mut self.worker, decision, self.now).unwrap();
            }
        } else {
            self.wire.watch_down(&bytes);
            self.machine.handle_input(&bytes, self.now).expect("the client has no complaint");
        }
    }

    /// The application is done with one of the messages, in any order.
    fn take(&mut self) {
        if !self.untaken.is_empty() {
            let at = self.dice.below(self.untaken.len());
            let (_, number) = self.untaken.swap_remove(at);
            self.acknowledge(number);
        }
    }

    /// What both machines have to say after a step.
    fn settle(&mut self) {
        if self.machine.poll_timeout().is_some_and(|deadline| deadline <= self.now)
            && self.machine.handle_timeout(self.now).is_err()
        {
            self.cut();
        }
        if let Some(link) = &mut self.link {
            if link.out.is_empty() {
                self.machine.poll_transmit(&mut link.out, self.now);
                if let Some(disk) = &mut self.disk {
                    // Before anything leaves.
                    disk.pending.extend(self.machine.take_journal());
                    disk.carry_out(disk.pending.len());
                }
            }
            // As much as the transport takes.
            let mut room = [0, 9, 1 << 20, 1 << 20][self.dice.below(4)];
            while !link.out.is_empty() && room > 0 {
                let (chunk, _) = link.out.chunk();
                let chunk = &chunk[..chunk.len().min(room)];
                let len = chunk.len();
                room -= len;
                self.wire.watch_up(chunk);
                link.up.extend(chunk);
                link.out.advance(len);
                self.machine.handle_written(len, self.now);
            }
            let mut cx = Context::from_waker(Waker::noop());
            let mut closed = false;
            while let Poll::Ready(transmit) =
                link.connection.poll_transmit(&mut self.worker, &mut cx)
            {
                match transmit {
                    Transmit::Write(mut buffer) => {
                        while buffer.has_remaining() {
                            let chunk = buffer.chunk();
                            link.down.extend(chunk);
                            let len = chunk.len();
                            buffer.advance(len);
                        }
                        self.worker.recycle(buffer);
                    }
                    Transmit::Close(_) => {
                        closed = true;
                        break;
                    }
                }
            }
            if closed {
                self.cut();
            }
        }
        self.hear();
        while let Some(message) = self.observer.try_recv() {
            self.observed.push((message.qos(), number(message.payload())));
        }
    }

    fn hear(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            self.note(event);
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Ended { token, outcome } => {
                let before = self.ended.insert(token.slot, outcome);
                assert_eq!(before, None, "message {token:?} ended twice");
            }
            Event::Deliver { stream, message, number: ack } => {
                assert!(self.streams.contains(&stream), "nobody listens");
                let id = message.publish().packet_id();
                if stream == ALL {
                    let n = number(message.payload());
                    self.delivered.push((message.qos(), n));
                    self.wire.delivered.extend(id.map(|id| (id, n)));
                }
                self.aside += u32::from(stream == SIDE);
                if let Some(ack) = ack {
                    if self.untaken.iter().all(|(_, other)| *other != ack) {
                        self.wire.acknowledgeable.extend(id);
                    }
                    self.untaken.push((stream, ack));
                    self.machine.unread += 1;
                }
            }
            Event::Granted { .. } => self.granted = true,
            Event::SubscriptionRefused { .. } => panic!("nothing is refused"),
            Event::Restored { .. } | Event::Unsubscribed => {}
        }
    }

    /// No more trouble: everything comes to its end.
    fn heal(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never ends: {:?}", self.machine);
            self.connect();
            self.settle();
            self.carry(true);
            self.carry(false);
            self.take();
            self.settle();
            let moved = self.link.as_ref().is_none_or(|link| {
                !link.out.is_empty() || !link.up.is_empty() || !link.down.is_empty()
            });
            let is_quiet = !moved && self.machine.is_drained() && self.untaken.is_empty();
            match self.machine.is_shutting_down() {
                true if self.machine.is_closing() => break,
                false if is_quiet && self.granted && self.machine.is_restored() => break,
                _ => {}
            }
            if !moved {
                self.now += Duration::from_millis(10);
            }
        }
    }

    /// The broker and the client agree on what is subscribed to.
    fn probe(&mut self) {
        let (before, has_side) = (self.aside, self.streams.contains(&SIDE));
        let message = Message::new(TopicName::new("side").unwrap(), b"0", QoS::AtLeastOnce);
        let published = self.broker.publish(&message.unwrap());
        assert_eq!(published.receivers, usize::from(has_side), "at the broker");
        self.heal();
        assert_eq!(self.aside - before, u32::from(has_side));
        assert!(has_side || self.machine.is_unsubscribed(&filter_of(SIDE)));
    }

    fn judge(&mut self) {
        let counters = self.machine.counters;
        let open = self.published.keys().filter(|token| !self.ended.contains_key(token));
        let is_excused =
            |token: &&usize| self.unstored.contains(token) || self.forsaken.contains(token);
        assert_eq!(open.filter(|token| !is_excused(token)).count(), 0, "every message has an end");
        assert_eq!(counters.ended(), counters.published);
        let times =
            |list: &[(QoS, u32)], n: usize| list.iter().filter(|(_, m)| *m == n as u32).count();
        let Config { resend_lost, .. } = self.config;
        let may_come_twice = self.session_lost && resend_lost;
        for (&token, &(qos, _)) in &self.published {
            let seen = times(&self.observed, token);
            let Some(ended) = self.ended.get(&token) else {
                let most = usize::from(self.forsaken.contains(&token));
                assert!(seen <= most, "{token} was sent before it was stored");
                continue;
            };
            match (*ended, qos) {
                (Ok(Delivered::Written), QoS::AtMostOnce) => assert!(seen <= 1),
                (Ok(Delivered::Acknowledged), QoS::AtLeastOnce) => assert!(seen >= 1, "{token}"),
                (Ok(Delivered::Completed), QoS::ExactlyOnce) => {
                    assert!(seen == 1 || (seen > 1 && may_come_twice), "{token} came {seen} times");
                }
                (Err(Undelivered::Closed), _) => {
                    assert!(seen <= 1 || qos == QoS::AtLeastOnce || may_come_twice);
                }
                (Err(Undelivered::SessionLost), QoS::ExactlyOnce) => {
                    assert!(seen <= 1);
                    assert!(self.session_lost, "nothing else loses a QoS 2 message");
                    assert!(!resend_lost);
                }
                // It may have been on its way in that session.
                (Err(Undelivered::Dropped), QoS::AtLeastOnce) if self.session_lost => {}
                (Err(Undelivered::Dropped), QoS::ExactlyOnce) if may_come_twice => {}
                // To a program that takes it up it is one that waits.
                (Ok(Delivered::Superseded) | Err(Undelivered::Expired), _)
                    if self.has_restarted
                        && self.session_lost
                        && (resend_lost || qos == QoS::AtLeastOnce) => {}
                (
                    Ok(Delivered::Superseded)
                    | Err(Undelivered::Expired | Undelivered::Dropped | Undelivered::NotConnected),
                    _,
                ) => assert_eq!(seen, 0, "{token} of {qos:?} was never sent: {ended:?}"),
                other => panic!("{token} of {qos:?} ended as {other:?}"),
            }
        }
        // Order of the first arrivals, for each QoS (between them, it is kept as long as nothing is
        // lost).
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut seen = HashSet::new();
            let firsts: Vec<u32> = self
                .observed
                .iter()
                .filter(|(q, n)| *q == qos && seen.insert(*n))
                .map(|(_, n)| *n)
                .collect();
            assert!(firsts.is_sorted(), "{qos:?} out of order: {firsts:?}");
        }
        let mut seen = HashSet::new();
        for (qos, n) in &self.delivered {
            let again = !seen.insert(*n);
            let may_repeat = *qos == QoS::AtLeastOnce || self.may_repeat.contains(n);
            assert!(!again || may_repeat, "{n} of {qos:?} was delivered twice");
        }
        if self.machine.is_shutting_down() {
            return;
        }
        for (n, qos) in self.sent_down.iter().enumerate().skip(self.forgotten) {
            let count = times(&self.delivered, n);
            assert!(count >= 1 || *qos == QoS::AtMostOnce, "{n} of {qos:?} did not come");
        }
    }
}

fn filter_of(stream: StreamId) -> TopicFilterBuf {
    TopicFilterBuf::new(if stream == SIDE { "side" } else { "down/+" }).unwrap()
}

fn number(payload: &[u8]) -> u32 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

// MQTT-4.3.1-1, MQTT-4.3.2-1, MQTT-4.3.2-2, MQTT-4.3.3-1, MQTT-4.3.3-2, MQTT-4.4.0-1, MQTT-4.6.0-1
#[test]
fn every_message_has_one_end_over_a_lossy_pipe() {
    let number_in = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number_in("MQTT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("MQTT_SEEDS").unwrap_or(SEEDS),
    };
    let begin = Instant::now();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| World::new(seed).run());
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("run it again with MQTT_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{count} schedules in {:.1?}", begin.elapsed());
}
