//! Messages from publishers to receivers, as fast as a window allows or at a fixed rate.

use std::time::{Duration, Instant};

use mqtt_codec::{Delivery, Packet, PacketId, Publish, QoS, TopicName};

use crate::ledger::{Ledger, Mark};
use crate::swarm::{PATIENCE, Swarm, bytes};
use crate::workload::{Effort, Metric};
use crate::{Fault, Running};

/// Who sends to whom, and what.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Who hears whom.
    pub shape: Shape,
    /// Topics of each publisher, which it takes in turn. The receivers subscribe to one filter.
    pub topics: usize,
    /// Bytes of each message; at least 16, which tell its place in the order.
    pub payload: usize,
    /// QoS of messages and subscriptions.
    pub qos: QoS,
    /// When the next message is sent.
    pub load: Load,
    /// Clients beside them that do nothing.
    pub idle: usize,
    /// Filters of other clients that no message matches.
    pub foreign_filters: usize,
}

/// Filters of one client: what brokers allow by default.
const MOST_FILTERS: usize = 1000;

/// Who hears whom.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// So many publishers with a receiver each.
    Pairs(usize),
    /// So many publishers with one receiver for all.
    FanIn(usize),
    /// One publisher with so many receivers.
    FanOut(usize),
}

/// When the next message is sent.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// When fewer than so many of its publisher are on their way: not received by all receivers or,
    /// with QoS 1 and 2, not acknowledged to the end.
    Window(u64),
    /// So many a second from all publishers together, whatever came of those before. The time of a
    /// message counts from the moment at which it was due.
    Rate(u64),
}

impl Flow {
    /// Messages of 16 bytes at QoS 0, one topic a publisher, 100 on their way.
    pub const fn new(shape: Shape) -> Self {
        let load = Load::Window(100);
        let (topics, payload, qos) = (1, Mark::LEN, QoS::AtMostOnce);
        Self { shape, topics, payload, qos, load, idle: 0, foreign_filters: 0 }
    }

    pub(crate) fn run(
        &self,
        broker: &Running,
        effort: &Effort,
    ) -> Result<Vec<(Metric, f64)>, Fault> {
        let mut run = Run::set_up(self, broker)?;
        let _shared = match self.load {
            Load::Rate(_) => Some(broker.meter().share_processor()?),
            Load::Window(_) => None,
        };
        run.for_time(effort.warm_up)?;
        run.times.clear();
        let before = Reading::take(broker, run.delivered)?;
        run.for_time(effort.time)?;
        let after = Reading::take(broker, run.delivered)?;
        run.finish()?;

        let messages = (after.delivered - before.delivered) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / messages;
        let mut metrics = vec![
            (Metric::Cpu, each(after.broker - before.broker)),
            (Metric::Generator, each(after.generator - before.generator)),
            (Metric::Rate, messages / (after.at - before.at).as_secs_f64()),
        ];
        if matches!(self.load, Load::Rate(_)) {
            run.times.sort_unstable();
            let part = |share: f64| {
                let at = (run.times.len() as f64 * share) as usize;
                run.times.get(at).map_or(f64::NAN, |&nanos| nanos as f64 / 1000.0)
            };
            metrics.extend([(Metric::Median, part(0.5)), (Metric::Tail, part(0.99))]);
        }
        Ok(metrics)
    }
}

impl Shape {
    fn publishers(self) -> usize {
        match self {
            Self::Pairs(count) | Self::FanIn(count) => count,
            Self::FanOut(_) => 1,
        }
    }

    fn receivers(self) -> usize {
        match self {
            Self::Pairs(count) | Self::FanOut(count) => count,
            Self::FanIn(_) => 1,
        }
    }

    /// Receivers of each message.
    fn copies(self) -> u64 {
        match self {
            Self::Pairs(_) | Self::FanIn(_) => 1,
            Self::FanOut(count) => count as u64,
        }
    }
}

/// Clocks and counts at one moment.
struct Reading {
    at: Instant,
    broker: Duration,
    generator: Duration,
    delivered: u64,
}

impl Reading {
    fn take(broker: &Running, delivered: u64) -> Result<Self, Fault> {
        Ok(Self {
            at: Instant::now(),
            broker: broker.meter().cpu()?,
            generator: crate::Meter::own().cpu()?,
            delivered,
        })
    }
}

/// A flow that is set up.
struct Run {
    swarm: Swarm,
    load: Load,
    copies: u64,
    topics: usize,
    /// Links from here on are publishers; those before are receivers.
    first_publisher: usize,
    /// One ledger for all: pairs of receiver and stream where receivers hear the same streams.
    ledger: Ledger,
    /// Cells of one receiver, or 0 where no stream has two receivers.
    stride: usize,
    publishers: Vec<Publisher>,
    /// Publishers that may have room for more.
    touched: Vec<usize>,
    start: Instant,
    /// Messages that a rate has made due so far.
    due: u64,
    delivered: u64,
    sent: u64,
    /// From due to received in nanoseconds, with a rate.
    times: Vec<u64>,
}

