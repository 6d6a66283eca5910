#![no_main]
//! Clients that do whatever the bytes say: the broker never panics, what it sends can be decoded, it
//! stays within its limits, and a client that keeps to the rules is served all the while.

use std::collections::VecDeque;
use std::mem::take;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Buf;
use libfuzzer_sys::fuzz_target;
use mqtt_broker_core::{
    Admission, Authentication, Broker, Closed, Config, Connection, ConnectionError, Event, Hooks,
    LocalSubscription, Login, Message, PeerInfo, Sharing, Transmit, Worker,
};
use mqtt_codec::{
    Ack, Connect, ConnectFields, ConnectReturnCode, Delivery, MAX_PACKET, Packet, PacketId,
    Publish, QoS, Subscribe, Text, TopicFilter, TopicName, Unsubscribe, Will, decode,
};

const CLIENTS: usize = 4;
const IDS: [&str; 4] = ["", "a", "b", "later"];
const TOPICS: [&str; 8] = ["a", "a/b", "b", "/", "a//b", "$SYS/x", "$x", "a/b/c/d/e/f"];
const FILTERS: [&str; 14] = [
    "#",
    "+",
    "a/#",
    "+/b",
    "a",
    "a/b",
    "$x",
    "+/+/#",
    "$SYS/#",
    "a/+/c/+/e/f",
    "$share/g/#",
    "$share/g/a/+",
    "$share/h/a",
    "$share/",
];

/// The listener and the client id of the client that keeps to the rules.
const WITNESS_LISTENER: usize = 1;
const WITNESS: &str = "witness";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut world = World::new(config(&mut input));
    while !input.0.is_empty() {
        world.step(&mut input);
        world.check();
    }
    world.conclude();
});

/// What is left of the fuzzer's bytes; zeros when there is nothing.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    fn qos(&mut self) -> QoS {
        self.one(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn id(&mut self) -> PacketId {
        PacketId::new((self.byte() % 8).into()).unwrap_or(PacketId::MAX)
    }
}

/// Limits so small that they are met, and the largest ones.
fn config(input: &mut Input<'_>) -> Config {
    let mut config = Config::default();
    config.hash_seed = 7;
    if input.flag() {
        config.max_connections = CLIENTS + 1;
        config.max_sessions = 3;
    }
    if input.flag() {
        config.max_inflight = (input.byte() % 4).into();
        config.max_incoming_qos2 = 2;
        config.max_queued_messages = (input.byte() % 4).into();
        config.max_queued_bytes = input.one(&[0, 10, 1000]);
    }
    if input.flag() {
        config.max_packet = 200;
        config.max_connect_packet = 60;
        config.max_outbox_bytes = input.one(&[0, 1, 10, 1000]);
        config.max_subscriptions = 2;
        config.max_topic_levels = 3;
        config.max_topic_length = 8;
        config.max_retained_messages = 2;
        config.max_retained_bytes = 20;
    }
    config.queue_qos0 = input.flag();
    if input.flag() {
        config.connect_timeout = Duration::MAX;
        config.session_expiry = Some(Duration::MAX);
        config.congestion_timeout = Duration::from_secs(u32::MAX.into());
    }
    config
}

/// Lets everybody in, some of them later, and nobody but the witness as the witness.
struct Door;

impl Hooks for Door {
    fn authenticate(&self, login: &Login) -> Authentication {
        let is_witness = login.client.client_id() == WITNESS;
        if is_witness && login.client.listener() != WITNESS_LISTENER {
            return Admission::Refuse(ConnectReturnCode::NotAuthorized).into();
        }
        match login.client.client_id() {
            "later" => Authentication::Later(Box::pin(std::future::pending())),
            _ => Admission::Accept.into(),
        }
    }
}

struct World {
    broker: Broker,
    now: Instant,
    worker: Worker,
    clients: [Option<Client>; CLIENTS],
    witness: Client,
    witnessed: u32,
    /// With how many subscriptions each is: none for a filter that is invalid.
    local: Vec<(LocalSubscription, usize)>,
}

struct Client {
    connection: Connection,
    /// Sent and not taken by the broker.
    unread: VecDeque<u8>,
    received: Vec<u8>,
    packets: usize,
    /// What the client owes for what it received.
    answers: Vec<Ack>,
    payloads: Vec<Vec<u8>>,
    is_waiting_for_admission: bool,
    ended: Option<Result<Closed, ConnectionError>>,
}

