//! The broker, its clients, the network between them and the clock, by one seed.

use std::time::{Duration, Instant};

use fastrand::Rng;
use mqtt_broker_core::{
    Broker, CommitError, Config, Journal, LocalSubscription, PeerInfo, Recovered, Worker,
};
use mqtt_codec::{QoS, TopicFilter, TopicName};

use crate::Summary;
use crate::client::{Client, TOPICS};
use crate::disk::Disk;
use crate::oracle::{Log, Message, Oracle, Received};
use crate::server::Server;

pub(crate) struct World {
    rng: Rng,
    start: Instant,
    now: Instant,
    broker: Broker,
    /// Of a broker that is meant to survive restarts.
    storage: Option<Storage>,
    worker: Worker,
    log: Log,
    oracle: Oracle,
    clients: Vec<Client>,
    servers: Vec<Server>,
    local: Option<LocalSubscription>,
    serial: usize,
    sent: u64,
    /// The widest limits of all lives: what was taken then, stays.
    widest: Limits,
}

/// What the broker says that it holds for a session is within these.
#[derive(Clone, Copy, Default)]
struct Limits {
    queued: usize,
    in_flight: usize,
}

/// The name under which the oracle knows the program's own subscription.
const LOCAL: &str = "";

impl World {
    /// `durable`: the broker has a journal, and crashes now and then.
    pub(crate) fn new(seed: u64, durable: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = config(&mut rng, seed, durable);
        let clients = (0..rng.usize(2..8))
            .map(|n| Client::new(format!("client{n}"), config.max_inflight))
            .collect();
        let log = Log::new(durable && rng.bool());
        let start = Instant::now();
        let oracle = Oracle::new(config.queue_qos0);
        let (broker, storage) = if durable {
            let recovered = Recovered::default();
            let (broker, journal) = Broker::restore(config, log.clone(), recovered, start);
            (broker, Some(Storage { journal, disk: Disk::default() }))
        } else {
            (Broker::new(config, log.clone()), None)
        };
        let mut world = Self {
            rng,
            start,
            now: start,
            broker,
            storage,
            worker: Worker::new(),
            log,
            oracle,
            clients,
            servers: Vec::new(),
            local: None,
            serial: 0,
            sent: 0,
            widest: Limits::default(),
        };
        world.widen();
        if world.rng.bool() {
            world.subscribe_locally();
        }
        for client in 0..world.clients.len() {
            world.clients[client].clean = world.rng.bool();
            world.clients[client].is_in_groups = world.log.has_groups;
            world.connect(client);
        }
        world
    }

