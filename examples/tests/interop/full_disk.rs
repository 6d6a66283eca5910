//! A disk that is full: nothing is acknowledged that cannot be kept, and whoever comes to read what
//! waits makes room.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::broker_process::{BrokerProcess, broker_program, free_port, is_mosquitto};
use crate::program::{DEADLINE, eventually, scratch};
use crate::wire::{Connect, Packet, Wire, packet, publish, subscribe};

/// A file system of its own, in memory, that is soon full.
struct SmallDisk {
    folder: PathBuf,
    port: u16,
}

/// Room for some thousand messages, and for the store's reserve.
const SIZE: &str = "size=12m";

const PAYLOAD: usize = 1000;

/// Messages on their way.
const WINDOW: usize = 50;

impl SmallDisk {
    /// `None` where this process may not mount.
    fn new() -> Option<Self> {
        let port = free_port();
        let folder = scratch().join(format!("small-disk-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&folder);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self { folder, port });
        }
        let _ = std::fs::remove_dir(&folder);
        println!("skipped: a small file system cannot be mounted, which needs root");
        None
    }

    fn start(&self) -> BrokerProcess {
        let config = self.folder.join("broker.conf");
        let user = if is_mosquitto() { "user root\n" } else { "" };
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\n{user}persistence true\n\
             persistence_location {}/\nmax_queued_messages 0\n",
            self.port,
            self.folder.display()
        );
        if !config.exists() {
            std::fs::write(&config, text).expect("there is room as yet");
        }
        let arguments = ["-c".to_owned(), config.display().to_string()];
        BrokerProcess::try_start(&broker_program(), self.port, &arguments).expect("it listens")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Publishes numbered messages until nothing is acknowledged any more. Gives how many were.
fn publish_until_full(publisher: &mut Wire) -> usize {
    let (mut sent, mut acked) = (0, 0);
    loop {
        while sent < acked + WINDOW {
            let payload = format!("{sent:<PAYLOAD$}");
            let id = (sent % 65_535) as u16 + 1;
            publisher.send(&publish(0x32, b"a", Some(id), payload.as_bytes()));
            sent += 1;
        }
        match publisher.packet_within(Duration::from_secs(3)) {
            Some(Packet { first: 0x40, .. }) => acked += 1,
            Some(other) => panic!("{other:?} is no PUBACK"),
            None => return acked,
        }
        assert!(acked < 100_000, "the disk is never full");
    }
}

/// Reads and acknowledges all that waits, and checks that nothing that was acknowledged is missing.
fn drain(keeper: &mut Wire, acked: usize) {
    let mut next = 0;
    // What was not acknowledged may be there as well.
    while let Some(message) = keeper.packet_within(Duration::from_secs(2)) {
        if message.first >> 4 != 3 {
            continue;
        }
        // Topic `a`, then the packet id.
        let (id, payload) = message.body[3..].split_at(2);
        let number: usize = str::from_utf8(payload).unwrap().trim_end().parse().unwrap();
        assert!(number <= next, "{number} came where {next} was due");
        next = next.max(number + 1);
        keeper.send(&packet(0x40, id));
    }
    assert!(next >= acked, "{acked} were acknowledged, and {next} are there");
}

fn keeper() -> Connect {
    Connect::new("keeper").keep_session()
}

fn begin(broker: &BrokerProcess) -> Wire {
    let mut subscriber = Wire::connect(broker, &keeper());
    subscriber.send(&subscribe(1, &[("a", 1)]));
    assert_eq!(subscriber.expect_suback(), [1]);
    drop(subscriber);
    Wire::connect(broker, &Connect::new("publisher"))
}

#[test]
fn a_full_disk_ends_the_acknowledgements_until_somebody_reads_what_waits() {
    if is_mosquitto() {
        println!("skipped: Mosquitto acknowledges what it has no room for");
        return;
    }
    let Some(disk) = SmallDisk::new() else { return };
    let broker = disk.start();
    let mut publisher = begin(&broker);
    let acked = publish_until_full(&mut publisher);
    assert!(acked > 1000, "{acked}");
    let log = broker.log_text();
    assert!(log.contains("messages are not acknowledged until there is more"), "{log}");

    // Clients come and go as ever, and the one who reads makes room.
    let mut keeper = Wire::connect(&broker, &keeper());
    drain(&mut keeper, acked);
    let acknowledged = publisher.packet_within(DEADLINE).expect("there is room again");
    assert_eq!(acknowledged.first, 0x40);
    let has_recovered = || broker.log_text().contains("there is room again").then_some(());
    eventually(has_recovered).expect("the log says so");
    // What waited for room is acknowledged now, and what comes anew.
    while publisher.packet_within(Duration::from_secs(1)).is_some() {}
    publisher.send(&publish(0x32, b"a", Some(9), b"-"));
    assert_eq!(publisher.packet().expect("a PUBACK").first, 0x40);
}

#[test]
fn what_was_acknowledged_before_the_disk_was_full_survives_a_kill() {
    if is_mosquitto() {
        return;
    }
    let Some(disk) = SmallDisk::new() else { return };
    let broker = disk.start();
    let acked = publish_until_full(&mut begin(&broker));
    broker.end_with("KILL");
    // It starts on a full disk.
    let broker = disk.start();
    let mut keeper = Wire::connect(&broker, &keeper());
    drain(&mut keeper, acked);
}
