//! What survives the end of the broker: `persistence` and the options about its file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::broker_process::{BrokerProcess, broker_program, is_mosquitto};
use crate::program::{eventually, scratch};
use crate::wire::{Connect, Packet, Wire, packet, publish, pubrec, subscribe};

/// A folder for the file of one test, removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = scratch().join(format!("persistence-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        Self(folder)
    }

    fn start(&self, lines: &str) -> BrokerProcess {
        BrokerProcess::start_with_config(&format!(
            "allow_anonymous true\npersistence true\npersistence_location {}/\n{lines}",
            self.0.display()
        ))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn keeper() -> Connect {
    Connect::new("keeper").keep_session()
}

/// Leaves a session with a subscription, a message in flight, one that waits and a retained one.
fn leave_something(broker: &BrokerProcess) {
    let mut keeper = Wire::connect(broker, &keeper());
    keeper.send(&subscribe(1, &[("a", 2)]));
    assert_eq!(keeper.expect_suback(), [2]);
    let mut publisher = Wire::connect(broker, &Connect::new("publisher"));
    publish_1(&mut publisher, 0x32, "a", b"in flight");
    assert_eq!(keeper.expect_publish().payload, b"in flight");
    keeper.send(&packet(0xe0, &[]));
    keeper.expect_end();
    publish_1(&mut publisher, 0x32, "a", b"waits");
    publish_1(&mut publisher, 0x33, "kept", b"retained");
}

fn publish_1(wire: &mut Wire, first: u8, topic: &str, payload: &[u8]) {
    wire.send(&publish(first, topic.as_bytes(), Some(1), payload));
    assert_eq!(wire.packet().expect("a PUBACK").first, 0x40);
}

/// Expects what `leave_something` has left.
fn expect_all(broker: &BrokerProcess) {
    let mut back = Wire::open(broker);
    back.send(&keeper().packet());
    let connack = Packet { first: 0x20, body: vec![1, 0] };
    assert_eq!(back.packet(), Some(connack), "the session is present");
    let again = back.expect_publish();
    assert_eq!((again.payload.as_slice(), again.dup), (&b"in flight"[..], true));
    let waited = back.expect_publish();
    assert_eq!((waited.payload.as_slice(), waited.dup), (&b"waits"[..], false));
    let mut publisher = Wire::connect(broker, &Connect::new("publisher"));
    publish_1(&mut publisher, 0x32, "a", b"new");
    assert_eq!(back.expect_publish().payload, b"new", "the subscription is there");
    let mut late = Wire::connect(broker, &Connect::new("late"));
    late.send(&subscribe(1, &[("kept", 0)]));
    late.expect_suback();
    assert_eq!(late.expect_publish().payload, b"retained");
}

#[test]
fn sessions_and_retained_messages_survive_term() {
    let folder = Folder::new("term");
    let broker = folder.start("");
    leave_something(&broker);
    assert!(broker.end_with("TERM").success());
    assert!(folder.file("mosquitto.db").is_file(), "one file, under Mosquitto's name for it");
    expect_all(&folder.start(""));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if is_mosquitto() {
        println!("skipped: Mosquitto loses what it has acknowledged since its last snapshot");
        return;
    }
    let folder = Folder::new("kill");
    let broker = folder.start("");
    let keeper = keeper();
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
        let first = 0x32 | u8::from(n == 49);
        publish_1(&mut publisher, first, "a/1", n.to_string().as_bytes());
    }
    broker.end_with("KILL");

    let broker = folder.start("");
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
    let broker = folder.start("");
    let mut subscriber = Wire::connect(&broker, &keeper);
    let before = subscriber.ping();
    assert_eq!(before.iter().filter(|packet| packet.first >> 4 == 3).count(), 0, "{before:?}");
}

