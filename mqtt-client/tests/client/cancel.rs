//! Any future of the client may be dropped at any of its awaits.
//!
//! `MQTT_CANCELS=5000` runs more programs than a usual test run, `MQTT_CANCEL=n` only one.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{AckMode, Client, Limit, Publish, QoS, Receipt, Subscription, WhenFull};
use mqtt_codec::TopicFilter;
use tokio::time::{sleep, timeout};

use crate::support::{QUICK, SOON, Wire};

/// Programs of a usual test run.
const PROGRAMS: u64 = 150;

/// Steps of a program.
const STEPS: usize = 80;

/// xorshift64*: a test needs no more.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Polls `work` at most `polls` times, each time that it asks for it, and drops it while the others
/// are in the middle of what it began.
async fn dropped_after<F: Future>(polls: usize, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut left = polls;
    let polled = std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    // Some futures wait for what never comes.
    let output = timeout(Duration::from_millis(20), polled).await.ok().flatten();
    for _ in 0..polls * 3 % 7 {
        tokio::task::yield_now().await;
    }
    output
}

/// What a program has done, and what must come of it.
#[derive(Default)]
struct Ledger {
    /// Accepted for certain, with QoS 1 or 2; and those whose publish was dropped.
    accepted: BTreeMap<usize, QoS>,
    given_up: BTreeMap<usize, QoS>,
    receipts: Vec<(usize, Receipt)>,
    numbers: usize,
}

impl Ledger {
    fn message(&mut self, dice: &mut Dice) -> (usize, QoS, Publish) {
        self.numbers += 1;
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][dice.below(2)];
        (self.numbers, qos, Publish::new("t", self.numbers.to_string()).qos(qos))
    }
}

