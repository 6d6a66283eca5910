//! The program of the README, as it stands and over a bad network.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mqtt_broker_core::{Broker, Config, Message};
use mqtt_client::{Client, Publish, QoS, Reconnect};
use mqtt_codec::TopicFilter;

use crate::proxy::{Mode, Proxy};
use crate::support::{QUICK, SOON, listen};

/// The lines of the README. Only the URL, the delay of a reconnect and the payloads are the test's.
async fn program(
    url: &str,
    quick: Reconnect,
    payloads: impl Iterator<Item = String>,
) -> Result<(), Box<dyn Error>> {
    let builder = Client::builder(url).client_id("hall").persistent_session();
    let client = builder.reconnect(quick).connect().await?;
    let mut lights = client.subscribe("lights/+", QoS::AtLeastOnce).await?;
    for on in payloads {
        client.publish(Publish::new("lights/hall", on).qos(QoS::ExactlyOnce)).await?.await?;
    }
    while let Some(message) = lights.recv().await {
        println!("{}: {}", message.topic(), String::from_utf8_lossy(message.payload()));
    }
    Ok(())
}

#[test]
fn the_program_is_that_of_the_readme() {
    let here = include_str!("ten_lines.rs").replace("    for on in payloads {\n", "");
    let readmes = [include_str!("../../../README.md"), include_str!("../../src/lib.rs")];
    for readme in readmes.map(|readme| readme.replace("//! ", "")) {
        let (_, program) = readme.split_once("async fn main() -> ").unwrap();
        let (program, _) = program.split_once("```").unwrap();
        let lines: Vec<_> = program.lines().skip(1).map(str::trim).collect();
        assert!(lines.len() >= 9, "{lines:?}");
        let mut rest = here.as_str();
        for line in lines {
            let line = line
                .replace("\"mqtt://localhost\"", "url")
                .replace("builder.connect()", "builder.reconnect(quick).connect()")
                .replace("\"on\"", "on");
            let found = rest.find(&line).unwrap_or_else(|| panic!("{line} is not here"));
            rest = &rest[found + line.len()..];
        }
    }
}

/// Runs the program through a proxy that cuts it off `cuts` times, and gives the number of messages
/// that it published.
async fn run(cuts: usize, quick: Reconnect) -> usize {
    let broker = Broker::new(Config::default(), ());
    let mut observer = broker.subscribe(TopicFilter::new("lights/+").unwrap(), QoS::ExactlyOnce);
    let proxy = Proxy::start(listen(&broker).await).await;
    let (url, calm) = (proxy.url(), Arc::new(AtomicBool::new(false)));
    let published = Arc::new(AtomicUsize::new(0));
    let (is_calm, count) = (calm.clone(), published.clone());
    // One more is published after the last cut.
    let payloads = (0..).scan(false, move |is_last, number: usize| {
        let goes_on = !*is_last;
        *is_last = is_calm.load(Ordering::Relaxed);
        count.store(number, Ordering::Relaxed);
        goes_on.then(|| number.to_string())
    });
    let program = tokio::spawn(async move {
        program(&url, quick, payloads).await.map_err(|error| error.to_string())
    });
    // An error of the first attempt would be the program's: a wrong address, a wrong password.
    let first = number(&observer.recv().await);
    // Taken all the time: a receiver that does not read would hold the program back.
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let _ = sender.send(number(&observer.recv().await));
        }
    });
    let mut connections = 0;
    for cut in 0..cuts {
        connections = proxy.connected(connections).await;
        // Before the SUBACK, among the messages, anywhere.
        tokio::time::sleep(Duration::from_micros(cut as u64 * 7919 % 12_000)).await;
        proxy.cut(Mode::ENDS[cut % Mode::ENDS.len()]).await;
    }
    calm.store(true, Ordering::Relaxed);
    let mut seen = vec![first];
    let quiet = Duration::from_millis(500);
    while let Ok(Some(number)) = tokio::time::timeout(quiet, receiver.recv()).await {
        seen.push(number);
    }
    assert!(!program.is_finished(), "{:?}", program.await);
    program.abort();
    let published = published.load(Ordering::Relaxed);
    assert_eq!(seen, (0..published).collect::<Vec<_>>(), "each message once and in order");
    published
}

fn number(message: &Message) -> usize {
    std::str::from_utf8(message.payload()).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_program_publishes_and_is_seen() {
    let published = tokio::time::timeout(SOON, run(0, Reconnect::default())).await.unwrap();
    assert!(published >= 1);
}

// MQTT-4.3.3-1, MQTT-4.4.0-1
#[tokio::test]
async fn cut_off_a_hundred_times_the_program_loses_nothing_and_qos_2_comes_once() {
    let published = tokio::time::timeout(3 * SOON, run(100, QUICK)).await.expect("it hangs");
    println!("100 cuts, {published} messages of QoS 2, each seen once and in order");
    assert!(published > 100, "{published}");
}
