//! The broker is gone, or the network is: the device goes on alone, and all find each other again.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::broker_process::{BrokerProcess, broker_program, free_port};
use crate::network::Network;
use crate::program::Program;
use crate::room::{Room, cut, nightlight, restart};

/// Dark for the device when it is alone, and bright for the server: it shows who decides.
const TWILIGHT: u16 = 450;
const ALONE: [&str; 4] = ["--threshold", "600", "--offline-after", "300ms"];

#[test]
fn while_the_broker_is_gone_the_device_decides_and_then_the_server_again() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let port = broker.port();
    room.set_light(TWILIGHT);
    let server = room.server(port, &[]);
    let device = room.device(port, &ALONE);
    device.line_where(|line| line == "Message received: {'led_on': False}");
    broker.end_with("KILL");
    room.expect_led(true);
    room.expect_complaint("device", "Offline for 300ms: the device decides by itself");
    device.line_where(|line| line == "Light level: 450");
    room.set_light(700);
    room.expect_led(false);
    room.set_light(TWILIGHT);
    room.expect_led(true);
    let _broker = restart(port);
    room.expect_led(false);
    room.expect_complaint("device", "The server decides again");
    server.line_where(|line| line == "MQTT connected!");
}

#[test]
fn a_device_that_starts_without_a_broker_decides_and_then_the_server() {
    let room = Room::new();
    room.set_light(TWILIGHT);
    let port = free_port();
    let _device = room.device(port, &ALONE);
    let _server = room.server(port, &[]);
    room.expect_led(true);
    let _broker = restart(port);
    room.expect_led(false);
}

#[test]
fn a_cut_network_is_noticed_and_a_mended_one_too() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let network = Network::to(broker.port());
    room.set_light(TWILIGHT);
    let _server = room.server(broker.port(), &[]);
    let device = room.device(network.port(), &ALONE);
    device.line_where(|line| line == "Message received: {'led_on': False}");
    network.cut();
    let start = std::time::Instant::now();
    room.expect_led(true);
    // Keep alive 1 s, half a second for the answer, 300 ms until it feels alone.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    std::thread::sleep(cut().saturating_sub(start.elapsed()));
    assert_eq!(room.led(), Some(true));
    network.mend();
    room.expect_led(false);
}

#[test]
fn with_latest_only_the_newest_reading_arrives_after_a_cut() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let network = Network::to(broker.port());
    let server = room.server(broker.port(), &[]);
    server.line_where(|line| line == "MQTT connected!");
    let lights = Lights::new();
    let device = lights.device(&room, network.port(), &["--interval", "200ms"]);
    let mut last = reading(&server);
    network.cut();
    room.expect_complaint("device", "Not connected");
    std::thread::sleep(cut());
    // Most of these were read without a connection.
    let newest = last + 20;
    device.line_where(|line| sent(line).is_some_and(|number| number >= newest));
    network.mend();
    // What had arrived before the cut is read first; then there is the gap of the outage.
    let first = loop {
        match reading(&server) {
            next if next == last + 1 => last = next,
            next => break next,
        }
    };
    assert!(first >= newest, "{first} after {last}, where {newest} was newer");
    last = first;
    for _ in 0..5 {
        let next = reading(&server);
        assert_eq!(next, last + 1, "nothing old comes later");
        last = next;
    }
}

#[test]
fn with_queue_no_reading_is_missing_after_a_cut_and_the_order_holds() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let network = Network::to(broker.port());
    let server = room.server(broker.port(), &[]);
    server.line_where(|line| line == "MQTT connected!");
    let lights = Lights::new();
    let _device =
        lights.device(&room, network.port(), &["--policy", "queue", "--interval", "100ms"]);
    assert_eq!(reading(&server), 1);
    network.cut();
    room.expect_complaint("device", "Not connected");
    std::thread::sleep(cut());
    network.mend();
    expect_all(&server, 2, 60 + 10 * cut().as_secs() as u32);
}