async fn program(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let broker = Broker::new(Config::default(), ());
    let mut observer = broker.subscribe(TopicFilter::new("t").unwrap(), QoS::ExactlyOnce);
    let wire = Wire::new(&broker);
    let connecting = wire.builder("early").connect();
    drop(dropped_after(dice.below(4), connecting).await);
    let limit = Limit { messages: 3, bytes: 1 << 20, when_full: WhenFull::Wait };
    let builder = wire.builder("c").persistent_session().reconnect(QUICK).queue_limit(limit);
    let (builder, mut echo) = builder.inflight(2).subscription("t", QoS::ExactlyOnce);
    let client = builder.start().unwrap();
    let mut ledger = Ledger::default();
    let mut echoed = Vec::new();
    let mut streams: Vec<Subscription> = Vec::new();
    for _ in 0..STEPS {
        let polls = dice.below(5);
        match dice.below(14) {
            0..4 => {
                let (number, qos, message) = ledger.message(&mut dice);
                match dropped_after(polls, client.publish(message)).await {
                    Some(receipt) => {
                        ledger.accepted.insert(number, qos);
                        ledger.receipts.push((number, receipt.unwrap()));
                    }
                    None => drop(ledger.given_up.insert(number, qos)),
                }
            }
            4 if !ledger.receipts.is_empty() => {
                let at = dice.below(ledger.receipts.len());
                let outcome = dropped_after(polls, &mut ledger.receipts[at].1).await;
                if let Some(outcome) = outcome {
                    outcome.unwrap();
                    drop(ledger.receipts.swap_remove(at));
                }
            }
            5 if !ledger.receipts.is_empty() => drop(ledger.receipts.pop()),
            6 | 7 => {
                let message = dropped_after(polls, echo.recv()).await.flatten();
                echoed.extend(message.map(|message| number(message.payload())));
            }
            8 => {
                let filter = format!("s/{}", dice.below(3));
                let subscribing = client.subscribe(&filter, QoS::AtLeastOnce);
                streams.extend(dropped_after(polls, subscribing).await.map(Result::unwrap));
            }
            9 => {
                let filters = [("s/0", QoS::AtMostOnce), ("s/+", QoS::AtLeastOnce)];
                let subscribing = client.subscribe_all(filters, AckMode::Manual);
                streams.extend(dropped_after(polls, subscribing).await.map(Result::unwrap));
            }
            10 if !streams.is_empty() => {
                let stream = streams.swap_remove(dice.below(streams.len()));
                dropped_after(polls.max(1), stream.unsubscribe()).await;
            }
            11 => {
                let _ = dropped_after(polls, client.unsubscribe("s/9")).await;
            }
            12 => {
                let request = ("nobody", "?");
                let asking = client.request(request, "reply", Duration::from_millis(15));
                assert!(!matches!(dropped_after(polls, asking).await, Some(Ok(_))));
            }
            _ if dice.below(3) == 0 => wire.cut(),
            _ => drop(dropped_after(polls, client.connected()).await),
        }
        if dice.below(3) == 0 {
            sleep(Duration::from_millis(dice.below(4) as u64)).await;
        }
    }
    // What was accepted is delivered, whatever was dropped.
    for (number, receipt) in std::mem::take(&mut ledger.receipts) {
        let outcome = timeout(SOON, receipt).await;
        outcome.unwrap_or_else(|_| panic!("the receipt of {number} hangs")).unwrap();
    }
    let last = Publish::new("t", "0").qos(QoS::ExactlyOnce);
    timeout(SOON, client.publish(last)).await.expect("no room").unwrap().await.unwrap();
    while echoed.last() != Some(&0) {
        let message = timeout(SOON, echo.recv()).await.expect("the stream hangs").unwrap();
        echoed.push(number(message.payload()));
    }
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    while let Some(message) = observer.try_recv() {
        *times.entry(number(message.payload())).or_default() += 1;
    }
    for (number, qos) in &ledger.accepted {
        let times = times.remove(number).unwrap_or_default();
        assert!(times == 1 || (times > 1 && *qos == QoS::AtLeastOnce), "{number}: {times} times");
    }
    assert_eq!(times.remove(&0), Some(1));
    for (number, times) in times {
        // Dropped before it was accepted: nothing was. After that, it is not a drop.
        assert!(!ledger.given_up.contains_key(&number), "{number} was given up: {times} times");
    }
    // The stream, too, lost none, and of QoS 2 none came twice.
    for (number, qos) in &ledger.accepted {
        let times = echoed.iter().filter(|other| *other == number).count();
        assert!(times == 1 || (times > 1 && *qos == QoS::AtLeastOnce), "{number}: {times} times");
    }
    // What is left at the broker is what there are streams of.
    for stream in streams {
        timeout(SOON, stream.unsubscribe()).await.expect("it is not confirmed");
    }
    timeout(SOON, client.unsubscribe("reply")).await.unwrap().unwrap();
    timeout(SOON, client.connected()).await.unwrap().unwrap();
    let stale = stale_subscriptions(&wire, &client).await;
    assert!(stale.is_empty(), "{stale:?}");
    let counters = client.stats().counters;
    assert_eq!(counters.published, counters.ended());
    // It happens also when the futures are dropped, once they have begun.
    match dice.below(2) {
        0 => drop(dropped_after(1 + dice.below(2), client.shutdown(SOON)).await),
        _ => drop(dropped_after(1 + dice.below(2), client.abort()).await),
    }
    let closed = async { while echo.recv().await.is_some() {} };
    timeout(SOON, closed).await.expect("it does not end");
}

/// Topics on which the broker still sends to the client although no stream wants them.
async fn stale_subscriptions(wire: &Wire, client: &Client) -> Vec<String> {
    let publisher = wire.builder("publisher").connect().await.unwrap();
    let mut stale = Vec::new();
    for topic in ["s/0", "s/1", "s/2", "reply"] {
        let before = client.stats().counters.unrouted;
        publisher
            .publish(Publish::new(topic, "").qos(QoS::AtLeastOnce))
            .await
            .unwrap()
            .await
            .unwrap();
        sleep(Duration::from_millis(10)).await;
        if client.stats().counters.unrouted > before {
            stale.push(topic.to_owned());
        }
    }
    publisher.shutdown(SOON).await;
    stale
}

fn number(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

#[test]
fn dropping_any_future_at_any_await_changes_nothing() {
    let number_in = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let programs = match number_in("MQTT_CANCEL") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("MQTT_CANCELS").unwrap_or(PROGRAMS),
    };
    let (begin, count) = (std::time::Instant::now(), programs.end - programs.start);
    for seed in programs {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(program(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("run it again with MQTT_CANCEL={seed}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{count} programs that drop futures in {:.1?}", begin.elapsed());
}
