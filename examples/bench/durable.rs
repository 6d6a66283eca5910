//! What it costs to have messages on the disk before they are acknowledged, and how a broker starts
//! again that holds a million of them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mqtt_codec::{Delivery, Packet, PacketId, Publish, QoS, TopicName};

use crate::broker::{BrokerCommand, Running};
use crate::flow::acknowledge;
use crate::swarm::{Fault, Swarm};

/// Bytes of each message.
const PAYLOAD: usize = 256;

/// Messages that are on their way at a time.
const WINDOWS: [usize; 3] = [1, 64, 1000];

/// How a broker keeps messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// As long as its process lives.
    InMemory,
    /// `persistence true`, and nothing else said.
    OnDisk,
}

/// Who the messages are for.
#[derive(Clone, Copy)]
enum Receivers {
    /// One kept session whose client is away.
    Absent,
    /// Kept sessions whose clients acknowledge what comes.
    Connected(usize),
}

struct Figures {
    rate: f64,
    half: Duration,
    most: Duration,
    cpu: Duration,
    written: f64,
}

/// A folder for one broker's file, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Fault> {
        let path = std::env::temp_dir().join(format!("mqtt-bench-store-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn config(&self, keeping: Keeping) -> String {
        match keeping {
            Keeping::InMemory => "persistence false\n".to_owned(),
            // As root Mosquitto becomes somebody who may not write here.
            Keeping::OnDisk => {
                format!("user root\npersistence true\npersistence_location {}/\n", self.0.display())
            }
        }
    }

    fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let stores = files.filter(|file| file.file_name() == "mosquitto.db");
        stores.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures for so long each, and gives a table.
///
/// # Errors
/// When a broker does not do what it should.
pub fn durable_table(
    brokers: &[(BrokerCommand, Keeping)],
    time: Duration,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut table = String::from(
        "| QoS 1 messages of 256 B to | outstanding | broker | messages/s | acknowledged after: p50, p99 \
         | CPU µs each | bytes written each |\n|---|---|---|---|---|---|---|\n",
    );
    let shapes =
        [(Receivers::Absent, "one absent session"), (Receivers::Connected(10), "10 kept sessions")];
    for (receivers, what) in shapes {
        for window in WINDOWS {
            for (broker, keeping) in brokers {
                let folder = Folder::new()?;
                let running = broker.start_with(&folder.config(*keeping))?;
                let figures = flood(&running, receivers, window, time)?;
                let Figures { rate, half, most, cpu, written } = figures;
                let on_disk = if *keeping == Keeping::OnDisk { ", on disk" } else { ", in memory" };
                let _ = writeln!(
                    table,
                    "| {what} | {window} | {}{on_disk} | {rate:.0} | {} µs, {} µs | {:.1} | {written:.0} |",
                    broker.name,
                    half.as_micros(),
                    most.as_micros(),
                    cpu.as_secs_f64() * 1e6,
                );
            }
        }
    }
    Ok(table)
}

fn flood(
    broker: &Running,
    receivers: Receivers,
    window: usize,
    time: Duration,
) -> Result<Figures, Fault> {
    let mut swarm = Swarm::new(broker.address())?;
    let publisher = swarm.connect("publisher")?;
    let count = match receivers {
        Receivers::Absent => 1,
        Receivers::Connected(count) => count,
    };
    for n in 0..count {
        let link = swarm.connect_with(&format!("kept-{n}"), false)?;
        swarm.subscribe(link, &["a/b".to_owned()], QoS::AtLeastOnce)?;
        if let Receivers::Absent = receivers {
            leave(&mut swarm, link)?;
        }
    }
    let meter = broker.meter();
    let mut pump = Pump { link: publisher, sent: 0, acked: 0, times: VecDeque::new() };
    let mut latencies = Vec::new();
    let warm_up = Instant::now() + Duration::from_millis(300);
    let mut begun = None;
    pump.fill(&mut swarm, window);
    swarm.flush()?;
    let (cpu, written, start) = loop {
        let mut acks = 0;
        swarm.turn(Duration::from_secs(1), |link, packet, out| {
            match packet {
                Packet::PubAck(_) if link == publisher => acks += 1,
                Packet::Publish(publish) => acknowledge(publish.delivery, out),
                _ => return Err(Fault::Foreign),
            }
            Ok(())
        })?;
        let now = Instant::now();
        for _ in 0..acks {
            let sent = pump.times.pop_front().ok_or(Fault::Foreign)?;
            if begun.is_some() {
                latencies.push(now - sent);
            }
        }
        pump.acked += acks;
        if begun.is_none() && now > warm_up {
            begun = Some((meter.cpu()?, meter.written()?, now));
        }
        match begun {
            Some(begun) if now - begun.2 > time => break begun,
            _ => {}
        }
        pump.fill(&mut swarm, window);
        swarm.flush()?;
    };
    let took = start.elapsed();
    let count = latencies.len().max(1);
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(count * share / 100).copied().unwrap_or_default();
    Ok(Figures {
        rate: latencies.len() as f64 / took.as_secs_f64(),
        half: at(50),
        most: at(99),
        cpu: (meter.cpu()? - cpu) / count as u32,
        written: (meter.written()? - written) as f64 / count as f64,
    })
}

/// One that publishes as fast as its window allows.
struct Pump {
    link: usize,
    sent: usize,
    acked: usize,
    /// When what is on its way was sent.
    times: VecDeque<Instant>,
}

impl Pump {
    fn fill(&mut self, swarm: &mut Swarm, window: usize) {
        self.fill_up_to(swarm, window, usize::MAX);
    }

    fn fill_up_to(&mut self, swarm: &mut Swarm, window: usize, count: usize) {
        let now = Instant::now();
        let topic = TopicName::new("a/b").expect("a valid topic");
        while self.sent - self.acked < window && self.sent < count {
            let id = PacketId::new((self.sent % 65_535) as u16 + 1).unwrap_or(PacketId::MIN);
            let publish = Publish {
                topic,
                payload: &[b'x'; PAYLOAD],
                delivery: Delivery::AtLeastOnce { id, dup: false },
                retain: false,
            };
            publish.encode(swarm.out(self.link));
            self.sent += 1;
            self.times.push_back(now);
        }
    }
}

/// Says goodbye, and waits until the broker has closed.
fn leave(swarm: &mut Swarm, link: usize) -> Result<(), Fault> {
    swarm.disconnect(link)?;
    loop {
        match swarm.turn(Duration::from_secs(5), |_, _, _| Ok(())) {
            Ok(()) => {}
            Err(Fault::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Queues `count` messages for one session, kills the broker, and tells how it starts again and what
/// is left when they are read.
///
/// # Errors
/// When a broker does not do what it should.
pub fn restart_table(
    broker: &BrokerCommand,
    count: usize,
) -> Result<String, Box<dyn std::error::Error>> {
    let folder = Folder::new()?;
    let config = folder.config(Keeping::OnDisk);
    let running = broker.start_with(&config)?;
    let mut swarm = Swarm::new(running.address())?;
    let publisher = swarm.connect("publisher")?;
    let absent = swarm.connect_with("absent", false)?;
    swarm.subscribe(absent, &["a/b".to_owned()], QoS::AtLeastOnce)?;
    leave(&mut swarm, absent)?;
    let mut pump = Pump { link: publisher, sent: 0, acked: 0, times: VecDeque::new() };
    let start = Instant::now();
    while pump.acked < count {
        pump.fill_up_to(&mut swarm, 1000, count);
        swarm.flush()?;
        let mut acks = 0;
        swarm.turn(Duration::from_secs(20), |_, packet, _| {
            acks += usize::from(matches!(packet, Packet::PubAck(_)));
            Ok(())
        })?;
        pump.acked += acks;
    }
    let filled = start.elapsed();
    let before = (running.meter().memory()?, folder.bytes());
    drop(swarm);
    drop(running);

    let start = Instant::now();
    let running = broker.start_with(&config)?;
    let up = start.elapsed();
    let after = (running.meter().memory()?, folder.bytes());

    let mut swarm = Swarm::new(running.address())?;
    let start = Instant::now();
    let back = swarm.connect_with("absent", false)?;
    let mut came = 0;
    swarm.run_until(|link, packet, out| {
        let (true, Packet::Publish(publish)) = (link == back, packet) else {
            return Err(Fault::Foreign);
        };
        acknowledge(publish.delivery, out);
        came += 1;
        Ok(came == count)
    })?;
    let drained = start.elapsed();
    // It puts its file in order when nobody wants anything.
    let patience = Instant::now();
    while folder.bytes() > after.1 / 20 && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let end = (running.meter().memory()?, folder.bytes());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(format!(
        "{}: {count} messages of {PAYLOAD} B to one absent session\n\n\
         | | took | memory | file |\n|---|---|---|---|\n\
         | queued | {:.1} s | {:.0} MiB | {:.0} MiB |\n\
         | killed, and serves again | {:.2} s | {:.0} MiB | {:.0} MiB |\n\
         | read by the client | {:.1} s | {:.0} MiB | {:.1} MiB |\n",
        broker.name,
        filled.as_secs_f64(),
        mib(before.0),
        mib(before.1),
        up.as_secs_f64(),
        mib(after.0),
        mib(after.1),
        drained.as_secs_f64(),
        mib(end.0),
        mib(end.1),
    ))
}

impl Keeping {
    /// Both ways, for a broker whose ways are to be compared.
    pub fn both(broker: &BrokerCommand) -> [(BrokerCommand, Self); 2] {
        [(broker.clone(), Self::OnDisk), (broker.clone(), Self::InMemory)]
    }
}
