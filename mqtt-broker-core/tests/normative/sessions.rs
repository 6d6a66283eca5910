use std::sync::atomic::Ordering;
use std::time::Duration;

use mqtt_broker_core::{Closed, Config};

use crate::runs::Rush;
use crate::wire::*;
use crate::world::World;

// MQTT-3.1.2-4, MQTT-3.1.4-3, MQTT-3.2.2-2, MQTT-3.2.2-3, MQTT-4.1.0-1, MQTT-4.1.0-2, MQTT-3.1.3-2
#[test]
fn a_kept_session_is_there_when_its_client_returns() {
    let world = World::new();
    let mut client = world.kept("a", false);
    client.subscribe("t", 1);
    client.leave();
    let mut other = world.kept("b", false);
    let mut client = world.kept("a", true);
    other.publish1("t", "x");
    client.expect(&[&publish(0x32, "t", 1, "x")]);
    other.expect_nothing();
}

// Between the old connection and the new one the client is not away: what comes then, as it does from
// other threads, is held to the limits for a client that is there.
#[test]
fn a_client_that_takes_its_session_over_loses_nothing_meanwhile() {
    let rush = Rush::default();
    let change = |config: &mut Config| {
        config.max_inflight = 1;
        config.max_queued_messages = 4;
    };
    let world = World::with_hooks(change, rush.clone());
    assert!(rush.0.set(world.broker.clone()).is_ok());
    let mut old = world.open();
    old.send(&connect(0x04, 0, &[b"a", b"will", b"gone"]));
    old.expect(&[&connack(false, 0)]);
    old.subscribe("t", 1);
    let mut publisher = world.client("p");
    (1..=5).for_each(|n| publisher.publish1("t", &n.to_string()));
    assert_eq!(world.broker.stats().queued, 4);
    // When the old connection's will is decided on.
    rush.1.store(3, Ordering::Relaxed);
    let mut new = world.connecting("a", KEPT);
    assert_eq!(old.expect_end_after_any(), Ok(Closed::TakenOver));
    assert_eq!(world.broker.stats().publish_dropped, 0);
    new.expect(&[&connack(true, 0), &publish(0x3a, "t", 1, "1")]);
    assert_eq!(world.broker.stats().queued, 7);
}

// MQTT-3.1.2-5, MQTT-4.5.0-1
#[test]
fn qos_1_and_2_messages_wait_for_an_absent_client_in_order() {
    let world = World::new();
    for id in ["a", "b", "c"] {
        let mut client = world.kept(id, false);
        client.subscribe("t/#", 2);
        client.cut();
    }
    let mut publisher = world.client("p");
    publisher.publish1("t/1", "one");
    publisher.send(&publish0("t/0", "zero"));
    publisher.ask(&publish(0x34, "t/2", 2, "two"), &pubrec(2));
    publisher.ask(&pubrel(2), &pubcomp(2));
    for id in ["a", "b", "c"] {
        let mut client = world.connecting(id, KEPT);
        client.expect(&[
            &connack(true, 0),
            &publish(0x32, "t/1", 1, "one"),
            &publish(0x34, "t/2", 2, "two"),
        ]);
    }
}

// MQTT-3.1.2-6, MQTT-3.2.2-1
#[test]
fn a_clean_session_drops_the_one_before_and_leaves_nothing() {
    let world = World::new();
    let mut client = world.kept("a", false);
    client.subscribe("t", 1);
    client.leave();
    world.client("a").leave();
    let mut client = world.kept("a", false);
    world.client("p").publish1("t", "x");
    client.expect_nothing();
    assert_eq!(world.broker.stats().subscriptions, 0);
}

// MQTT-3.1.2-6
#[test]
fn a_clean_session_over_a_live_one_drops_its_subscriptions() {
    let world = World::new();
    let mut first = world.kept("a", false);
    first.subscribe("t", 1);
    let mut second = world.client("a");
    first.expect_end().unwrap();
    drop(first);
    world.client("p").publish1("t", "x");
    second.expect_nothing();
    let stats = world.broker.stats();
    assert_eq!((stats.sessions, stats.subscriptions), (1, 0));
}

