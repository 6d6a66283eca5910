//! CPU time of a message in this client, in rumqttc and in libmosquitto, in one run.
//!
//! `cargo bench -p mqtt-client --bench beside_others`; `-- 1000000` for another number of messages,
//! `-- receive` for some of the rows.
//! The peer is a thread that only acknowledges, or only sends; its time is not counted. Messages
//! have 64 bytes, the window is 100. Ours and rumqttc run on one thread each, whose time on the CPU
//! the kernel counts in nanoseconds; libmosquitto's is that of the whole `mosquitto_pub -l` or
//! `mosquitto_sub`, which also reads or prints the messages.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_client::{Client, Limit, Publish, QoS, TopicNameBuf, WhenFull};
use mqtt_codec::{Ack, Decoder, Delivery, Packet, PacketId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PAYLOAD: usize = 64;
const WINDOW: u16 = 100;
const TOPIC: &str = "sensors/1/temperature";

fn main() {
    let given = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let count: u32 = given.unwrap_or(if is_test { 1000 } else { 300_000 });
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-') && arg.parse::<u32>().is_err())
        .collect();
    let is_wanted = |row: &str| words.is_empty() || words.iter().any(|word| row.contains(word));
    println!(
        "microseconds of CPU per message, {count} messages of {PAYLOAD} bytes, window {WINDOW}"
    );
    println!(
        "{:<16}{:>10}{:>10}{:>13}{:>10}{:>10}",
        "", "ours", "rumqttc", "libmosquitto", "/rumqttc", "/libmosq"
    );
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let row = format!("publish QoS {}", u8::from(qos));
        if !is_wanted(&row) {
            continue;
        }
        let ours = measure("ours", count, Sink::start, move |port| publish_ours(port, count, qos));
        let rumqttc =
            measure("rumqttc", count, Sink::start, move |port| publish_rumqttc(port, count, qos));
        let libmosquitto = measure_child(count, |port| publish_mosquitto(port, count, qos));
        print_row(&row, ours, rumqttc, libmosquitto);
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let row = format!("receive QoS {}", u8::from(qos));
        if !is_wanted(&row) {
            continue;
        }
        let source = move || Source::start(count, qos);
        let ours = measure("ours", count, source, move |port| receive_ours(port, count, qos));
        let rumqttc =
            measure("rumqttc", count, source, move |port| receive_rumqttc(port, count, qos));
        let (port, peer) = Source::start(count, qos);
        let libmosquitto = child_time(count, || receive_mosquitto(port, count, qos));
        drop(peer);
        print_row(&row, ours, rumqttc, libmosquitto);
    }
    if is_wanted("writes") {
        let writes = writes_a_message(count) * 32.0;
        println!("writes to the transport for 32 messages of QoS 0 under load: {writes:.2}");
    }
}

fn print_row(name: &str, ours: f64, rumqttc: f64, libmosquitto: Option<f64>) {
    let against = |other: f64| format!("{:.2}", ours / other);
    let (theirs, ratio) = match libmosquitto {
        Some(time) => (format!("{time:.2}"), against(time)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    println!(
        "{name:<16}{ours:>10.2}{rumqttc:>10.2}{theirs:>13}{:>10}{ratio:>10}",
        against(rumqttc)
    );
}

/// Runs `work` on a thread of its own and gives its CPU time per message; the best of three, as the
/// machine may be busy.
fn measure<P>(
    name: &str,
    count: u32,
    peer: impl Fn() -> (u16, P),
    work: impl Fn(u16) + Send + Clone + 'static,
) -> f64 {
    let times = (0..3).map(|_| {
        let (port, peer) = peer();
        let work = work.clone();
        // Named, so that a profiler can tell it from the peer: `perf report --comm ours`.
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let before = cpu_time();
            work(port);
            cpu_time() - before
        });
        let time = thread.unwrap().join().unwrap();
        drop(peer);
        time
    });
    times.min().unwrap_or_default().as_nanos() as f64 / 1000.0 / f64::from(count)
}

/// Time of this thread on a CPU.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn measure_child(count: u32, run: impl Fn(u16) -> bool) -> Option<f64> {
    let (port, peer) = Sink::start();
    let time = child_time(count, || run(port));
    drop(peer);
    time
}

