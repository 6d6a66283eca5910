use mqtt_broker_core::{Client, Hooks};
use mqtt_codec::{QoS, TopicFilter};

use crate::wire::*;
use crate::world::World;

// MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-2.3.1-7, MQTT-3.8.4-4, MQTT-3.8.4-5, MQTT-3.9.3-1
#[test]
fn suback_carries_the_id_and_a_code_for_each_filter_in_order() {
    struct NoSecrets;
    impl Hooks for NoSecrets {
        fn authorize_subscribe(&self, _: &Client, f: TopicFilter<'_>, qos: QoS) -> Option<QoS> {
            (f.as_str() != "secret").then_some(qos.min(QoS::AtLeastOnce))
        }
    }
    let world = World::with_hooks(|_| {}, NoSecrets);
    let mut client = world.client("a");
    let filters = [("x", 1), ("secret", 2), ("y", 1), ("z", 2), ("a/#", 1)];
    client.ask(&subscribe(530, &filters), &suback(530, &[1, 0x80, 1, 1, 1]));
    let mut publisher = world.client("p");
    publisher.publish1("secret", "no");
    publisher.publish1("y", "yes");
    client.expect(&[&publish(0x32, "y", 1, "yes")]);
}

// MQTT-3.8.4-3
#[test]
fn the_same_filter_again_replaces_the_subscription() {
    let world = World::new();
    let mut client = world.client("a");
    let mut publisher = world.client("p");
    client.subscribe("t", 2);
    publisher.publish1("t", "x");
    client.expect(&[&publish(0x32, "t", 1, "x")]);
    client.subscribe("t", 0);
    publisher.publish1("t", "y");
    client.expect(&[&publish0("t", "y")]);
    assert_eq!(world.broker.stats().subscriptions, 1);
}

// MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-3.10.4-6, MQTT-2.3.1-7
#[test]
fn unsuback_comes_also_when_nothing_was_there() {
    let world = World::new();
    let mut client = world.subscriber("a", "b", 0);
    client.ask(&unsubscribe(530, &["a", "b", "c"]), &unsuback(530));
    world.client("p").publish1("b", "x");
    client.expect_nothing();
    assert_eq!(world.broker.stats().subscriptions, 0);
}

// MQTT-3.10.4-1
#[test]
fn filters_are_compared_character_by_character() {
    let world = World::new();
    let mut client = world.subscriber("a", "a/+", 0);
    for other in ["a/b", "a/#", "A/+", "a/+/", "a//+", "+/+"] {
        client.ask(&unsubscribe(1, &[other]), &unsuback(1));
    }
    world.client("p").publish1("a/b", "x");
    client.expect(&[&publish0("a/b", "x")]);
}

// MQTT-3.10.4-2
#[test]
fn after_unsubscribe_nothing_new_is_added() {
    let world = World::with(|config| config.max_inflight = 1);
    let mut client = world.subscriber("a", "t", 1);
    let mut publisher = world.client("p");
    publisher.publish1("t", "one");
    publisher.publish1("t", "two");
    client.expect(&[&publish(0x32, "t", 1, "one")]);
    client.ask(&unsubscribe(4, &["t"]), &unsuback(4));
    publisher.publish1("t", "three");
    client.ask(&puback(1), &publish(0x32, "t", 2, "two"));
    client.send(&puback(2));
    client.expect_nothing();
}

#[test]
fn a_message_published_after_suback_is_never_missed() {
    let world = World::new();
    let mut client = world.client("a");
    client.send(&[subscribe(1, &[("t", 1)]), publish(0x32, "t", 5, "mine")].concat());
    client.expect(&[&suback(1, &[1]), &publish(0x32, "t", 1, "mine"), &puback(5)]);
}

#[test]
fn subscriptions_beyond_a_limit_are_refused() {
    let world = World::with(|config| {
        config.max_subscriptions = 2;
        config.max_topic_levels = 3;
        config.max_topic_length = 10;
    });
    let mut client = world.client("a");
    let filters = [("a", 0), ("b/c/d", 0), ("c", 0), ("a", 1), ("x/x/x/x", 0), ("long/enough", 0)];
    client.ask(&subscribe(1, &filters), &suback(1, &[0, 0, 0x80, 1, 0x80, 0x80]));
    client.ask(&unsubscribe(1, &["a"]), &unsuback(1));
    client.ask(&subscribe(1, &[("c", 0)]), &suback(1, &[0]));
}

// A client that only wants to know whether it may subscribe hears it, however short it stays.
#[test]
fn suback_comes_before_the_end_of_a_client_that_disconnects_at_once() {
    let world = World::new();
    let mut client = world.open();
    let all = [connect(CLEAN, 0, &[b"a"]), subscribe(1, &[("t", 1)]), PINGREQ.to_vec()];
    client.send(&[all.concat(), DISCONNECT.to_vec()].concat());
    client.expect_last(&[&connack(false, 0), &suback(1, &[1]), PINGRESP]).unwrap();
}

// MQTT-3.3.5-1
#[test]
fn overlapping_subscriptions_get_a_message_each_where_that_is_wanted() {
    let world = World::with(|config| config.deliver_overlaps = true);
    let mut client = world.client("a");
    client.send(&subscribe(1, &[("t/#", 1), ("t/+", 0), ("t/x", 1), ("u", 1)]));
    client.expect(&[&suback(1, &[1, 0, 1, 1])]);
    world.client("p").publish1("t/x", "x");
    let two = [publish(0x32, "t/x", 1, "x"), publish(0x32, "t/x", 2, "x")];
    client.expect(&[&two.concat(), &publish0("t/x", "x")]);
}

#[test]
fn deliveries_have_the_qos_of_the_subscription_where_that_is_wanted() {
    let world = World::with(|config| config.upgrade_qos = true);
    let mut client = world.kept("a", false);
    client.subscribe("t", 2);
    let mut publisher = world.client("p");
    publisher.send(&publish0("t", "0"));
    publisher.publish1("t", "1");
    client.expect(&[&publish(0x34, "t", 1, "0"), &publish(0x34, "t", 2, "1")]);
    client.cut();
    // So that what was published at QoS 0 waits for an absent client.
    publisher.send(&publish0("t", "2"));
    let mut client = world.connecting("a", KEPT);
    let again = [publish(0x3c, "t", 1, "0"), publish(0x3c, "t", 2, "1")];
    client.expect(&[&connack(true, 0), &again.concat(), &publish(0x34, "t", 3, "2")]);
    publisher.send(&publish(0x31, "kept", 0, "r"));
    client.send(&subscribe(2, &[("kept", 1)]));
    client.expect(&[&suback(2, &[1]), &publish(0x33, "kept", 4, "r")]);
}
