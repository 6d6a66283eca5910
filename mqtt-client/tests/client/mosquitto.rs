//! The client against Mosquitto, when it is installed.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mqtt_client::{Client, Publish, QoS, Reconnect};

use crate::support::{SOON, free_port, scratch};

/// A Mosquitto of the test's own.
pub(crate) struct Mosquitto {
    process: Child,
    pub(crate) port: u16,
    config: PathBuf,
}

impl Mosquitto {
    /// Starts one, or says why the test is skipped. With `MQTT_INTEROP=required` it has to be there.
    pub(crate) fn start(folder: &Path, config: &str) -> Option<Self> {
        let port = free_port();
        let path = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n{config}");
        std::fs::write(&path, text).unwrap();
        let process = match spawn(&path) {
            Ok(process) => process,
            Err(error) if std::env::var("MQTT_INTEROP").as_deref() == Ok("required") => {
                panic!("mosquitto: {error}")
            }
            Err(error) => {
                eprintln!("skipped: mosquitto cannot be started ({error})");
                return None;
            }
        };
        let this = Self { process, port, config: path };
        wait_for_port(port);
        Some(this)
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// `kill -9`, and a new one in its place.
    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.config).unwrap();
        wait_for_port(self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(config: &Path) -> std::io::Result<Child> {
    let mut mosquitto = Command::new("mosquitto");
    mosquitto.arg("-c").arg(config).stdin(Stdio::null());
    let spawned = mosquitto.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match spawned {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Debian installs it where only root's search path goes.
            Command::new("/usr/sbin/mosquitto")
                .arg("-c")
                .arg(config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        }
        spawned => spawned,
    }
}

pub(crate) fn wait_for_port(port: u16) {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < SOON, "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

// MQTT-7.0.0-2, MQTT-7.1.2-1
#[tokio::test]
async fn messages_of_every_qos_come_through_mosquitto() {
    let folder = scratch("mosquitto-qos");
    let Some(mosquitto) = Mosquitto::start(&folder, "") else { return };
    let client = Client::builder(&mosquitto.url()).connect().await.unwrap();
    let mut all = client.subscribe("#", QoS::ExactlyOnce).await.unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for number in 0..100 {
            let message = Publish::new("a/b", format!("{number}")).qos(qos);
            drop(client.publish(message).await.unwrap());
        }
        for number in 0..100 {
            let message = tokio::time::timeout(SOON, all.recv()).await.unwrap().unwrap();
            assert_eq!(message.payload(), format!("{number}").as_bytes());
            assert_eq!(message.qos(), qos);
        }
    }
    assert!(client.shutdown(SOON).await.is_empty());
}

// MQTT-3.1.2-4, MQTT-4.1.0-1
#[tokio::test]
async fn nothing_is_lost_when_mosquitto_is_killed_and_comes_back() {
    let folder = scratch("mosquitto-kill");
    let Some(mut mosquitto) = Mosquitto::start(&folder, "") else { return };
    let quick = Reconnect {
        min: Duration::from_millis(10),
        max: Duration::from_millis(100),
        ..Reconnect::default()
    };
    let url = mosquitto.url();
    let builder = Client::builder(&url).client_id("receiver").reconnect(quick);
    let receiver = builder.connect().await.unwrap();
    let mut seen = receiver.subscribe("t", QoS::AtLeastOnce).await.unwrap();
    let builder = Client::builder(&url).client_id("sender").reconnect(quick).resend_lost();
    let sender = builder.persistent_session().connect().await.unwrap();
    let mut receipts = Vec::new();
    for round in 0..3 {
        for number in 0..50 {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let message = Publish::new("t", format!("{round}/{number}")).qos(qos);
            receipts.push(sender.publish(message).await.unwrap());
        }
        mosquitto.restart();
    }
    for receipt in receipts {
        tokio::time::timeout(SOON, receipt).await.expect("a receipt hangs").unwrap();
    }
    // What was acknowledged while the receiver was away, Mosquitto forgot with its death.
    receiver.connected().await.unwrap();
    let last = Publish::new("t", "last").qos(QoS::AtLeastOnce);
    sender.publish(last).await.unwrap().await.unwrap();
    let found = async {
        while let Some(message) = seen.recv().await {
            if message.payload() == b"last" {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, found).await.expect("the last message did not come");
}
