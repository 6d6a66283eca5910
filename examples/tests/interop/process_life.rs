//! The broker as a process: start, end, keep alive.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker_process::{BrokerProcess, broker_program, is_mosquitto};
use crate::wire::{Connect, Wire, packet, publish, subscribe};

#[test]
fn term_and_int_end_the_broker_with_status_0_and_close_its_connections() {
    for name in ["TERM", "INT"] {
        let broker = BrokerProcess::start();
        let mut wire = Wire::connect(&broker, &Connect::new("guest"));
        wire.send(&packet(0xc0, &[]));
        assert_eq!(wire.packet().expect("a PINGRESP").first, 0xd0);
        let start = Instant::now();
        let status = broker.end_with(name);
        assert_eq!(status.code(), Some(0), "after {name}");
        assert!(start.elapsed() < Duration::from_secs(10), "{name} took {:?}", start.elapsed());
        assert!(wire.expect_end().is_empty());
    }
}

// What is on its way is not cut: the last thing that a client reads is a whole packet.
#[test]
fn term_cuts_no_packet_in_the_middle() {
    let broker = BrokerProcess::start();
    let mut subscriber = Wire::connect(&broker, &Connect::new("subscriber"));
    subscriber.send(&subscribe(1, &[("flood", 0)]));
    assert_eq!(subscriber.expect_suback(), [0]);
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    let message = publish(0x30, b"flood", None, &[b'x'; 10_000]);
    let flood = std::thread::spawn(move || {
        for _ in 0..1000 {
            publisher.send_to_the_end(&message);
        }
    });
    let first = subscriber.expect_publish();
    let ending = std::thread::spawn(move || broker.end_with("TERM"));
    assert_eq!(first.payload.len(), 10_000);
    // `expect_end` ends at half a packet as well, so count bytes instead.
    let rest = subscriber.bytes_to_the_end();
    assert_eq!(rest % subscriber_frame(), 0, "{rest} bytes are not a number of whole packets");
    assert!(ending.join().expect("the broker ends").success());
    flood.join().expect("the publisher does not care");
}

/// The length of each PUBLISH in the test above on the wire.
fn subscriber_frame() -> usize {
    publish(0x30, b"flood", None, &[b'x'; 10_000]).len()
}

// MQTT-3.1.2-24: one and a half times the keep alive.
#[test]
fn a_client_that_is_silent_for_longer_than_its_keep_alive_is_closed_and_its_will_published() {
    let broker = BrokerProcess::start();
    let mut watcher = Wire::connect(&broker, &Connect::new("watcher"));
    watcher.send(&subscribe(1, &[("will", 0)]));
    assert_eq!(watcher.expect_suback(), [0]);

    let start = Instant::now();
    let connect = Connect::new("silent").keep_alive(1).will("will", "gone");
    let mut silent = Wire::connect(&broker, &connect);
    assert!(silent.expect_end().is_empty());
    let closed = start.elapsed();
    assert!(closed >= Duration::from_millis(1400), "closed after {closed:?}");
    // Mosquitto looks only now and then.
    let limit = Duration::from_secs(if is_mosquitto() { 15 } else { 5 });
    assert!(closed < limit, "closed after {closed:?}");
    assert_eq!(watcher.expect_publish().payload, b"gone");
}

// MQTT-3.1.2-24: a client that sends PINGREQ stays.
#[test]
fn a_client_that_pings_within_its_keep_alive_stays() {
    let broker = BrokerProcess::start();
    let mut wire = Wire::connect(&broker, &Connect::new("alive").keep_alive(1));
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(700));
        wire.send(&packet(0xc0, &[]));
        assert_eq!(wire.packet().expect("a PINGRESP").first, 0xd0);
    }
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_a_message() {
    let broker = BrokerProcess::start();
    let output = Command::new(broker_program())
        .args(["-p", &broker.port().to_string()])
        .output()
        .expect("the broker runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("in use"), "{text}");
    if !is_mosquitto() {
        assert!(text.contains(&broker.port().to_string()), "the message names the port: {text}");
    }
}
