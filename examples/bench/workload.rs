use std::fmt;
use std::time::Duration;

use mqtt_codec::QoS;

use crate::flow::{Flow, Load, Shape};
use crate::{Fault, Running, filters, idle, offline, retained};

/// A load with a name, which a broker of its own is started for.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What tables call it, and what `--only` looks in.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Flow(Flow),
    Idle { count: usize },
    Retained { count: usize, payload: usize },
    Filters { count: usize },
    Offline { count: usize, payload: usize },
}

/// How long and how much: a test makes do with little.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Before the measurement begins.
    pub warm_up: Duration,
    /// Of the measurement.
    pub time: Duration,
    /// Connections, filters and stored messages are divided by this.
    pub divisor: usize,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// CPU time of the broker for each delivered message, all threads, user and system.
    Cpu,
    /// From due to received, half of the messages.
    Median,
    /// The same, all but one in a hundred.
    Tail,
    /// Resident memory for each connection, filter or message.
    Bytes,
    /// CPU time to take a message and keep it.
    CpuIn,
    /// CPU time to send what was kept.
    CpuOut,
    /// CPU time to connect a client and subscribe it to one filter.
    Connect,
    /// CPU time to add a filter.
    Subscribe,
    /// CPU time of a second in which nothing happens.
    Idle,
    /// Messages delivered in a second. It says more about the machine than about the broker.
    Rate,
    /// CPU time of the generator for each delivered message.
    Generator,
}

impl Metric {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU µs a message",
            Self::Median => "latency µs, median",
            Self::Tail => "latency µs, 99 %",
            Self::Bytes => "bytes each",
            Self::CpuIn => "CPU µs in",
            Self::CpuOut => "CPU µs out",
            Self::Connect => "CPU µs a connection",
            Self::Subscribe => "CPU µs a filter",
            Self::Idle => "CPU ms a second",
            Self::Rate => "messages a second",
            Self::Generator => "generator's CPU µs",
        }
    }

    /// Whether it compares brokers: the others say how the measurement went.
    pub fn compares(self) -> bool {
        !matches!(self, Self::Rate | Self::Generator)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Workload {
    fn flow(name: impl Into<String>, flow: Flow) -> Self {
        Self { name: name.into(), kind: Kind::Flow(flow) }
    }

    /// Puts the load on a broker.
    pub fn run(&self, broker: &Running, effort: &Effort) -> Result<Vec<(Metric, f64)>, Fault> {
        let part = |count: usize| (count / effort.divisor).max(1);
        match &self.kind {
            Kind::Flow(flow) => {
                Flow { idle: flow.idle / effort.divisor, ..*flow }.run(broker, effort)
            }
            Kind::Idle { count } => idle::run(part(*count), broker, effort),
            Kind::Retained { count, payload } => {
                retained::run(part(*count), *payload, broker, effort)
            }
            Kind::Filters { count } => filters::run(part(*count), broker, effort),
            Kind::Offline { count, payload } => {
                offline::run(part(*count), *payload, broker, effort)
            }
        }
    }
}

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Topics of each publisher in the workloads with many.
const MANY: usize = 100;

/// The workloads that brokers are compared by.
pub fn table() -> Vec<Workload> {
    let mut table = Vec::new();
    let mut add = |name: String, flow| table.push(Workload::flow(name, flow));
    let pairs = Flow::new(Shape::Pairs(4));
    for (payload, size) in [(16, "16 B"), (256, "256 B"), (4096, "4 KiB")] {
        for qos in ALL_QOS {
            let name = format!("4 pairs, {size}, QoS {}", u8::from(qos));
            add(name, Flow { payload, qos, ..pairs });
        }
    }
    for qos in ALL_QOS {
        let name = format!("4 pairs, {MANY} topics each, QoS {}", u8::from(qos));
        add(name, Flow { topics: MANY, qos, ..pairs });
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let name = format!("16 publishers to one, QoS {}", u8::from(qos));
        add(name, Flow { qos, ..Flow::new(Shape::FanIn(16)) });
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let name = format!("one to 100, QoS {}", u8::from(qos));
        add(name, Flow { qos, ..Flow::new(Shape::FanOut(100)) });
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let name = format!("10,000 a second, QoS {}", u8::from(qos));
        add(name, Flow { qos, load: Load::Rate(10_000), ..pairs });
    }
    table.extend([
        Workload { name: "idle connections".to_owned(), kind: Kind::Idle { count: 5000 } },
        Workload {
            name: "retained, 64 B".to_owned(),
            // Under the limit of 100,000 that some have, with room for `$SYS`.
            kind: Kind::Retained { count: 90_000, payload: 64 },
        },
        Workload { name: "100,000 filters".to_owned(), kind: Kind::Filters { count: 100_000 } },
        Workload {
            name: "60,000 offline, 256 B".to_owned(),
            kind: Kind::Offline { count: 60_000, payload: 256 },
        },
    ]);
    table
}

/// How the cost of a message grows with what else there is.
pub fn growth() -> Vec<Workload> {
    let mut growth = Vec::new();
    let mut add = |name: String, flow| growth.push(Workload::flow(name, flow));
    let pairs = Flow::new(Shape::Pairs(4));
    for idle in [10, 1000, 10_000] {
        add(format!("4 pairs beside {idle} idle connections"), Flow { idle, ..pairs });
    }
    for connections in [10, 1000, 10_000] {
        let shape = Shape::Pairs(connections / 2);
        let flow = Flow { load: Load::Window(1), ..Flow::new(shape) };
        add(format!("{connections} connections in pairs, 1 message each"), flow);
    }
    for foreign_filters in [1, 100, 10_000] {
        let name = format!("4 pairs beside {foreign_filters} filters of nobody's messages");
        add(name, Flow { foreign_filters, topics: MANY, ..pairs });
    }
    growth
}
