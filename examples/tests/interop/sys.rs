//! `$SYS` has the same topics here and in Mosquitto.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker_process::{BrokerProcess, free_port, is_mosquitto};
use crate::foreign::{in_path, required};
use crate::mosquitto::{clients_installed, command};
use crate::program::Program;
use crate::wire::{Connect, Wire, subscribe};

/// What `mosquitto_sub -v` gets from `$SYS/#` until `enough` topics are there, without the beginning
/// that all have. Each has a number but the two that have a word.
fn tree(broker: &BrokerProcess, enough: usize) -> BTreeSet<String> {
    let program = Program::start(
        command("mosquitto_sub", broker).args(["-t", "$SYS/#", "-F", "%t\\t%p", "-W", "20"]),
    );
    let mut seen = BTreeSet::new();
    while seen.len() < enough {
        let Some(line) = program.next_line() else { break };
        let (topic, value) = line.split_once('\t').expect("topic and payload");
        let name = topic.strip_prefix("$SYS/broker/").expect("it is of the broker");
        if !["version", "uptime"].contains(&name) {
            assert!(value.parse::<f64>().is_ok(), "{name} is {value}");
        }
        seen.insert(name.to_owned());
    }
    seen
}

/// The rows of the README's table about `$SYS`: topic, and whether we or Mosquitto have it alone.
fn differences() -> Vec<(String, bool)> {
    let readme = include_str!("../../broker/README.md");
    let section = readme.split("## `$SYS`").nth(1).expect("the section is there");
    let rows = section.split("\n## ").next().unwrap_or_default().lines();
    rows.filter_map(|row| {
        let mut cells = row.strip_prefix("| `")?.split('|');
        let topic = cells.next()?.trim().trim_end_matches('`').to_owned();
        Some((topic, cells.nth(1)?.trim() == "yes"))
    })
    .collect()
}

// As the README says it.
#[test]
fn the_tree_has_the_topics_of_mosquitto() {
    let config = "allow_anonymous true\nsys_interval 1";
    let Some(_) = required("mosquitto", in_path("mosquitto")) else { return };
    if !clients_installed() {
        return;
    }
    // Mosquitto 2.0 publishes 53 topics when it is new.
    let mut expected = tree(&BrokerProcess::mosquitto(config), 53);
    assert!(expected.len() >= 53, "{expected:?}");
    for (topic, is_ours) in differences() {
        let is_in_order =
            if is_ours { expected.insert(topic.clone()) } else { expected.remove(&topic) };
        assert!(is_in_order, "{topic} is in the README's table");
    }
    let ours = tree(&BrokerProcess::example(config), expected.len());
    assert_eq!(ours, expected);
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
        // Those of this client, and the kept one.
        ("subscriptions/count", "8"),
        ("shared_subscriptions/count", "1"),
    ];
    let filters: Vec<_> =
        figures.iter().map(|(name, _)| (format!("$SYS/broker/{name}"), 0)).collect();
    let mut borrowed: Vec<_> = filters.iter().map(|(name, qos)| (name.as_str(), *qos)).collect();
    borrowed.extend([("x", 0), ("y", 0), ("$share/g/x", 0)]);
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
