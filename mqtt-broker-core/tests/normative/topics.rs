use crate::wire::*;
use crate::world::World;

// MQTT-3.3.2-3, MQTT-4.7.2-1, MQTT-4.7.3-4, MQTT-1.5.3-3
#[test]
fn filters_match_as_the_standard_says() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "sport/tennis/player1/#",
            &[
                "sport/tennis/player1",
                "sport/tennis/player1/ranking",
                "sport/tennis/player1/score/x",
            ],
            &["sport/tennis/player2", "sport/tennis", "sport/tennis/player1x"],
        ),
        ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "Sport", "/sport"]),
        ("#", &["a", "/", "a/b/c", "/a"], &["$SYS", "$a/b"]),
        (
            "sport/tennis/+",
            &["sport/tennis/a", "sport/tennis/"],
            &["sport/tennis", "sport/tennis/a/b"],
        ),
        ("sport/+", &["sport/", "sport/a"], &["sport", "sport/a/b"]),
        ("+", &["finance", " "], &["/finance", "a/b", "$finance"]),
        ("+/+", &["/finance", "a/b", "/"], &["a", "a/b/c", "$a/b"]),
        ("/+", &["/finance", "/"], &["finance", "//"]),
        ("+/monitor/Clients", &["a/monitor/Clients"], &["$SYS/monitor/Clients"]),
        ("$a/#", &["$a", "$a/b/c"], &["a", "b/c"]),
        ("$a/monitor/+", &["$a/monitor/Clients"], &["$a/monitor"]),
        ("a/+/c/#", &["a/b/c", "a//c/d/e"], &["a/c", "a/b/d"]),
        ("a//b", &["a//b"], &["a/b", "a///b"]),
        ("+/b/+", &["a/b/c", "/b/"], &["a/b", "a/c/c"]),
        ("e\u{301}", &["e\u{301}"], &["\u{e9}"]),
        ("x", &["x"], &["\u{feff}x", "X"]),
        ("\u{feff}x", &["\u{feff}x"], &["x"]),
        ("a/", &["a/"], &["a"]),
    ];
    for (filter, good, bad) in table {
        let world = World::new();
        let mut subscriber = world.subscriber("s", filter, 0);
        let mut publisher = world.client("p");
        for topic in *good {
            publisher.send(&publish0(topic, filter));
            subscriber.expect(&[&publish0(topic, filter)]);
        }
        for topic in *bad {
            publisher.send(&publish0(topic, filter));
            assert_eq!(subscriber.received(), Wire(vec![]), "{filter} matched {topic}");
        }
    }
}

// MQTT-4.7.3-3
#[test]
fn the_longest_topic_of_the_standard_works_when_the_limits_allow_it() {
    let world = World::with(|config| {
        config.max_topic_length = 65_535;
        config.max_topic_levels = 65_536;
        config.max_packet = 1 << 20;
    });
    let mut subscriber = world.subscriber("s", "#", 0);
    let slashes = "/".repeat(65_535);
    subscriber.subscribe(&slashes, 1);
    let mut plus = "+/".repeat(32_767);
    plus.push('+');
    subscriber.subscribe(&plus, 1);
    subscriber.subscribe(&format!("{}#", "/".repeat(65_534)), 1);
    let mut publisher = world.client("p");
    publisher.publish1(&slashes, "x");
    subscriber.expect(&[&publish(0x32, &slashes, 1, "x")]);
    let long = "x".repeat(65_535);
    publisher.retain(&long, "y");
    subscriber.expect(&[&publish0(&long, "y")]);
}

#[test]
fn topics_beyond_a_limit_end_the_connection() {
    let world = World::new();
    for topic in ["/".repeat(200), "x".repeat(4097)] {
        let mut client = world.client("a");
        client.send(&publish0(&topic, "x"));
        client.expect_end().unwrap_err();
    }
    let mut client = world.client("a");
    client.publish1(&"/".repeat(199), "x");
    client.publish1(&"x".repeat(4096), "x");
}

#[test]
fn nobody_speaks_for_the_broker() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "$SYS/#", 1);
    let mut client = world.client("a");
    client.retain("$SYS/broker/version", "fake");
    client.publish1("$x/y", "other dollar topics are free");
    subscriber.expect_nothing();
    assert_eq!(world.broker.stats().retained, 0);
    assert_eq!(world.broker.stats().publish_dropped, 1);
}
