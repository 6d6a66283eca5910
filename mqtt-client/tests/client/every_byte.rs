//! A session that is cut at every one of its bytes, in both directions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mqtt_broker_core::{Broker, Config};
use mqtt_client::{Client, Delivered, Publish, QoS};
use mqtt_codec::TopicFilter;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::timeout;

use crate::support::{QUICK, SOON, Wire};

/// Where a connection ends.
#[derive(Clone, Copy, Debug)]
struct Limits {
    up: usize,
    down: usize,
    /// With an error, not with an end of the stream.
    resets: bool,
}

/// A connection that ends after so many bytes.
struct Limited {
    inner: Option<DuplexStream>,
    limits: Limits,
    reader: Option<Waker>,
    /// Counts what was carried: up, and down.
    carried: Arc<[AtomicUsize; 2]>,
}

impl Limited {
    fn cut(&mut self) {
        self.inner = None;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.limits.down == 0 {
            this.cut();
        }
        let Some(inner) = &mut this.inner else {
            let reset = Err(io::ErrorKind::ConnectionReset.into());
            return Poll::Ready(if this.limits.resets { reset } else { Ok(()) });
        };
        let mut part = buf.take(this.limits.down);
        let polled = Pin::new(inner).poll_read(cx, &mut part);
        let read = part.filled().len();
        buf.advance(read);
        this.limits.down -= read;
        this.carried[1].fetch_add(read, Ordering::Relaxed);
        if polled.is_pending() {
            this.reader = Some(cx.waker().clone());
        }
        polled
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = bytes.len().min(this.limits.up);
        if most == 0 {
            this.cut();
        }
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let polled = Pin::new(inner).poll_write(cx, &bytes[..most]);
        if let Poll::Ready(Ok(written)) = polled {
            this.limits.up -= written;
            this.carried[0].fetch_add(written, Ordering::Relaxed);
        }
        if this.limits.up == 0 {
            this.cut();
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut();
        Poll::Ready(Ok(()))
    }
}

/// A whole life of a client whose first connections have these limits. Gives the bytes carried, up
/// and down.
async fn life(limits: &[Limits]) -> [usize; 2] {
    let broker = Broker::new(Config::default(), ());
    let mut observer = broker.subscribe(TopicFilter::new("t/+").unwrap(), QoS::ExactlyOnce);
    let wire = Wire::new(&broker);
    let (count, carried) = (AtomicUsize::new(0), Arc::<[AtomicUsize; 2]>::default());
    let (list, counter) = (limits.to_vec(), carried.clone());
    let whole = Limits { up: usize::MAX, down: usize::MAX, resets: false };
    let builder = Client::builder("mqtt://bytes").client_id("c").persistent_session();
    let builder = builder.reconnect(QUICK).connector(move |_| {
        let limits = list.get(count.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or(whole);
        let (inner, carried) = (Some(wire.connect()), counter.clone());
        std::future::ready(Ok(Limited { inner, limits, reader: None, carried }))
    });
    let (builder, mut echo) = builder.subscription("t/2", QoS::ExactlyOnce);
    let client = builder.start().unwrap();
    let mut receipts = Vec::new();
    for number in 0..6 {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
        let message = Publish::new(format!("t/{}", u8::from(qos)), number.to_string()).qos(qos);
        receipts.push(client.publish(message).await.unwrap());
        // Two at once, and then one after the other.
        if number > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for (number, receipt) in receipts.into_iter().enumerate() {
        let expected = [Delivered::Written, Delivered::Acknowledged, Delivered::Completed];
        let outcome = timeout(SOON, receipt).await;
        assert_eq!(outcome, Ok(Ok(expected[number % 3])), "{number} with {limits:?}");
    }
    for expected in ["2", "5"] {
        let message = timeout(SOON, echo.recv()).await;
        let message = message.unwrap_or_else(|_| panic!("no {expected} with {limits:?}")).unwrap();
        assert_eq!(message.payload(), expected.as_bytes(), "{limits:?}");
    }
    assert!(timeout(SOON, echo.unsubscribe()).await.is_ok(), "{limits:?}");
    assert!(client.shutdown(SOON).await.is_empty(), "{limits:?}");
    let counters = client.stats().counters;
    assert_eq!(counters.published, counters.ended(), "{limits:?}");
    let mut seen: [usize; 6] = [0; 6];
    while let Some(message) = observer.try_recv() {
        seen[std::str::from_utf8(message.payload()).unwrap().parse::<usize>().unwrap()] += 1;
    }
    let [zero, one, two, three, four, five] = seen;
    assert!(zero <= 1 && three <= 1 && one >= 1 && four >= 1, "{seen:?} with {limits:?}");
    assert_eq!((two, five), (1, 1), "QoS 2 comes once, with {limits:?}");
    carried.each_ref().map(|count| count.load(Ordering::Relaxed))
}

fn run(limits: &[Limits]) -> [usize; 2] {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(life(limits))
}

// MQTT-4.3.1-1, MQTT-4.3.2-1, MQTT-4.3.3-1, MQTT-4.3.3-2, MQTT-4.4.0-1
#[test]
fn a_session_survives_a_cut_at_every_byte() {
    let [up, down] = run(&[]);
    assert!(up > 100 && down > 60, "{up} {down}");
    let mut lives = 0;
    for resets in [false, true] {
        let ups = (0..=up).map(|up| Limits { up, down: usize::MAX, resets });
        let downs = (0..=down).map(|down| Limits { up: usize::MAX, down, resets });
        let all: Vec<_> = ups.chain(downs).collect();
        for (n, limits) in all.iter().enumerate() {
            run(&[*limits]);
            // And the next connections elsewhere.
            run(&[*limits, all[n * 37 % all.len()], all[n * 101 % all.len()]]);
            lives += 2;
        }
    }
    println!("{lives} lives of {up} bytes up and {down} down, cut at each of them");
}
