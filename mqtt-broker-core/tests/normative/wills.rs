use std::time::Duration;

use mqtt_broker_core::Closed;

use crate::wire::*;
use crate::world::{Client, World};

const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;

fn with_will(world: &World, flags: u8, keep_alive: u16) -> Client {
    let mut client = world.open();
    client.send(&connect(flags | WILL, keep_alive, &[b"a", b"will", b"gone"]));
    client.expect(&[&connack(false, 0)]);
    client
}

// MQTT-3.1.2-8, MQTT-3.1.2-10
#[test]
fn a_will_goes_out_once_when_the_connection_ends_without_disconnect() {
    let ends: [fn(&World, Client); 4] = [
        |_, client| client.cut(),
        |_, client| drop(client),
        |world, mut client| {
            world.pass(Duration::from_secs(15));
            client.expect_end().unwrap_err();
        },
        |_, mut client| {
            client.send(&[0xff, 0]);
            client.expect_end().unwrap_err();
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let world = World::new();
        let mut watcher = world.subscriber("w", "#", 2);
        let client = with_will(&world, CLEAN, 10);
        watcher.expect_nothing();
        end(&world, client);
        watcher.expect(&[&publish0("will", "gone")]);
        world.client("a").cut();
        assert_eq!(watcher.received(), Wire(Vec::new()), "a second will at end {n}");
    }
}

// MQTT-3.1.2-10, MQTT-3.14.4-3
#[test]
fn disconnect_discards_the_will() {
    let world = World::new();
    let mut watcher = world.subscriber("w", "#", 0);
    with_will(&world, CLEAN, 0).leave();
    watcher.expect_nothing();
    with_will(&world, KEPT, 0).leave();
    watcher.expect_nothing();
}

// MQTT-3.14.1-1
#[test]
fn a_disconnect_with_reserved_bits_is_none() {
    let world = World::new();
    let mut watcher = world.subscriber("w", "#", 0);
    for first in [0xe1, 0xe2, 0xe4, 0xe8, 0xef] {
        let mut client = with_will(&world, CLEAN, 0);
        client.send(&[first, 0]);
        client.expect_end().unwrap_err();
        watcher.expect(&[&publish0("will", "gone")]);
    }
}

// MQTT-3.1.2-12
#[test]
fn without_a_will_nothing_is_published() {
    let world = World::new();
    let mut watcher = world.subscriber("w", "#", 0);
    world.client("a").cut();
    world.kept("a", false).cut();
    watcher.expect_nothing();
}

// MQTT-3.1.2-9, MQTT-3.1.2-16, MQTT-3.1.2-17
#[test]
fn will_qos_and_retain_are_those_of_the_message() {
    for (qos, retain) in [(0, false), (1, true), (2, false), (2, true)] {
        let world = World::new();
        let mut watcher = world.subscriber("w", "#", 2);
        let flags = CLEAN | qos << 3 | if retain { WILL_RETAIN } else { 0 };
        with_will(&world, flags, 0).cut();
        watcher.expect(&[&publish(0x30 | qos << 1, "will", 1, "gone")]);
        let mut late = world.client("late");
        late.send(&subscribe(1, &[("#", 2)]));
        let retained = publish(0x31 | qos << 1, "will", 1, "gone");
        late.expect(&[&suback(1, &[2]), if retain { &retained } else { &[] }]);
    }
}

#[test]
fn the_will_of_a_connection_that_is_taken_over_reaches_its_own_session() {
    let world = World::new();
    let mut first = with_will(&world, KEPT, 0);
    first.subscribe("will", 0);
    let mut second = world.connecting("a", KEPT);
    // Published before the new connection began, at QoS 0: nobody was there.
    second.expect(&[&connack(true, 0)]);
    assert_eq!(first.expect_end(), Ok(Closed::TakenOver));
    second.cut();
    // The second connection had no will.
    world.kept("a", true).expect_nothing();
}
