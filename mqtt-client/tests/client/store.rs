//! Messages that outlive the program.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mqtt_broker_core::Broker;
use mqtt_client::{
    Change, Client, ConfigError, ConnectionError, Delivered, FileStore, Limit, Publish,
    PublishError, QoS, Snapshot, Store, WhenFull,
};
use mqtt_codec::TopicFilter;

use crate::support::{QUICK, SOON, listen, scratch, scripted};

// MQTT-2.3.1-3, MQTT-4.1.0-1, MQTT-4.4.0-1
#[tokio::test]
async fn a_session_is_taken_up_by_the_next_run_of_the_program() {
    let path = scratch("store").join("messages");
    let (builder, mut listener) = scripted();
    let (builder, mut all) = builder.subscription("#", QoS::ExactlyOnce);
    let client = builder.store(FileStore::open(&path).unwrap()).inflight(3).start().unwrap();
    let mut peer = listener.welcome(false).await;
    peer.grant("#", 1, QoS::ExactlyOnce).await;
    client.connected().await.unwrap();
    for (payload, qos) in [
        ("1", QoS::AtLeastOnce),
        ("2", QoS::ExactlyOnce),
        ("3", QoS::ExactlyOnce),
        ("4", QoS::AtLeastOnce),
    ] {
        drop(client.publish(Publish::new("t", payload).qos(qos)).await.unwrap());
    }
    peer.expect(b"\x32\x06\0\x01t\0\x021\x34\x06\0\x01t\0\x032\x34\x06\0\x01t\0\x043").await;
    peer.send(b"\x50\x02\0\x03").await;
    peer.expect(b"\x62\x02\0\x03").await;
    peer.send(b"\x34\x05\0\x01t\0\x09").await;
    all.recv().await.unwrap();
    peer.expect(b"\x50\x02\0\x09").await;
    // Two at a time would spoil it.
    assert!(FileStore::open(&path).is_err());
    client.abort().await;
    drop(all);

    let (builder, mut listener) = scripted();
    let client = builder.store(FileStore::open(&path).unwrap()).start().unwrap();
    let mut peer = listener.welcome(true).await;
    peer.expect(b"\x3a\x06\0\x01t\0\x021\x62\x02\0\x03\x3c\x06\0\x01t\0\x043").await;
    peer.expect(b"\x32\x06\0\x01t\0\x054").await;
    // Received before, so not delivered again; there is no stream to see it, but a counter.
    peer.send(b"\x3c\x05\0\x01t\0\x09\x62\x02\0\x09").await;
    peer.expect(b"\x70\x02\0\x09").await;
    assert_eq!(client.stats().counters.duplicates, 1);
    peer.send(b"\x40\x02\0\x02\x70\x02\0\x03\x50\x02\0\x04").await;
    client.abort().await;

    let error = Client::builder("mqtt://h")
        .client_id("another")
        .store(FileStore::open(&path).unwrap())
        .start()
        .unwrap_err();
    assert!(matches!(&error, ConfigError::Store(why) if why.contains("client id")), "{error}");
}

/// A disk that is full after some writes.
struct Full(usize);

impl Store for Full {
    fn load(&mut self, _: &str) -> std::io::Result<Snapshot> {
        Ok(Snapshot::default())
    }

