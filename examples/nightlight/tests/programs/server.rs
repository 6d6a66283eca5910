//! What the server does beyond the lesson.

use mqtt_client::{Client, ConnectReturnCode, Publish, QoS, Subscription};
use tokio::time::timeout;

use crate::broker_process::BrokerProcess;
use crate::program::{DEADLINE, Program};
use crate::room::{Room, nightlight};

struct Device {
    client: Client,
    id: String,
    commands: Subscription,
}

impl Device {
    /// A device that says what a test wants.
    async fn connect(broker: &BrokerProcess, id: &str) -> Self {
        let url = format!("mqtt://127.0.0.1:{}", broker.port());
        let client = Client::builder(&url).connect().await.expect("it connects");
        let commands = client.subscribe(&format!("{id}/commands"), QoS::AtLeastOnce).await;
        Self { client, id: id.to_owned(), commands: commands.expect("granted") }
    }

    async fn send(&self, kind: &str, payload: &[u8]) {
        let topic = format!("{}/{kind}", self.id);
        let message = Publish::new(topic, payload.to_vec()).qos(QoS::AtLeastOnce);
        self.client.publish(message).await.expect("accepted").await.expect("delivered");
    }

    async fn light(&self, light: u32) {
        self.send("telemetry", format!("{{\"light\":{light}}}").as_bytes()).await;
    }

    async fn command(&mut self) -> String {
        let command = timeout(DEADLINE, self.commands.recv()).await.expect("in time");
        let command = command.expect("the client goes on");
        String::from_utf8(command.payload().to_vec()).expect("text")
    }
}

const ON: &str = r#"{"led_on": true}"#;
const OFF: &str = r#"{"led_on": false}"#;

fn ready(server: &Program) {
    server.line_where(|line| line == "MQTT connected!");
}

#[tokio::test]
async fn bad_telemetry_is_told_with_topic_and_bytes_and_the_server_goes_on() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &[]);
    ready(&server);
    let mut device = Device::connect(&broker, &room.id).await;
    device.send("telemetry", b"bright\xff").await;
    device.send("telemetry", br#"{"light": "dim"}"#).await;
    device.light(5).await;
    assert_eq!(device.command().await, ON);
    room.expect_complaint("server", &format!("{}/telemetry: no JSON", room.id));
    room.expect_complaint("server", r#"in "bright\xff""#);
    room.expect_complaint("server", r#"no "light" with a number in "{\"light\": \"dim\"}""#);
}

#[tokio::test]
async fn on_change_commands_what_is_new_and_a_device_that_comes_back_anew() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &["--on-change"]);
    ready(&server);
    let mut device = Device::connect(&broker, &room.id).await;
    for light in [900, 800, 100, 50, 500] {
        device.light(light).await;
    }
    for command in [OFF, ON, OFF] {
        assert_eq!(device.command().await, command);
    }
    device.send("status", br#"{"online": true}"#).await;
    device.light(600).await;
    assert_eq!(device.command().await, OFF);
}

#[tokio::test]
async fn retained_commands_reach_a_device_that_comes_later() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &["--retain-commands"]);
    ready(&server);
    let mut device = Device::connect(&broker, &room.id).await;
    device.light(1).await;
    assert_eq!(device.command().await, ON);
    let mut later = Device::connect(&broker, &room.id).await;
    assert_eq!(later.command().await, ON);
}

#[tokio::test]
async fn a_stadium_has_one_decision_for_all() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let options = ["--fleet", "--aggregate", "median", "--window", "1500ms"];
    let server = room.server(broker.port(), &options);
    ready(&server);
    let mut devices = Vec::new();
    for stand in ["north", "east", "south"] {
        devices.push(Device::connect(&broker, &format!("{}-{stand}", room.id)).await);
    }
    // All in one window: there may be the end of one in between, so it is tried again.
    for _ in 0..5 {
        for (device, light) in devices.iter().zip([20, 200, 900]) {
            device.light(light).await;
        }
    }
    for device in &mut devices {
        let on = timeout(DEADLINE, async { while device.command().await != ON {} }).await;
        assert!(on.is_ok(), "{} is not switched on", device.id);
    }
}

#[test]
fn a_server_that_the_broker_refuses_ends_with_an_error() {
    let refusing = BrokerProcess::start_with_config("allow_anonymous false");
    let room = Room::new();
    let server = room.server(refusing.port(), &[]);
    let (status, _) = server.finish();
    assert_eq!(status.code(), Some(1));
    let reason = ConnectReturnCode::NotAuthorized.to_string();
    room.expect_complaint("server", &format!("refused the connection: {reason}"));
}

#[test]
fn help_tells_what_each_program_takes() {
    for (program, words) in [
        ("nightlight-device", ["--policy", "--store", "--on-change", "random:MIN:MAX", "500ms"]),
        ("nightlight-server", ["--fleet", "--aggregate", "--retain-commands", "--ids", "500ms"]),
    ] {
        let output = nightlight(program).arg("--help").output().expect("it starts");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success());
        words.iter().for_each(|word| assert!(text.contains(word), "{program}: {word} in {text}"));
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
    let wrong = [
        ("nightlight-device", vec!["--id", "a/#"]),
        ("nightlight-device", vec!["--id", "a", "--interval", "0s"]),
        ("nightlight-device", vec!["--id", "a", "--store", "/tmp"]),
        ("nightlight-device", vec!["--id", "a", "--broker", "http://x"]),
        ("nightlight-device", vec!["--id", "a", "--sensor", "lux"]),
        ("nightlight-server", vec![]),
        ("nightlight-server", vec!["--id", "a", "--fleet"]),
        ("nightlight-server", vec!["--id", "a", "--window", "5s"]),
    ];
    for (program, arguments) in wrong {
        let mut command = nightlight(program);
        let output = command.args(&arguments).output().expect("it starts");
        assert!(!output.status.success() && !output.stderr.is_empty(), "{program} {arguments:?}");
    }
}
