use std::sync::{Arc, Mutex};
use std::time::Instant;

use mqtt_broker_core::{
    Broker, Client, Closed, ConnectionError, DropReason, Hooks, Interests, Message, PeerInfo,
    Permission, Published, Worker,
};
use mqtt_codec::{Publish, QoS, TopicFilter, TopicName};

use crate::wire::*;
use crate::world::World;

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Hooks for Journal {
    fn authorize_publish(&self, client: &Client, publish: &Publish<'_>) -> Permission {
        let allowed = !publish.topic.as_str().starts_with("private/");
        if !allowed {
            self.note(format!("{} may not publish", client.client_id()));
        }
        allowed.into()
    }

    fn connected(&self, client: &Client, session_present: bool) {
        let as_whom = client.user_name().unwrap_or("nobody");
        let session = if session_present { ", session present" } else { "" };
        self.note(format!("{} connected as {as_whom}{session}", client.client_id()));
    }

    fn subscribed(&self, client: &Client, filter: TopicFilter<'_>, qos: QoS) {
        self.note(format!("{} subscribed to {filter} at {}", client.client_id(), u8::from(qos)));
    }

    fn unsubscribed(&self, client: &Client, filter: TopicFilter<'_>) {
        self.note(format!("{} unsubscribed from {filter}", client.client_id()));
    }

    fn session_ended(&self, client_id: &str) {
        self.note(format!("the session of {client_id} ended"));
    }

    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        self.note(format!("{} disconnected: {reason:?}", client.client_id()));
    }

    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        self.note(format!("{receiver:?} {topic} {reason:?}"));
    }
}

/// While the first message is looked at, its client comes back on another connection and sends it
/// again, as it may on another thread.
#[derive(Clone, Default)]
struct ComesBack(Arc<Mutex<Option<Broker>>>);

impl Hooks for ComesBack {
    fn authorize_publish(&self, _: &Client, _: &Publish<'_>) -> Permission {
        let broker = self.0.lock().unwrap().take();
        if let Some(broker) = broker {
            let (now, mut worker) = (Instant::now(), Worker::new());
            let mut connection = broker.connection(PeerInfo::default(), now).unwrap();
            let packets = [connect(KEPT, 0, &[b"p"]), publish(0x3c, "t", 7, "x")].concat();
            connection.handle_input(&mut worker, &packets, now).unwrap();
        }
        Permission::Allow
    }
}

// MQTT-4.3.3-2
#[test]
fn a_message_that_comes_again_by_a_takeover_while_it_is_looked_at_is_delivered_once() {
    let first = publish(0x34, "t", 7, "x");
    let run = [&first[..], &publish(0x34, "t", 8, "y")].concat();
    for packets in [first, run] {
        let hooks = ComesBack::default();
        let world = World::with_hooks(|_| {}, hooks.clone());
        let mut subscriber = world.subscriber("s", "t", 1);
        let mut publisher = world.kept("p", false);
        *hooks.0.lock().unwrap() = Some(world.broker.clone());
        publisher.send(&packets);
        assert_eq!(publisher.expect_end(), Ok(Closed::TakenOver));
        subscriber.expect(&[&publish(0x32, "t", 1, "x")]);
    }
}

#[test]
fn hooks_are_told_of_connections_and_losses() {
    let journal = Journal::default();
    let world = World::with_hooks(|config| config.max_queued_messages = 1, journal.clone());
    let mut client = world.open();
    client.send(&connect(CLEAN | 0x80, 0, &[b"a", b"ann"]));
    client.expect(&[&connack(false, 0)]);
    client.leave();
    let mut sleeper = world.kept("s", false);
    sleeper.subscribe("t", 1);
    sleeper.ask(&unsubscribe(1, &["u"]), &unsuback(1));
    sleeper.cut();
    let mut publisher = world.client("p");
    publisher.publish1("t", "1");
    publisher.publish1("t", "2");
    drop(publisher);
    world.connecting("s", KEPT).cut();
    assert!(world.broker.delete_session("s"));
    assert!(!world.broker.delete_session("s"));
    assert_eq!(
        journal.take(),
        [
            "a connected as ann",
            "a disconnected: Ok(Disconnect)",
            "s connected as nobody",
            "s subscribed to t at 1",
            "s unsubscribed from u",
            "s disconnected: Ok(EndOfStream)",
            "p connected as nobody",
            r#"Some("s") t QueueFull"#,
            "p disconnected: Ok(EndOfStream)",
            "s connected as nobody, session present",
            "s disconnected: Ok(EndOfStream)",
            "the session of s ended",
        ]
    );
}

