//! What the main paths cost in instructions, counted by valgrind: unlike times, the counts are the same
//! on a busy machine, and a change of one in a hundred shows.
//!
//! `cargo bench -p mqtt-broker-core --bench instructions` prints them beside those of
//! `benches/instructions.txt`; `-- --check` fails when one is more than 5 % off, `-- --save` writes the
//! file anew. Counts depend on the compiler, so they are compared with the same one only. System calls
//! and waiting are not in them.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Buf;
use mqtt_broker_core::{Broker, Config, Connection, PeerInfo, Transmit, Worker};
use mqtt_codec::{
    Ack, Connect, ConnectFields, Delivery, Packet, PacketId, Publish, QoS, Subscribe, Text,
    TopicFilter, TopicName, decode,
};

/// Messages in one read of the publisher's socket.
const BATCH: usize = 100;

/// A path, how often it is gone at a time, and what has to be there before.
type Route = (&'static str, usize, fn(&mut Bench) -> Box<dyn FnMut(&mut Bench)>);

const PATHS: &[Route] = &[
    ("QoS 0, one receiver", BATCH, |bench| one_to(bench, 1, QoS::AtMostOnce, 1)),
    ("QoS 1, one receiver", BATCH, |bench| one_to(bench, 1, QoS::AtLeastOnce, 1)),
    ("QoS 2, one receiver", BATCH, |bench| one_to(bench, 1, QoS::ExactlyOnce, 1)),
    ("QoS 0, topics in turn", BATCH, |bench| one_to(bench, 1, QoS::AtMostOnce, 100)),
    ("QoS 1, topics in turn", BATCH, |bench| one_to(bench, 1, QoS::AtLeastOnce, 100)),
    ("QoS 0, each of 100 receivers", BATCH * 100, |b| one_to(b, 100, QoS::AtMostOnce, 1)),
    ("QoS 1, each of 100 receivers", BATCH * 100, |b| one_to(b, 100, QoS::AtLeastOnce, 1)),
    ("a new topic among 10,000 filters", 10_000, new_topics),
    ("a filter more, at 10,000", 1000, more_filters),
    ("a message after a change of filters", 1000, change_and_publish),
    ("a retained message", 1000, retain),
    ("a retained message for a new filter", 1000, find_retained),
    ("QoS 1 for an absent client", 1000, queue),
];

/// Where callgrind counts.
#[inline(never)]
fn measured(bench: &mut Bench, work: &mut dyn FnMut(&mut Bench)) {
    work(bench);
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [word, name] = &arguments[..]
        && word == "run"
    {
        run(name);
        return ExitCode::SUCCESS;
    }
    compare(arguments.iter().any(|a| a == "--check"), arguments.iter().any(|a| a == "--save"))
}

fn run(name: &str) {
    let (_, _, set_up) = PATHS.iter().find(|(path, ..)| *path == name).expect("a known path");
    let mut bench = Bench::new();
    let mut work = set_up(&mut bench);
    // What is made once, such as buffers, is made here; topics are remembered when they come again.
    work(&mut bench);
    work(&mut bench);
    measured(&mut bench, &mut *work);
}

fn compare(is_check: bool, is_save: bool) -> ExitCode {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let compiler = compiler();
    let before = fs::read_to_string(&file).unwrap_or_default();
    let is_same_compiler = before.lines().next() == Some(&compiler);
    if !is_same_compiler {
        println!("the counts of {} are of another compiler", file.display());
    }
    let mut now = format!("{compiler}\n");
    let mut is_good = true;
    for (name, times, _) in PATHS {
        let count = count(name) / *times as u64;
        now += &format!("{name}: {count}\n");
        let old = before
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse::<u64>().ok());
        let change = old.map(|old| count as f64 / old as f64 * 100.0 - 100.0);
        println!(
            "{name:<40} {count:>8} {:>8}",
            change.map_or(String::new(), |c| format!("{c:+.1} %"))
        );
        is_good &= change.is_some_and(|change| change.abs() <= 5.0);
    }
    if is_save {
        fs::write(file, now).expect("the file can be written");
    }
    match is_check && is_same_compiler && !is_good {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Instructions of the measured part.
fn count(name: &str) -> u64 {
    let own = std::env::current_exe().expect("the program's own place");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=*measured*")
        .arg(own)
        .args(["run", name])
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.split_once("Collected : "));
    line.and_then(|(_, count)| count.trim().parse().ok())
        .unwrap_or_else(|| panic!("{name}: {text}"))
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("the compiler is there");
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    format!("{version}, {}", std::env::consts::ARCH)
}

/// A broker and the one worker that drives all its connections.
struct Bench {
    broker: Broker,
    worker: Worker,
    now: Instant,
}

struct Client {
    connection: Connection,
    answers: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::default();
        config.hash_seed = 7;
        config.max_subscriptions = usize::MAX;
        config.max_queued_messages = usize::MAX;
        config.max_queued_bytes = usize::MAX;
        config.max_inflight = u16::MAX;
        let broker = Broker::new(config, ());
        Self { broker, worker: Worker::new(), now: Instant::now() }
    }

    fn client(&mut self, name: &str, clean_session: bool) -> Client {
        let peer = PeerInfo::default();
        let connection = self.broker.connection(peer, self.now).expect("there is room");
        let mut client = Client { connection, answers: Vec::new() };
        let fields =
            ConnectFields { clean_session, ..ConnectFields::new(Text::new(name).expect("a name")) };
        let connect = Connect::new(&fields).expect("it fits");
        self.give(&mut client, &bytes(&Packet::Connect(connect)));
        self.take(&mut client);
        client
    }

    fn subscribe(&mut self, client: &mut Client, filter: &str, qos: QoS) {
        self.give(client, &subscribe(filter, qos));
        self.take(client);
    }

    fn give(&mut self, client: &mut Client, bytes: &[u8]) {
        client.connection.handle_input(&mut self.worker, bytes, self.now).expect("it is right");
    }

    /// Takes what there is for a client, and collects its answers.
    fn take(&mut self, client: &mut Client) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(transmit) = client.connection.poll_transmit(&mut self.worker, &mut cx)
        {
            let Transmit::Write(mut out) = transmit else { panic!("the connection ends") };
            taken += out.len();
            while out.has_remaining() {
                let chunk = out.chunk();
                answer(chunk, &mut client.answers);
                let len = chunk.len();
                out.advance(len);
            }
            self.worker.recycle(out);
        }
        taken
    }

    /// Gives the broker a client's answers. True if there were some.
    fn reply(&mut self, client: &mut Client) -> bool {
        let mut answers = std::mem::take(&mut client.answers);
        let has_some = !answers.is_empty();
        if has_some {
            self.give(client, &answers);
        }
        answers.clear();
        client.answers = answers;
        has_some
    }
}

