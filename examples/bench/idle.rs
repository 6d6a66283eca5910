//! Clients that are connected and silent.

use std::time::Duration;

use mqtt_codec::QoS;

use crate::swarm::Swarm;
use crate::workload::{Effort, Metric};
use crate::{Fault, Running};

/// What `count` silent clients with one subscription each cost: memory, connecting, and the time of
/// a second in which nothing happens.
pub(crate) fn run(
    count: usize,
    broker: &Running,
    effort: &Effort,
) -> Result<Vec<(Metric, f64)>, Fault> {
    let meter = broker.meter();
    let mut swarm = Swarm::new(broker.address())?;
    // The first ones make what all share.
    for n in 0..10 {
        join(&mut swarm, n)?;
    }
    let (memory, time) = (meter.memory()?, meter.cpu()?);
    for n in 10..10 + count {
        join(&mut swarm, n)?;
    }
    let connecting = meter.cpu()? - time;
    // Time to give back what only connecting took.
    std::thread::sleep(effort.warm_up);
    let grown = meter.memory()?.saturating_sub(memory);

    let idle = meter.cpu()?;
    std::thread::sleep(effort.time);
    let idle = meter.cpu()? - idle;
    swarm.turn(Duration::ZERO, |_, _, _| Err(Fault::Foreign))?;
    Ok(vec![
        (Metric::Bytes, grown as f64 / count as f64),
        (Metric::Connect, connecting.as_secs_f64() * 1e6 / count as f64),
        (Metric::Idle, idle.as_secs_f64() * 1e3 / effort.time.as_secs_f64()),
    ])
}

fn join(swarm: &mut Swarm, n: usize) -> Result<(), Fault> {
    let link = swarm.connect(&format!("idle-{n:06}"))?;
    swarm.subscribe(link, &[format!("idle/{n:06}")], QoS::AtMostOnce)
}
