use std::time::Duration;

use mqtt_broker_core::{Config, ConnectionError, PeerInfo};

use crate::wire::*;
use crate::world::World;

#[test]
fn connections_over_the_limit_are_not_taken() {
    let world = World::with(|config| config.max_connections = 2);
    let one = world.client("a");
    let _two = world.open();
    assert!(world.broker.connection(PeerInfo::default(), world.now()).is_err());
    drop(one);
    world.client("b").leave();
}

#[test]
fn sessions_over_the_limit_are_refused_with_code_3() {
    let world = World::with(|config| config.max_sessions = 1);
    world.kept("a", false).leave();
    world.connecting("b", CLEAN).expect_last(&[&connack(false, 3)]).unwrap_err();
    world.kept("a", true).leave();
    world.client("a").leave();
    world.client("b").leave();
}

#[test]
fn a_keep_alive_over_the_limit_is_refused_with_code_2() {
    let world = World::with(|config| config.max_keep_alive = 100);
    for (keep_alive, accepted) in [(1, true), (100, true), (101, false), (0, false)] {
        let mut client = world.open();
        client.send(&connect(CLEAN, keep_alive, &[b"a"]));
        if accepted {
            client.expect(&[&connack(false, 0)]);
        } else {
            client.expect_last(&[&connack(false, 2)]).unwrap_err();
        }
    }
}

#[test]
fn an_absent_client_keeps_what_came_first_and_the_rest_is_counted() {
    let world = World::with(|config| config.max_queued_messages = 3);
    let mut client = world.kept("a", false);
    client.subscribe("t", 1);
    client.leave();
    let mut publisher = world.client("p");
    for n in 1..=5 {
        publisher.publish1("t", &n.to_string());
    }
    assert_eq!(world.broker.stats().publish_dropped, 2);
    let mut client = world.connecting("a", KEPT);
    let kept: Vec<_> = (1..=3).flat_map(|n| publish(0x32, "t", n, &n.to_string())).collect();
    client.expect(&[&connack(true, 0), &kept]);
}

#[test]
fn a_queue_is_bounded_in_bytes_but_takes_one_message_of_any_size() {
    let world = World::with(|config| config.max_queued_bytes = 100);
    let mut client = world.kept("a", false);
    client.subscribe("t", 1);
    client.leave();
    let mut publisher = world.client("p");
    let big = "x".repeat(1000);
    publisher.publish1("t", &big);
    publisher.publish1("t", "more");
    let mut client = world.connecting("a", KEPT);
    client.expect(&[&connack(true, 0), &publish(0x32, "t", 1, &big)]);
    assert_eq!(world.broker.stats().publish_dropped, 1);
}

#[test]
fn qos_0_is_dropped_when_a_client_does_not_take_it() {
    let world = World::with(|config| config.max_outbox_bytes = 1005);
    let mut slow = world.subscriber("slow", "t", 0);
    let mut quick = world.subscriber("quick", "t", 0);
    let mut publisher = world.client("p");
    let one = publish0("t", &"x".repeat(95));
    for _ in 0..20 {
        publisher.send(&one);
        quick.expect(&[&one]);
    }
    slow.expect(&[&one.repeat(10)]);
    publisher.send(&one);
    slow.expect(&[&one]);
    assert_eq!(world.broker.stats().publish_dropped, 10);
}

#[test]
fn a_publisher_is_held_back_until_the_receiver_has_room() {
    let world = World::with(|config| {
        config.max_inflight = 1;
        config.max_queued_messages = 4;
    });
    let mut slow = world.subscriber("slow", "t", 1);
    let mut publisher = world.client("p");
    let burst: Vec<_> = (1..=20).flat_map(|n| publish(0x32, "t", n, &n.to_string())).collect();
    publisher.send(&burst);
    // One in flight, four in the queue: the rest is not read, and not acknowledged.
    let five: Vec<_> = (1..=5).flat_map(puback).collect();
    publisher.expect(&[&five]);
    assert!(!publisher.wants_input());
    for n in 1..=20 {
        slow.expect(&[&publish(0x32, "t", n, &n.to_string())]);
        slow.send(&puback(n));
        publisher.received();
    }
    slow.expect_nothing();
    publisher.expect_nothing();
    assert!(publisher.wants_input());
    assert_eq!(world.broker.stats().publish_dropped, 0);
}

