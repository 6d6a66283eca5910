//! The broker as a process that is killed and that is stopped: ours, Mosquitto, and rumqttd if it is
//! installed (`cargo install rumqttd --version 0.20.0`, or its path in `MQTT_RUMQTTD`).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{Client, ConnectionError, Publish, QoS, Reconnect, Status, Subscription};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::support::{SOON, free_port, scratch, serve, wait_for_port};

const QUICK: Reconnect = Reconnect {
    min: Duration::from_millis(10),
    max: Duration::from_millis(100),
    stable: Duration::from_secs(10),
    give_up_after: None,
    retry_refused: true,
};

/// A broker in a process of its own.
pub(crate) struct Process {
    name: &'static str,
    command: Command,
    child: Child,
    port: u16,
}

impl Process {
    /// Every broker that there is on this machine.
    fn all(test: &str) -> Vec<Self> {
        let folder = scratch(test);
        let brokers = [
            Self::start("ours", ours),
            Self::start("mosquitto", |port| mosquitto(&folder, port, "")),
            Self::start("rumqttd", |port| rumqttd(&folder, port)),
        ];
        brokers.into_iter().flatten().collect()
    }

    /// Mosquitto with more lines in its configuration.
    #[cfg(all(feature = "tls", feature = "websocket"))]
    pub(crate) fn mosquitto(folder: &Path, config: &str) -> Option<Self> {
        Self::start("mosquitto", |port| mosquitto(folder, port, config))
    }

    /// Starts one, or says why it is left out. With `MQTT_INTEROP=required` it has to be there.
    fn start(name: &'static str, command: impl FnOnce(u16) -> Command) -> Option<Self> {
        let port = free_port();
        let mut command = command(port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => {
                wait_for_port(port);
                Some(Self { name, command, child, port })
            }
            Err(error) => {
                let required = std::env::var("MQTT_INTEROP").as_deref() == Ok("required");
                assert!(!required || name == "rumqttd", "{name}: {error}");
                eprintln!("skipped: {name} cannot be started ({error})");
                None
            }
        }
    }

    fn builder(&self, id: &str) -> mqtt_client::Builder {
        let builder = Client::builder(&format!("mqtt://127.0.0.1:{}", self.port));
        builder.client_id(id).reconnect(QUICK).persistent_session()
    }

    /// `kill -9`, and a new one in its place.
    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = self.command.spawn().unwrap();
        wait_for_port(self.port);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program again, with one test that is the broker.
fn ours(port: u16) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["processes::the_broker_that_is_killed", "--exact"]);
    command.env("MQTT_BROKER_PORT", port.to_string());
    command
}

#[tokio::test]
async fn the_broker_that_is_killed() {
    let Ok(port) = std::env::var("MQTT_BROKER_PORT") else { return };
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).await.unwrap();
    serve(listener, Broker::new(Config::default(), ())).await;
}

fn mosquitto(folder: &Path, port: u16, config: &str) -> Command {
    let path = folder.join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n{config}");
    std::fs::write(&path, text).unwrap();
    // Debian installs it where only root's search path goes.
    let debian = "/usr/sbin/mosquitto";
    let program = if Path::new(debian).exists() { debian } else { "mosquitto" };
    let mut command = Command::new(program);
    command.arg("-c").arg(path);
    command
}

fn rumqttd(folder: &Path, port: u16) -> Command {
    let path = folder.join("rumqttd.toml");
    let text = format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 1048576\nmax_segment_count = 10\n[v4.1]\nname = \"v4\"\n\
         listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n[v4.1.connections]\n\
         connection_timeout_ms = 60000\nmax_payload_size = 20480\nmax_inflight_count = 100\n\
         dynamic_filters = true\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(std::env::var("MQTT_RUMQTTD").unwrap_or("rumqttd".to_owned()));
    command.arg("-q").arg("-c").arg(path);
    command
}

async fn next(stream: &mut Subscription) -> String {
    let message = timeout(SOON, stream.recv()).await.expect("nothing comes").unwrap();
    String::from_utf8(message.payload().to_vec()).unwrap()
}

