//! What waits until it is durable, and what a broker that starts again takes up.

use mqtt_broker_core::{Broker, CommitError, Config, ConnectionError, Journal, Recovered};

use crate::disk::Disk;
use crate::wire::*;
use crate::world::{Client, World};

/// A world whose broker has a journal, and a disk that is written when a test says so.
struct Durable {
    world: World,
    journal: Journal,
    disk: Disk,
}

impl Durable {
    fn new() -> Self {
        Self::of(World::new(), Disk::default(), Recovered::default())
    }

    fn of(mut world: World, disk: Disk, recovered: Recovered) -> Self {
        let mut config = Config::default();
        config.hash_seed = 7;
        config.max_queued_bytes_in_memory = 0;
        let (broker, journal) = Broker::restore(config, (), recovered, world.now());
        world.broker = broker;
        Self { world, journal, disk }
    }

    /// True when there was something to write.
    fn commit(&mut self) -> bool {
        self.journal.commit(&mut self.disk).unwrap()
    }

    /// The process ends, and another one starts with what is on the disk.
    fn restart(self) -> Self {
        let Self { world, mut disk, .. } = self;
        let recovered = disk.recover();
        Self::of(world, disk, recovered)
    }

    /// A client with a new session that is kept.
    fn kept(&mut self, client_id: &str) -> Client {
        let mut client = self.world.connecting(client_id, KEPT);
        client.expect_nothing();
        self.commit();
        client.expect(&[&connack(false, 0)]);
        client
    }

    /// A client that comes back to its session and finds these packets there.
    #[track_caller]
    fn back(&mut self, client_id: &str, packets: &[&[u8]]) -> Client {
        let mut client = self.world.connecting(client_id, KEPT);
        client.expect_nothing();
        let mut received = Vec::new();
        while self.commit() {
            received.extend(client.received().0);
        }
        let connack = connack(true, 0);
        assert_eq!(Wire(received), Wire([&[&connack[..]], packets].concat().concat()));
        client
    }

    fn subscriber(&mut self, client_id: &str, filter: &str, qos: u8) -> Client {
        let mut client = self.kept(client_id);
        client.send(&subscribe(9, &[(filter, qos)]));
        client.expect_nothing();
        self.commit();
        client.expect(&[&suback(9, &[qos])]);
        // What is retained was looked up meanwhile.
        self.commit();
        client
    }
}

#[test]
fn a_puback_leaves_when_the_message_is_durable() {
    let mut durable = Durable::new();
    durable.subscriber("away", "t", 1).cut();
    let mut publisher = durable.world.client("p");
    publisher.send(&publish(0x32, "t", 1, "x"));
    publisher.expect_nothing();
    durable.disk.is_full = true;
    assert!(matches!(durable.journal.commit(&mut durable.disk), Err(CommitError::Full(_))));
    publisher.expect_nothing();
    durable.disk.give_room();
    assert!(durable.commit());
    publisher.expect(&[&puback(1)]);

    let mut durable = durable.restart();
    durable.back("away", &[&publish(0x32, "t", 1, "x")]);
}

#[test]
fn what_need_not_survive_waits_for_nothing() {
    let mut durable = Durable::new();
    durable.subscriber("away", "t/+", 1).cut();
    durable.commit();
    let mut clean = durable.world.subscriber("clean", "t", 2);
    let mut publisher = durable.world.client("p");
    publisher.publish1("t", "x");
    clean.expect(&[&publish(0x32, "t", 1, "x")]);
    clean.ask(&puback(1), b"");
    publisher.send(&publish0("t/x", "QoS 0"));
    publisher.publish1("nobody", "x");
    assert!(!durable.commit(), "nothing of it is written");
}

#[test]
fn each_step_of_qos_2_is_durable_before_the_next() {
    let mut durable = Durable::new();
    let mut subscriber = durable.subscriber("s", "t", 2);
    let mut publisher = durable.kept("p");
    publisher.send(&publish(0x34, "t", 1, "x"));
    publisher.expect_nothing();
    subscriber.expect_nothing();
    durable.commit();
    publisher.expect(&[&pubrec(1)]);
    subscriber.expect(&[&publish(0x34, "t", 1, "x")]);

    publisher.send(&pubrel(1));
    subscriber.send(&pubrec(1));
    publisher.expect_nothing();
    subscriber.expect_nothing();
    durable.commit();
    publisher.expect(&[&pubcomp(1)]);
    subscriber.expect(&[&pubrel(1)]);

    // The last one is nobody's promise.
    subscriber.ask(&pubcomp(1), b"");
}

