use std::sync::{Arc, Mutex};

use mqtt_broker_core::{Client, Closed, ConnectionError, DropReason, Hooks, Message, PeerInfo};
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
    fn authorize_publish(&self, client: &Client, publish: &Publish<'_>) -> bool {
        let allowed = !publish.topic.as_str().starts_with("private/");
        if !allowed {
            self.note(format!("{} may not publish", client.client_id));
        }
        allowed
    }

    fn connected(&self, client: &Client) {
        self.note(format!("{} connected as {:?}", client.client_id, client.user_name));
    }

    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        self.note(format!("{} disconnected: {reason:?}", client.client_id));
    }

    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        self.note(format!("{receiver:?} {topic} {reason:?}"));
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
    sleeper.cut();
    let mut publisher = world.client("p");
    publisher.publish1("t", "1");
    publisher.publish1("t", "2");
    drop(publisher);
    assert_eq!(
        journal.take(),
        [
            r#"a connected as Some("ann")"#,
            "a disconnected: Ok(Disconnect)",
            "s connected as None",
            "s disconnected: Ok(EndOfStream)",
            "p connected as None",
            r#"Some("s") t QueueFull"#,
            "p disconnected: Ok(EndOfStream)",
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
    let mut worker = mqtt_broker_core::Worker::new();
    connection.handle_input(&mut worker, &connect(CLEAN, 0, &[b"a"]), world.now()).unwrap();
    assert_eq!(connection.client().unwrap().peer, peer);
}