#[test]
fn the_end_waits_for_the_disk_and_says_so() {
    if is_mosquitto() {
        return;
    }
    let folder = Folder::new("end");
    let broker = folder.start("");
    // A QoS 0 message is acknowledged to nobody, and retained all the same.
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    publisher.send(&publish(0x31, b"state", None, b"on"));
    publisher.ping();
    let id = broker.id();
    assert!(id > 0 && broker.end_with("TERM").success());
    let broker = folder.start("");
    let mut reader = Wire::connect(&broker, &Connect::new("reader"));
    reader.send(&subscribe(1, &[("state", 0)]));
    reader.expect_suback();
    assert_eq!(reader.expect_publish().payload, b"on");
}

// Ours is written before anything is acknowledged, whatever these say.
#[test]
fn autosave_interval_and_autosave_on_changes_let_nothing_wait() {
    if is_mosquitto() {
        return;
    }
    for lines in ["autosave_interval 0", "autosave_on_changes true"] {
        let folder = Folder::new("autosave");
        let broker = folder.start(lines);
        leave_something(&broker);
        broker.end_with("KILL");
        expect_all(&folder.start(lines));
    }
}

#[test]
fn persistence_false_keeps_nothing() {
    let folder = Folder::new("false");
    let lines = format!(
        "allow_anonymous true\npersistence false\npersistence_location {}/",
        folder.0.display()
    );
    let broker = BrokerProcess::start_with_config(&lines);
    leave_something(&broker);
    assert!(broker.end_with("TERM").success());
    let files = std::fs::read_dir(&folder.0).expect("the folder is there").count();
    assert_eq!(files, 0);
    let broker = BrokerProcess::start_with_config(&lines);
    let mut back = Wire::open(&broker);
    back.send(&keeper().packet());
    assert_eq!(back.packet(), Some(Packet { first: 0x20, body: vec![0, 0] }));
}

#[test]
fn persistence_file_is_its_name_in_persistence_location() {
    let folder = Folder::new("name");
    let broker = folder.start("persistence_file home.db");
    leave_something(&broker);
    assert!(broker.end_with("TERM").success());
    assert!(folder.file("home.db").is_file());
    expect_all(&folder.start("persistence_file home.db"));
}

// MQTT-4.3.3-2: a packet id is remembered over the end of the broker as well.
#[test]
fn a_qos_2_message_is_delivered_once_over_a_restart() {
    if is_mosquitto() {
        println!("skipped: Mosquitto writes its file at TERM only");
        return;
    }
    let folder = Folder::new("once");
    let broker = folder.start("");
    let mut keeper_wire = Wire::connect(&broker, &keeper());
    keeper_wire.send(&subscribe(1, &[("a", 1)]));
    keeper_wire.expect_suback();
    let sender = Connect::new("sender").keep_session();
    let mut publisher = Wire::connect(&broker, &sender);
    publisher.send(&publish(0x34, b"a", Some(7), b"x"));
    assert_eq!(publisher.packet().expect("a PUBREC").first, 0x50);
    broker.end_with("KILL");

    let broker = folder.start("");
    let mut publisher = Wire::connect(&broker, &sender);
    publisher.send(&publish(0x3c, b"a", Some(7), b"x"));
    assert_eq!(publisher.packet().expect("a PUBREC").first, 0x50);
    publisher.send(&packet(0x62, &[0, 7]));
    assert_eq!(publisher.packet().expect("a PUBCOMP").first, 0x70);
    let mut back = Wire::connect(&broker, &keeper());
    assert_eq!(back.expect_publish().payload, b"x");
    assert!(back.ping().is_empty());
}

#[test]
fn wills_of_clients_that_a_kill_cuts_are_published_at_the_next_start() {
    if is_mosquitto() {
        println!("skipped: Mosquitto does not write wills");
        return;
    }
    let folder = Folder::new("will");
    let broker = folder.start("");
    let mut watcher = Wire::connect(&broker, &keeper());
    watcher.send(&subscribe(1, &[("will", 1)]));
    watcher.expect_suback();
    let mut connect = Connect::new("lamp").keep_session().will("will", "gone");
    // At QoS 1, or it would not wait for the watcher.
    connect.flags |= 0x08;
    let mut lamp = Wire::connect(&broker, &connect);
    assert!(lamp.ping().is_empty());
    broker.end_with("KILL");
    let broker = folder.start("");
    assert_eq!(Wire::connect(&broker, &keeper()).expect_publish().payload, b"gone");
}

