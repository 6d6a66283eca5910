//! A proxy between client and broker that does everything a bad network does, on a virtual clock.
//!
//! `MQTT_STORMS=1000` runs more storms than a usual test run, `MQTT_STORM=n` only one.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{Client, Delivered, Publish, QoS, Reconnect, Timeouts};
use mqtt_codec::{Frame, MAX_PACKET, TopicFilter, frame};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::support::Wire;

/// Storms of a usual test run.
const STORMS: u64 = 40;

/// Connections that fail before the sky clears.
const BAD_CONNECTIONS: u64 = 12;

/// Messages published in a storm.
const MESSAGES: usize = 300;

/// What a connection suffers, from so many bytes on.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Refused,
    /// Both directions end after so many bytes upwards.
    CutUp(usize),
    CutDown(usize),
    /// The client gets an error instead of an end.
    Reset(usize),
    /// The broker's side ends, what the client sends still arrives for a while.
    HalfClosedDown(usize),
    /// The client's side ends, what the broker sends still arrives for a while.
    HalfClosedUp(usize),
    /// Nothing is carried any more, and nobody is told.
    Silent(usize),
    /// The broker's bytes get lost from there on: acknowledgements do not arrive.
    Deaf(usize),
    /// What the client sends is not read any more; what the broker sends arrives.
    Unread(usize),
    /// A byte at a time, then a cut.
    Dribble(usize),
    /// Everything late, then a cut.
    Slow(usize),
    /// Every so-manieth acknowledgement gets lost, alone.
    AcksLost(usize),
    /// Every so-manieth acknowledgement comes after what follows it, alone.
    AcksLate(usize),
    None,
}

fn fault(seed: u64, connection: u64) -> Fault {
    let mut x =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ connection.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 32;
    let at = (x >> 8) as usize % 1500;
    if connection >= BAD_CONNECTIONS {
        return Fault::None;
    }
    match x % 13 {
        0 => Fault::Refused,
        1 => Fault::CutUp(at),
        2 => Fault::CutDown(at),
        3 => Fault::Reset(at),
        4 => Fault::HalfClosedDown(at),
        5 => Fault::HalfClosedUp(at),
        6 => Fault::Silent(at),
        7 => Fault::Deaf(at),
        8 => Fault::Unread(at),
        9 => Fault::Dribble(at),
        10 => Fault::Slow(at),
        11 => Fault::AcksLost(2 + at % 20),
        _ => Fault::AcksLate(2 + at % 20),
    }
}

/// Carries up to `limit` bytes, in pieces of `piece` with `delay` before each.
async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    limit: usize,
    piece: usize,
    delay: Duration,
) {
    let mut left = limit;
    let mut buffer = vec![0; piece];
    while left > 0 {
        let most = piece.min(left);
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else { return };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        left -= read;
    }
}

/// Carries whole packets, but not every `nth` acknowledgement: it comes after the packet that
/// follows it, or not at all.
async fn carry_acks(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    nth: usize,
    loses: bool,
) {
    let (mut buffer, mut held) = (Vec::new(), Vec::new());
    let mut acks = 0;
    while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Ok(Frame::Complete { end, .. }) = frame(&buffer, MAX_PACKET) {
            let mut packet: Vec<u8> = buffer.drain(..end).collect();
            if matches!(packet[0] >> 4, 4..=7) {
                acks += 1;
                if acks % nth == 0 {
                    if !loses {
                        held.extend(packet);
                    }
                    continue;
                }
            }
            packet.append(&mut held);
            if to.write_all(&packet).await.is_err() {
                return;
            }
        }
    }
}

async fn proxy(
    client: DuplexStream,
    broker: DuplexStream,
    fault: Fault,
    reset: oneshot::Sender<()>,
) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_broker, mut to_broker) = tokio::io::split(broker);
    let all = usize::MAX;
    let (up, down, piece, delay) = match fault {
        Fault::CutUp(at) | Fault::Reset(at) | Fault::Unread(at) | Fault::HalfClosedUp(at) => {
            (at, all, 4096, Duration::ZERO)
        }
        Fault::CutDown(at) | Fault::HalfClosedDown(at) | Fault::Silent(at) | Fault::Deaf(at) => {
            (all, at, 4096, Duration::ZERO)
        }
        Fault::Dribble(at) => (all, at, 1, Duration::ZERO),
        Fault::Slow(at) => (all, at, 64, Duration::from_millis(50)),
        Fault::Refused | Fault::AcksLost(_) | Fault::AcksLate(_) | Fault::None => {
            (all, all, 4096, Duration::ZERO)
        }
    };
    let upward = async {
        carry(&mut from_client, &mut to_broker, up, piece, delay).await;
        match fault {
            Fault::HalfClosedUp(_) => {
                let _ = to_broker.shutdown().await;
                sleep(Duration::from_millis(20)).await;
            }
            Fault::Unread(_) => std::future::pending().await,
            Fault::Reset(_) => drop(reset.send(())),
            _ => {}
        }
    };
    let downward = async {
        match fault {
            Fault::AcksLost(nth) => {
                carry_acks(&mut from_broker, &mut to_client, nth, true).await;
            }
            Fault::AcksLate(nth) => {
                carry_acks(&mut from_broker, &mut to_client, nth, false).await;
            }
            _ => carry(&mut from_broker, &mut to_client, down, piece, delay).await,
        }
        match fault {
            Fault::HalfClosedDown(_) => {
                let _ = to_client.shutdown().await;
                sleep(Duration::from_millis(20)).await;
            }
            // Until the client notices by itself.
            Fault::Deaf(_) => {
                let _ = tokio::io::copy(&mut from_broker, &mut tokio::io::sink()).await;
            }
            Fault::Silent(_) => std::future::pending().await,
            _ => {}
        }
    };
    // Whichever ends first is the end of both.
    tokio::select! {
        () = upward => {}
        () = downward => {}
        // A client that does not notice would wait for ever. So would a broker whose PUBREL got
        // lost: it may not send it again on the same connection.
        () = sleep(Duration::from_secs(30)) => {}
    }
}