/// The answers to packets that are complete.
fn answer(bytes: &[u8], answers: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Ok(Some((packet, len))) = decode(rest, usize::MAX) {
        rest = &rest[len..];
        let ack = match packet {
            Packet::Publish(publish) => match publish.delivery {
                Delivery::AtMostOnce => continue,
                Delivery::AtLeastOnce { id, .. } => Ack::PubAck(id),
                Delivery::ExactlyOnce { id, .. } => Ack::PubRec(id),
            },
            Packet::PubRec(id) => Ack::PubRel(id),
            Packet::PubRel(id) => Ack::PubComp(id),
            _ => continue,
        };
        answers.extend(ack.to_bytes());
    }
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    bytes
}

fn subscribe(filter: &str, qos: QoS) -> Vec<u8> {
    let filters = [(TopicFilter::new(filter).expect("a filter"), qos)];
    bytes(&Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters).expect("it fits")))
}

fn publish(topic: &str, qos: QoS, id: usize, retain: bool) -> Vec<u8> {
    let id = PacketId::new(id as u16 + 1).expect("few messages");
    let delivery = qos.delivery(id);
    let topic = TopicName::new(topic).expect("a topic");
    bytes(&Packet::Publish(Publish { topic, payload: b"twenty-one point", delivery, retain }))
}

/// A batch from one publisher, acknowledged to the end.
fn one_to(
    bench: &mut Bench,
    receivers: usize,
    qos: QoS,
    topics: usize,
) -> Box<dyn FnMut(&mut Bench)> {
    let mut receivers: Vec<_> =
        (0..receivers).map(|n| bench.client(&format!("receiver-{n}"), true)).collect();
    for receiver in &mut receivers {
        bench.subscribe(receiver, "home/+/light", qos);
    }
    let mut publisher = bench.client("publisher", true);
    let batch: Vec<_> = (0..BATCH)
        .flat_map(|n| publish(&format!("home/{:03}/light", n % topics), qos, n, false))
        .collect();
    Box::new(move |bench| {
        bench.give(&mut publisher, &batch);
        let mut is_busy = true;
        while is_busy {
            bench.take(&mut publisher);
            is_busy = bench.reply(&mut publisher);
            for receiver in &mut receivers {
                bench.take(receiver);
                is_busy |= bench.reply(receiver);
            }
        }
    })
}