    /// One thing happens.
    pub(crate) fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(..100));
        let client = self.rng.usize(..self.clients.len());
        match self.rng.u16(..1000) {
            0..500 => self.act(client),
            500..850 => drop(self.read(client)),
            850..870 if self.clients[client].serial.is_none() => self.connect(client),
            850..855 => self.connect(client),
            870..878 => self.cut(client),
            880..885 => self.say_goodbye(client),
            885..900 => self.clients[client].appetite = [0, 3, 100, 10_000][self.rng.usize(..4)],
            900..903 => self.now += Duration::from_secs(self.rng.u64(..100)),
            905..920 => drop(self.broker.sweep(self.now)),
            920..940 => self.publish_locally(),
            940..980 => self.read_locally(),
            980..982 => drop(self.broker.disconnect(&self.clients[client].name)),
            982..984 => drop(self.broker.delete_session(&self.clients[client].name)),
            _ => {}
        }
        self.note();
        if self.storage.is_some() {
            match self.rng.u16(..1000) {
                0..300 => drop(self.commit()),
                300..303 => self.crash(),
                303..308 => {
                    let is_closed = self.rng.bool();
                    let disk = self.disk();
                    (disk.is_full, disk.is_closed) = (true, is_closed);
                }
                308..313 => self.disk().is_short = true,
                313..330 => self.disk().give_room(),
                _ => {}
            }
        }
        // Some turns are late, so that input and messages pile up.
        if self.rng.u8(..4) > 0 {
            self.serve(3);
        }
        if self.rng.u8(..10) == 0 {
            self.compare();
        }
    }

    /// The storm is over: everybody comes back, reads and answers, until nothing moves. Then nothing
    /// may be missing.
    pub(crate) fn conclude(mut self) -> Summary {
        if self.storage.is_some() {
            self.disk().give_room();
        }
        for client in 0..self.clients.len() {
            self.clients[client].appetite = 10_000;
            // A kept session comes back; a clean one would have nothing to come back for.
            if !self.clients[client].is_connected {
                self.clients[client].clean = false;
                self.connect(client);
            }
        }
        let mut rounds = 0;
        loop {
            self.serve(usize::MAX);
            let mut moved = self.storage.is_some() && self.commit();
            for client in 0..self.clients.len() {
                moved |= self.read(client);
                if self.clients[client].serial.is_none() {
                    self.clients[client].clean = false;
                    self.connect(client);
                    moved = true;
                }
                let Self { clients, servers, .. } = &mut self;
                let client = &mut clients[client];
                if let Some(server) = server_of(servers, client)
                    && client.is_connected
                    && !client.owes_nothing()
                {
                    let before = server.link.to_server.len();
                    client.answer(&mut server.link, usize::MAX);
                    moved |= server.link.to_server.len() > before;
                    server.wake();
                }
            }
            self.read_locally();
            self.note();
            let is_due = self.servers.iter().any(|server| server.is_due(self.now));
            if !moved && !is_due {
                // Only the clock can help: publishers that wait for dead links.
                if self
                    .servers
                    .iter()
                    .all(|server| server.is_over || server.connection.wants_input())
                    && self.clients.iter().all(|client| client.is_connected)
                {
                    break;
                }
                self.now += Duration::from_secs(1);
            }
            rounds += 1;
            assert!(rounds < 10_000, "the broker does not come to rest");
        }
        self.compare();
        self.oracle.conclude();
        for session in self.broker.sessions() {
            let rest = (session.queued, session.in_flight, session.unsent_bytes);
            assert_eq!(rest, (0, 0, 0), "{} is not at rest", session.client_id);
        }
        for client in &self.clients {
            assert!(client.owes_nothing(), "{} waits for an answer", client.name);
        }
        if self.storage.is_some() {
            self.disk().assert_empty();
        }
        let client_time = (self.now - self.start) * self.clients.len() as u32;
        Summary { client_time, received: self.clients.iter().map(|client| client.packets).sum() }
    }

    fn subscribe_locally(&mut self) {
        let qos = self.rng.u8(..3);
        let filter = TopicFilter::new("a/#").unwrap();
        self.local = Some(self.broker.subscribe(filter, QoS::try_from(qos).unwrap()));
        self.oracle.subscribe_locally(LOCAL, "a/#", qos);
    }

    fn disk(&mut self) -> &mut Disk {
        &mut self.storage.as_mut().expect("the broker is durable").disk
    }

    /// Commits what waits. True when something did.
    fn commit(&mut self) -> bool {
        let Self { storage: Some(storage), oracle, .. } = self else { return false };
        // A batch that was refused takes up what has come since.
        let snapshot = oracle.snapshot();
        match storage.journal.commit(&mut storage.disk) {
            Ok(true) => {
                oracle.durable = snapshot;
                true
            }
            Ok(false) => {
                storage.journal.tidy(&mut storage.disk).expect("there is nothing to do");
                false
            }
            Err(CommitError::Failed(error)) => panic!("{error}"),
            Err(_) => false,
        }
    }

    /// The broker's process ends at once, and another one starts with what is on the disk.
    fn crash(&mut self) {
        let Some(Storage { mut disk, .. }) = self.storage.take() else { return };
        self.clients.iter_mut().for_each(Client::lose_broker);
        self.oracle.crash();
        // What the old broker still says, nobody hears.
        self.log = Log::new(self.log.has_groups);
        self.servers.clear();
        let before = self.broker.config();
        let mut config = config(&mut self.rng, before.hash_seed, true);
        config.queue_qos0 = before.queue_qos0;
        let (broker, journal) = Broker::restore(config, self.log.clone(), disk.recover(), self.now);
        let had_local = self.local.take().is_some();
        self.broker = broker;
        self.storage = Some(Storage { journal, disk });
        self.widen();
        self.note();
        self.oracle.restarted();
        if had_local {
            self.subscribe_locally();
        }
    }

    /// Clients hold the broker to the limits that it has now, and may still have more from before.
    fn widen(&mut self) {
        let (config, widest) = (self.broker.config(), &mut self.widest);
        widest.queued = widest.queued.max(config.max_queued_messages);
        widest.in_flight = widest.in_flight.max(config.max_inflight.into());
        self.clients.iter_mut().for_each(|client| client.window = widest.in_flight);
    }

    fn connect(&mut self, client: usize) {
        let Self { rng, oracle, clients, servers, broker, .. } = self;
        let client = &mut clients[client];
        // The link before it is left open by half of them, as after a change of network.
        if let Some(server) = server_of(servers, client) {
            if rng.bool() {
                server.link.is_dead = true;
            } else {
                server.link.is_closed_by_client = true;
                server.wake();
            }
        }
        if rng.u8(..4) == 0 {
            client.clean = !client.clean;
        }
        self.serial += 1;
        let mut peer = PeerInfo::default();
        peer.listener = self.serial;
        let mut server = Server::new(self.serial, broker.connection(peer, self.now).unwrap());
        client.connect(rng, oracle, self.serial, &mut server.link);
        servers.push(server);
    }

    fn act(&mut self, client: usize) {
        let Self { rng, clients, servers, .. } = self;
        let client = &mut clients[client];
        if let Some(server) = server_of(servers, client)
            && client.is_connected
        {
            client.act(rng, &mut server.link);
            server.wake();
        }
    }

    /// True when there was something to read.
    fn read(&mut self, client: usize) -> bool {
        let Self { oracle, clients, servers, .. } = self;
        let client = &mut clients[client];
        let Some(server) = server_of(servers, client) else { return false };
        let before = client.packets;
        let was_full = !server.link.to_client.is_empty();
        if client.read(oracle, &mut server.link) {
            if was_full {
                server.wake();
            }
        } else {
            client.disconnect();
        }
        client.packets > before
    }

    /// The link breaks at any byte. The broker sees it now, or never.
    fn cut(&mut self, client: usize) {
        let Self { rng, clients, servers, .. } = self;
        let client = &mut clients[client];
        let Some(server) = server_of(servers, client) else { return };
        let arrives = rng.usize(..=server.link.to_server.len());
        server.link.to_server.truncate(arrives);
        server.link.is_dead = rng.bool();
        server.link.is_closed_by_client = !server.link.is_dead;
        server.wake();
        client.disconnect();
    }

    fn say_goodbye(&mut self, client: usize) {
        let Self { clients, servers, .. } = self;
        let client = &mut clients[client];
        if let Some(server) = server_of(servers, client)
            && client.is_connected
        {
            server.link.to_server.extend([0xe0, 0]);
            server.wake();
            client.disconnect();
        }
    }

    fn publish_locally(&mut self) {
        self.sent += 1;
        let topic = TOPICS[self.rng.usize(..TOPICS.len())];
        let message = Message {
            topic: topic.into(),
            payload: format!("local:{}", self.sent).into_bytes(),
            qos: self.rng.u8(..3),
            retain: self.rng.u8(..4) == 0,
        };
        let qos = QoS::try_from(message.qos).unwrap();
        let topic = TopicName::new(topic).unwrap();
        let mut told = mqtt_broker_core::Message::new(topic, &message.payload, qos).unwrap();
        if message.retain {
            told = told.retained();
        }
        self.oracle.publish(LOCAL, 0, &message);
        self.broker.publish(&told);
    }

    fn read_locally(&mut self) {
        let Some(local) = &mut self.local else { return };
        while let Some(message) = local.try_recv() {
            let message = Message {
                topic: message.topic().to_string(),
                payload: message.payload().to_vec(),
                qos: message.qos().into(),
                retain: message.retain(),
            };
            let received = Received { message, id: 0, dup: false, known: false };
            self.oracle.received(LOCAL, 0, &received);
        }
    }

    /// Every connection that is due has its turn, in any order.
    fn serve(&mut self, most: usize) {
        for turns in 0..most {
            let now = self.now;
            let mut due: Vec<_> =
                (0..self.servers.len()).filter(|&n| self.servers[n].is_due(now)).collect();
            if due.is_empty() {
                break;
            }
            assert!(turns < 10_000, "{:?} never rests", self.servers[due[0]].connection);
            self.rng.shuffle(&mut due);
            for n in due {
                self.servers[n].turn(&mut self.worker, &mut self.rng, now);
                self.note();
            }
        }
        // A link is over for good when neither end uses it.
        let clients = &self.clients;
        self.servers.retain(|server| {
            !server.is_over || clients.iter().any(|client| client.serial == Some(server.serial))
        });
        self.note();
    }

    /// The oracle hears what happened before any client can.
    fn note(&mut self) {
        for event in self.log.take() {
            self.oracle.apply(event);
        }
    }

    fn compare(&self) {
        let mut retained = Vec::new();
        for filter in ["#", "$x/#"] {
            let filter = TopicFilter::new(filter).unwrap();
            retained.extend(self.broker.retained(filter, None, usize::MAX));
        }
        let mut retained: Vec<_> = retained
            .iter()
            .map(|message| Message {
                topic: message.topic().to_string(),
                payload: message.payload().to_vec(),
                qos: message.qos().into(),
                retain: message.retain(),
            })
            .collect();
        retained.sort_by(|a, b| a.topic.cmp(&b.topic));
        let sessions = self.broker.sessions();
        self.oracle.compare(&sessions, &retained);
        let stats = self.broker.stats();
        assert_eq!(stats.sessions as usize, sessions.len());
        assert_eq!(stats.subscriptions as usize, self.oracle.subscriptions());
        assert_eq!(stats.retained as usize, retained.len());
        let bytes: usize = retained.iter().map(|m| m.topic.len() + m.payload.len()).sum();
        assert_eq!(stats.retained_bytes as usize, bytes);
        for session in sessions {
            // Twice the limit, and a batch of retained messages.
            let most = self.widest.queued * 2 + 64;
            assert!(session.queued <= most, "{session:?}");
            assert!(session.in_flight <= self.widest.in_flight, "{session:?}");
        }
    }
}