impl World {
    fn new(config: Config) -> Self {
        let broker = Broker::new(config, Door);
        let now = Instant::now();
        let mut peer = PeerInfo::default();
        peer.listener = WITNESS_LISTENER;
        let mut witness = Client::new(broker.connection(peer, now).unwrap());
        let fields = ConnectFields::new(Text::new(WITNESS).unwrap());
        witness.send(Connect::new(&fields).unwrap());
        let filters = [(TopicFilter::new("w/x").unwrap(), QoS::AtLeastOnce)];
        witness.send(Subscribe::new(PacketId::MIN, &filters).unwrap());
        let clients = [const { None }; CLIENTS];
        let worker = Worker::new();
        let mut world =
            Self { broker, now, worker, clients, witness, witnessed: 0, local: Vec::new() };
        world.serve();
        assert_eq!(world.witness.packets, 2);
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        let at = usize::from(action >> 4) % CLIENTS;
        match action & 15 {
            0 => return self.reach_for_broker(input),
            1 => return self.witness(),
            2 => self.now += Duration::from_millis(100 << (input.byte() % 20)),
            3 => {
                if let Some(mut cut) = self.clients[at].take().filter(|_| input.flag()) {
                    cut.connection.handle_end_of_stream(&mut self.worker, self.now);
                }
            }
            _ if self.clients[at].is_none() => {
                let opened = self.broker.connection(PeerInfo::default(), self.now);
                self.clients[at] = opened.ok().map(Client::new);
            }
            _ => {}
        }
        let Some(client) = &mut self.clients[at] else { return };
        match action & 15 {
            4 | 5 => client.connect(input),
            6 => client.subscribe(input),
            7 => {
                let filters = [TopicFilter::new(input.one(&FILTERS)).unwrap()];
                client.send(Unsubscribe::new(input.id(), &filters).unwrap());
            }
            8..11 => client.publish(input),
            11 => {
                let count = input.byte().into();
                client.unread.extend(input.bytes(count));
            }
            12 => client.answer(input.byte().into()),
            13 => {
                let id = input.id();
                client.send(input.one(&[
                    Ack::PubAck(id),
                    Ack::PubRec(id),
                    Ack::PubRel(id),
                    Ack::PubComp(id),
                ]));
            }
            14 => client.send(input.one(&[Packet::PingReq, Packet::PingReq, Packet::Disconnect])),
            15 => client.take(&mut self.worker, usize::MAX),
            _ => {}
        }
        let rate = usize::from(input.byte());
        client.turn(&mut self.worker, self.now, rate * 64 + 1, rate / 64);
        if client.ended.is_some() {
            self.clients[at] = None;
        }
    }

    /// What the broker's own program does.
    fn reach_for_broker(&mut self, input: &mut Input<'_>) {
        let client_id = input.one(&IDS);
        let what = input.byte();
        match what % 8 {
            0 => drop(self.broker.disconnect(client_id)),
            1 => drop(self.broker.delete_session(client_id)),
            2 => drop(self.broker.sweep(self.now)),
            3 if self.local.len() < 3 => {
                let filter = TopicFilter::new(input.one(&FILTERS)).unwrap();
                let count = usize::from(Sharing::of(filter) != Sharing::Invalid);
                self.local.push((self.broker.subscribe(filter, input.qos()), count));
            }
            4 => drop(self.local.pop()),
            5 => self.local.iter_mut().for_each(|(local, _)| drop(local.try_recv())),
            6 => {
                let topic = TopicName::new(input.one(&TOPICS)).unwrap();
                let message = Message::new(topic, b"local", input.qos()).unwrap();
                let message = if input.flag() { message.retained() } else { message };
                self.broker.publish(&message);
            }
            _ => {
                let waiting = self.clients.iter_mut().flatten();
                for client in waiting.filter(|client| client.is_waiting_for_admission) {
                    let admission = match what / 8 % 3 {
                        0 => Admission::Accept,
                        1 => Admission::Refuse(ConnectReturnCode::NotAuthorized),
                        _ => match &self.witness.connection.client() {
                            Some(witness) => {
                                Admission::AcceptAs(Box::new(witness.named(client_id, None)))
                            }
                            None => Admission::Accept,
                        },
                    };
                    client.is_waiting_for_admission = false;
                    let _ = client.connection.admit(&mut self.worker, admission, self.now);
                }
            }
        }
    }