// MQTT-3.3.5-2
#[test]
fn a_denied_message_is_acknowledged_and_delivered_to_nobody() {
    let journal = Journal::default();
    let world = World::with_hooks(|_| {}, journal.clone());
    let mut watcher = world.subscriber("w", "#", 0);
    let mut client = world.client("a");
    journal.take();
    client.publish1("private/x", "1");
    client.ask(&publish(0x35, "private/x", 2, "2"), &pubrec(2));
    client.ask(&pubrel(2), &pubcomp(2));
    watcher.expect_nothing();
    assert_eq!(world.broker.stats().retained, 0);
    let denied = ["a may not publish", "None private/x NotAuthorized"];
    assert_eq!(journal.take(), [denied, denied].concat());
}

#[test]
fn a_will_is_asked_for_when_it_is_published() {
    let world = World::with_hooks(|_| {}, Journal::default());
    let mut watcher = world.subscriber("w", "#", 0);
    let mut client = world.open();
    client.send(&connect(CLEAN | 0x04, 0, &[b"a", b"private/will", b"gone"]));
    client.expect(&[&connack(false, 0)]);
    client.cut();
    watcher.expect_nothing();
}

#[test]
fn the_programs_own_messages_and_subscriptions_are_like_a_clients() {
    let world = World::new();
    let mut client = world.subscriber("a", "t", 2);
    let topic = TopicName::new("t").unwrap();
    let message = Message::new(topic, b"one", QoS::AtLeastOnce).unwrap().retained();
    assert_eq!(world.broker.publish(&message).receivers, 1);
    client.expect(&[&publish(0x32, "t", 1, "one")]);

    let mut local = world.broker.subscribe(TopicFilter::new("+").unwrap(), QoS::AtLeastOnce);
    let one = local.try_recv().unwrap();
    assert_eq!((one.payload(), one.qos(), one.retain()), (&b"one"[..], QoS::AtLeastOnce, true));
    client.ask(&publish(0x34, "t", 5, "two"), &[publish(0x34, "t", 2, "two"), pubrec(5)].concat());
    let two = local.try_recv().unwrap();
    assert_eq!((two.payload(), two.qos(), two.retain()), (&b"two"[..], QoS::AtLeastOnce, false));
    assert_eq!(local.try_recv(), None);
    assert_eq!(world.broker.stats().subscriptions, 2);
    drop(local);
    assert_eq!(world.broker.stats().subscriptions, 1);
}

#[test]
fn a_client_knows_where_it_comes_from() {
    let world = World::new();
    let mut peer = PeerInfo::from("192.0.2.1:4000".parse::<std::net::SocketAddr>().unwrap());
    peer.listener = 3;
    let mut connection = world.broker.connection(peer.clone(), world.now()).unwrap();
    assert!(connection.client().is_none());
    let mut worker = Worker::new();
    connection.handle_input(&mut worker, &connect(CLEAN, 0, &[b"a"]), world.now()).unwrap();
    let client = connection.client().unwrap();
    assert_eq!((client.address(), client.listener()), (peer.address, 3));
}

/// Rules for deliveries, other messages in place of some, and counts.
#[derive(Clone, Default)]
struct Rules(Arc<Mutex<Vec<String>>>);

impl Hooks for Rules {
    fn interests(&self) -> Interests {
        Interests { delivery_rules: true, published: true, delivered: true }
    }

    fn authorize_publish(&self, _: &Client, publish: &Publish<'_>) -> Permission {
        match publish.payload {
            b"never" => Permission::Disconnect,
            b"raw" => {
                let topic = TopicName::new("cooked").unwrap();
                Permission::Replace(Message::new(topic, b"done", QoS::AtLeastOnce).unwrap())
            }
            _ => Permission::Allow,
        }
    }

    fn authorize_delivery(&self, receiver: &Client, topic: TopicName<'_>, _: bool) -> bool {
        receiver.client_id() == "chief" || !topic.as_str().starts_with("secret")
    }

    fn published(&self, client: &Client, publish: &Publish<'_>, published: Published) {
        let Published { receivers, dropped, .. } = published;
        let line = format!("{} {}: {receivers}, {dropped}", client.client_id(), publish.topic);
        self.0.lock().unwrap().push(line);
    }

