//! Programs as the lesson teaches them and ours, in every mix.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use mqtt_client::{Client, QoS};

use crate::broker_process::BrokerProcess;
use crate::foreign::{installed, required};
use crate::program::{DEADLINE, Program};
use crate::room::{Room, lesson, restart};

#[test]
fn their_device_and_their_server_work_at_our_broker() {
    let Some(python) = python() else { return };
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = their(&python, "server.py", &room, &broker);
    let device = their(&python, "device.py", &room, &broker);
    night_falls(&room, &device, &server);
}

#[test]
fn their_device_works_with_our_server() {
    let Some(python) = python() else { return };
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &[]);
    expect(&server, "MQTT connected!");
    let device = their(&python, "device.py", &room, &broker);
    night_falls(&room, &device, &server);
}

#[test]
fn our_device_works_with_their_server() {
    let Some(python) = python() else { return };
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = their(&python, "server.py", &room, &broker);
    let device = room.device(broker.port(), &[]);
    expect(&device, "MQTT connected!");
    night_falls(&room, &device, &server);
}

#[test]
fn our_device_works_with_our_server() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &[]);
    expect(&server, "MQTT connected!");
    let device = room.device(broker.port(), &[]);
    expect(&device, "MQTT connected!");
    night_falls(&room, &device, &server);
}

/// The LED follows the light, around the threshold exactly, and each program says what the lesson's
/// says.
fn night_falls(room: &Room, device: &Program, server: &Program) {
    for (light, led_on, python) in
        [(100, true, "True"), (800, false, "False"), (299, true, "True"), (300, false, "False")]
    {
        room.set_light(light);
        room.expect_led(led_on);
        expect(device, &format!("Sending telemetry  {{\"light\": {light}}}"));
        expect(device, &format!("Message received: {{'led_on': {python}}}"));
        expect(server, &format!("Message received: {{'light': {light}}}"));
        expect(server, &format!("Sending message: {{'led_on': {python}}}"));
    }
}

fn expect(program: &Program, line: &str) {
    program.line_where(|found| found == line);
}

/// What goes over the broker is what the lesson says, topic for topic.
#[tokio::test]
async fn topics_and_payloads_are_those_of_the_lesson() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let watcher = Client::builder(&url).connect().await.expect("it connects");
    let mut all = watcher.subscribe("#", QoS::AtLeastOnce).await.expect("granted");
    room.set_light(299);
    let _server = room.server(broker.port(), &[]);
    let device = room.device(broker.port(), &[]);
    room.expect_led(true);
    let mut seen = Vec::new();
    let wanted = [
        (format!("{}/status", room.id), r#"{"online": true}"#),
        (format!("{}/telemetry", room.id), r#"{"light": 299}"#),
        (format!("{}/commands", room.id), r#"{"led_on": true}"#),
    ];
    for (topic, payload) in wanted {
        while !seen.contains(&(topic.clone(), payload.to_owned())) {
            let message = tokio::time::timeout(DEADLINE, all.recv()).await.expect("in time");
            let message = message.expect("the client goes on");
            let payload = String::from_utf8(message.payload().to_vec()).expect("text");
            seen.push((message.topic().to_string(), payload));
        }
    }
    drop(device);
    // Killed: the broker publishes the will, which is kept.
    let (topic, gone) = (format!("{}/status", room.id), r#"{"online": false}"#);
    loop {
        let message = tokio::time::timeout(DEADLINE, all.recv()).await.expect("in time");
        let message = message.expect("the client goes on");
        if message.topic().as_str() == topic && message.payload() == gone.as_bytes() {
            break;
        }
    }
}

/// The lesson's device subscribes once. Its library connects again by itself, but its session was a
/// clean one: it goes on sending and hears nothing any more. Ours hears again.
#[test]
fn after_a_reconnect_their_device_is_deaf_and_ours_is_not() {
    let Some(python) = python() else { return };
    let broker = BrokerProcess::start();
    let (port, theirs, ours) = (broker.port(), Room::new(), Room::new());
    let ids = format!("{},{}", theirs.id, ours.id);
    let server = ours.server(port, &["--ids", &ids]);
    expect(&server, "MQTT connected!");
    let _our_device = ours.device(port, &["--offline-after", "1h"]);
    let their_device = their(&python, "device.py", &theirs, &broker);
    for room in [&theirs, &ours] {
        room.set_light(100);
        room.expect_led(true);
    }
    broker.end_with("KILL");
    let _broker = restart(port);
    expect(&server, "MQTT connected!");
    for room in [&theirs, &ours] {
        room.set_light(800);
    }
    ours.expect_led(false);
    // Their telemetry arrives, and is answered many times.
    let answer = format!("[{}] Sending message: {{'led_on': False}}", theirs.id);
    (0..5).for_each(|_| expect(&server, &answer));
    expect(&their_device, "Sending telemetry  {\"light\": 800}");
    assert_eq!(theirs.led(), Some(true), "this is the mistake that ours does not make");
}

/// The interpreter with paho-mqtt 1.6.1.
fn python() -> Option<PathBuf> {
    let python = installed().join("paho-1/bin/python");
    required("paho-mqtt 1.6.1", python.is_file().then_some(python))
}

/// A program as the lesson teaches it, once it is connected.
fn their(python: &PathBuf, script: &str, room: &Room, broker: &BrokerProcess) -> Program {
    let program = Program::start(
        Command::new(python)
            .arg("-u")
            .arg(lesson().join(script))
            .args(["127.0.0.1", &broker.port().to_string(), &room.id])
            .args([room.path("light"), room.path("led")])
            .stdin(Stdio::null()),
    );
    expect(&program, "MQTT connected!");
    program
}
