//! Shared subscriptions: not of the standard, but of brokers that people come from.

use crate::wire::*;
use crate::world::World;

#[test]
fn each_message_goes_to_one_member_in_turn() {
    let world = World::new();
    let mut one = world.subscriber("one", "$share/g/t/+", 1);
    let mut two = world.subscriber("two", "$share/g/t/+", 0);
    let mut other_group = world.subscriber("other", "$share/h/t/#", 0);
    let mut all = world.subscriber("all", "t/#", 0);
    let mut publisher = world.client("p");
    for n in ["1", "2", "3", "4"] {
        publisher.publish1("t/x", n);
    }
    one.expect(&[&publish(0x32, "t/x", 1, "1"), &publish(0x32, "t/x", 2, "3")]);
    two.expect(&[&publish0("t/x", "2"), &publish0("t/x", "4")]);
    let every: Vec<_> = ["1", "2", "3", "4"].iter().flat_map(|n| publish0("t/x", n)).collect();
    other_group.expect(&[&every]);
    all.expect(&[&every]);
    let stats = world.broker.stats();
    assert_eq!((stats.subscriptions, stats.shared_subscriptions), (4, 3));
    one.ask(&unsubscribe(1, &["$share/g/t/+"]), &unsuback(1));
    publisher.publish1("t/x", "5");
    publisher.publish1("t/x", "6");
    two.expect(&[&publish0("t/x", "5"), &publish0("t/x", "6")]);
    one.send(&[puback(1), puback(2)].concat());
    one.expect_nothing();
    let both = [publish0("t/x", "5"), publish0("t/x", "6")].concat();
    other_group.expect(&[&both]);
    all.expect(&[&both]);
    for client in [one, two, other_group, all] {
        client.leave();
    }
    assert_eq!(world.broker.stats().subscriptions, 0);
}

#[test]
fn a_member_that_is_there_is_preferred_to_one_that_is_away_or_full() {
    let world = World::with(|config| {
        config.max_inflight = 1;
        config.max_queued_messages = 1;
    });
    let mut away = world.kept("away", false);
    away.subscribe("$share/g/t", 1);
    away.cut();
    let mut busy = world.subscriber("busy", "$share/g/t", 1);
    let mut idle = world.subscriber("idle", "$share/g/t", 0);
    let mut publisher = world.client("p");
    for n in 1..=12 {
        publisher.publish1("t", &n.to_string());
        assert!(publisher.wants_input());
        idle.received();
        // One message is on the way, the second waits in its queue, and that is full.
        busy.received();
    }
    assert_eq!(world.broker.stats().publish_dropped, 0);
    let queued: usize = world.broker.sessions().iter().map(|session| session.queued).sum();
    assert_eq!(queued, 1);
    world.connecting("away", KEPT).expect(&[&connack(true, 0)]);
}

#[test]
fn messages_of_a_member_that_leaves_go_to_another() {
    for kept in [false, true] {
        let world = World::with(|config| config.max_inflight = 2);
        let flags = if kept { KEPT } else { CLEAN };
        let mut leaver = world.connecting("leaver", flags);
        leaver.expect(&[&connack(false, 0)]);
        leaver.subscribe("$share/g/t", 2);
        let mut publisher = world.client("p");
        publisher.publish1("t", "1");
        publisher.ask(&publish(0x34, "t", 7, "2"), &pubrec(7));
        publisher.publish1("t", "3");
        leaver.expect(&[&publish(0x32, "t", 1, "1"), &publish(0x34, "t", 2, "2")]);
        let mut stayer = world.subscriber("stayer", "$share/g/t", 2);
        leaver.cut();
        if kept {
            // What is on the way at QoS 2 may have arrived, so it stays with its session.
            stayer.expect(&[&publish(0x32, "t", 1, "1"), &publish(0x32, "t", 2, "3")]);
            let mut leaver = world.connecting("leaver", KEPT);
            leaver.expect(&[&connack(true, 0), &publish(0x3c, "t", 2, "2")]);
        } else {
            stayer.expect(&[&publish(0x32, "t", 1, "1"), &publish(0x34, "t", 2, "2")]);
            stayer.ask(&puback(1), &publish(0x32, "t", 3, "3"));
        }
        assert_eq!(world.broker.stats().publish_dropped, 0);
    }
}

#[test]
fn the_last_member_keeps_its_messages_when_it_may_come_back() {
    let world = World::new();
    let mut client = world.kept("a", false);
    client.subscribe("$share/g/t", 1);
    client.cut();
    let mut publisher = world.client("p");
    publisher.publish1("t", "1");
    let mut client = world.connecting("a", KEPT);
    client.expect(&[&connack(true, 0), &publish(0x32, "t", 1, "1")]);
    client.cut();
    let mut client = world.connecting("a", KEPT);
    client.expect(&[&connack(true, 0), &publish(0x3a, "t", 1, "1")]);
    client.cut();
    assert!(world.broker.delete_session("a"));
    assert_eq!(world.broker.stats().publish_dropped, 1);
}

#[test]
fn what_is_retained_is_not_sent_to_groups() {
    let world = World::new();
    world.client("p").retain("t", "x");
    world.subscriber("a", "$share/g/#", 1).expect_nothing();
}

#[test]
fn malformed_shared_filters_are_refused_and_all_when_turned_off() {
    let world = World::new();
    let filters = [("$share/g", 0), ("$share//t", 0), ("$share/g/", 0), ("$share/+/t", 0)];
    world.client("a").ask(&subscribe(1, &filters), &suback(1, &[0x80; 4]));
    let world = World::with(|config| config.shared_subscriptions = false);
    world.client("a").ask(&subscribe(1, &[("$share/g/t", 0), ("t", 0)]), &suback(1, &[0x80, 0]));
}