    /// The witness sends itself a message and gets it.
    fn witness(&mut self) {
        self.serve();
        self.witness.payloads.clear();
        self.witnessed += 1;
        let payload = self.witnessed.to_be_bytes();
        let packets = self.witness.packets;
        self.witness.send(Publish {
            topic: TopicName::new("w/x").unwrap(),
            payload: &payload,
            delivery: Delivery::AtLeastOnce { id: PacketId::MIN, dup: false },
            retain: false,
        });
        self.serve();
        if !self.witness.unread.is_empty() || !self.witness.connection.wants_input() {
            // Somebody who does not read holds it back, for a bounded time.
            self.now += self.broker.config().congestion_timeout;
            self.serve();
        }
        assert_eq!(self.witness.ended, None);
        assert!(self.witness.packets >= packets + 2, "PUBLISH and PUBACK");
        assert!(self.witness.payloads.contains(&payload.to_vec()));
        self.witness.payloads.clear();
    }

    /// Everything that the witness can have done for it at this time.
    fn serve(&mut self) {
        for _ in 0..1000 {
            self.witness.turn(&mut self.worker, self.now, usize::MAX, usize::MAX);
            if self.witness.answers.is_empty() {
                return;
            }
            self.witness.answer(usize::MAX);
        }
        panic!("the broker never rests");
    }

    fn check(&mut self) {
        let (config, stats) = (self.broker.config(), self.broker.stats());
        assert!(stats.sessions <= config.max_sessions as u64);
        assert!(stats.retained <= config.max_retained_messages as u64);
        assert!(stats.retained_bytes <= config.max_retained_bytes as u64);
        assert!(stats.clients_connected <= CLIENTS as u64 + 1);
        let sessions = self.broker.sessions();
        let mut subscriptions = self.local.iter().map(|(_, count)| count).sum::<usize>();
        assert_eq!(stats.sessions, sessions.len() as u64);
        for session in sessions {
            let window = usize::from(config.max_inflight.max(1));
            assert!(session.in_flight <= window);
            assert!(session.unreleased <= config.max_incoming_qos2);
            assert!(session.subscriptions.len() <= config.max_subscriptions);
            // The rest is one batch of retained messages.
            assert!(session.queued <= (2 * config.max_queued_messages).max(1) + 64);
            // The window is sent again at once, and after it no more than the last message over.
            let largest = config.max_packet.min(40_000);
            let answers = (512 << 10) + 100;
            let unsent = config.max_outbox_bytes + (window + 1) * largest + answers;
            assert!(session.unsent_bytes <= unsent, "{} unsent", session.unsent_bytes);
            subscriptions += session.subscriptions.len();
        }
        assert_eq!(stats.subscriptions, subscriptions as u64);
    }

    fn conclude(mut self) {
        self.witness();
        self.local.clear();
        self.clients = [const { None }; CLIENTS];
        drop(self.witness);
        for session in self.broker.sessions() {
            assert!(!session.is_connected);
            assert!(self.broker.delete_session(&session.client_id));
        }
        let stats = self.broker.stats();
        assert_eq!((stats.clients_connected, stats.sessions, stats.subscriptions), (0, 0, 0));
    }
}