#[test]
fn with_queue_and_store_a_killed_device_and_a_killed_broker_lose_no_reading() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let (port, network) = (broker.port(), Network::to(broker.port()));
    let store = room.path("store").display().to_string();
    let options = ["--policy", "queue", "--store", &store, "--interval", "100ms"];
    let lights = Lights::new();
    let server = room.server(port, &[]);
    server.line_where(|line| line == "MQTT connected!");
    let device = lights.device(&room, network.port(), &options);
    assert_eq!(reading(&server), 1);
    // The broker forgets its sessions when it ends, so the server has to be there before the device.
    network.cut();
    broker.end_with("KILL");
    room.expect_complaint("device", "Not connected");
    // What was said is on the disk.
    device.line_where(|line| sent(line) == Some(30));
    device.kill_9();
    let _broker = restart(port);
    server.line_where(|line| line == "MQTT connected!");
    network.mend();
    // Its own readings begin anew, far above.
    let later = Lights::from(1000);
    let _device = later.device(&room, port, &options);
    expect_all(&server, 2, 30);
    let first = std::iter::repeat_with(|| reading(&server)).find(|number| *number >= 1000);
    assert_eq!(first, Some(1000));
}

#[test]
fn with_queue_a_broker_that_keeps_its_state_may_be_killed_at_any_time() {
    let (room, port) = (Room::new(), free_port());
    let config = room.path("broker.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\n\
         persistence true\npersistence_location {}/\n",
        room.path("").display()
    );
    std::fs::write(&config, text).expect("the configuration can be written");
    let start = || {
        let arguments = ["-c".to_owned(), config.display().to_string()];
        let broker = BrokerProcess::try_start(&broker_program(), port, &arguments);
        broker.expect("the broker starts")
    };
    let mut broker = start();
    let server = room.server(port, &["--keep-session"]);
    server.line_where(|line| line == "MQTT connected!");
    let lights = Lights::new();
    let device = lights.device(&room, port, &["--policy", "queue", "--interval", "50ms"]);
    for round in 1..=3 {
        device.line_where(|line| sent(line).is_some_and(|number| number >= 20 * round));
        broker.end_with("KILL");
        device.line_where(|line| sent(line).is_some_and(|number| number >= 20 * round + 10));
        broker = start();
    }
    expect_all(&server, 1, 100);
}

#[test]
fn a_server_that_keeps_its_session_misses_no_reading() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &["--keep-session"]);
    server.line_where(|line| line == "MQTT connected!");
    let lights = Lights::new();
    let device = lights.device(&room, broker.port(), &["--policy", "queue", "--interval", "100ms"]);
    assert_eq!(reading(&server), 1);
    server.kill_9();
    for _ in 0..20 {
        device.line_where(|line| line.starts_with("Sending telemetry"));
    }
    let server = room.server(broker.port(), &["--keep-session"]);
    let first = reading(&server);
    assert!(first < 10, "{first} is the first one that the new server hears of");
    expect_all(&server, first + 1, 40);
}

/// Readings 1, 2, 3, ... for a sensor on standard input, so that a missing one is seen.
struct Lights {
    first: u32,
}

impl Lights {
    fn new() -> Self {
        Self::from(1)
    }

    fn from(first: u32) -> Self {
        Self { first }
    }

    fn device(&self, room: &Room, port: u16, options: &[&str]) -> Program {
        let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
        let first = self.first;
        // It ends when the device does.
        std::thread::spawn(move || {
            for light in first..first + 10_000 {
                if writeln!(writer, "{light}").is_err() {
                    return;
                }
            }
        });
        let log = std::fs::File::create(room.path("device")).expect("a file can be made");
        Program::start(
            nightlight("nightlight-device")
                .args(["--headless", "--sensor", "stdin", "--id", &room.id, "--keep-alive", "1s"])
                .args(["--broker", &format!("mqtt://127.0.0.1:{port}")])
                .args(options)
                .stdin(Stdio::from(reader))
                .stderr(log),
        )
    }
}

/// The next reading that a server prints.
fn reading(server: &Program) -> u32 {
    let prefix = "Message received: {'light': ";
    let line = server.line_where(|line| line.starts_with(prefix));
    number(line.strip_prefix(prefix).expect("it was looked for"))
}

/// The reading that a device says it sends.
fn sent(line: &str) -> Option<u32> {
    line.strip_prefix("Sending telemetry  {\"light\": ").map(number)
}

fn number(text: &str) -> u32 {
    text.trim_end_matches('}').parse().expect("a number")
}

/// Reads until the last one. None is missing and they come in order, apart from what QoS 1 may say
/// again, in its order, too.
fn expect_all(server: &Program, first: u32, last: u32) {
    let (mut expected, mut previous) = (first, first - 1);
    while expected <= last {
        let next = reading(server);
        let is_in_order = next == previous + 1 || (next <= previous && next + 20 > previous);
        assert!(is_in_order, "{next} after {previous}");
        previous = next;
        expected = expected.max(next + 1);
    }
}