    fn delivered(&self, receiver: &str, publish: &Publish<'_>) {
        self.0.lock().unwrap().push(format!("{} to {receiver}", publish.topic));
    }
}

#[test]
fn hooks_can_replace_messages_and_rule_deliveries() {
    let rules = Rules::default();
    let world = World::with_hooks(|_| {}, rules.clone());
    let mut worker = world.subscriber("worker", "#", 0);
    let mut chief = world.subscriber("chief", "#", 0);
    let mut publisher = world.client("p");
    publisher.retain("secret/plan", "x");
    publisher.publish1("meat", "raw");
    worker.expect(&[&publish0("cooked", "done")]);
    chief.expect(&[&publish0("secret/plan", "x"), &publish0("cooked", "done")]);
    assert_eq!(
        *rules.0.lock().unwrap(),
        [
            "secret/plan to chief",
            "p secret/plan: 1, 1",
            "cooked to worker",
            "cooked to chief",
            "p meat: 2, 0",
        ]
    );
    publisher.send(&publish(0x32, "t", 9, "never"));
    assert_eq!(publisher.expect_end(), Err(ConnectionError::NotAuthorized));
    // Rules hold for what is retained as well.
    worker.ask(&subscribe(1, &[("secret/+", 0)]), &suback(1, &[0]));
    chief.send(&subscribe(1, &[("secret/+", 0)]));
    chief.expect(&[&suback(1, &[0]), &publish(0x31, "secret/plan", 0, "x")]);
}

#[test]
fn sessions_can_be_looked_at() {
    let world = World::with(|config| config.max_inflight = 1);
    let mut client = world.kept("a", false);
    client.subscribe("t/#", 2);
    let mut publisher = world.client("p");
    publisher.ask(&publish(0x34, "t", 5, "one"), &pubrec(5));
    publisher.publish1("t/x", "two");
    let [a, p] = world.broker.sessions().try_into().unwrap();
    assert_eq!((a.client_id.as_str(), a.is_connected, a.is_clean), ("a", true, false));
    assert_eq!(a.subscriptions, [("t/#".parse().unwrap(), QoS::ExactlyOnce)]);
    assert_eq!((a.queued, a.queued_bytes, a.in_flight, a.unsent_bytes), (1, 6, 1, 10));
    assert_eq!((p.client_id.as_str(), p.is_clean, p.unreleased), ("p", true, 1));
    let stats = world.broker.stats();
    assert_eq!((stats.queued, stats.queued_bytes, stats.in_flight), (1, 6, 1));
    client.cut();
    let a = world.broker.sessions().remove(0);
    assert_eq!((a.is_connected, a.queued, a.in_flight, a.unsent_bytes), (false, 1, 1, 0));
    publisher.retain("r/1", "1");
    publisher.retain("r/2", "2");
    let all = TopicFilter::new("#").unwrap();
    let first = world.broker.retained(all, None, 1).remove(0);
    assert_eq!(first.payload(), b"1");
    let rest = world.broker.retained(all, Some(first.topic()), 10);
    assert_eq!(rest.iter().map(Message::payload).collect::<Vec<_>>(), [b"2"]);
}

#[test]
fn interests_can_change_while_clients_are_there() {
    #[derive(Clone, Default)]
    struct Strict(Arc<std::sync::atomic::AtomicBool>);
    impl Hooks for Strict {
        fn interests(&self) -> Interests {
            let delivery_rules = self.0.load(std::sync::atomic::Ordering::Relaxed);
            Interests { delivery_rules, ..Interests::default() }
        }

        fn authorize_delivery(&self, _: &Client, _: TopicName<'_>, _: bool) -> bool {
            false
        }
    }
    let strict = Strict::default();
    let world = World::with_hooks(|_| {}, strict.clone());
    let mut client = world.subscriber("a", "t", 0);
    let mut publisher = world.client("p");
    publisher.publish1("t", "x");
    client.expect(&[&publish0("t", "x")]);
    strict.0.store(true, std::sync::atomic::Ordering::Relaxed);
    publisher.publish1("t", "y");
    client.expect(&[&publish0("t", "y")]);
    world.broker.renew_interests();
    publisher.publish1("t", "z");
    client.expect_nothing();
}
