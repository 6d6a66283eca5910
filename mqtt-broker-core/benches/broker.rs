//! The broker without sockets: what a message costs from the publisher's bytes to the receiver's.
//!
//! `cargo bench -p mqtt-broker-core` prints time per message. The workloads are named by who talks to
//! whom; each message has a payload of 16 bytes.

#[path = "../tests/normative/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use the rest")]
mod wire;
#[path = "../tests/normative/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use the rest")]
mod world;

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use mqtt_codec::{Packet, decode};
use wire::{pubcomp, publish, pubrel};
use world::{Client, World};

/// Messages in one read of the publisher's socket.
const BATCH: u16 = 32;
const PAYLOAD: &str = "twenty-one point";

/// One batch from `publisher` to `receivers`, acknowledged to the end.
fn pass(publisher: &mut Client, receivers: &mut [Client], batch: &[u8]) {
    publisher.send(batch);
    for receiver in receivers.iter_mut() {
        answer(receiver);
    }
    answer(publisher);
    for receiver in receivers {
        answer(receiver);
    }
    answer(publisher);
}

/// Acknowledges whatever there is.
fn answer(client: &mut Client) {
    let received = client.received();
    let mut rest = &received.0[..];
    let mut answers = Vec::new();
    while let Ok(Some((packet, len))) = decode(rest, usize::MAX) {
        rest = &rest[len..];
        match packet {
            Packet::Publish(publish) => match publish.delivery {
                mqtt_codec::Delivery::AtMostOnce => {}
                mqtt_codec::Delivery::AtLeastOnce { id, .. } => {
                    Packet::PubAck(id).encode(&mut answers);
                }
                mqtt_codec::Delivery::ExactlyOnce { id, .. } => {
                    Packet::PubRec(id).encode(&mut answers);
                }
            },
            Packet::PubRec(id) => answers.extend(pubrel(id.get())),
            Packet::PubRel(id) => answers.extend(pubcomp(id.get())),
            _ => {}
        }
    }
    if !answers.is_empty() {
        client.send(&answers);
    }
}

fn batch(qos: u8, topic: &str) -> Vec<u8> {
    (1..=BATCH).flat_map(|id| publish(0x30 | qos << 1, topic, id, PAYLOAD)).collect()
}

