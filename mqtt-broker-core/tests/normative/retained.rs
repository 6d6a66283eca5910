use crate::wire::*;
use crate::world::{Client, World};

/// What a new client gets for a filter, as retained messages at QoS 0.
#[track_caller]
fn expect_retained(world: &World, filter: &str, messages: &[(&str, &str)]) {
    let mut client = world.client("late");
    client.send(&subscribe(1, &[(filter, 0)]));
    let messages: Vec<_> = messages.iter().flat_map(|(t, m)| publish(0x31, t, 0, m)).collect();
    client.expect(&[&suback(1, &[0]), &messages]);
    client.leave();
}

fn publisher(world: &World) -> Client {
    world.client("p")
}

// MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-8
#[test]
fn a_new_subscription_gets_the_last_retained_message_of_each_topic_with_retain_set() {
    let world = World::new();
    let mut client = publisher(&world);
    for (topic, payload) in [("a/x", "1"), ("a/y", "2"), ("b", "3"), ("a/x", "4"), ("a", "5")] {
        client.retain(topic, payload);
    }
    expect_retained(&world, "a/+", &[("a/x", "4"), ("a/y", "2")]);
    expect_retained(&world, "a/#", &[("a", "5"), ("a/x", "4"), ("a/y", "2")]);
    expect_retained(&world, "#", &[("a", "5"), ("a/x", "4"), ("a/y", "2"), ("b", "3")]);
    expect_retained(&world, "b", &[("b", "3")]);
    expect_retained(&world, "c", &[]);
}

// MQTT-3.3.1-5
#[test]
fn the_qos_of_a_retained_message_is_kept() {
    for published in 0..=2 {
        for granted in 0..=2 {
            let world = World::new();
            publisher(&world).send(&publish(0x31 | published << 1, "t", 5, "x"));
            let mut client = world.client("late");
            client.send(&subscribe(1, &[("t", granted)]));
            let first = 0x31 | published.min(granted) << 1;
            client.expect(&[&suback(1, &[granted]), &publish(first, "t", 1, "x")]);
        }
    }
}

// MQTT-3.3.1-7
#[test]
fn a_qos_0_message_replaces_what_was_retained() {
    let world = World::new();
    let mut client = publisher(&world);
    client.retain("t", "one");
    client.send(&publish(0x31, "t", 0, "zero"));
    expect_retained(&world, "t", &[("t", "zero")]);
}

// MQTT-3.3.1-9
#[test]
fn an_established_subscription_gets_retain_0() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "t", 0);
    publisher(&world).retain("t", "x");
    subscriber.expect(&[&publish0("t", "x")]);
}

// MQTT-3.3.1-10, MQTT-3.3.1-11
#[test]
fn an_empty_message_is_passed_on_and_removes_what_was_retained() {
    let world = World::new();
    let mut client = publisher(&world);
    client.retain("t", "x");
    let mut subscriber = world.client("s");
    subscriber.send(&subscribe(1, &[("t", 0)]));
    subscriber.expect(&[&suback(1, &[0]), &publish(0x31, "t", 0, "x")]);
    client.retain("t", "");
    subscriber.expect(&[&publish0("t", "")]);
    client.retain("never/there", "");
    expect_retained(&world, "#", &[]);
    assert_eq!((world.broker.stats().retained, world.broker.stats().retained_bytes), (0, 0));
}

// MQTT-3.3.1-12
#[test]
fn without_retain_nothing_is_stored_or_removed() {
    let world = World::new();
    let mut client = publisher(&world);
    client.retain("t", "kept");
    client.publish1("t", "passing");
    client.publish1("t", "");
    client.publish1("u", "passing");
    expect_retained(&world, "#", &[("t", "kept")]);
}

// MQTT-3.8.4-3
#[test]
fn subscribing_again_sends_retained_messages_again() {
    let world = World::new();
    publisher(&world).retain("t", "x");
    let mut client = world.client("s");
    for _ in 0..2 {
        client.send(&subscribe(1, &[("t", 0)]));
        client.expect(&[&suback(1, &[0]), &publish(0x31, "t", 0, "x")]);
    }
}

// What is owed to a client is bounded by its subscriptions, however often it asks.
#[test]
fn a_filter_that_is_subscribed_to_again_before_anything_came_begins_again() {
    let world = World::new();
    publisher(&world).retain("t", "x");
    let mut client = world.client("s");
    client.send(&subscribe(1, &[("t", 0), ("t", 0)]));
    client.send(&subscribe(2, &[("t", 0)]));
    client.expect(&[&suback(1, &[0, 0]), &suback(2, &[0]), &publish(0x31, "t", 0, "x")]);
}

// MQTT-4.7.2-1
#[test]
fn wildcards_do_not_match_retained_messages_below_a_dollar_topic() {
    let world = World::new();
    publisher(&world).retain("$x/y", "1");
    expect_retained(&world, "#", &[]);
    expect_retained(&world, "+/y", &[]);
    expect_retained(&world, "$x/#", &[("$x/y", "1")]);
    expect_retained(&world, "$x/+", &[("$x/y", "1")]);
}

#[test]
fn retained_messages_come_as_the_client_takes_them() {
    let world = World::with(|config| {
        config.max_inflight = 5;
        config.max_queued_messages = 10;
        config.max_outbox_bytes = 4000;
    });
    let mut client = publisher(&world);
    for n in 0..1000 {
        client.retain(&format!("t/{n:03}"), &n.to_string());
    }
    // QoS 0: bounded by the outbox.
    let mut late = world.client("late");
    late.send(&subscribe(1, &[("t/#", 0)]));
    let all: Vec<_> =
        (0..1000).flat_map(|n| publish(0x31, &format!("t/{n:03}"), 0, &n.to_string())).collect();
    late.expect(&[&suback(1, &[0]), &all]);

    // QoS 1: bounded by the window, and nothing is dropped behind it.
    let mut late = world.kept("kept", false);
    late.send(&subscribe(1, &[("t/#", 1)]));
    let mut got = 0;
    for round in 0.. {
        let Wire(bytes) = late.received();
        let mut rest = &bytes[..];
        while let Ok(Some((packet, len))) = mqtt_codec::decode(rest, usize::MAX) {
            rest = &rest[len..];
            if let mqtt_codec::Packet::Publish(publish) = packet {
                let n: usize = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
                assert!(n == got || n < got && publish.delivery.is_dup(), "{publish:?}");
                got = got.max(n + 1);
                late.send(&puback(publish.packet_id().unwrap().get()));
            }
        }
        if round == 20 {
            // Also over a cut connection.
            late.cut();
            late = world.connecting("kept", KEPT);
        }
        if bytes.is_empty() {
            break;
        }
    }
    assert_eq!(got, 1000);
    assert_eq!(world.broker.stats().publish_dropped, 0);
}

#[test]
fn retained_messages_fill_the_outbox_and_no_more() {
    let world = World::with(|config| config.max_outbox_bytes = 1000);
    let mut client = publisher(&world);
    let payload = "x".repeat(300);
    for n in 10..30 {
        client.retain(&format!("t/{n}"), &payload);
    }
    let mut late = world.client("late");
    late.send(&subscribe(1, &[("t/#", 0)]));
    let all: Vec<_> =
        (10..30).flat_map(|n| publish(0x31, &format!("t/{n}"), 0, &payload)).collect();
    late.expect(&[&suback(1, &[0]), &all]);
    assert!(late.largest_write <= 1000, "{} bytes", late.largest_write);
}