/// The client's end of a connection, on which a reset is an error.
struct Resettable {
    inner: DuplexStream,
    reset: oneshot::Receiver<()>,
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.reset.is_terminated()
            && matches!(Pin::new(&mut self.reset).poll(cx), Poll::Ready(Ok(())))
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn storm(seed: u64) -> u64 {
    let broker = Broker::new(Config::default(), ());
    let mut observer = broker.subscribe(TopicFilter::new("t/+").unwrap(), QoS::ExactlyOnce);
    let wire = Wire::new(&broker);
    let connections = Arc::new(AtomicU64::new(0));
    let count = connections.clone();
    let reconnect = Reconnect {
        min: Duration::from_millis(20),
        max: Duration::from_secs(1),
        ..Reconnect::default()
    };
    let mut timeouts = Timeouts::default();
    // An acknowledgement that got lost alone is only missed by its absence.
    timeouts.ack = Some(Duration::from_secs(3));
    let (builder, mut echo) = Client::builder("mqtt://storm")
        .client_id("storm")
        .persistent_session()
        .reconnect(reconnect)
        .timeouts(timeouts)
        .keep_alive(Duration::from_secs(4), Duration::from_secs(2))
        .connector(move |_| {
            let fault = fault(seed, count.fetch_add(1, Ordering::Relaxed));
            let wire = wire.clone();
            async move {
                if matches!(fault, Fault::Refused) {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (inner, far) = duplex(4096);
                let (sender, reset) = oneshot::channel();
                tokio::spawn(proxy(far, wire.connect(), fault, sender));
                Ok(Resettable { inner, reset })
            }
        })
        .subscription("t/2", QoS::ExactlyOnce);
    let client = builder.start().unwrap();
    let mut receipts = Vec::new();
    for number in 0..MESSAGES {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
        let topic = format!("t/{}", u8::from(qos));
        let message = Publish::new(topic, number.to_string()).qos(qos);
        // Some are given up in the middle, which must change nothing for the others.
        let publishing = client.publish(message);
        let receipt = if number % 10 == 7 {
            timeout(Duration::from_micros(1), publishing).await
        } else {
            Ok(publishing.await)
        };
        if let Ok(receipt) = receipt {
            receipts.push((number, qos, receipt.unwrap()));
        }
        sleep(Duration::from_millis(60)).await;
    }
    let storm_over = Instant::now();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut order: [Vec<usize>; 3] = Default::default();
    for (number, qos, receipt) in receipts {
        let outcome = timeout(Duration::from_secs(300), receipt).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("the receipt of {number} hangs"));
        while let Some(message) = observer.try_recv() {
            let number = std::str::from_utf8(message.payload()).unwrap().parse().unwrap();
            let times = seen.entry(number).or_default();
            *times += 1;
            if *times == 1 {
                order[usize::from(u8::from(message.qos()))].push(number);
            }
        }
        let times = seen.get(&number).copied().unwrap_or_default();
        match (qos, outcome) {
            (QoS::AtMostOnce, Ok(Delivered::Written)) => assert!(times <= 1),
            (QoS::AtLeastOnce, Ok(Delivered::Acknowledged)) => assert!(times >= 1, "{number}"),
            (QoS::ExactlyOnce, Ok(Delivered::Completed)) => assert_eq!(times, 1, "{number}"),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!(order.iter().all(|numbers| numbers.is_sorted()), "{order:?}");
    timeout(Duration::from_secs(60), client.connected()).await.expect("not connected").unwrap();
    assert!(storm_over.elapsed() < Duration::from_secs(300));
    // What came back to the client itself: QoS 2, once each.
    let sent = order[2].len();
    let mut echoed = Vec::new();
    while echoed.len() < sent {
        let message = timeout(Duration::from_secs(60), echo.recv()).await;
        let message = message.expect("a message did not come back").unwrap();
        echoed.push(std::str::from_utf8(message.payload()).unwrap().parse::<usize>().unwrap());
    }
    assert_eq!(echoed, order[2]);
    let stats = client.stats();
    assert_eq!(stats.counters.published, stats.counters.ended());
    assert!(client.shutdown(Duration::from_secs(30)).await.is_empty());
    connections.load(Ordering::Relaxed)
}

#[test]
fn after_every_storm_everything_is_there_once() {
    let number_in = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let storms = match number_in("MQTT_STORM") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in("MQTT_STORMS").unwrap_or(STORMS),
    };
    let (begin, count) = (std::time::Instant::now(), storms.end - storms.start);
    let mut connections = 0;
    for seed in storms {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(storm(seed)));
        match std::panic::catch_unwind(run) {
            Ok(needed) => connections += needed,
            Err(panic) => {
                eprintln!("run it again with MQTT_STORM={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{count} storms with {connections} connections in {:.1?}", begin.elapsed());
}
