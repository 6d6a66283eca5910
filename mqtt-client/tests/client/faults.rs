//! Each fault of a network by itself, on real TCP: traffic goes on through it, and what comes of it
//! is what was promised.

use std::collections::HashMap;
use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{
    Client, ConnectionError, Counters, Delivered, Publish, QoS, Receipt, Status, Step,
};
use mqtt_codec::TopicFilter;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::proxy::{Mode, Proxy};
use crate::support::{QUICK, SOON, listen};

/// Publishes all the time while `fault` happens, and some more after it. Gives what ended the
/// connections, and the counters.
async fn through(fault: impl AsyncFnOnce(&mut Proxy)) -> (Vec<ConnectionError>, Counters) {
    let broker = Broker::new(Config::default(), ());
    let mut observer = broker.subscribe(TopicFilter::new("t/+").unwrap(), QoS::ExactlyOnce);
    let (sender, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let message = observer.recv().await;
            let number = std::str::from_utf8(message.payload()).unwrap().parse::<usize>().unwrap();
            let _ = sender.send((message.qos(), number));
        }
    });
    let mut proxy = Proxy::start(listen(&broker).await).await;
    let builder = Client::builder(&proxy.url()).client_id("faults").persistent_session();
    let builder = builder.keep_alive(Duration::from_secs(1), Duration::from_millis(600));
    let client = builder.reconnect(QUICK).connect().await.unwrap();
    let (mut status, (causes, mut heard)) = (client.status(), mpsc::unbounded_channel());
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            if let Status::Waiting { cause, .. } = &*status.borrow_and_update() {
                let _ = causes.send(cause.clone());
            }
        }
    });
    let mut receipts = Vec::new();
    let publish = async |receipts: &mut Vec<(QoS, Receipt)>| {
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][receipts.len() % 2];
        let topic = format!("t/{}", u8::from(qos));
        let message = Publish::new(topic, receipts.len().to_string()).qos(qos);
        receipts.push((qos, client.publish(message).await.unwrap()));
    };
    let mut fault = Box::pin(fault(&mut proxy));
    loop {
        publish(&mut receipts).await;
        if timeout(Duration::from_millis(1), &mut fault).await.is_ok() {
            break;
        }
    }
    drop(fault);
    for _ in 0..10 {
        publish(&mut receipts).await;
    }
    let published: Vec<QoS> = receipts.iter().map(|(qos, _)| *qos).collect();
    for (qos, receipt) in receipts {
        let delivered = timeout(SOON, receipt).await.expect("a receipt hangs").unwrap();
        let expected =
            if qos == QoS::AtLeastOnce { Delivered::Acknowledged } else { Delivered::Completed };
        assert_eq!(delivered, expected);
    }
    client.connected().await.unwrap();
    let counters = client.stats().counters;
    assert_eq!(counters.published, counters.ended());
    let mut times: HashMap<usize, usize> = HashMap::new();
    let mut last = [0, 0, 0];
    while let Ok(Some((qos, number))) = timeout(Duration::from_millis(100), seen.recv()).await {
        let times = times.entry(number).or_default();
        *times += 1;
        if *times == 1 {
            let last = &mut last[usize::from(u8::from(qos))];
            assert!(*last <= number, "{number} came after {last}");
            *last = number;
        }
    }
    for (number, qos) in published.into_iter().enumerate() {
        let times = times.get(&number).copied().unwrap_or_default();
        assert!(times == 1 || (times > 1 && qos == QoS::AtLeastOnce), "{number}: {times} times");
    }
    let causes = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    (causes, counters)
}

/// A fault that a client has to notice and get over.
async fn noticed(mode: Mode) -> ConnectionError {
    let (causes, counters) = through(async |proxy| {
        sleep(Duration::from_millis(50)).await;
        let before = proxy.connected(0).await;
        proxy.set(mode);
        // New connections suffer too until it is over.
        sleep(Duration::from_millis(100)).await;
        match mode {
            // Nobody is told: only the keep alive tells.
            Mode::StopReading | Mode::StopForwarding => {
                sleep(Duration::from_millis(1800)).await;
                proxy.cut(Mode::Reset).await;
            }
            _ => proxy.set(Mode::Carry),
        }
        proxy.connected(before).await;
        sleep(Duration::from_millis(50)).await;
    })
    .await;
    assert!(counters.connections >= 2, "{counters:?}");
    causes.into_iter().next().expect("it was noticed")
}

