//! Messages with one topic that come at a time are handled together. Nobody can tell.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mqtt_broker_core::{
    Broker, Config, DropReason, Hooks, Interests, LocalSubscription, Message, MountPoint, PeerInfo,
    Permission, Published,
};
use mqtt_codec::{Packet, Publish, QoS, TopicFilter, TopicName, decode};
use proptest::prelude::*;
use proptest::sample::select;

use crate::wire::*;
use crate::world::{Client, World};

/// Decides by the payload, and remembers what it is told.
#[derive(Clone, Default)]
struct Rules {
    interests: Interests,
    told: Arc<Mutex<Vec<String>>>,
}

impl Rules {
    fn note(&self, line: String) {
        self.told.lock().unwrap().push(line);
    }
}

impl Hooks for Rules {
    fn interests(&self) -> Interests {
        self.interests
    }

    fn authorize_delivery(
        &self,
        receiver: &mqtt_broker_core::Client,
        topic: TopicName<'_>,
        _: bool,
    ) -> bool {
        (receiver.client_id(), topic.as_str()) != ("r0", "t")
    }

    fn published(&self, _: &mqtt_broker_core::Client, publish: &Publish<'_>, published: Published) {
        self.note(format!("{publish:?} {published:?}"));
    }

    fn delivered(&self, receiver: &str, publish: &Publish<'_>) {
        self.note(format!("{receiver} {publish:?}"));
    }

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
        self.note(format!("{receiver:?} {topic} {reason:?}"));
    }
}

/// With fewer, defects that were planted in what few cases come to were not noticed each time.
const CASES: u32 = 3000;

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
    /// What keeps messages from being handled together.
    hurdle: Hurdle,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hurdle {
    None,
    UpgradeQoS,
    Overlaps,
    Interests,
    /// The publisher's topics are below a mount point.
    Mount,
    ShortTopics,
}

fn limits() -> impl Strategy<Value = Limits> {
    let hurdle = prop_oneof![
        6 => Just(Hurdle::None),
        1 => Just(Hurdle::UpgradeQoS),
        1 => Just(Hurdle::Overlaps),
        1 => Just(Hurdle::Interests),
        1 => Just(Hurdle::Mount),
        1 => Just(Hurdle::ShortTopics),
    ];
    let window = (select(&[1, 3, 100][..]), select(&[5, 40, usize::MAX][..]));
    let queue = (select(&[1, 3, 6, 1000][..]), select(&[10, 60, 1 << 20][..]), any::<bool>());
    let others = (select(&[1, 1 << 20][..]), select(&[1, 4, 100][..]));
    (window, queue, others, hurdle).prop_map(|(window, queue, others, hurdle)| {
        let ((inflight, inflight_bytes), (outbox, qos2)) = (window, others);
        let (queued, queued_bytes, queue_qos0) = queue;
        Limits { inflight, inflight_bytes, queued, queued_bytes, outbox, qos2, queue_qos0, hurdle }
    })
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

/// A peer whose topics are below a mount point, or not.
fn below(mount_point: Option<&str>) -> PeerInfo {
    let mut peer = PeerInfo::default();
    peer.mount_point = mount_point.map(|prefix| MountPoint::new(prefix).unwrap());
    peer
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
        let is = |hurdle| limits.hurdle == hurdle;
        let all = is(Hurdle::Interests);
        let mut rules = Rules::default();
        rules.interests.delivery_rules = all;
        rules.interests.published = all;
        rules.interests.delivered = all;
        let world = World::with_hooks(
            |config| {
                config.upgrade_qos = is(Hurdle::UpgradeQoS);
                config.deliver_overlaps = is(Hurdle::Overlaps);
                if is(Hurdle::ShortTopics) {
                    config.max_topic_length = 2;
                }
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
            let mut client = world.open_from(below((*kind == Kind::Mounted).then_some("m/")));
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
        let mut publisher = world.open_from(below(is(Hurdle::Mount).then_some("m/")));
        publisher.send(&connect(KEPT, 0, &[b"p"]));
        publisher.expect(&[&connack(false, 0)]);
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

    /// What can be seen from outside after a step. The order in which hooks are told of receivers does not
    /// count.
    fn seen(&mut self) -> String {
        let mut told = std::mem::take(&mut *self.rules.told.lock().unwrap());
        told.sort();
        let got = self.publisher.received();
        let wants = self.publisher.wants_input();
        let sessions = self.world.broker.sessions();
        let stats = self.world.broker.stats();
        format!("{got:?}\n{wants}\n{told:?}\n{stats:#?}\n{sessions:#?}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]
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

// Whoever has no room for what a hook puts in their place holds the client back all the same.
#[test]
fn messages_that_a_hook_replaces_are_not_lost_to_a_receiver_without_room() {
    let change = |config: &mut Config| {
        config.max_inflight = 1;
        config.max_queued_messages = 4;
    };
    let world = World::with_hooks(change, Rules::default());
    let mut slow = world.subscriber("slow", "u", 1);
    let mut publisher = world.client("p");
    let run: Vec<_> = (1..=20).flat_map(|n| publish(0x32, "t", n, "r")).collect();
    publisher.send(&run);
    // One on its way, and as many as the queue holds.
    let acks: Vec<_> = (1..=5).flat_map(puback).collect();
    publisher.expect(&[&acks]);
    assert!(!publisher.wants_input());
    assert_eq!(world.broker.stats().publish_dropped, 0);
    slow.expect(&[&publish(0x32, "u", 1, "r")]);
}

/// While a message is decided on, as many come from elsewhere.
#[derive(Clone, Default)]
pub(crate) struct Rush(pub(crate) Arc<OnceLock<Broker>>, pub(crate) Arc<AtomicUsize>);

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

#[test]
fn a_run_of_qos_0_does_not_overtake_what_waits() {
    let world = World::with(|config| {
        config.queue_qos0 = true;
        config.max_outbox_bytes = 100;
    });
    let mut slow = world.kept("slow", false);
    slow.subscribe("t", 0);
    slow.leave();
    let mut publisher = world.client("p");
    let long = publish0("t", &"x".repeat(70));
    publisher.send(&long.repeat(2));
    let mut slow = world.connecting("slow", KEPT);
    // The second one does not fit behind the first, and these would.
    let run = [publish0("t", "1"), publish0("t", "2")].concat();
    publisher.send(&run);
    slow.expect(&[&connack(true, 0), &long, &long, &run]);
}
