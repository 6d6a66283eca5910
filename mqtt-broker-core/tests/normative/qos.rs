use crate::wire::*;
use crate::world::World;

// MQTT-4.3.2-2
#[test]
fn after_puback_the_same_id_is_a_new_message() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "t", 0);
    let mut client = world.client("a");
    client.ask(&publish(0x32, "t", 5, "x"), &puback(5));
    client.ask(&publish(0x3a, "t", 5, "x"), &puback(5));
    subscriber.expect(&[&publish0("t", "x"), &publish0("t", "x")]);
}

// MQTT-4.3.3-2
#[test]
fn a_qos_2_message_is_delivered_once_whatever_is_repeated() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "t", 0);
    let mut client = world.kept("a", false);
    client.ask(&publish(0x34, "t", 5, "x"), &pubrec(5));
    client.ask(&publish(0x3c, "t", 5, "x"), &pubrec(5));
    client.cut();
    let mut client = world.kept("a", true);
    client.ask(&publish(0x3c, "t", 5, "x"), &pubrec(5));
    subscriber.expect(&[&publish0("t", "x")]);
    client.ask(&pubrel(5), &pubcomp(5));
    client.ask(&pubrel(5), &pubcomp(5));
    client.ask(&publish(0x34, "t", 5, "y"), &pubrec(5));
    subscriber.expect(&[&publish0("t", "y")]);
}

// MQTT-4.3.3-2
#[test]
fn a_pubrel_for_nothing_is_answered() {
    World::new().client("a").ask(&pubrel(77), &pubcomp(77));
}

#[test]
fn a_pubrec_for_nothing_is_answered_so_that_its_sender_is_done() {
    World::new().client("a").ask(&pubrec(77), &pubrel(77));
}

// MQTT-2.3.1-4, MQTT-4.3.2-1, MQTT-4.4.0-1, MQTT-3.3.1-1, MQTT-4.6.0-1
#[test]
fn unacknowledged_messages_come_again_with_dup_and_their_ids_in_order() {
    let world = World::new();
    let mut subscriber = world.kept("s", false);
    subscriber.subscribe("t", 1);
    let mut publisher = world.client("p");
    for payload in ["one", "two", "three"] {
        publisher.publish1("t", payload);
    }
    subscriber.expect(&[
        &publish(0x32, "t", 1, "one"),
        &publish(0x32, "t", 2, "two"),
        &publish(0x32, "t", 3, "three"),
    ]);
    // No repetition while the connection lives.
    world.pass(std::time::Duration::from_secs(100_000));
    subscriber.expect_nothing();
    subscriber.send(&puback(2));
    subscriber.cut();
    publisher.publish1("t", "four");
    for _ in 0..3 {
        let mut subscriber = world.connecting("s", KEPT);
        let four = publish(0x32, "t", 4, "four");
        let Wire(received) = subscriber.received();
        let expected =
            [connack(true, 0), publish(0x3a, "t", 1, "one"), publish(0x3a, "t", 3, "three")]
                .concat();
        assert_eq!(Wire(received[..expected.len()].to_vec()), Wire(expected.clone()));
        let last = &received[expected.len()..];
        assert!(last == four || last == publish(0x3a, "t", 4, "four"));
        subscriber.cut();
    }
}

// MQTT-4.3.3-1, MQTT-2.3.1-4, MQTT-4.4.0-1
#[test]
fn a_qos_2_message_goes_on_where_it_was_cut() {
    let world = World::new();
    let mut subscriber = world.kept("s", false);
    subscriber.subscribe("t", 2);
    world.client("p").send(&publish(0x34, "t", 9, "x"));
    subscriber.expect(&[&publish(0x34, "t", 1, "x")]);
    subscriber.cut();

    let mut subscriber = world.connecting("s", KEPT);
    subscriber.expect(&[&connack(true, 0), &publish(0x3c, "t", 1, "x")]);
    subscriber.ask(&pubrec(1), &pubrel(1));
    subscriber.cut();

    // Once released the PUBLISH is never sent again.
    let mut subscriber = world.connecting("s", KEPT);
    subscriber.expect(&[&connack(true, 0), &pubrel(1)]);
    subscriber.ask(&pubrec(1), &pubrel(1));
    subscriber.send(&pubcomp(1));
    subscriber.cut();
    world.kept("s", true).expect_nothing();
}

// MQTT-2.3.1-4
#[test]
fn the_window_bounds_what_is_in_flight_and_no_id_is_open_twice() {
    let world = World::with(|config| config.max_inflight = 3);
    let mut subscriber = world.subscriber("s", "t", 2);
    let mut publisher = world.client("p");
    for n in 1..=9u16 {
        publisher.send(&publish(0x32 + u8::from(n % 2 == 0) * 2, "t", n, &n.to_string()));
    }
    subscriber.expect(&[
        &publish(0x32, "t", 1, "1"),
        &publish(0x34, "t", 2, "2"),
        &publish(0x32, "t", 3, "3"),
    ]);
    subscriber.ask(&pubrec(2), &pubrel(2));
    subscriber.ask(&puback(1), &publish(0x34, "t", 4, "4"));
    subscriber.ask(&pubcomp(2), &publish(0x32, "t", 5, "5"));
    subscriber.send(&puback(2));
    subscriber.expect_nothing();
}

// MQTT-4.6.0-6
#[test]
fn acknowledgements_of_the_broker_keep_the_order_of_the_messages() {
    let world = World::new();
    let mut client = world.client("a");
    let mut burst = Vec::new();
    let mut answers = Vec::new();
    for id in 1..=50 {
        burst.extend(publish(if id % 3 == 0 { 0x34 } else { 0x32 }, "t", id, "x"));
        answers.extend(if id % 3 == 0 { pubrec(id) } else { puback(id) });
    }
    client.ask(&burst, &answers);
    let (burst, answers): (Vec<_>, Vec<_>) =
        (1..=50).rev().filter(|id| id % 3 == 0).map(|id| (pubrel(id), pubcomp(id))).unzip();
    client.ask(&burst.concat(), &answers.concat());
}

// MQTT-3.10.4-3
#[test]
fn unsubscribe_completes_what_was_begun() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "t", 2);
    let mut publisher = world.client("p");
    publisher.ask(&publish(0x34, "t", 1, "x"), &pubrec(1));
    publisher.publish1("t", "y");
    subscriber.expect(&[&publish(0x34, "t", 1, "x"), &publish(0x32, "t", 2, "y")]);
    subscriber.ask(&unsubscribe(4, &["t"]), &unsuback(4));
    subscriber.ask(&pubrec(1), &pubrel(1));
    subscriber.send(&puback(2));
    subscriber.send(&pubcomp(1));
    publisher.publish1("t", "z");
    subscriber.expect_nothing();
}
