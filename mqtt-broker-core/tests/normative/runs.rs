//! Messages with one topic that come at a time are handled together. Nobody can tell.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mqtt_broker_core::{
    Broker, Config, DropReason, Hooks, LocalSubscription, Message, MountPoint, PeerInfo, Permission,
};
use mqtt_codec::{Packet, Publish, QoS, TopicFilter, TopicName, decode};
use proptest::prelude::*;
use proptest::sample::select;

use crate::wire::*;
use crate::world::{Client, World};

/// Decides by the payload, and remembers what was dropped.
#[derive(Clone, Default)]
struct Rules(Arc<Mutex<Vec<String>>>);

impl Hooks for Rules {
    fn authorize_publish(&self, _: &mqtt_broker_core::Client, publish: &Publish<'_>) -> Permission {
        match publish.payload.first() {
            Some(b'd') => Permission::Deny,
            Some(b'x') => Permission::Disconnect,
            Some(b'r') => {
                let topic = TopicName::new("u").unwrap();
                let qos = publish.delivery.qos();
                Permission::Replace(Message::new(topic, publish.payload, qos).unwrap())
            }
            _ => Permission::Allow,
        }
    }

    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        self.0.lock().unwrap().push(format!("{receiver:?} {topic} {reason:?}"));
    }
}

#[derive(Clone, Debug)]
struct Receiver {
    filters: Vec<(&'static str, u8)>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Clean,
    Kept,
    /// The client is away.
    Absent,
    /// Its topics are below a mount point.
    Mounted,
    /// The broker's own program.
    Local,
}

#[derive(Clone, Debug)]
enum Step {
    /// The publisher sends.
    Send(Vec<Vec<u8>>),
    /// A receiver takes what there is, and acknowledges it or not.
    Take(usize, bool),
    Pass,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    inflight: u16,
    inflight_bytes: usize,
    queued: usize,
    queued_bytes: usize,
    outbox: usize,
    qos2: usize,
    queue_qos0: bool,
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        select(&[1, 3, 100][..]),
        select(&[5, 40, usize::MAX][..]),
        select(&[1, 3, 6, 1000][..]),
        select(&[10, 60, 1 << 20][..]),
        select(&[1, 1 << 20][..]),
        select(&[1, 4, 100][..]),
        any::<bool>(),
    )
        .prop_map(
            |(inflight, inflight_bytes, queued, queued_bytes, outbox, qos2, queue_qos0)| Limits {
                inflight,
                inflight_bytes,
                queued,
                queued_bytes,
                outbox,
                qos2,
                queue_qos0,
            },
        )
}

fn receiver() -> impl Strategy<Value = Receiver> {
    let filter = select(&["t", "t", "+", "#", "u", "$share/g/t", "$SYS/#", "m/t"][..]);
    let kind = prop_oneof![
        4 => Just(Kind::Clean),
        2 => Just(Kind::Kept),
        2 => Just(Kind::Absent),
        1 => Just(Kind::Mounted),
        1 => Just(Kind::Local),
    ];
    (prop::collection::vec((filter, 0u8..3), 1..3), kind)
        .prop_map(|(filters, kind)| Receiver { filters, kind })
}

/// A batch of packets in which runs are frequent.
fn batch() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = prop_oneof![
        12 => Just("a"), 3 => Just("a little more"), 1 => Just(""), 1 => Just("d"),
        1 => Just("r"),
    ];
    let run = (
        select(&[0x30u8, 0x32, 0x34, 0x32, 0x34, 0x3a, 0x3c, 0x31, 0x33][..]),
        select(&["t", "t", "t", "u", "$SYS/x", "m/t"][..]),
        select(&[1u16, 2, 7, 65_533][..]),
        any::<bool>(),
        prop::collection::vec(payload, 1..7),
    )
        .prop_map(|(first, topic, id, rises, payloads)| {
            let mut id = id;
            let mut packets = Vec::new();
            for payload in payloads {
                packets.push(publish(first, topic, id, payload));
                id = if rises { id % 65_535 + 1 } else { 8 - id % 8 };
            }
            packets
        });
    let other = prop_oneof![
        6 => (1u16..8).prop_map(|id| vec![pubrel(id)]),
        2 => Just(vec![PINGREQ.to_vec()]),
        1 => Just(vec![publish(0x32, "t", 5, "x")]),
    ];
    prop::collection::vec(prop_oneof![5 => run, 1 => other], 1..4).prop_map(|parts| parts.concat())
}