/// CPU time of the children that `run` waits for; `None` if it cannot run them.
fn child_time(count: u32, run: impl FnOnce() -> bool) -> Option<f64> {
    let time = || {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // Fields 16 and 17 of proc(5): ticks of 10 ms.
        Some(fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?)
    };
    let before = time()?;
    run().then_some(())?;
    Some((time()? - before) as f64 * 10_000.0 / f64::from(count))
}

fn on_a_runtime(work: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work);
}

fn publish_ours(port: u16, count: u32, qos: QoS) {
    on_a_runtime(async move {
        let limit = Limit { messages: 1000, bytes: 16 << 20, when_full: WhenFull::Wait };
        let builder = Client::builder(&format!("mqtt://127.0.0.1:{port}")).inflight(WINDOW);
        let client = builder.queue_limit(limit).connect().await.unwrap();
        let topic = TopicNameBuf::new(TOPIC).unwrap();
        let payload = Bytes::from(vec![b'x'; PAYLOAD]);
        for _ in 0..count {
            let message = Publish::new(topic.clone(), payload.clone()).qos(qos);
            drop(client.publish(message).await.unwrap());
        }
        assert!(client.shutdown(Duration::from_secs(60)).await.is_empty());
    });
}

fn receive_ours(port: u16, count: u32, qos: QoS) {
    on_a_runtime(async move {
        let builder = Client::builder(&format!("mqtt://127.0.0.1:{port}"));
        let (builder, mut all) = builder.subscription("#", qos);
        let client = builder.connect().await.unwrap();
        let mut bytes = 0;
        for _ in 0..count {
            bytes += all.recv().await.unwrap().payload().len();
        }
        assert_eq!(bytes, PAYLOAD * count as usize);
        client.abort().await;
    });
}

fn rumqttc_options(port: u16) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new("bench", "127.0.0.1", port);
    options.set_inflight(WINDOW).set_keep_alive(Duration::from_secs(60));
    options
}

/// As ours and libmosquitto here, it does not let the kernel hold acknowledgements back.
fn set_nodelay(events: &mut rumqttc::EventLoop) {
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
}

