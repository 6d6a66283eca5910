//! The broker's process is killed while it works, again and again, and whatever it has acknowledged
//! has to be there afterwards.
//!
//! `DURABILITY_ROUNDS=1000 cargo test --release -p mqtt-examples --test durability -- --nocapture`
//! kills it more often than a normal run does, and `MQTT_TEST_BROKER=mosquitto` does the same to
//! Mosquitto with its own persistence, for comparison: its losses are printed and fail nothing.

#[path = "../interop/broker_process.rs"]
#[expect(dead_code, reason = "the interop tests use the rest")]
mod broker_process;
mod client;
#[path = "../interop/foreign.rs"]
#[expect(dead_code, reason = "the interop tests use the rest")]
mod foreign;
mod ledger;
#[path = "../interop/program.rs"]
#[expect(dead_code, reason = "the interop tests use the rest")]
mod program;
mod publisher;
mod subscriber;
#[path = "../interop/wire.rs"]
#[expect(dead_code, reason = "the interop tests use the rest")]
mod wire;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use broker_process::{BrokerProcess, broker_program, free_port, is_mosquitto};
use client::{Peer, converse};
use ledger::Ledger;
use program::scratch;
use publisher::Publisher;
use subscriber::Subscriber;

/// Kills in a normal run: about half a minute.
const ROUNDS: usize = 50;

/// After so many kills everybody reads what is left, and the books are closed.
const ROUNDS_PER_AUDIT: usize = 10;

/// How long an audit waits for a message that does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder with a configuration and the file of a store.
struct Place {
    folder: PathBuf,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let port = free_port();
        let folder = scratch().join(format!("durability-{port}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        let user = if is_mosquitto() { "user root\n" } else { "" };
        // Queues without limits: what is dropped by a limit is not what this is about.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n{user}persistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 100\n",
            folder.display()
        );
        let place = Self { folder, port };
        fs::write(place.folder.join("broker.conf"), text).expect("it can be written");
        place
    }

    fn start(&self) -> BrokerProcess {
        let config = self.folder.join("broker.conf").display().to_string();
        let arguments = ["-c".to_owned(), config];
        BrokerProcess::try_start(&broker_program(), self.port, &arguments).expect("it listens")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Clients {
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
}

impl Clients {
    fn new() -> Self {
        Self {
            publishers: (0..4).map(Publisher::new).collect(),
            // One is always there, one now and then, one comes for audits only.
            subscribers: ["always", "sometimes", "seldom"].map(Subscriber::new).into(),
        }
    }

    /// Makes the sessions, so that nothing is published that nobody has subscribed to.
    async fn begin(&mut self, broker: &BrokerProcess, ledger: &Ledger) {
        for subscriber in &mut self.subscribers {
            let start = Instant::now();
            while !subscriber.is_subscribed() {
                assert!(start.elapsed() < PATIENCE, "there is no SUBACK");
                let conversation = converse(broker.address(), subscriber, ledger);
                let _ = timeout(Duration::from_millis(300), conversation).await;
            }
        }
    }

    /// Everybody talks until the broker is gone.
    async fn talk(&mut self, broker: &BrokerProcess, ledger: &Ledger, round: usize) {
        let coming = [true, !round.is_multiple_of(3), false];
        let subscribers = self.subscribers.iter_mut().zip(coming).filter(|(_, comes)| *comes);
        let subscribers: Vec<_> = subscribers
            .map(|(subscriber, _)| converse(broker.address(), subscriber, ledger))
            .collect();
        let publishers: Vec<_> = self
            .publishers
            .iter_mut()
            .map(|publisher| converse(broker.address(), publisher, ledger))
            .collect();
        futures::join!(join_all(publishers), join_all(subscribers));
    }

    /// Everybody reads what is left. Publishers finish what they have begun and begin nothing.
    async fn audit(&mut self, broker: &BrokerProcess, ledger: &Ledger) {
        self.publishers.iter_mut().for_each(|publisher| publisher.is_resting = true);
        let all = self.publishers.iter_mut().map(|peer| peer as &mut dyn Peer);
        let all = all.chain(self.subscribers.iter_mut().map(|peer| peer as &mut dyn Peer));
        let talks = join_all(all.map(|peer| converse(broker.address(), peer, ledger)));
        let watch = async {
            let (mut seen, mut since) = (usize::MAX, Instant::now());
            while !ledger.is_settled() && since.elapsed() < PATIENCE {
                sleep(Duration::from_millis(50)).await;
                if seen != ledger.missing() {
                    (seen, since) = (ledger.missing(), Instant::now());
                }
            }
        };
        tokio::select! {
            _ = talks => panic!("the broker ended by itself"),
            () = watch => {}
        }
        self.publishers.iter_mut().for_each(|publisher| publisher.is_resting = false);
        ledger.close();
    }
}

async fn run(rounds: usize) -> Ledger {
    let place = Place::new();
    let ledger = Ledger::default();
    let mut clients = Clients::new();
    let mut broker = place.start();
    clients.begin(&broker, &ledger).await;
    for round in 1..=rounds {
        let id = broker.id().to_string();
        let kill = async {
            // Long enough for a reconnect and some hundred messages, short enough to be in the
            // middle of it.
            sleep(Duration::from_millis(fastrand::u64(40..300))).await;
            let status = std::process::Command::new("kill").args(["-s", "KILL", &id]).status();
            assert!(status.expect("kill is part of every Unix").success());
        };
        futures::join!(clients.talk(&broker, &ledger, round), kill);
        drop(broker);
        let start = Instant::now();
        broker = place.start();
        ledger.restarted(start.elapsed());
        ledger.check_retained(broker.address()).await;
        if round % ROUNDS_PER_AUDIT == 0 || round == rounds {
            clients.audit(&broker, &ledger).await;
        }
    }
    ledger
}

#[test]
fn what_is_acknowledged_survives_every_kill() {
    let rounds = std::env::var("DURABILITY_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ledger = runtime.expect("a runtime can be made").block_on(run(rounds));
    let name = if is_mosquitto() { "Mosquitto, `persistence true`" } else { "this broker" };
    println!("{}", ledger.table(name, rounds));
    assert!(ledger.acknowledged() > 10 * rounds, "there was something to lose");
    if !is_mosquitto() {
        assert!(ledger.is_clean());
    }
}
