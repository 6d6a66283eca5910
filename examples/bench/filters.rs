//! Many filters, and messages for topics all over them.

use std::time::{Duration, Instant};

use mqtt_codec::{Delivery, Packet, Publish, QoS, TopicName};

use crate::ledger::{Ledger, Mark};
use crate::swarm::{PATIENCE, Swarm, bytes};
use crate::workload::{Effort, Metric};
use crate::{Fault, Running};

/// Clients that share the filters: the 1,000 each that brokers allow by default.
const CLIENTS: usize = 100;

/// Messages on their way at a time.
const WINDOW: usize = 100;

pub(crate) fn run(
    count: usize,
    broker: &Running,
    effort: &Effort,
) -> Result<Vec<(Metric, f64)>, Fault> {
    let meter = broker.meter();
    let mut swarm = Swarm::new(broker.address())?;
    let clients = CLIENTS.min(count);
    for client in 0..clients {
        swarm.connect(&format!("receiver-{client:03}"))?;
    }
    let publisher = swarm.connect("publisher")?;
    let (memory, time) = (meter.memory()?, meter.cpu()?);
    for client in 0..clients {
        let filters: Vec<_> = (client..count).step_by(clients).map(filter).collect();
        swarm.subscribe(client, &filters, QoS::AtMostOnce)?;
    }
    let subscribing = meter.cpu()? - time;
    std::thread::sleep(effort.warm_up);
    let grown = meter.memory()?.saturating_sub(memory);

    let mut load = Load {
        swarm,
        publisher,
        count,
        clients,
        ledger: Ledger::new(count),
        sent: vec![0; count],
        state: 1,
        on_the_way: 0,
        delivered: 0,
    };
    load.run(count.min(20_000) as u64)?;
    let time = meter.cpu()?;
    let own = crate::Meter::own().cpu()?;
    // As many as there are filters, so that each of them had its chance.
    let delivered = load.run((count as f64 * effort.time.as_secs_f64()).max(1000.0) as u64)?;
    let each = |time: Duration, count: u64| time.as_secs_f64() * 1e6 / count as f64;
    Ok(vec![
        (Metric::Bytes, grown as f64 / count as f64),
        (Metric::Subscribe, each(subscribing, count as u64)),
        (Metric::Cpu, each(meter.cpu()? - time, delivered)),
        (Metric::Generator, each(crate::Meter::own().cpu()? - own, delivered)),
    ])
}

/// Most filters of real clients name one topic.
fn filter(number: usize) -> String {
    match number / CLIENTS % 10 {
        0..3 => format!("site/{:03}/room/{:03}/+", number / 1000, number % 1000),
        _ => topic(number),
    }
}

fn topic(number: usize) -> String {
    format!("site/{:03}/room/{:03}/light", number / 1000, number % 1000)
}

struct Load {
    swarm: Swarm,
    publisher: usize,
    count: usize,
    clients: usize,
    /// A stream for each topic: that is how far a broker has to keep the order.
    ledger: Ledger,
    /// Messages sent to each topic.
    sent: Vec<u32>,
    state: u64,
    on_the_way: usize,
    delivered: u64,
}

impl Load {
    /// Passes so many messages, or as many as there is time for, to topics in no order, and waits for
    /// all of them.
    fn run(&mut self, messages: u64) -> Result<u64, Fault> {
        let (before, start) = (self.delivered, Instant::now());
        let mut left = messages;
        while left > 0 || self.on_the_way > 0 {
            while self.on_the_way < WINDOW && left > 0 {
                self.send();
                left -= 1;
            }
            if start.elapsed() > PATIENCE {
                left = 0;
            }
            let Self { swarm, clients, ledger, on_the_way, delivered, .. } = self;
            let mut came = false;
            swarm.run_until(|link, packet, _| {
                let Packet::Publish(publish) = packet else { return Err(Fault::Foreign) };
                let mark = Mark::parse(publish.payload)?;
                if mark.stream as usize % *clients != link {
                    return Err(Fault::Foreign);
                }
                ledger.enter(mark.stream as usize, mark)?;
                *on_the_way -= 1;
                *delivered += 1;
                came = true;
                Ok(came)
            })?;
        }
        Ok(self.delivered - before)
    }

    fn send(&mut self) {
        // A generator of Lehmer's kind: spread well enough, and the same for every broker.
        self.state = self.state * 48_271 % 0x7fff_ffff;
        let number = self.state as usize % self.count;
        let mark = Mark { stream: number as u32, number: self.sent[number], time: 0 };
        self.sent[number] += 1;
        self.on_the_way += 1;
        let topic = topic(number);
        let packet = Publish {
            topic: TopicName::new(&topic).expect("a valid topic"),
            payload: &mark.to_bytes(),
            delivery: Delivery::AtMostOnce,
            retain: false,
        };
        self.swarm.out(self.publisher).extend(bytes(&Packet::Publish(packet)));
    }
}