#[test]
fn a_receiver_that_does_not_take_for_too_long_is_disconnected() {
    let world = World::with(|config| {
        config.max_inflight = 1;
        config.max_queued_messages = 4;
    });
    let mut stopped = world.kept("stopped", false);
    stopped.subscribe("t", 1);
    let mut good = world.subscriber("good", "t", 0);
    let mut publisher = world.client("p");
    let burst: Vec<_> = (1..=9).flat_map(|n| publish(0x32, "t", n, "x")).collect();
    publisher.send(&burst);
    publisher.received();
    world.pass(Duration::from_secs(5));
    let rest: Vec<_> = (6..=9).flat_map(puback).collect();
    publisher.expect(&[&rest]);
    assert_eq!(stopped.expect_end_after_any(), Err(ConnectionError::SlowReceiver));
    good.expect(&[&publish0("t", "x").repeat(9)]);
    // What it was sent and what is within its limit waits for it; the rest is counted.
    let mut stopped = world.connecting("stopped", KEPT);
    stopped.expect(&[&connack(true, 0), &publish(0x3a, "t", 1, "x")]);
    assert!(world.broker.stats().publish_dropped > 0);
}

#[test]
fn clients_that_flood_themselves_and_each_other_do_not_wait_for_ever() {
    let world = World::with(|config| {
        config.max_inflight = 1;
        config.max_queued_messages = 2;
    });
    let mut one = world.subscriber("one", "to/one", 1);
    let mut two = world.subscriber("two", "to/two", 1);
    for n in 1..=4 {
        one.send(&publish(0x32, "to/two", n, "x"));
        two.send(&publish(0x32, "to/one", n, "x"));
    }
    one.received();
    two.received();
    // Whoever is held back is not waited for, so at most one of the two is.
    assert!(one.wants_input() || two.wants_input());
    let mut own = world.subscriber("own", "own", 1);
    for n in 1..=9 {
        own.send(&publish(0x32, "own", n, "x"));
    }
    own.received();
    assert!(own.wants_input());
}

#[test]
fn answers_that_are_not_taken_stop_the_reading() {
    let world = World::new();
    let mut client = world.client("a");
    let mut sent = 0;
    while client.wants_input() {
        client.send(&PINGREQ.repeat(1000));
        sent += 1000;
        assert!(sent < 1_000_000);
    }
    client.expect(&[&PINGRESP.repeat(sent)]);
    assert!(client.wants_input());
}

// A flood of SUBSCRIBE by a client that does not read filled the memory with SUBACKs.
#[test]
fn subacks_that_are_not_taken_stop_the_reading() {
    let world = World::new();
    let mut client = world.client("a");
    let mut sent = 0;
    while client.wants_input() {
        client.send(&subscribe(9, &[("t", 1)]).repeat(1000));
        sent += 1000;
        assert!(sent < 1_000_000);
    }
    client.expect(&[&suback(9, &[1]).repeat(sent)]);
    assert!(client.wants_input());
}

// A time that no clock shows panicked.
#[test]
fn a_timeout_may_be_as_long_as_never() {
    let world = World::with(|config| {
        config.connect_timeout = Duration::MAX;
        config.congestion_timeout = Duration::MAX;
        config.session_expiry = Some(Duration::MAX);
        config.max_inflight = 1;
        config.max_queued_messages = 1;
    });
    let mut slow = world.kept("slow", false);
    slow.subscribe("t", 1);
    let mut publisher = world.client("p");
    publisher.send(&publish(0x32, "t", 1, "x").repeat(3));
    assert!(!publisher.wants_input());
    world.pass(Duration::from_secs(365 * 24 * 3600));
    publisher.received();
    assert!(!publisher.wants_input());
    slow.cut();
    assert_eq!(world.broker.sweep(world.now()), None);
}