/// Seven exact filters of ten and three wildcards, as fleets have them.
fn filter(n: usize) -> String {
    format!("site/{:03}/room/{:03}/{}", n / 100, n % 100, if n % 10 < 3 { "+" } else { "light" })
}

/// 10,000 filters, and a message for each, which nobody remembers the receivers of.
fn new_topics(bench: &mut Bench) -> Box<dyn FnMut(&mut Bench)> {
    let mut receiver = bench.client("receiver", true);
    (0..10_000).for_each(|n| bench.subscribe(&mut receiver, &filter(n), QoS::AtMostOnce));
    let mut publisher = bench.client("publisher", true);
    let batch: Vec<_> = (0..10_000)
        .flat_map(|n| {
            let topic = format!("site/{:03}/room/{:03}/light", n / 100, n % 100);
            publish(&topic, QoS::AtMostOnce, 0, false)
        })
        .collect();
    let mut n = 0;
    Box::new(move |bench| {
        // A change of any subscription makes all topics new.
        bench.subscribe(&mut publisher, &format!("change/{n}"), QoS::AtMostOnce);
        n += 1;
        for part in batch.chunks(64 << 10) {
            bench.give(&mut publisher, part);
            bench.take(&mut receiver);
        }
    })
}

fn more_filters(bench: &mut Bench) -> Box<dyn FnMut(&mut Bench)> {
    let mut clients: Vec<_> =
        (0..100).map(|n| bench.client(&format!("client-{n}"), true)).collect();
    (0..10_000).for_each(|n| {
        bench.subscribe(&mut clients[n / 100], &filter(n), QoS::AtMostOnce);
    });
    let mut n = 10_000;
    Box::new(move |bench| {
        for _ in 0..1000 {
            bench.subscribe(&mut clients[n % 100], &filter(n), QoS::AtMostOnce);
            n += 1;
        }
    })
}

/// Clients come and go while others talk.
fn change_and_publish(bench: &mut Bench) -> Box<dyn FnMut(&mut Bench)> {
    let mut receiver = bench.client("receiver", true);
    bench.subscribe(&mut receiver, "home/+/light", QoS::AtMostOnce);
    let mut publisher = bench.client("publisher", true);
    let message = publish("home/1/light", QoS::AtMostOnce, 0, false);
    Box::new(move |bench| {
        for _ in 0..1000 {
            bench.subscribe(&mut publisher, "change", QoS::AtMostOnce);
            bench.give(&mut publisher, &message);
            bench.take(&mut receiver);
        }
    })
}

fn retain(bench: &mut Bench) -> Box<dyn FnMut(&mut Bench)> {
    let mut publisher = bench.client("publisher", true);
    let mut n = 0;
    Box::new(move |bench| {
        for _ in 0..1000 {
            let topic = format!("site/{:05}/state", n * 7919 % 100_000);
            bench.give(&mut publisher, &publish(&topic, QoS::AtMostOnce, 0, true));
            n += 1;
        }
    })
}

/// One in ten of the topics matches.
fn find_retained(bench: &mut Bench) -> Box<dyn FnMut(&mut Bench)> {
    let mut publisher = bench.client("publisher", true);
    for n in 0..10_000 {
        let topic = format!("site/{:04}/{}", n / 10, n % 10);
        bench.give(&mut publisher, &publish(&topic, QoS::AtMostOnce, 0, true));
    }
    let mut receiver = bench.client("receiver", true);
    Box::new(move |bench| {
        bench.give(&mut receiver, &subscribe("site/+/7", QoS::AtMostOnce));
        assert!(bench.take(&mut receiver) > 1000 * 20, "they are sent");
    })
}

/// Messages for a client that is away, and its return.
fn queue(bench: &mut Bench) -> Box<dyn FnMut(&mut Bench)> {
    let mut absent = bench.client("absent", false);
    bench.subscribe(&mut absent, "home/+/light", QoS::AtLeastOnce);
    drop(absent);
    let mut publisher = bench.client("publisher", true);
    let batch: Vec<_> =
        (0..1000).flat_map(|n| publish("home/1/light", QoS::AtLeastOnce, n, false)).collect();
    Box::new(move |bench| {
        bench.give(&mut publisher, &batch);
        bench.take(&mut publisher);
        let mut absent = bench.client("absent", false);
        while bench.reply(&mut absent) {
            bench.take(&mut absent);
        }
    })
}