    fn write(&mut self, _: &[Change]) -> std::io::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

// MQTT-4.8.0-2
#[tokio::test]
async fn a_full_disk_refuses_the_message_and_ends_the_client() {
    let (builder, _listener) = scripted();
    let client = builder.store(Full(1)).start().unwrap();
    let message = Publish::new("t", "").qos(QoS::AtLeastOnce);
    drop(client.publish(message.clone()).await.unwrap());
    let error = client.publish(message).await.unwrap_err();
    assert!(matches!(error, PublishError::Store(_)), "{error}");
    // At once, and not when a step of connecting has taken too long.
    let closed = tokio::time::timeout(Duration::from_secs(2), client.connected()).await;
    let closed = closed.expect("it goes on").unwrap_err();
    assert!(matches!(closed.cause, Some(ConnectionError::Store(_))), "{closed:?}");
}

/// Kills of a usual test run; `MQTT_KILL_ROUNDS` says otherwise.
const ROUNDS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_when_the_program_is_killed() {
    let rounds = std::env::var("MQTT_KILL_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let path = scratch("store-kill").join("messages");
    let broker = Broker::new(mqtt_broker_core::Config::default(), ());
    let mut observer = broker.subscribe(TopicFilter::new("t").unwrap(), QoS::ExactlyOnce);
    let port = listen(&broker).await;
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let message = observer.recv().await;
            let text = String::from_utf8(message.payload().to_vec()).unwrap();
            let _ = sender.send((text, message.qos()));
        }
    });
    let mut accepted = Vec::new();
    for round in 0..=rounds {
        let mut child = child(&path, port, round, round == rounds);
        let (lines, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        if round < rounds {
            let before = accepted.len();
            while accepted.len() == before {
                let line = heard.recv().await.expect("the child accepts nothing");
                accepted.extend(accepted_in(&line));
            }
            tokio::time::sleep(Duration::from_millis(5 + (round as u64 * 7) % 40)).await;
            child.kill().unwrap();
        }
        while let Some(line) = heard.recv().await {
            assert!(!line.contains("left behind"), "{line}");
            accepted.extend(accepted_in(&line));
        }
        child.wait().unwrap();
    }
    let mut times: HashMap<String, (usize, QoS)> = HashMap::new();
    tokio::time::sleep(Duration::from_millis(200)).await;
    while let Ok((text, qos)) = seen.try_recv() {
        times.entry(text).or_insert((0, qos)).0 += 1;
    }
    let lost = accepted.iter().filter(|text| !times.contains_key(*text)).count();
    let twice = times.values().filter(|(n, qos)| *n > 1 && *qos == QoS::ExactlyOnce).count();
    println!(
        "{rounds} kills, {} messages accepted, {lost} lost, {twice} of QoS 2 seen twice",
        accepted.len()
    );
    assert!(accepted.len() >= rounds);
    assert_eq!((lost, twice), (0, 0));
}

fn accepted_in(line: &str) -> Option<String> {
    // The first line of a test's output begins with its name.
    line.split_once("accepted ").map(|(_, text)| text.to_owned())
}

/// This program again, with one test that is the child.
fn child(path: &Path, port: u16, round: usize, last: bool) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::the_program_that_is_killed", "--exact", "--nocapture"])
        .env("MQTT_KILLED", format!("{port} {round} {last} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn the_program_that_is_killed() {
    let Ok(said) = std::env::var("MQTT_KILLED") else { return };
    let [port, round, last, path] = said.splitn(4, ' ').collect::<Vec<_>>()[..] else {
        panic!("{said}");
    };
    let builder = Client::builder(&format!("mqtt://127.0.0.1:{port}")).client_id("killed");
    let limit = Limit { messages: 50, bytes: 1 << 20, when_full: WhenFull::Wait };
    let builder = builder.reconnect(QUICK).queue_limit(limit);
    let client = builder.store(FileStore::open(path).unwrap()).start().unwrap();
    if last == "true" {
        let left = client.shutdown(SOON).await;
        if !left.is_empty() {
            println!("left behind: {left:?}");
        }
        return;
    }
    let publisher = |task: usize| {
        let client = &client;
        async move {
            for number in 0.. {
                let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                let text = format!("{round}/{task}/{number}");
                let message = Publish::new("t", text.clone()).qos(qos);
                let receipt = client.publish(message).await.unwrap();
                println!("accepted {text}");
                if number % 10 == 9 {
                    assert!(matches!(receipt.await, Ok(Delivered::Completed)));
                }
            }
        }
    };
    // Several at once share what is written to the disk at a time.
    futures::future::join_all((0..8).map(publisher)).await;
}