// MQTT-7.0.0-2, MQTT-7.1.2-1
#[tokio::test]
async fn messages_of_every_qos_come_through_every_broker() {
    for process in Process::all("qos") {
        let client = process.builder("all").connect().await.unwrap();
        let mut all = client.subscribe("a/+", QoS::ExactlyOnce).await.unwrap();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for number in 0..100 {
                let message = Publish::new("a/b", number.to_string()).qos(qos);
                drop(client.publish(message).await.unwrap());
            }
            for number in 0..100 {
                assert_eq!(next(&mut all).await, number.to_string(), "{} {qos:?}", process.name);
            }
        }
        assert!(client.shutdown(SOON).await.is_empty(), "{}", process.name);
    }
}

// MQTT-3.1.2-4, MQTT-4.1.0-1
#[tokio::test]
async fn every_receipt_resolves_when_the_broker_is_killed_and_comes_back() {
    for mut process in Process::all("kill") {
        let receiver = process.builder("receiver").connect().await.unwrap();
        let mut seen = receiver.subscribe("t", QoS::AtLeastOnce).await.unwrap();
        let sender = process.builder("sender").resend_lost().connect().await.unwrap();
        let mut receipts = Vec::new();
        for round in 0..3 {
            for number in 0..50 {
                let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                let message = Publish::new("t", format!("{round}/{number}")).qos(qos);
                receipts.push(sender.publish(message).await.unwrap());
            }
            process.restart();
        }
        for receipt in receipts {
            timeout(SOON, receipt).await.expect("a receipt hangs").unwrap();
        }
        // What was acknowledged while the receiver was away, the broker forgot with its death.
        receiver.connected().await.unwrap();
        let last = Publish::new("t", "last").qos(QoS::AtLeastOnce);
        sender.publish(last).await.unwrap().await.unwrap();
        while next(&mut seen).await != "last" {}
        assert!(sender.stats().counters.connections >= 2, "{}", process.name);
    }
}

// MQTT-4.3.2-1, MQTT-4.3.3-1
#[tokio::test]
async fn a_broker_that_is_stopped_is_given_up_and_nothing_is_lost_when_it_goes_on() {
    let stopped = Process::all("stop").into_iter().map(stop_and_go_on);
    futures::future::join_all(stopped).await;
}

async fn stop_and_go_on(process: Process) {
    let name = process.name;
    let alive = |builder: mqtt_client::Builder| {
        builder.keep_alive(Duration::from_secs(2), Duration::from_secs(1))
    };
    let receiver = alive(process.builder("receiver")).connect().await.unwrap();
    let mut seen = receiver.subscribe("t", QoS::ExactlyOnce).await.unwrap();
    let mut timeouts = mqtt_client::Timeouts::default();
    timeouts.reply = Duration::from_secs(1);
    let sender = alive(process.builder("sender")).timeouts(timeouts).connect().await.unwrap();
    let mut status = sender.status();
    let mut receipts = Vec::new();
    for number in 0..60 {
        if number == 20 {
            process.signal(Signal::SIGSTOP);
        }
        let message = Publish::new("t", number.to_string()).qos(QoS::ExactlyOnce);
        receipts.push(sender.publish(message).await.unwrap());
    }
    let waiting = status.wait_for(|status| matches!(status, Status::Waiting { .. }));
    let waiting = timeout(SOON, waiting).await.expect("it is not noticed").unwrap().clone();
    let Status::Waiting { cause, .. } = waiting else { unreachable!("it was waited for") };
    assert!(matches!(cause, ConnectionError::Timeout(_)), "{name}: {cause}");
    // Attempts that nobody answers, too.
    sleep(Duration::from_millis(1500)).await;
    process.signal(Signal::SIGCONT);
    for (number, receipt) in receipts.into_iter().enumerate() {
        let outcome = timeout(SOON, receipt).await;
        outcome
            .expect("a receipt hangs")
            .unwrap_or_else(|error| panic!("{name} {number}: {error}"));
    }
    for number in 0..60 {
        assert_eq!(next(&mut seen).await, number.to_string(), "{name}");
    }
    assert!(seen.try_recv().is_none(), "{name}");
    assert!(sender.stats().counters.connections >= 2, "{name}");
}
