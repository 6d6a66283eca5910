//! `$SYS` has the same topics here and in Mosquitto.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker_process::{BrokerProcess, free_port, is_mosquitto};
use crate::wire::{Connect, Wire, subscribe};

/// The topics that Mosquitto 2.0 publishes within its first seconds.
const MOSQUITTO: &str = "
bytes/received bytes/sent
clients/active clients/connected clients/disconnected clients/expired clients/inactive
clients/maximum clients/total
heap/current heap/maximum
load/bytes/received/1min load/bytes/received/5min load/bytes/received/15min
load/bytes/sent/1min load/bytes/sent/5min load/bytes/sent/15min
load/connections/1min load/connections/5min load/connections/15min
load/messages/received/1min load/messages/received/5min load/messages/received/15min
load/messages/sent/1min load/messages/sent/5min load/messages/sent/15min
load/publish/dropped/1min load/publish/dropped/5min load/publish/dropped/15min
load/publish/received/1min load/publish/received/5min load/publish/received/15min
load/publish/sent/1min load/publish/sent/5min load/publish/sent/15min
load/sockets/1min load/sockets/5min load/sockets/15min
messages/received messages/sent messages/stored
publish/bytes/received publish/bytes/sent
publish/messages/dropped publish/messages/received publish/messages/sent
shared_subscriptions/count
store/messages/bytes store/messages/count
subscriptions/count uptime version
";

/// What Mosquitto has and ours has not, and why.
const MISSING: &[(&str, &str)] =
    &[("shared_subscriptions/count", "they are counted with all subscriptions")];

/// What ours has and Mosquitto 2.0 has not, and why.
const EXTRA: &[(&str, &str)] =
    &[("messages/inflight", "Mosquitto's manual has it, its broker does not publish it")];

#[test]
fn the_tree_has_the_topics_of_mosquitto() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nsys_interval 1");
    let mut expected: BTreeSet<_> = MOSQUITTO.split_whitespace().map(str::to_owned).collect();
    // The only one with a space in its name.
    expected.insert("retained messages/count".to_owned());
    if !is_mosquitto() {
        for (topic, reason) in MISSING {
            assert!(expected.remove(*topic), "{topic}: {reason}");
        }
        expected.extend(EXTRA.iter().map(|(topic, _)| (*topic).to_owned()));
    }
    let mut wire = Wire::connect(&broker, &Connect::new("watcher"));
    wire.send(&subscribe(1, &[("$SYS/#", 0)]));
    wire.expect_suback();
    let mut seen = BTreeSet::new();
    while !expected.is_subset(&seen) {
        let publish = wire.expect_publish();
        let name = publish.topic.strip_prefix("$SYS/broker/").expect("it is of the broker");
        seen.insert(name.to_owned());
        let value = String::from_utf8(publish.payload).expect("text");
        if !["version", "uptime"].contains(&name) {
            assert!(value.parse::<f64>().is_ok(), "{name} is {value}");
        }
    }
    let extra: Vec<_> = seen.difference(&expected).collect();
    assert!(extra.is_empty(), "{extra:?}");
}

// Each of the figures that a test can foresee.
#[test]
fn the_figures_are_those_of_what_happened() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nsys_interval 1");
    let mut watcher = Wire::connect(&broker, &Connect::new("watcher"));
    let figures = [
        ("clients/connected", "2"),
        ("clients/disconnected", "1"),
        ("clients/total", "3"),
        // The kept one is counted, too, and the three of this client.
        ("subscriptions/count", "7"),
    ];
    let filters: Vec<_> =
        figures.iter().map(|(name, _)| (format!("$SYS/broker/{name}"), 0)).collect();
    let mut borrowed: Vec<_> = filters.iter().map(|(name, qos)| (name.as_str(), *qos)).collect();
    borrowed.extend([("x", 0), ("y", 0)]);
    watcher.send(&subscribe(1, &borrowed));
    watcher.expect_suback();
    let mut keeper = Wire::connect(&broker, &Connect::new("keeper").keep_session());
    keeper.send(&subscribe(1, &[("z", 1)]));
    keeper.expect_suback();
    keeper.send(&crate::wire::packet(0xe0, &[]));
    keeper.expect_end();
    let _other = Wire::connect(&broker, &Connect::new("other"));

    let mut missing: Vec<_> = figures.to_vec();
    while !missing.is_empty() {
        let publish = watcher.expect_publish();
        let value = String::from_utf8(publish.payload).expect("text");
        missing.retain(|(name, expected)| !(publish.topic.ends_with(name) && value == *expected));
    }
}

// MQTT-4.7.2-1, and nobody but the broker speaks for it.
#[test]
fn clients_cannot_publish_to_it() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nsys_interval 1");
    let mut wire = Wire::connect(&broker, &Connect::new("liar"));
    wire.send(&subscribe(1, &[("$SYS/broker/version", 0), ("$SYS/lie", 0), ("end", 0)]));
    wire.expect_suback();
    for (id, topic) in [(1, "$SYS/broker/version"), (2, "$SYS/lie"), (3, "end")] {
        wire.send(&crate::wire::publish(0x32, topic.as_bytes(), Some(id), b"lie"));
    }
    loop {
        let packet = wire.packet().expect("the broker goes on");
        if packet.first >> 4 == 3 {
            let topic_end = 2 + usize::from(packet.body[1]);
            match &packet.body[2..topic_end] {
                b"end" => return,
                b"$SYS/broker/version" => assert_ne!(&packet.body[topic_end..], b"lie"),
                other => panic!("{}", String::from_utf8_lossy(other)),
            }
        }
    }
}

#[test]
fn prometheus_gets_the_same_figures() {
    if is_mosquitto() {
        return;
    }
    let port = free_port();
    let broker =
        BrokerProcess::start_with_config(&format!("allow_anonymous true\nmetrics_listener {port}"));
    let mut wire = Wire::connect(&broker, &Connect::new("client"));
    wire.send(&subscribe(1, &[("a", 0), ("b", 0)]));
    wire.expect_suback();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text
    };
    let text = get("/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in ["mqtt_clients_connected 1", "mqtt_subscriptions 2", "mqtt_connects_total 1"] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in {text}");
    }
    assert!(get("/other").starts_with("HTTP/1.1 404 "));
}