fn step(receivers: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => batch().prop_map(Step::Send),
        3 => (0..receivers, any::<bool>()).prop_map(|(at, acks)| Step::Take(at, acks)),
        1 => Just(Step::Pass),
    ]
}

enum End {
    Client(Box<Client>),
    Local(LocalSubscription),
    Away,
}

struct Life {
    world: World,
    rules: Rules,
    publisher: Client,
    ends: Vec<End>,
}

impl Life {
    fn new(limits: Limits, own: Option<(&'static str, u8)>, receivers: &[Receiver]) -> Self {
        let rules = Rules::default();
        let world = World::with_hooks(
            |config| {
                config.max_inflight = limits.inflight;
                config.max_inflight_bytes = limits.inflight_bytes;
                config.max_queued_messages = limits.queued;
                config.max_queued_bytes = limits.queued_bytes;
                config.max_outbox_bytes = limits.outbox;
                config.max_incoming_qos2 = limits.qos2;
                config.queue_qos0 = limits.queue_qos0;
            },
            rules.clone(),
        );
        let mut ends = Vec::new();
        for (n, Receiver { filters, kind }) in receivers.iter().enumerate() {
            let id = format!("r{n}");
            if *kind == Kind::Local {
                let (filter, qos) = filters[0];
                let filter = TopicFilter::new(filter).unwrap();
                ends.push(End::Local(world.broker.subscribe(filter, QoS::try_from(qos).unwrap())));
                continue;
            }
            let mut peer = PeerInfo::default();
            if *kind == Kind::Mounted {
                peer.mount_point = Some(MountPoint::new("m/").unwrap());
            }
            let mut client = world.open_from(peer);
            let flags = if matches!(kind, Kind::Kept | Kind::Absent) { KEPT } else { CLEAN };
            client.send(&connect(flags, 0, &[id.as_bytes()]));
            client.received();
            client.send(&subscribe(9, filters));
            client.received();
            if *kind == Kind::Absent {
                client.leave();
                ends.push(End::Away);
            } else {
                ends.push(End::Client(Box::new(client)));
            }
        }
        let mut publisher = world.kept("p", false);
        if let Some((filter, qos)) = own {
            publisher.subscribe(filter, qos);
        }
        Self { world, rules, publisher, ends }
    }

    fn take(&mut self, at: usize, acks: bool) -> String {
        match &mut self.ends[at] {
            End::Away => String::new(),
            End::Local(local) => {
                let messages: Vec<_> = std::iter::from_fn(|| local.try_recv()).collect();
                let payloads = messages.iter().map(|m| m.payload().to_vec()).collect::<Vec<_>>();
                format!("{messages:?} {payloads:?}")
            }
            End::Client(client) => {
                let got = client.received();
                let mut answers = Vec::new();
                let mut rest = &got.0[..];
                while let Ok(Some((packet, len))) = decode(rest, usize::MAX) {
                    rest = &rest[len..];
                    match packet {
                        Packet::Publish(publish) => match publish.delivery.qos() {
                            QoS::AtMostOnce => {}
                            QoS::AtLeastOnce => {
                                answers.extend(puback(publish.packet_id().unwrap().get()));
                            }
                            QoS::ExactlyOnce => {
                                answers.extend(pubrec(publish.packet_id().unwrap().get()));
                            }
                        },
                        Packet::PubRel(id) => answers.extend(pubcomp(id.get())),
                        _ => {}
                    }
                }
                if acks {
                    client.send(&answers);
                }
                format!("{got:?}")
            }
        }
    }

    /// What can be seen from outside after a step. The order in which receivers lost something does
    /// not count.
    fn seen(&mut self) -> String {
        let mut dropped = std::mem::take(&mut *self.rules.0.lock().unwrap());
        dropped.sort();
        let got = self.publisher.received();
        let wants = self.publisher.wants_input();
        let sessions = self.world.broker.sessions();
        let stats = self.world.broker.stats();
        format!("{got:?}\n{wants}\n{dropped:?}\n{stats:#?}\n{sessions:#?}")
    }
}

proptest! {
    #[test]
    fn messages_that_come_together_are_handled_as_if_they_came_alone(
        limits in limits(),
        own in prop::option::of((select(&["t", "#", "u"][..]), 0u8..3)),
        receivers in prop::collection::vec(receiver(), 4),
        steps in prop::collection::vec(step(4), 1..10),
    ) {
        let mut together = Life::new(limits, own, &receivers);
        let mut alone = Life::new(limits, own, &receivers);
        for step in steps {
            match &step {
                Step::Send(packets) => {
                    together.publisher.send(&packets.concat());
                    packets.iter().for_each(|packet| alone.publisher.send(packet));
                }
                Step::Take(at, acks) => {
                    prop_assert_eq!(together.take(*at, *acks), alone.take(*at, *acks));
                }
                Step::Pass => {
                    together.world.pass(Duration::from_secs(6));
                    alone.world.pass(Duration::from_secs(6));
                }
            }
            let (one, other) = (together.seen(), alone.seen());
            prop_assert!(one == other, "{:?}\n{}\n-----\n{}", step, one, other);
        }
        for at in 0..4 {
            prop_assert_eq!(together.take(at, false), alone.take(at, false));
        }
    }
}

/// While the first message of a run is decided on, as many come from elsewhere.
#[derive(Clone, Default)]
struct Rush(Arc<OnceLock<Broker>>, Arc<AtomicUsize>);

impl Hooks for Rush {
    fn authorize_publish(&self, _: &mqtt_broker_core::Client, _: &Publish<'_>) -> Permission {
        let message = Message::new(TopicName::new("t").unwrap(), b"rush", QoS::AtLeastOnce);
        for _ in 0..self.1.swap(0, Ordering::Relaxed) {
            self.0.get().unwrap().publish(message.as_ref().unwrap());
        }
        Permission::Allow
    }
}

// Several threads may find room for a run each at a time. Nothing is lost for that: the clients are held
// back, as those whose messages come alone.
#[test]
fn a_run_whose_room_was_taken_meanwhile_is_not_lost() {
    let rush = Rush::default();
    let change = |config: &mut Config| {
        config.max_inflight = 1;
        config.max_queued_messages = 20;
    };
    let world = World::with_hooks(change, rush.clone());
    assert!(rush.0.set(world.broker.clone()).is_ok());
    let mut slow = world.subscriber("slow", "t", 1);
    let mut publisher = world.client("p");
    publisher.publish1("t", "0");
    rush.1.store(30, Ordering::Relaxed);
    let run: Vec<_> = (1..=15).flat_map(|n| publish(0x32, "t", n, "run")).collect();
    publisher.send(&run);
    assert_eq!(world.broker.stats().publish_dropped, 0);
    assert!(!publisher.wants_input());
    let acks: Vec<_> = (1..=15).flat_map(puback).collect();
    publisher.expect(&[&acks]);
    let mut got = 0;
    while let Ok(Some((Packet::Publish(publish), _))) = decode(&slow.received().0, usize::MAX) {
        got += 1;
        slow.send(&puback(publish.packet_id().unwrap().get()));
    }
    assert_eq!(got, 1 + 30 + 15);
    assert!(publisher.wants_input() || publisher.timeout() <= Some(world.now()));
}