#[test]
fn deliveries_go_on_where_they_were_with_the_same_ids() {
    let mut durable = Durable::new();
    let mut subscriber = durable.subscriber("s", "t", 2);
    let mut publisher = durable.world.client("p");
    for (first, payload) in [(0x34, "a"), (0x32, "b"), (0x34, "c"), (0x32, "d")] {
        publisher.send(&publish(first, "t", 1, payload));
        durable.commit();
        publisher.received();
        if first == 0x34 {
            publisher.send(&pubrel(1));
            publisher.received();
        }
    }
    durable.commit();
    let (a, b) = (publish(0x34, "t", 1, "a"), publish(0x32, "t", 2, "b"));
    let (c, d) = (publish(0x34, "t", 3, "c"), publish(0x32, "t", 4, "d"));
    subscriber.expect(&[&a, &b, &c, &d]);
    // Of these the first becomes durable.
    subscriber.send(&pubrec(1));
    durable.commit();
    subscriber.expect(&[&pubrel(1)]);
    subscriber.send(&puback(2));

    let mut durable = durable.restart();
    let (b, c) = (publish(0x3a, "t", 2, "b"), publish(0x3c, "t", 3, "c"));
    durable.back("s", &[&pubrel(1), &b, &c, &publish(0x3a, "t", 4, "d")]);
}

#[test]
fn a_qos_2_message_that_comes_again_after_a_restart_is_known() {
    let mut durable = Durable::new();
    let mut subscriber = durable.subscriber("s", "t", 1);
    let mut publisher = durable.kept("p");
    publisher.send(&publish(0x34, "t", 7, "x"));
    durable.commit();
    publisher.expect(&[&pubrec(7)]);
    subscriber.expect(&[&publish(0x32, "t", 1, "x")]);
    subscriber.ask(&puback(1), b"");
    durable.commit();

    let mut durable = durable.restart();
    let mut subscriber = durable.back("s", &[]);
    let mut publisher = durable.back("p", &[]);
    publisher.ask(&publish(0x3c, "t", 7, "x"), &pubrec(7));
    subscriber.expect_nothing();
    publisher.send(&pubrel(7));
    durable.commit();
    publisher.expect(&[&pubcomp(7)]);
    publisher.send(&publish(0x34, "t", 7, "another"));
    durable.commit();
    subscriber.expect(&[&publish(0x32, "t", 2, "another")]);
}

#[test]
fn a_session_that_was_ended_does_not_come_back() {
    let mut durable = Durable::new();
    durable.subscriber("s", "t", 1).cut();
    durable.commit();
    let mut clean = durable.world.connecting("s", CLEAN);
    clean.expect_nothing();
    durable.commit();
    clean.expect(&[&connack(false, 0)]);
    let mut durable = durable.restart();
    durable.kept("s");
    assert_eq!(durable.world.broker.stats().subscriptions, 0);
}

#[test]
fn an_unsuback_leaves_when_the_subscription_has_ended_for_good() {
    let mut durable = Durable::new();
    let mut subscriber = durable.subscriber("s", "t", 1);
    subscriber.send(&unsubscribe(3, &["t"]));
    subscriber.expect_nothing();
    durable.commit();
    subscriber.expect(&[&unsuback(3)]);
    assert_eq!(durable.restart().world.broker.stats().subscriptions, 0);
}

#[test]
fn retained_messages_survive_and_what_they_owe_new_subscriptions() {
    let mut durable = Durable::new();
    let mut publisher = durable.world.client("p");
    for n in 1..=3 {
        publisher.send(&publish(0x33, &format!("t/{n}"), n, "x"));
    }
    publisher.expect_nothing();
    durable.commit();
    publisher.expect(&[&puback(1), &puback(2), &puback(3)]);
    publisher.send(&publish(0x33, "t/2", 4, ""));
    durable.commit();
    publisher.expect(&[&puback(4)]);
    let mut subscriber = durable.kept("s");
    subscriber.send(&subscribe(9, &[("t/+", 1)]));
    durable.commit();

    // The SUBACK is lost with the broker.
    let mut durable = durable.restart();
    let retained = [publish(0x33, "t/1", 1, "x"), publish(0x33, "t/3", 2, "x")];
    let mut subscriber = durable.back("s", &[&retained.concat()]);
    // They came; whether they were acknowledged, the next broker does not know.
    subscriber.send(&puback(1));

    let mut durable = durable.restart();
    durable.back("s", &[&publish(0x3b, "t/1", 1, "x"), &publish(0x3b, "t/3", 2, "x")]);
}