// MQTT-4.3.3-2
#[test]
fn qos_2_messages_without_pubrel_are_bounded() {
    let world = World::with(|config| config.max_incoming_qos2 = 3);
    let mut client = world.client("a");
    for id in 1..=3 {
        client.ask(&publish(0x34, "t", id, "x"), &pubrec(id));
    }
    for _ in 0..1000 {
        client.ask(&publish(0x3c, "t", 3, "x"), &pubrec(3));
    }
    client.send(&publish(0x34, "t", 4, "x"));
    assert!(matches!(client.expect_end(), Err(ConnectionError::TooManyOpen(_))));
}

#[test]
fn retained_messages_over_the_limit_are_delivered_and_not_kept() {
    let world = World::with(|config| {
        config.max_retained_messages = 2;
        config.max_retained_bytes = 10;
    });
    let mut subscriber = world.subscriber("s", "#", 0);
    let mut publisher = world.client("p");
    for (topic, payload) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "long enough")] {
        publisher.retain(topic, payload);
        subscriber.expect(&[&publish0(topic, payload)]);
    }
    let stats = world.broker.stats();
    assert_eq!((stats.retained, stats.retained_bytes, stats.publish_dropped), (2, 4, 2));
    publisher.retain("a", "");
    publisher.retain("c", "3");
    assert_eq!(world.broker.stats().retained, 2);
}

// MQTT-4.8.0-2
#[test]
fn running_out_of_a_resource_ends_only_the_connection_that_needs_it() {
    let world = World::with(|config| config.max_packet = 1000);
    let mut good = world.subscriber("good", "#", 0);
    let mut client = world.client("a");
    client.send(&publish0("t", &"x".repeat(1000)));
    client.expect_end().unwrap_err();
    world.client("b").publish1("t", "x");
    good.expect(&[&publish0("t", "x")]);
}

#[test]
fn the_defaults_are_as_documented() {
    let config = Config::default();
    assert_eq!((config.max_packet, config.max_connect_packet), (2 << 20, 64 << 10));
    assert_eq!((config.max_inflight, config.max_queued_messages), (32, 1000));
    assert_ne!(config.hash_seed, Config::default().hash_seed);
}

#[test]
fn an_end_frees_everything() {
    let world = World::new();
    for n in 0..100 {
        let mut client = world.subscriber(&format!("c{n}"), &format!("t/{n}/+"), 1);
        client.subscribe(&format!("u/{n}"), 2);
        match n % 3 {
            0 => client.cut(),
            1 => client.leave(),
            _ => drop(client),
        }
    }
    let stats = world.broker.stats();
    assert_eq!((stats.clients_connected, stats.sessions, stats.subscriptions), (0, 0, 0));
    assert_eq!((stats.clients_maximum, stats.connections), (1, 100));
}

#[test]
fn messages_in_flight_are_bounded_in_bytes_but_one_is_sent_whatever_its_size() {
    let world = World::with(|config| config.max_inflight_bytes = 10);
    let mut client = world.subscriber("a", "t", 2);
    let mut publisher = world.client("p");
    let big = "x".repeat(100);
    publisher.publish1("t", &big);
    for n in 1..=3 {
        publisher.publish1("t", &format!("half{n}"));
    }
    client.expect(&[&publish(0x32, "t", 1, &big)]);
    client.send(&puback(1));
    client.expect(&[&publish(0x32, "t", 2, "half1")]);
    publisher.ask(&publish(0x34, "t", 1, "abc"), &pubrec(1));
    client.send(&puback(2));
    client.expect(&[&publish(0x32, "t", 3, "half2")]);
    client.send(&puback(3));
    client.expect(&[&publish(0x32, "t", 4, "half3"), &publish(0x34, "t", 5, "abc")]);
    // From PUBREC on nothing is kept of the message.
    client.send(&[pubrec(5), puback(4)].concat());
    client.expect(&[&pubrel(5)]);
    publisher.publish1("t", "123456789");
    client.expect(&[&publish(0x32, "t", 6, "123456789")]);
}

// A transport may shake hands before it asks for service.
#[test]
fn the_time_for_connect_begins_when_the_transport_was_opened() {
    let world = World::new();
    let mut peer = PeerInfo::default();
    peer.opened = Some(world.now());
    world.pass(Duration::from_secs(8));
    let mut client = world.open_from(peer);
    client.expect_nothing();
    world.pass(Duration::from_secs(2));
    assert_eq!(client.expect_end(), Err(ConnectionError::ConnectTimeout));
}