// The rules about what an absent client may read count after a restart, those of the listener that it
// could have come to.
#[test]
fn an_acl_counts_for_clients_of_the_time_before_a_restart() {
    if is_mosquitto() {
        return;
    }
    let folder = Folder::new("acl");
    let acl = folder.file("acl");
    std::fs::write(&acl, "topic read #\ntopic write #\n").expect("it can be written");
    let broker = folder.start(&format!("acl_file {}", acl.display()));
    leave_something(&broker);
    assert!(broker.end_with("TERM").success());
    std::fs::write(&acl, "topic read a\ntopic write #\n").expect("it can be written");
    let broker = folder.start(&format!("acl_file {}", acl.display()));
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    publish_1(&mut publisher, 0x32, "a", b"more");
    let mut back = Wire::open(&broker);
    back.send(&keeper().packet());
    assert_eq!(back.packet().map(|connack| connack.body), Some(vec![1, 0]));
    for payload in [&b"in flight"[..], b"waits", b"more"] {
        assert_eq!(back.expect_publish().payload, payload);
    }
    std::fs::write(&acl, "topic write #\n").expect("it can be written");
    broker.signal("HUP");
    drop(back);
    let is_denied = || {
        publish_1(&mut publisher, 0x32, "a", b"denied");
        let mut back = Wire::connect(&broker, &keeper());
        let count = back.ping().len();
        publish_1(&mut publisher, 0x32, "a", b"denied");
        (back.ping().is_empty() && count > 0).then_some(())
    };
    assert!(eventually(is_denied).is_some());
}

fn refused_start(config: &Path) -> String {
    let output = Command::new(broker_program())
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .expect("the broker runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_file_that_is_not_ours_or_in_use_ends_the_start_and_stays_as_it_is() {
    if is_mosquitto() {
        return;
    }
    let folder = Folder::new("refused");
    let config = folder.file("broker.conf");
    let lines = format!("persistence true\npersistence_location {}\n", folder.0.display());
    std::fs::write(&config, format!("listener 0 {}/socket\n{lines}", folder.0.display()))
        .expect("it can be written");
    let file = folder.file("mosquitto.db");
    // As Mosquitto's own begins.
    let foreign = b"\x00\xb5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x06".repeat(10);
    std::fs::write(&file, &foreign).expect("it can be written");
    let text = refused_start(&config);
    assert!(text.contains("mosquitto.db: this file is not a store of this broker"), "{text}");
    assert_eq!(std::fs::read(&file).expect("it is there"), foreign);

    std::fs::remove_file(&file).expect("it can be removed");
    let broker = folder.start("");
    let text = refused_start(&config);
    assert!(text.contains("mosquitto.db: another process has this file open"), "{text}");
    leave_something(&broker);
    assert!(broker.end_with("TERM").success());
    expect_all(&folder.start(""));
}

// A broker that gives up its rights can still open its file at the next start.
#[test]
fn the_file_belongs_to_the_user_of_the_configuration() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if is_mosquitto() || !status.contains("Uid:\t0\t0") {
        println!("skipped: not root");
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let folder = Folder::new("user");
    let broker = folder.start("user nobody");
    let metadata = std::fs::metadata(folder.file("mosquitto.db")).expect("it is there");
    assert_ne!(metadata.uid(), 0);
    assert_eq!(metadata.mode() & 0o077, 0, "nobody else can read it: {:o}", metadata.mode());
    leave_something(&broker);
    assert!(broker.end_with("TERM").success());
    expect_all(&folder.start("user nobody"));
}