fn pair(bencher: &mut Bencher<'_>, world: &World, qos: u8) {
    let mut receivers = [world.subscriber("receiver", "sensors/+/light", qos)];
    let mut publisher = world.client("publisher");
    let batch = batch(qos, "sensors/kitchen/light");
    bencher.iter(|| pass(&mut publisher, &mut receivers, &batch));
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one to one");
    group.throughput(Throughput::Elements(BATCH.into()));
    for qos in 0..=2 {
        group.bench_function(format!("QoS {qos}"), |bencher| pair(bencher, &World::new(), qos));
    }
    // A subscriber that has stopped reading, under a flood that goes on, costs the others nothing: only
    // the pair's part is timed.
    for qos in 0..=1 {
        group.bench_function(format!("QoS {qos}, beside a flooded reader that has stopped"), |b| {
            let world = World::with(|config| config.congestion_timeout = Duration::from_secs(3600));
            let _stopped = world.subscriber("stopped", "flood", qos);
            let mut flooder = world.client("flooder");
            let flood = publish(0x30 | qos << 1, "flood", 1, &PAYLOAD.repeat(256));
            let mut receivers = [world.subscriber("receiver", "sensors/+/light", qos)];
            let mut publisher = world.client("publisher");
            let batch = batch(qos, "sensors/kitchen/light");
            b.iter_custom(|iterations| {
                let mut time = Duration::ZERO;
                for _ in 0..iterations {
                    if flooder.wants_input() {
                        flooder.send(&flood);
                        flooder.received();
                    }
                    let start = Instant::now();
                    pass(&mut publisher, &mut receivers, &batch);
                    time += start.elapsed();
                }
                time
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("one to 100");
    group.throughput(Throughput::Elements(u64::from(BATCH) * 100));
    for qos in 0..=1 {
        group.bench_function(format!("QoS {qos}"), |bencher| {
            let world = World::new();
            let mut receivers: Vec<_> = (0..100)
                .map(|n| world.subscriber(&format!("receiver{n}"), "sensors/#", qos))
                .collect();
            let mut publisher = world.client("publisher");
            let batch = batch(qos, "sensors/kitchen/light");
            bencher.iter(|| pass(&mut publisher, &mut receivers, &batch));
        });
    }
    group.finish();
}

/// Filters of a fleet: seven exact ones of ten, three with a wildcard.
fn filter(n: usize) -> String {
    match n % 10 {
        0..3 => format!("houses/{n}/+/light"),
        _ => format!("houses/{n}/kitchen/light"),
    }
}

/// A broker with so many filters, held by clients with 1,000 each, who have to be there.
fn world_with_filters(count: usize) -> (World, Vec<Client>) {
    let world = World::with(|config| {
        config.max_subscriptions = usize::MAX;
        config.max_connections = usize::MAX;
    });
    let mut clients = Vec::new();
    for n in 0..count {
        if n % 1000 == 0 {
            clients.push(world.client(&format!("holder{n}")));
        }
        clients.last_mut().expect("one was made").subscribe(&filter(n), 0);
    }
    (world, clients)
}

fn filters(criterion: &mut Criterion) {
    for count in [1, 1000, 1_000_000] {
        let mut group = criterion.benchmark_group(format!("{count} filters"));
        let (world, mut holders) = world_with_filters(count);
        let mut publisher = world.client("publisher");

        group.throughput(Throughput::Elements(BATCH.into()));
        group.bench_function("route: a topic that came before", |bencher| {
            let batch = publish(0x30, "houses/0/kitchen/light", 0, PAYLOAD).repeat(BATCH.into());
            bencher.iter(|| {
                publisher.send(&batch);
                holders[0].received();
            });
        });
        group.bench_function("match: topics that nobody remembers", |bencher| {
            // More than are remembered, and none of them matched, so that nobody has to read.
            let batches: Vec<_> = (0..20_000 / usize::from(BATCH))
                .map(|batch| {
                    let first = batch * usize::from(BATCH);
                    let topics = first..first + usize::from(BATCH);
                    topics
                        .flat_map(|n| publish(0x30, &format!("houses/{n}/attic"), 0, "x"))
                        .collect()
                })
                .collect::<Vec<Vec<u8>>>();
            let mut turn = batches.iter().cycle();
            bencher.iter(|| publisher.send(turn.next().expect("it has no end")));
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function("insert and remove one", |bencher| {
            let subscribe = wire::subscribe(1, &[("streets/+/lamp", 0)]);
            let unsubscribe = wire::unsubscribe(1, &["streets/+/lamp"]);
            let mut client = world.client("newcomer");
            bencher.iter(|| {
                client.ask(&subscribe, &wire::suback(1, &[0]));
                client.ask(&unsubscribe, &wire::unsuback(1));
            });
        });
        group.finish();
    }
}

/// What waits for a client that is away, and what is kept for clients to come.
fn kept(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kept");
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("enqueue, and drain", |bencher| {
        let world = World::new();
        let mut absent = world.kept("absent", false);
        absent.subscribe("t", 1);
        absent.leave();
        let mut publisher = world.client("publisher");
        let batch = batch(1, "t");
        bencher.iter(|| {
            publisher.send(&batch);
            publisher.received();
            let mut back = world.kept("absent", true);
            answer(&mut back);
            back.leave();
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("retained: 1,000 of 10,000 for a new filter", |bencher| {
        let world = World::new();
        let mut publisher = world.client("publisher");
        for n in 0..10_000 {
            publisher.retain(&format!("houses/{}/{}", n / 10, n % 10), PAYLOAD);
        }
        let mut receiver = world.client("receiver");
        let subscribe = wire::subscribe(1, &[("houses/+/7", 0)]);
        bencher.iter(|| {
            receiver.send(&subscribe);
            receiver.received()
        });
    });
    group.finish();
}

criterion_group!(benches, messages, filters, kept);
criterion_main!(benches);