struct Publisher {
    /// One for each topic, complete but for packet id and mark.
    frames: Vec<Template>,
    sent: u64,
    delivered: u64,
    acked: u64,
    next_id: PacketId,
    is_touched: bool,
}

struct Template {
    bytes: Vec<u8>,
    /// Where the mark goes, behind the packet id.
    mark_at: usize,
    has_id: bool,
    stream: u32,
    sent: u32,
}

impl Run {
    fn set_up(flow: &Flow, broker: &Running) -> Result<Self, Fault> {
        let mut swarm = Swarm::new(broker.address())?;
        let shape = flow.shape;
        for receiver in 0..shape.receivers() {
            let link = swarm.connect(&format!("receiver-{receiver}"))?;
            // As people subscribe: by name where there is one topic, else with a wildcard.
            let filter = match (shape, flow.topics) {
                (Shape::FanIn(_), _) => "bench/#".to_owned(),
                (Shape::Pairs(_), 1) => topic(receiver, None),
                (Shape::Pairs(_), _) => format!("{}/+", topic(receiver, None)),
                (Shape::FanOut(_), 1) => topic(0, None),
                (Shape::FanOut(_), _) => format!("{}/+", topic(0, None)),
            };
            swarm.subscribe(link, &[filter], flow.qos)?;
        }
        let first_publisher = shape.receivers();
        let mut publishers = Vec::new();
        for number in 0..shape.publishers() {
            swarm.connect(&format!("publisher-{number}"))?;
            publishers.push(Publisher::new(number, flow));
        }
        let streams = shape.publishers() * flow.topics;
        let stride = if shape.copies() > 1 { streams } else { 0 };
        for idle in 0..flow.idle {
            let link = swarm.connect(&format!("idle-{idle}"))?;
            swarm.subscribe(link, &[format!("idle/{idle}")], flow.qos)?;
        }
        let foreign: Vec<_> = (0..flow.foreign_filters)
            .map(|n| format!("elsewhere/{n}/{}", if n % 10 < 3 { "+" } else { "light" }))
            .collect();
        for (holder, filters) in foreign.chunks(MOST_FILTERS).enumerate() {
            let link = swarm.connect(&format!("foreign-{holder}"))?;
            swarm.subscribe(link, filters, flow.qos)?;
        }
        if let Load::Rate(rate) = flow.load {
            swarm.tick_every(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX))?;
        }
        Ok(Self {
            swarm,
            load: flow.load,
            copies: shape.copies(),
            topics: flow.topics,
            first_publisher,
            ledger: Ledger::new(if stride > 0 { stride * first_publisher } else { streams }),
            stride,
            touched: (0..publishers.len()).collect(),
            publishers,
            start: Instant::now(),
            due: 0,
            delivered: 0,
            sent: 0,
            times: Vec::new(),
        })
    }

    /// Sends and receives for a time.
    fn for_time(&mut self, time: Duration) -> Result<(), Fault> {
        let end = Instant::now() + time;
        if let Load::Rate(rate) = self.load {
            // What was due while nobody looked would come as a burst.
            self.due = (self.start.elapsed().as_secs_f64() * rate as f64) as u64;
        }
        while Instant::now() < end {
            match self.load {
                Load::Window(_) => self.fill_windows(),
                Load::Rate(rate) => self.send_what_is_due(rate),
            }
            self.swarm.flush()?;
            self.turn(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Receives until nothing is missing.
    fn finish(&mut self) -> Result<(), Fault> {
        let mut seen = Instant::now();
        loop {
            self.swarm.flush()?;
            let acked: u64 = self.publishers.iter().map(|publisher| publisher.acked).sum();
            let missing = self.sent * self.copies - self.delivered;
            if missing == 0 && acked == self.sent {
                break;
            }
            let before = self.delivered + acked;
            self.turn(Duration::from_millis(100))?;
            let acked: u64 = self.publishers.iter().map(|publisher| publisher.acked).sum();
            if self.delivered + acked > before {
                seen = Instant::now();
            } else if seen.elapsed() > PATIENCE {
                return Err(Fault::Stalled(missing));
            }
        }
        // What is doubled at the very end would still be on its way.
        self.turn(Duration::from_millis(20))
    }

    fn turn(&mut self, wait: Duration) -> Result<(), Fault> {
        let Self { ledger, stride, publishers, touched, delivered, times, .. } = self;
        let (start, topics) = (self.start, self.topics);
        let mut now = None;
        let wants_times = matches!(self.load, Load::Rate(_));
        self.swarm.turn(wait, |link, packet, out| {
            let number = match &packet {
                Packet::Publish(publish) => {
                    let mark = Mark::parse(publish.payload)?;
                    ledger.enter(link * *stride + mark.stream as usize, mark)?;
                    *delivered += 1;
                    if wants_times {
                        let now = *now.get_or_insert_with(|| start.elapsed().as_nanos() as u64);
                        times.push(now - mark.time);
                    }
                    acknowledge(publish.delivery, out);
                    let number = mark.stream as usize / topics;
                    publishers[number].delivered += 1;
                    number
                }
                Packet::PubRel(id) => {
                    Packet::PubComp(*id).encode(out);
                    return Ok(());
                }
                Packet::PubRec(id) => {
                    Packet::PubRel(*id).encode(out);
                    return Ok(());
                }
                Packet::PubAck(_) | Packet::PubComp(_) => {
                    let number = link - self.first_publisher;
                    publishers[number].acked += 1;
                    number
                }
                _ => return Err(Fault::Foreign),
            };
            let publisher = &mut publishers[number];
            if !publisher.is_touched {
                publisher.is_touched = true;
                touched.push(number);
            }
            Ok(())
        })
    }

    fn fill_windows(&mut self) {
        let Load::Window(window) = self.load else { return };
        let time = self.start.elapsed().as_nanos() as u64;
        for number in self.touched.drain(..) {
            let publisher = &mut self.publishers[number];
            publisher.is_touched = false;
            let through = (publisher.delivered / self.copies).min(publisher.acked);
            let room = window.saturating_sub(publisher.sent - through);
            if room > 0 {
                let out = self.swarm.out(self.first_publisher + number);
                (0..room).for_each(|_| publisher.send(time, out));
                self.sent += room;
            }
        }
    }

    fn send_what_is_due(&mut self, rate: u64) {
        let now = self.start.elapsed().as_nanos() as u64;
        loop {
            let time = (u128::from(self.due) * 1_000_000_000 / u128::from(rate)) as u64;
            if time > now {
                return;
            }
            let number = (self.due % self.publishers.len() as u64) as usize;
            let out = self.swarm.out(self.first_publisher + number);
            self.publishers[number].send(time, out);
            self.due += 1;
            self.sent += 1;
        }
    }
}

impl Publisher {
    fn new(number: usize, flow: &Flow) -> Self {
        let frames = (0..flow.topics).map(|n| {
            let name = topic(number, (flow.topics > 1).then_some(n));
            Template::new(&name, (number * flow.topics + n) as u32, flow)
        });
        let frames = frames.collect();
        let next_id = PacketId::MIN;
        Self { frames, sent: 0, delivered: 0, acked: 0, next_id, is_touched: true }
    }

    fn send(&mut self, time: u64, out: &mut Vec<u8>) {
        let count = self.frames.len() as u64;
        let template = &mut self.frames[(self.sent % count) as usize];
        template.write(self.next_id, time, out);
        self.sent += 1;
        if template.has_id {
            self.next_id = self.next_id.next();
        } else {
            // Nothing is acknowledged at QoS 0.
            self.acked += 1;
        }
    }
}

impl Template {
    fn new(name: &str, stream: u32, flow: &Flow) -> Self {
        let (id, dup) = (PacketId::MIN, false);
        let delivery = match flow.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        };
        let topic = TopicName::new(name).expect("the topics of the workloads are valid");
        let payload = vec![b'x'; flow.payload.max(Mark::LEN)];
        let packet = Packet::Publish(Publish { topic, payload: &payload, delivery, retain: false });
        let bytes = bytes(&packet);
        let mark_at = bytes.len() - payload.len();
        Self { bytes, mark_at, has_id: delivery.packet_id().is_some(), stream, sent: 0 }
    }

    fn write(&mut self, id: PacketId, time: u64, out: &mut Vec<u8>) {
        let mark = Mark { stream: self.stream, number: self.sent, time };
        self.sent += 1;
        let mark_at = out.len() + self.mark_at;
        out.extend_from_slice(&self.bytes);
        out[mark_at..mark_at + Mark::LEN].copy_from_slice(&mark.to_bytes());
        if self.has_id {
            out[mark_at - 2..mark_at].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}

/// The answer to a message.
pub(crate) fn acknowledge(delivery: Delivery, out: &mut Vec<u8>) {
    match delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce { id, .. } => Packet::PubAck(id).encode(out),
        Delivery::ExactlyOnce { id, .. } => Packet::PubRec(id).encode(out),
    }
}

fn topic(publisher: usize, number: Option<usize>) -> String {
    match number {
        None => format!("bench/{publisher}"),
        Some(number) => format!("bench/{publisher}/{number}"),
    }
}