/// Whether the transport ended, in whatever way a client in the middle of its traffic sees that.
fn is_end(cause: &ConnectionError) -> bool {
    let of_transport = matches!(cause, ConnectionError::Io { step: Step::Read | Step::Write, .. });
    of_transport || matches!(cause, ConnectionError::ClosedByBroker)
}

#[tokio::test]
async fn a_connection_that_ends_is_replaced_also_if_only_one_direction_did() {
    for mode in Mode::ENDS {
        let cause = noticed(mode).await;
        assert!(is_end(&cause), "{mode:?}: {cause}");
    }
}

#[tokio::test]
async fn an_orderly_end_is_told_from_a_reset() {
    let proxy = Proxy::start(listen(&Broker::new(Config::default(), ())).await).await;
    let client = Client::builder(&proxy.url()).reconnect(QUICK).connect().await.unwrap();
    let mut status = client.status();
    let mut connections = 0;
    for mode in Mode::ENDS {
        connections = proxy.connected(connections).await;
        client.connected().await.unwrap();
        status.mark_unchanged();
        // Nothing is under way, so that no end can overtake it.
        proxy.cut(mode).await;
        let waiting = status.wait_for(|status| matches!(status, Status::Waiting { .. }));
        let waiting = timeout(SOON, waiting).await.expect("it is not noticed").unwrap().clone();
        let Status::Waiting { cause, .. } = waiting else { unreachable!("it was waited for") };
        let is_reset = matches!(cause, ConnectionError::Io { step: Step::Read, .. });
        assert_eq!(is_reset, mode == Mode::Reset, "{mode:?}: {cause}");
        assert!(is_end(&cause), "{mode:?}: {cause}");
    }
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_given_up() {
    let cause = noticed(Mode::StopReading).await;
    let expected = matches!(cause, ConnectionError::Timeout(Step::PingResponse | Step::Write));
    assert!(expected, "{cause}");
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_given_up() {
    let cause = noticed(Mode::StopForwarding).await;
    assert!(matches!(cause, ConnectionError::Timeout(_)), "{cause}");
}

#[tokio::test]
async fn a_slow_network_is_no_reason_to_connect_anew() {
    for mode in [Mode::Late(Duration::from_millis(20)), Mode::ByteByByte] {
        let (causes, counters) = through(async |proxy| {
            proxy.set(mode);
            sleep(Duration::from_millis(1500)).await;
            proxy.set(Mode::Carry);
        })
        .await;
        assert!(causes.is_empty(), "{mode:?}: {causes:?}");
        assert_eq!((counters.connections, counters.resent), (1, 0), "{mode:?}");
    }
}

#[tokio::test]
async fn connections_that_are_refused_are_tried_again_until_somebody_listens() {
    let (causes, counters) = through(async |proxy| {
        proxy.refuse().await;
        sleep(Duration::from_millis(300)).await;
        let before = proxy.connected(0).await;
        proxy.accept_again().await;
        proxy.connected(before).await;
    })
    .await;
    assert_eq!(counters.connections, 2, "{counters:?}");
    let refused = |cause: &ConnectionError| {
        matches!(cause, ConnectionError::Io { step: Step::Connect, error }
            if error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    // Some of them: a watch shows the latest.
    assert!(causes.iter().any(refused), "{causes:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_so() {
    // RFC 6761 promises that there is none.
    let error = Client::builder("mqtt://broker.invalid").connect().await.unwrap_err();
    let named = matches!(
        error,
        ConnectionError::Io { step: Step::Resolve, .. } | ConnectionError::Timeout(Step::Resolve)
    );
    assert!(named, "{error}");
}