#[test]
fn what_is_retained_is_not_sent_to_groups_after_a_restart_either() {
    let mut durable = Durable::new();
    let mut publisher = durable.world.client("p");
    publisher.send(&publish(0x33, "$share/g/t", 1, "x"));
    durable.commit();
    publisher.expect(&[&puback(1)]);
    durable.subscriber("s", "$share/g/t", 1);
    let mut durable = durable.restart();
    durable.back("s", &[]);
}

#[test]
fn a_message_of_a_group_survives_with_the_member_that_has_it_now() {
    let mut durable = Durable::new();
    let leaving = durable.subscriber("leaving", "$share/g/t", 1);
    let mut publisher = durable.world.client("p");
    publisher.send(&publish(0x32, "t", 1, "x"));
    durable.commit();
    publisher.expect(&[&puback(1)]);
    let staying = durable.subscriber("staying", "$share/g/t", 1);
    // It has not acknowledged the message, and the other one is there.
    leaving.cut();
    durable.commit();
    staying.cut();

    let mut durable = durable.restart();
    durable.back("leaving", &[]);
    let mut staying = durable.back("staying", &[&publish(0x3a, "t", 1, "x")]);
    staying.ask(&puback(1), b"");
    durable.commit();
    durable.disk.assert_empty();
}

// A clean member's messages are nobody's but its own until it leaves.
#[test]
fn a_message_of_a_group_survives_when_it_comes_from_a_member_that_does_not() {
    let mut durable = Durable::new();
    let mut leaving = durable.world.subscriber("leaving", "$share/g/t", 1);
    let mut publisher = durable.world.client("p");
    publisher.publish1("t", "x");
    leaving.expect(&[&publish(0x32, "t", 1, "x")]);
    let staying = durable.subscriber("staying", "$share/g/t", 1);
    leaving.cut();
    durable.commit();
    staying.cut();
    durable.commit();

    let mut durable = durable.restart();
    let mut staying = durable.back("staying", &[&publish(0x3a, "t", 1, "x")]);
    staying.ask(&puback(1), b"");
    durable.commit();
    durable.disk.assert_empty();
}

// One message for a session, and a second one that it has in turn for its group.
#[test]
fn a_message_of_a_group_goes_on_and_leaves_the_member_its_own() {
    for commits in [false, true] {
        let mut durable = Durable::new();
        let mut both = durable.subscriber("both", "t", 1);
        both.send(&subscribe(9, &[("$share/g/t", 1)]));
        durable.commit();
        both.expect(&[&suback(9, &[1])]);
        let mut publisher = durable.world.client("p");
        publisher.send(&publish(0x32, "t", 1, "x"));
        if commits {
            durable.commit();
        }
        both.expect(&[&publish(0x32, "t", 1, "x"), &publish(0x32, "t", 2, "x")]);
        let mut other = durable.world.subscriber("other", "$share/g/t", 1);
        both.cut();
        other.expect(&[&publish(0x32, "t", 1, "x")]);
        durable.commit();
        publisher.expect(&[&puback(1)]);
        other.ask(&puback(1), b"");

        let mut durable = durable.restart();
        let both = durable.back("both", &[&publish(0x3a, "t", 1, "x")]);
        let mut other = durable.world.subscriber("other", "$share/g/t", 1);
        both.cut();
        other.expect_nothing();
        let mut both = durable.back("both", &[&publish(0x3a, "t", 1, "x")]);
        both.ask(&puback(1), b"");
        durable.commit();
        durable.disk.assert_empty();
    }
}

#[test]
fn what_could_not_be_read_for_want_of_room_is_read_later() {
    let mut durable = Durable::new();
    durable.subscriber("s", "t", 1).cut();
    let mut publisher = durable.world.client("p");
    publisher.send(&publish(0x32, "t", 1, "x"));
    durable.commit();
    publisher.expect(&[&puback(1)]);
    let mut subscriber = durable.world.connecting("s", KEPT);
    durable.disk.is_closed = true;
    for _ in 0..2 {
        let result = durable.journal.commit(&mut durable.disk);
        assert!(matches!(result, Err(CommitError::Full(_))));
    }
    durable.disk.give_room();
    while durable.commit() {
        subscriber.received();
    }
    subscriber.expect_nothing();
    subscriber.send(&puback(1));
    durable.commit();
    durable.disk.assert_empty();
}

