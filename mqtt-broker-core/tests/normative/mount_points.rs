//! Mount points: not of the standard, but of brokers that people come from.

use mqtt_broker_core::{MountPoint, PeerInfo};
use mqtt_codec::TopicFilter;

use crate::wire::*;
use crate::world::{Client, World};

/// A client with a flags byte and the fields of its CONNECT, whose topics are below `home/`.
fn at_home(world: &World, flags: u8, fields: &[&[u8]]) -> Client {
    let mut peer = PeerInfo::default();
    peer.mount_point = Some(MountPoint::new("home/").unwrap());
    let mut client = world.open_from(peer);
    client.send(&connect(flags, 0, fields));
    client
}

fn connected_at_home(world: &World, client_id: &str) -> Client {
    let mut client = at_home(world, CLEAN, &[client_id.as_bytes()]);
    client.expect(&[&connack(false, 0)]);
    client
}

#[test]
fn clients_are_among_themselves_and_do_not_notice() {
    let world = World::new();
    let mut inside = connected_at_home(&world, "inside");
    let mut other = connected_at_home(&world, "other");
    let mut outside = world.subscriber("outside", "#", 0);
    inside.subscribe("#", 2);
    world.client("p").publish1("a", "from outside");
    outside.expect(&[&publish0("a", "from outside")]);
    inside.expect_nothing();
    for (n, topic) in [(1, "a"), (2, "a/b"), (3, "home/a")] {
        other.publish1(topic, "x");
        inside.expect(&[&publish(0x32, topic, n, "x")]);
        outside.expect(&[&publish0(&format!("home/{topic}"), "x")]);
    }
    other.send(&publish0("b", "y"));
    inside.expect(&[&publish0("b", "y")]);
    outside.expect(&[&publish0("home/b", "y")]);
    inside.ask(&unsubscribe(2, &["#"]), &unsuback(2));
    other.publish1("a", "x");
    inside.expect_nothing();
}

#[test]
fn wills_retained_messages_and_shared_subscriptions_are_below_it() {
    let world = World::new();
    let mut outside = world.subscriber("outside", "home/#", 0);
    let mut inside = at_home(&world, CLEAN | 0x04, &[b"inside", b"will", b"gone"]);
    inside.expect(&[&connack(false, 0)]);
    inside.retain("state", "on");
    let retained = world.broker.retained(TopicFilter::new("#").unwrap(), None, 2);
    assert_eq!(retained[0].topic().as_str(), "home/state");
    outside.expect(&[&publish0("home/state", "on")]);
    inside.cut();
    outside.expect(&[&publish0("home/will", "gone")]);

    let mut other = connected_at_home(&world, "other");
    other.send(&subscribe(1, &[("state", 1), ("$share/g/t", 0)]));
    other.expect(&[&suback(1, &[1, 0]), &publish(0x33, "state", 1, "on")]);
    world.client("p").publish1("home/t", "x");
    outside.expect(&[&publish0("home/t", "x")]);
    other.expect(&[&publish0("t", "x")]);
}

#[test]
fn what_a_session_kept_for_a_client_elsewhere_is_not_for_one_at_home() {
    let world = World::with(|config| config.max_inflight = 1);
    let mut kept = world.kept("kept", false);
    kept.subscribe("#", 1);
    let mut publisher = world.client("p");
    for topic in ["a", "b", "home/c"] {
        publisher.publish1(topic, "x");
    }
    kept.expect(&[&publish(0x32, "a", 1, "x")]);
    kept.cut();
    let mut back = at_home(&world, KEPT, &[b"kept"]);
    back.expect(&[&connack(true, 0), &publish(0x32, "c", 2, "x")]);
    publisher.publish1("d", "x");
    back.send(&puback(2));
    back.expect_nothing();
}
