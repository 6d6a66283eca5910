//! What is there after the broker's process has ended, in whichever way.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::broker_process::{BrokerProcess, broker_program, free_port, is_mosquitto};
use crate::program::scratch;
use crate::wire::{Connect, Wire, packet, publish, pubrec, subscribe};

/// A folder with a configuration and the file of a store, for a broker that is started again and
/// again on one port.
struct Place {
    folder: PathBuf,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let port = free_port();
        let folder = scratch().join(format!("persistence-{port}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        let user = if is_mosquitto() { "user root\n" } else { "" };
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n{user}persistence true\n\
             persistence_location {}/\npersistence_file state.db\n\
             autosave_interval 1\nautosave_on_changes true\n",
            folder.display()
        );
        let place = Self { folder, port };
        fs::write(place.config(), text).expect("the configuration can be written");
        place
    }

    fn config(&self) -> PathBuf {
        self.folder.join("broker.conf")
    }

    fn store(&self) -> PathBuf {
        self.folder.join("state.db")
    }

    fn start(&self) -> BrokerProcess {
        let arguments = ["-c".to_owned(), self.config().display().to_string()];
        BrokerProcess::try_start(&broker_program(), self.port, &arguments)
            .expect("the broker listens")
    }

    /// A start that has to fail: what it prints.
    fn fail_to_start(&self) -> String {
        let output = Command::new(broker_program())
            .arg("-c")
            .arg(self.config())
            .output()
            .expect("the broker runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Publishes at QoS 1 and waits for its PUBACK.
fn publish_1(wire: &mut Wire, topic: &str, packet_id: u16, payload: &str, retain: bool) {
    let first = 0x32 | u8::from(retain);
    wire.send(&publish(first, topic.as_bytes(), Some(packet_id), payload.as_bytes()));
    assert_eq!(wire.packet().expect("a PUBACK").first, 0x40);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if is_mosquitto() {
        println!("skipped: Mosquitto loses what it has acknowledged since its last snapshot");
        return;
    }
    // With `persistence true`, and a location and a name for the file.
    let place = Place::new();
    let broker = place.start();
    let keeper = Connect::new("keeper").keep_session();
    let mut subscriber = Wire::connect(&broker, &keeper);
    subscriber.send(&subscribe(1, &[("a/#", 2)]));
    assert_eq!(subscriber.expect_suback(), [2]);
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    // It arrives, and is not acknowledged in full.
    publisher.send(&publish(0x34, b"a/2", Some(7), b"exactly once"));
    assert_eq!(publisher.packet().expect("a PUBREC").first, 0x50);
    let first = subscriber.expect_publish();
    assert_eq!((first.qos, first.dup), (2, false));
    subscriber.send(&pubrec(first.packet_id));
    assert_eq!(subscriber.packet().expect("a PUBREL").first, 0x62);
    drop(subscriber);
    for n in 0..50 {
        publish_1(&mut publisher, "a/1", n + 1, &n.to_string(), n == 49);
    }
    broker.end_with("KILL");

    let broker = place.start();
    // What is retained, first: its subscriber is new.
    let mut reader = Wire::connect(&broker, &Connect::new("reader"));
    reader.send(&subscribe(1, &[("a/+", 0)]));
    assert_eq!(reader.expect_suback(), [0]);
    let retained = reader.expect_publish();
    assert_eq!((retained.topic.as_str(), retained.payload.as_slice()), ("a/1", &b"49"[..]));

    let mut subscriber = Wire::open(&broker);
    subscriber.send(&keeper.packet());
    assert_eq!(subscriber.packet().expect("a CONNACK").body, [1, 0], "the session is there");
    // The exchange goes on where it was.
    let release = subscriber.packet().expect("a PUBREL");
    assert_eq!((release.first, release.body), (0x62, first.packet_id.to_be_bytes().to_vec()));
    for n in 0..50 {
        let message = subscriber.expect_publish();
        assert_eq!(message.payload, n.to_string().as_bytes(), "in order");
        assert_eq!((message.topic.as_str(), message.qos), ("a/1", 1));
        subscriber.send(&packet(0x40, &message.packet_id.to_be_bytes()));
    }
    // What was acknowledged to the broker does not come again after the next end.
    subscriber.ping();
    let log = broker.log_text();
    assert!(log.contains("1 sessions, 1 retained messages and 50 that wait"), "{log}");
    assert!(broker.end_with("TERM").success());
    let broker = place.start();
    let mut subscriber = Wire::connect(&broker, &keeper);
    let before = subscriber.ping();
    assert_eq!(before.iter().filter(|packet| packet.first >> 4 == 3).count(), 0, "{before:?}");
}

#[test]
fn the_end_waits_for_the_disk_and_says_so() {
    if is_mosquitto() {
        return;
    }
    let place = Place::new();
    let broker = place.start();
    // A QoS 0 message is acknowledged to nobody, and retained all the same.
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    publisher.send(&publish(0x31, b"state", None, b"on"));
    publisher.ping();
    let id = broker.id();
    assert!(id > 0 && broker.end_with("TERM").success());
    let broker = place.start();
    let mut reader = Wire::connect(&broker, &Connect::new("reader"));
    reader.send(&subscribe(1, &[("state", 0)]));
    reader.expect_suback();
    assert_eq!(reader.expect_publish().payload, b"on");
}

#[test]
fn a_file_of_mosquitto_is_refused_and_left_alone() {
    if is_mosquitto() {
        return;
    }
    let place = Place::new();
    let contents = b"\x00\xb5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x06";
    fs::write(place.store(), contents).expect("the file can be written");
    let output = place.fail_to_start();
    assert!(output.contains("state.db: this file is not a store of this broker"), "{output}");
    assert_eq!(fs::read(place.store()).expect("the file is there"), contents);
}

#[test]
fn two_brokers_do_not_share_a_file() {
    if is_mosquitto() {
        return;
    }
    let place = Place::new();
    let _broker = place.start();
    let output = place.fail_to_start();
    assert!(output.contains("state.db: another process has this file open"), "{output}");
}
