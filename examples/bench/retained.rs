//! Retained messages: one for each of many topics, then a subscriber that wants them all.

use std::time::Duration;

use mqtt_codec::{Delivery, Packet, Publish, QoS, TopicName};

use crate::ledger::{Ledger, Mark};
use crate::swarm::{Swarm, bytes, subscribe};
use crate::workload::{Effort, Metric};
use crate::{Fault, Running};

/// Messages on their way at a time: the publisher waits for each batch to be handled.
const BATCH: usize = 100;

pub(crate) fn run(
    count: usize,
    payload: usize,
    broker: &Running,
    effort: &Effort,
) -> Result<Vec<(Metric, f64)>, Fault> {
    let meter = broker.meter();
    let mut swarm = Swarm::new(broker.address())?;
    let publisher = swarm.connect("publisher")?;
    // Buffers and tables that are there whatever is kept.
    publish(&mut swarm, publisher, "warm", 0..BATCH, payload)?;

    let (memory, time) = (meter.memory()?, meter.cpu()?);
    for first in (0..count).step_by(BATCH) {
        publish(&mut swarm, publisher, "kept", first..(first + BATCH).min(count), payload)?;
    }
    let entering = meter.cpu()? - time;
    std::thread::sleep(effort.warm_up);
    let grown = meter.memory()?.saturating_sub(memory);

    let receiver = swarm.connect("receiver")?;
    let mut ledger = Ledger::new(count);
    let mut came = 0;
    let time = meter.cpu()?;
    swarm.out(receiver).extend(subscribe(&["kept/#".to_owned()], QoS::AtMostOnce));
    swarm.run_until(|_, packet, _| {
        if let Packet::Publish(publish) = packet {
            let mark = Mark::parse(publish.payload)?;
            ledger.enter(mark.stream as usize, mark)?;
            came += 1;
        }
        Ok(came == count)
    })?;
    let leaving = meter.cpu()? - time;
    swarm.turn(Duration::from_millis(20), |_, packet, _| match packet {
        Packet::Publish(_) => Err(Fault::Foreign),
        _ => Ok(()),
    })?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    Ok(vec![
        (Metric::Bytes, grown as f64 / count as f64),
        (Metric::CpuIn, each(entering)),
        (Metric::CpuOut, each(leaving)),
    ])
}

/// Publishes a batch at QoS 0, and waits until the broker has handled it: the PINGRESP comes after.
fn publish(
    swarm: &mut Swarm,
    link: usize,
    prefix: &str,
    numbers: std::ops::Range<usize>,
    payload: usize,
) -> Result<(), Fault> {
    let mut body = vec![b'x'; payload.max(Mark::LEN)];
    let out = swarm.out(link);
    for number in numbers {
        let mark = Mark { stream: number as u32, number: 0, time: 0 };
        body[..Mark::LEN].copy_from_slice(&mark.to_bytes());
        let topic = format!("{prefix}/{:03}/{:03}/value", number / 1000, number % 1000);
        let packet = Publish {
            topic: TopicName::new(&topic).expect("a valid topic"),
            payload: &body,
            delivery: Delivery::AtMostOnce,
            retain: true,
        };
        out.extend(bytes(&Packet::Publish(packet)));
    }
    out.extend(bytes(&Packet::PingReq));
    swarm.run_until(|_, packet, _| Ok(matches!(packet, Packet::PingResp)))
}