// MQTT-3.1.2-7
#[test]
fn retained_messages_outlive_every_session() {
    let world = World::new();
    let mut client = world.client("a");
    client.retain("t", "x");
    client.leave();
    world.client("a").leave();
    let mut client = world.client("b");
    client.send(&subscribe(1, &[("t", 0)]));
    client.expect(&[&suback(1, &[0]), &publish(0x31, "t", 0, "x")]);
}

#[test]
fn a_session_expires_when_its_client_stays_away() {
    let world = World::with(|config| config.session_expiry = Some(Duration::from_secs(60)));
    let mut client = world.kept("a", false);
    client.subscribe("t", 1);
    world.pass(Duration::from_secs(1000));
    assert_eq!(world.broker.sweep(world.now()), None, "connected clients do not expire");
    client.cut();
    world.pass(Duration::from_secs(59));
    let due = world.now() + Duration::from_secs(1);
    assert_eq!(world.broker.sweep(world.now()), Some(due));
    world.kept("a", true).cut();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.broker.sweep(world.now()), None);
    let stats = world.broker.stats();
    assert_eq!((stats.sessions, stats.subscriptions, stats.sessions_expired), (0, 0, 1));
    world.kept("a", false);
}

#[test]
fn a_takeover_hands_the_session_over_whole() {
    let world = World::new();
    let mut first = world.kept("a", false);
    first.subscribe("t", 1);
    let mut publisher = world.client("p");
    publisher.publish1("t", "one");
    publisher.publish1("t", "two");
    first.expect(&[&publish(0x32, "t", 1, "one"), &publish(0x32, "t", 2, "two")]);
    first.send(&puback(1));
    let mut second = world.connecting("a", KEPT);
    second.expect(&[&connack(true, 0), &publish(0x3a, "t", 2, "two")]);
    // The old connection has no say in the session any more.
    first.send(&puback(2));
    first.expect_end().unwrap();
    drop(first);
    second.cut();
    let mut third = world.connecting("a", KEPT);
    third.expect(&[&connack(true, 0), &publish(0x3a, "t", 2, "two")]);
}

// A connection that was held back went on with what it had read when its time came, and its
// acknowledgements were taken for those of the connection that had the session by then.
#[test]
fn what_a_held_back_connection_has_read_is_void_after_a_takeover() {
    let world = World::with(|config| {
        config.max_inflight = 1;
        config.max_queued_messages = 1;
    });
    let mut stopped = world.subscriber("stopped", "slow", 1);
    let mut first = world.kept("a", false);
    first.subscribe("t", 1);
    world.client("p").publish1("t", "one");
    first.expect(&[&publish(0x32, "t", 1, "one")]);
    let burst: Vec<_> = (1..=3).flat_map(|id| publish(0x32, "slow", id, "x")).collect();
    first.send(&[burst, puback(1)].concat());
    assert!(!first.wants_input());
    let mut second = world.connecting("a", KEPT);
    second.expect(&[&connack(true, 0), &publish(0x3a, "t", 1, "one")]);
    world.pass(Duration::from_secs(100));
    assert_eq!(first.expect_end_after_any(), Ok(Closed::TakenOver));
    second.cut();
    let mut third = world.connecting("a", KEPT);
    third.expect(&[&connack(true, 0), &publish(0x3a, "t", 1, "one")]);
    stopped.expect_end_after_any().unwrap_err();
}

#[test]
fn the_broker_can_end_connections() {
    let world = World::new();
    let mut watcher = world.subscriber("w", "will", 0);
    let mut client = world.open();
    client.send(&connect(KEPT | 0x04, 0, &[b"a", b"will", b"gone"]));
    client.expect(&[&connack(false, 0)]);
    assert!(!world.broker.disconnect("nobody"));
    assert_eq!(world.broker.stats().clients_connected, 2);
    world.broker.disconnect("a");
    client.expect_end().unwrap();
    watcher.expect(&[&publish0("will", "gone")]);
    world.broker.shut_down();
    watcher.expect_end().unwrap();
    assert_eq!(world.broker.stats().clients_connected, 0);
    world.kept("a", true);
}