impl Client {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            unread: VecDeque::new(),
            received: Vec::new(),
            packets: 0,
            answers: Vec::new(),
            payloads: Vec::new(),
            is_waiting_for_admission: false,
            ended: None,
        }
    }

    fn send<'a>(&mut self, packet: impl Into<Packet<'a>>) {
        let mut bytes = Vec::new();
        packet.into().encode(&mut bytes);
        self.unread.extend(bytes);
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        let client_id = input.one(&IDS);
        let flags = input.byte();
        let will = Will {
            topic: TopicName::new(TOPICS[usize::from(flags / 32)]).unwrap(),
            message: b"will",
            qos: input.qos(),
            retain: flags & 1 > 0,
        };
        let fields = ConnectFields {
            clean_session: client_id.is_empty() || flags & 2 > 0,
            keep_alive: if flags & 4 > 0 { 0 } else { 10 },
            will: (flags & 8 > 0).then_some(will),
            ..ConnectFields::new(Text::new(client_id).unwrap())
        };
        self.send(Connect::new(&fields).unwrap());
    }

    fn subscribe(&mut self, input: &mut Input<'_>) {
        let filters: Vec<_> = (0..input.byte() % 4 + 1)
            .map(|_| (TopicFilter::new(input.one(&FILTERS)).unwrap(), input.qos()))
            .collect();
        self.send(Subscribe::new(input.id(), &filters).unwrap());
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let dup = input.flag();
        let id = input.id();
        let delivery = match input.qos() {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        };
        let topic = TopicName::new(input.one(&TOPICS)).unwrap();
        // One after the other, so that floods are near.
        let count = input.one(&[1, 1, 1, 2, 10, 100]);
        let largest = if count == 1 { 20_000 } else { 20 };
        let payload = vec![b'x'; input.one(&[0, 1, 5, 100, 300, largest])];
        let publish = Publish { topic, payload: &payload, delivery, retain: input.flag() };
        for _ in 0..count {
            self.send(publish);
        }
    }

    /// Acknowledges what came, in its order.
    fn answer(&mut self, most: usize) {
        let count = most.min(self.answers.len());
        for ack in self.answers.drain(..count).collect::<Vec<_>>() {
            self.send(ack);
        }
    }

    /// A driver's turn, in which so many bytes are read and so many buffers written.
    fn turn(&mut self, worker: &mut Worker, now: Instant, bytes: usize, buffers: usize) {
        self.time_out(worker, now);
        if self.connection.wants_input() {
            let count = bytes.min(self.unread.len());
            let bytes: Vec<u8> = self.unread.drain(..count).collect();
            let _ = self.connection.handle_input(worker, &bytes, now);
        }
        while let Some(Event::Authenticate(_)) = self.connection.poll_event() {
            self.is_waiting_for_admission = true;
        }
        self.take(worker, buffers);
        self.time_out(worker, now);
    }

    fn time_out(&mut self, worker: &mut Worker, now: Instant) {
        if self.connection.poll_timeout().is_some_and(|deadline| deadline <= now) {
            let _ = self.connection.handle_timeout(worker, now);
        }
    }

    /// Takes so many buffers.
    fn take(&mut self, worker: &mut Worker, most: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..most {
            match self.connection.poll_transmit(worker, &mut cx) {
                Poll::Ready(Transmit::Write(mut out)) => {
                    while out.has_remaining() {
                        let count = out.chunk().len();
                        self.received.extend_from_slice(out.chunk());
                        out.advance(count);
                    }
                    worker.recycle(out);
                }
                Poll::Ready(Transmit::Close(result)) => {
                    self.read();
                    assert!(self.received.is_empty(), "half a packet before the end");
                    self.ended = Some(result);
                    return;
                }
                Poll::Pending => break,
            }
        }
        self.read();
    }

    fn read(&mut self) {
        let bytes = take(&mut self.received);
        let mut rest = &bytes[..];
        while let Some((packet, len)) = decode(rest, MAX_PACKET).expect("the broker sent rubbish") {
            rest = &rest[len..];
            let is_first = self.packets == 0;
            assert_eq!(is_first, matches!(packet, Packet::ConnAck(_)), "{packet:?}");
            self.packets += 1;
            match packet {
                Packet::Publish(publish) => {
                    self.payloads.push(publish.payload.to_vec());
                    match publish.delivery {
                        Delivery::AtMostOnce => {}
                        Delivery::AtLeastOnce { id, .. } => self.answers.push(Ack::PubAck(id)),
                        Delivery::ExactlyOnce { id, .. } => self.answers.push(Ack::PubRec(id)),
                    }
                }
                Packet::PubRec(id) => self.answers.push(Ack::PubRel(id)),
                Packet::PubRel(id) => self.answers.push(Ack::PubComp(id)),
                Packet::Connect(_)
                | Packet::Subscribe(_)
                | Packet::Unsubscribe(_)
                | Packet::PingReq
                | Packet::Disconnect => panic!("a server does not send {packet:?}"),
                _ => {}
            }
        }
        self.received = rest.to_vec();
    }
}
