//! Messages for a client that is away, and its return.

use std::time::{Duration, Instant};

use mqtt_codec::{Delivery, Packet, PacketId, Publish, QoS, TopicName};

use crate::flow::acknowledge;
use crate::ledger::{Ledger, Mark};
use crate::swarm::{Swarm, bytes};
use crate::workload::{Effort, Metric};
use crate::{Fault, Running};

/// Messages that are not acknowledged at a time.
const WINDOW: usize = 100;

pub(crate) fn run(
    count: usize,
    payload: usize,
    broker: &Running,
    effort: &Effort,
) -> Result<Vec<(Metric, f64)>, Fault> {
    let meter = broker.meter();
    let mut swarm = Swarm::new(broker.address())?;
    let publisher = swarm.connect("publisher")?;
    let absent = swarm.connect_with("absent", false)?;
    swarm.subscribe(absent, &["offline".to_owned()], QoS::AtLeastOnce)?;
    swarm.disconnect(absent)?;
    wait_for_end(&mut swarm)?;

    let (memory, time) = (meter.memory()?, meter.cpu()?);
    publish(&mut swarm, publisher, count, payload)?;
    let entering = meter.cpu()? - time;
    std::thread::sleep(effort.warm_up);
    let grown = meter.memory()?.saturating_sub(memory);

    let mut ledger = Ledger::new(1);
    let mut came = 0;
    let time = meter.cpu()?;
    let back = swarm.connect_with("absent", false)?;
    swarm.run_until(|link, packet, out| {
        let (true, Packet::Publish(publish)) = (link == back, packet) else {
            return Err(Fault::Foreign);
        };
        ledger.enter(0, Mark::parse(publish.payload)?)?;
        acknowledge(publish.delivery, out);
        came += 1;
        Ok(came == count)
    })?;
    let leaving = meter.cpu()? - time;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    Ok(vec![
        (Metric::Bytes, grown as f64 / count as f64),
        (Metric::CpuIn, each(entering)),
        (Metric::CpuOut, each(leaving)),
    ])
}

/// The broker closes the connection that said goodbye.
fn wait_for_end(swarm: &mut Swarm) -> Result<(), Fault> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        match swarm.turn(Duration::from_millis(100), |_, _, _| Ok(())) {
            Ok(()) => {}
            Err(Fault::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(Fault::Stalled(0))
}

fn publish(swarm: &mut Swarm, link: usize, count: usize, payload: usize) -> Result<(), Fault> {
    let mut body = vec![b'x'; payload.max(Mark::LEN)];
    let (mut sent, mut acked) = (0, 0);
    while acked < count {
        while sent < count && sent - acked < WINDOW {
            let mark = Mark { stream: 0, number: sent as u32, time: 0 };
            body[..Mark::LEN].copy_from_slice(&mark.to_bytes());
            let id = PacketId::new((sent % 65_535) as u16 + 1).unwrap_or(PacketId::MIN);
            let packet = Publish {
                topic: TopicName::new("offline").expect("a valid topic"),
                payload: &body,
                delivery: Delivery::AtLeastOnce { id, dup: false },
                retain: false,
            };
            swarm.out(link).extend(bytes(&Packet::Publish(packet)));
            sent += 1;
        }
        swarm.run_until(|_, packet, _| match packet {
            Packet::PubAck(_) => {
                acked += 1;
                Ok(true)
            }
            _ => Err(Fault::Foreign),
        })?;
    }
    Ok(())
}