fn rumqttc_qos(qos: QoS) -> rumqttc::QoS {
    match qos {
        QoS::AtMostOnce => rumqttc::QoS::AtMostOnce,
        QoS::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        QoS::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

fn publish_rumqttc(port: u16, count: u32, qos: QoS) {
    use rumqttc::{Event, Outgoing, Packet};
    on_a_runtime(async move {
        let (client, mut events) = rumqttc::AsyncClient::new(rumqttc_options(port), 1000);
        set_nodelay(&mut events);
        let payload = Bytes::from(vec![b'x'; PAYLOAD]);
        tokio::spawn(async move {
            for _ in 0..count {
                let (qos, payload) = (rumqttc_qos(qos), payload.clone());
                client.publish_bytes(TOPIC, qos, false, payload).await.unwrap();
            }
            // Dropping it would end the loop below early.
            std::future::pending::<()>().await;
        });
        let mut done = 0;
        while done < count {
            done += match (events.poll().await.unwrap(), qos) {
                (Event::Outgoing(Outgoing::Publish(_)), QoS::AtMostOnce)
                | (Event::Incoming(Packet::PubAck(_)), QoS::AtLeastOnce)
                | (Event::Incoming(Packet::PubComp(_)), QoS::ExactlyOnce) => 1,
                _ => 0,
            };
        }
    });
}

fn receive_rumqttc(port: u16, count: u32, qos: QoS) {
    use rumqttc::{Event, Packet};
    on_a_runtime(async move {
        let (client, mut events) = rumqttc::AsyncClient::new(rumqttc_options(port), 10);
        set_nodelay(&mut events);
        client.subscribe("#", rumqttc_qos(qos)).await.unwrap();
        let mut done = 0;
        while done < count {
            done += u32::from(matches!(
                events.poll().await.unwrap(),
                Event::Incoming(Packet::Publish(_))
            ));
        }
    });
}

fn publish_mosquitto(port: u16, count: u32, qos: QoS) -> bool {
    let spawned = Command::new("mosquitto_pub")
        .arg("--nodelay")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", TOPIC, "-l"])
        .args(["-q", &u8::from(qos).to_string(), "-M", &WINDOW.to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else { return false };
    let line = [vec![b'x'; PAYLOAD], vec![b'\n']].concat();
    let mut stdin = child.stdin.take().unwrap();
    let all = line.repeat(count as usize);
    stdin.write_all(&all).unwrap();
    drop(stdin);
    child.wait().unwrap().success()
}

fn receive_mosquitto(port: u16, count: u32, qos: QoS) -> bool {
    let mut command = Command::new("mosquitto_sub");
    command.arg("--nodelay");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "#", "-C", &count.to_string()]);
    command.args(["-q", &u8::from(qos).to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Writes to the transport per message.
fn writes_a_message(count: u32) -> f64 {
    let (port, _sink) = Sink::start();
    let writes = Arc::new(AtomicU64::new(0));
    let counter = writes.clone();
    on_a_runtime(async move {
        let connect = move |_| {
            let writes = counter.clone();
            async move {
                let inner = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                Ok(Counted { inner, writes })
            }
        };
        let client = Client::builder("mqtt://counted").connector(connect).connect().await.unwrap();
        let topic = TopicNameBuf::new(TOPIC).unwrap();
        for _ in 0..count {
            drop(client.publish((topic.clone(), vec![b'x'; PAYLOAD])).await.unwrap());
        }
        assert!(client.shutdown(Duration::from_secs(60)).await.is_empty());
    });
    writes.load(Ordering::Relaxed) as f64 / f64::from(count)
}

/// A transport that counts its writes.
struct Counted {
    inner: tokio::net::TcpStream,
    writes: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A peer that acknowledges everything at once.
struct Sink;

impl Sink {
    fn start() -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let Ok((socket, _)) = listener.accept() else { return };
            serve(socket, answer);
        });
        (port, thread)
    }
}

/// A peer that sends `count` messages to whoever subscribes. At QoS 1 it fills the window when half of
/// it is acknowledged: what a busy broker does. One that sends each message as soon as it may would
/// measure how the two threads happen to wake each other.
struct Source;

impl Source {
    fn start(count: u32, qos: QoS) -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let Ok((socket, _)) = listener.accept() else { return };
            let (mut sent, mut acked, mut is_subscribed) = (0, 0, false);
            serve(socket, |packet, out| {
                answer(packet, out);
                is_subscribed |= matches!(packet, Packet::Subscribe(_));
                acked += u32::from(matches!(packet, Packet::PubAck(_)));
                let window = u32::from(WINDOW);
                let most = match qos {
                    QoS::AtMostOnce => count,
                    _ if sent - acked > window / 2 => sent,
                    _ => count.min(acked + window),
                };
                while is_subscribed && sent < most {
                    sent += 1;
                    push_message(sent, qos, out);
                }
            });
        });
        (port, thread)
    }
}

fn push_message(number: u32, qos: QoS, out: &mut Vec<u8>) {
    let id = PacketId::new((number % 65_535 + 1) as u16).unwrap();
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        _ => Delivery::AtLeastOnce { id, dup: false },
    };
    let topic = mqtt_codec::TopicName::new(TOPIC).unwrap();
    let payload = &[b'x'; PAYLOAD];
    mqtt_codec::Publish { topic, payload, delivery, retain: false }.encode(out);
}

fn answer(packet: &Packet<'_>, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(_) => out.extend_from_slice(b"\x20\x02\0\0"),
        Packet::Subscribe(subscribe) => {
            let [high, low] = subscribe.packet_id().get().to_be_bytes();
            out.extend_from_slice(&[0x90, 3, high, low, 1]);
        }
        Packet::Publish(publish) => match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce { id, .. } => out.extend_from_slice(&Ack::PubAck(id).to_bytes()),
            Delivery::ExactlyOnce { id, .. } => out.extend_from_slice(&Ack::PubRec(id).to_bytes()),
        },
        Packet::PubRel(id) => out.extend_from_slice(&Ack::PubComp(*id).to_bytes()),
        Packet::PingReq => out.extend_from_slice(b"\xd0\0"),
        _ => {}
    }
}

fn serve(mut socket: TcpStream, mut handle: impl FnMut(&Packet<'_>, &mut Vec<u8>)) {
    socket.set_nodelay(true).unwrap();
    let mut decoder = Decoder::new(1 << 20);
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    let mut out = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(120) {
        let Ok(read @ 1..) = socket.read(&mut buffer[filled..]) else { return };
        filled += read;
        let mut used = 0;
        while let Ok(Some((packet, len))) = decoder.next(&buffer[used..filled]) {
            used += len;
            handle(&packet, &mut out);
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if !out.is_empty() && socket.write_all(&out).is_err() {
            return;
        }
        out.clear();
    }
}
