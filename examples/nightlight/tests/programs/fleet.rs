//! Many devices in one process, at one server.

use std::collections::HashMap;

use crate::broker_process::BrokerProcess;
use crate::program::Program;
use crate::room::{Room, nightlight};

const DEVICES: usize = 200;

/// Readings of each device that have to be answered.
const ROUNDS: usize = 3;

#[test]
fn two_hundred_devices_are_each_commanded_by_their_own_light() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &["--fleet"]);
    server.line_where(|line| line == "MQTT connected!");
    let devices = Program::start(
        nightlight("nightlight-device")
            .args(["--id", &room.id, "--devices", &DEVICES.to_string()])
            .args(["--sensor", "random:0:600", "--interval", "2s", "--headless"])
            .args(["--broker", &format!("mqtt://127.0.0.1:{}", broker.port())]),
    );
    // For each device, what it has sent and not been answered yet.
    let mut open: HashMap<String, Vec<bool>> = HashMap::new();
    let mut answered: HashMap<String, usize> = HashMap::new();
    let mut full = 0;
    while full < DEVICES {
        let line = devices.next_line().expect("the devices go on");
        let (id, words) = line.split_once("] ").expect("each line names its device");
        if let Some(rest) = words.strip_prefix("Sending telemetry  {\"light\": ") {
            let light: u16 = rest.trim_end_matches('}').parse().expect("a number");
            open.entry(id.to_owned()).or_default().push(light < 300);
        } else if words == "MQTT connected!" {
            // Of the readings before, the newest is sent.
            open.entry(id.to_owned())
                .and_modify(|open| drop(open.drain(..open.len().saturating_sub(1))));
        } else if let Some(rest) = words.strip_prefix("Message received: {'led_on': ") {
            let is_on = rest == "True}";
            let open = open.get_mut(id).filter(|open| !open.is_empty());
            let open = open.unwrap_or_else(|| panic!("{id} was commanded without having sent"));
            assert_eq!(open[0], is_on, "{id}");
            open.remove(0);
            let answered = answered.entry(id.to_owned()).or_default();
            *answered += 1;
            full += usize::from(*answered == ROUNDS);
        }
    }
    assert_eq!(answered.len(), DEVICES);
    assert!(devices.terminate().success());
}