/// A client that goes on while the disk is full is read up to some megabytes, and then no more until
/// there is room.
#[track_caller]
fn is_held_back(request: &[u8], answer: &[u8]) {
    const MOST: usize = 18 << 20;
    let mut durable = Durable::new();
    let mut client = durable.kept("c");
    durable.commit();
    durable.disk.is_full = true;
    let mut sent = 0;
    while client.wants_input() {
        client.send(request);
        sent += 1;
        client.expect_nothing();
        assert!(sent * request.len() <= MOST, "{sent} requests were read");
        assert!(matches!(durable.journal.commit(&mut durable.disk), Err(CommitError::Full(_))));
    }
    assert!(sent > 100, "{sent} requests are nothing");
    durable.disk.give_room();
    while durable.commit() {
        client.received();
    }
    assert!(client.wants_input());
    client.send(request);
    let mut received = Vec::new();
    while durable.commit() {
        received.extend(client.received().0);
    }
    assert_eq!(Wire(received), Wire(answer.to_vec()));
    // A disk that keeps up holds nobody back.
    client.send(&publish(0x31, "small", 0, "x"));
    client.ask(b"\xc0\0", b"\xd0\0");
}

#[test]
fn clients_that_are_to_be_kept_are_refused_when_the_disk_is_full_for_long() {
    const MOST: usize = 40 << 20;
    let mut durable = Durable::new();
    durable.disk.is_full = true;
    let will = "x".repeat(50 << 10);
    let fields: [&[u8]; 3] = [b"w", b"will", will.as_bytes()];
    let mut accepted = 0;
    loop {
        let mut client = durable.world.open();
        client.send(&connect(KEPT | 0x04, 0, &fields));
        let received = client.received();
        assert!(matches!(durable.journal.commit(&mut durable.disk), Err(CommitError::Full(_))));
        if received != Wire(Vec::new()) {
            assert_eq!(received, Wire(connack(false, 3)));
            break;
        }
        accepted += 1;
        assert!(accepted * will.len() <= MOST, "{accepted} wills are kept");
        client.cut();
    }
    assert!(accepted > 100, "{accepted} clients are nothing");
    durable.world.client("clean").leave();
    durable.disk.give_room();
    durable.commit();
    durable.back("w", &[]);
}

#[test]
fn a_client_is_held_back_whose_retained_messages_wait_for_the_disk() {
    is_held_back(&publish(0x31, "t", 0, &"x".repeat(64 << 10)), b"");
}

#[test]
fn a_client_is_held_back_whose_subscriptions_wait_for_the_disk() {
    let filters = (0..100).map(|n| format!("{n}/{}", "x".repeat(1000))).collect::<Vec<_>>();
    let all: Vec<_> = filters.iter().map(|filter| (&filter[..], 1)).collect();
    is_held_back(&subscribe(7, &all), &suback(7, &[1; 100]));
}

#[test]
fn the_will_of_a_client_that_was_there_is_published_at_the_next_start() {
    let mut durable = Durable::new();
    durable.subscriber("s", "will", 1).cut();
    let fields: [&[u8]; 3] = [b"w", b"will", b"gone"];
    let mut client = durable.world.open();
    client.send(&connect(KEPT | 0x0c, 0, &fields));
    client.expect_nothing();
    durable.commit();
    client.expect(&[&connack(false, 0)]);

    let mut durable = durable.restart();
    durable.commit();
    let mut durable = durable.restart();
    durable.back("s", &[&publish(0x32, "will", 1, "gone")]);
}

#[test]
fn nothing_is_acknowledged_when_the_store_has_failed() {
    let Durable { world, journal, .. } = {
        let mut durable = Durable::new();
        durable.subscriber("away", "t", 1).cut();
        durable.commit();
        durable
    };
    let mut publisher = world.client("p");
    let mut waiting = world.client("q");
    waiting.send(&publish(0x32, "t", 1, "x"));
    waiting.expect_nothing();
    drop(journal);
    assert_eq!(waiting.expect_end(), Err(ConnectionError::StoreFailed));
    publisher.send(&publish(0x32, "t", 1, "x"));
    assert_eq!(publisher.expect_end(), Err(ConnectionError::StoreFailed));
}