/// Limits that are met, and some that are not.
fn config(rng: &mut Rng, seed: u64, durable: bool) -> Config {
    let mut config = Config::default();
    config.hash_seed = seed;
    config.max_inflight = [1, 2, 3, 10, 32][rng.usize(..5)];
    config.max_inflight_bytes = [1, 100, usize::MAX][rng.usize(..3)];
    config.max_queued_messages = [1, 3, 10, 1000][rng.usize(..4)];
    config.max_queued_bytes = [500, 5000, 1 << 20][rng.usize(..3)];
    config.max_outbox_bytes = [100, 2000, 1 << 20][rng.usize(..3)];
    config.max_retained_messages = [2, 100][rng.usize(..2)];
    if durable {
        config.max_queued_bytes_in_memory = [0, 100, 64 << 10][rng.usize(..3)];
    }
    config.queue_qos0 = rng.u8(..4) == 0;
    config.session_expiry = rng.bool().then(|| Duration::from_secs(rng.u64(10..500)));
    config.congestion_timeout = Duration::from_secs(rng.u64(1..20));
    config
}

/// Where what survives a restart goes.
struct Storage {
    journal: Journal,
    disk: Disk,
}

/// The broker's end of a client's link.
fn server_of<'a>(servers: &'a mut [Server], client: &Client) -> Option<&'a mut Server> {
    let serial = client.serial?;
    servers.iter_mut().find(|server| server.serial == serial)
}
