//! The other example of the lesson: a house whose newest temperatures matter, and a machine whose
//! every reading counts.

use std::time::Duration;

use mqtt_client::{Client, Publish, QoS};

use crate::broker_process::BrokerProcess;
use crate::network::Network;
use crate::program::Program;
use crate::room::{Room, cut, nightlight, restart};

fn start(role: &str, room: &Room, port: u16, options: &[&str]) -> Program {
    let log = std::fs::File::create(room.path(role)).expect("a file can be made");
    let url = format!("mqtt://127.0.0.1:{port}");
    Program::start(
        nightlight("thermostat")
            .args([role, "--id", &room.id, "--broker", &url, "--keep-alive", "1s"])
            .args(options)
            .stderr(log),
    )
}

fn expect(program: &Program, line: &str) {
    program.line_where(|found| found == line);
}

#[test]
fn a_house_is_heated_and_not_when_it_is_warm() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let house = start("house", &room, broker.port(), &["--interval", "100ms"]);
    let control = start("control", &room, broker.port(), &["--target", "21"]);
    let telemetry = control.line_where(|line| line.starts_with("Message received: "));
    for field in ["thermostat_temperature", "livingroom_temperature", "bedroom_temperature"] {
        assert!(telemetry.contains(&format!("'{field}': ")), "{telemetry}");
    }
    expect(&control, "Sending message: {\"heating_on\": true}");
    expect(&house, "Message received: {'heating_on': True}");
    drop(control);
    let control = start("control", &room, broker.port(), &["--target", "10"]);
    expect(&control, "Sending message: {\"heating_on\": false}");
    expect(&house, "Message received: {'heating_on': False}");
}

#[tokio::test]
async fn of_the_commands_during_an_outage_the_last_one_wins() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let network = Network::to(broker.port());
    let house = start("house", &room, network.port(), &["--interval", "100ms"]);
    expect(&house, "MQTT connected!");
    network.cut();
    room.expect_complaint("house", "Not connected");
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let client = Client::builder(&url).connect().await.expect("it connects");
    for heating_on in [true, false, true, false, true] {
        let topic = format!("{}/commands", room.id);
        let message = Publish::new(topic, format!("{{\"heating_on\": {heating_on}}}"));
        let message = message.qos(QoS::AtLeastOnce).retain(true);
        client.publish(message).await.expect("accepted").await.expect("delivered");
    }
    network.mend();
    let received = |line: &str| line.starts_with("Message received");
    assert_eq!(house.line_where(received), "Message received: {'heating_on': True}");
    let more = (0..20).filter_map(|_| house.next_line()).filter(|line| received(line));
    assert_eq!(more.count(), 0, "the others are not heard of");
}

#[test]
fn a_house_that_is_alone_does_not_freeze() {
    let room = Room::new();
    let port = crate::broker_process::free_port();
    let options = ["--interval", "100ms", "--target", "20", "--offline-after", "300ms"];
    let house = start("house", &room, port, &options);
    room.expect_complaint("house", "Offline: the thermostat turns the heating on by itself");
    drop(house);
}

#[test]
fn a_machine_loses_no_reading_to_a_cut_network_or_a_killed_program() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let network = Network::to(broker.port());
    let store = room.path("store").display().to_string();
    let options = ["--interval", "50ms", "--store", &store];
    let record = start("record", &room, broker.port(), &[]);
    expect(&record, "MQTT connected!");
    let machine = start("machine", &room, network.port(), &options);
    let mut order = Order::default();
    order.read(&record, |_, number| number == 5);
    network.cut();
    room.expect_complaint("machine", "Not connected");
    std::thread::sleep(cut());
    network.mend();
    order.read(&record, |_, number| number == 100);
    // Now without a network, and killed: what it said is on its disk.
    let complaints = room.complaints("machine", "Not connected");
    network.cut();
    room.expect_complaints("machine", "Not connected", complaints + 1);
    std::thread::sleep(Duration::from_secs(1));
    let said = machine.kill_9();
    let last = said.iter().rev().find(|line| field(line, "\"number\":").is_some());
    let last = last.expect("it has said something");
    let (run, last) = (field(last, "\"run\":"), field(last, "\"number\":"));
    network.mend();
    let _machine = start("machine", &room, network.port(), &options);
    let old = order.read(&record, |of, _| Some(of) != run);
    assert!(old >= last, "{last:?} was said, {old:?} arrived last");
    let notes = std::fs::read_to_string(room.path("record")).expect("a log");
    assert!(!notes.contains("missing"), "{notes}");
}

#[test]
fn what_records_a_machine_may_be_away() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let record = start("record", &room, broker.port(), &[]);
    expect(&record, "MQTT connected!");
    let machine = start("machine", &room, broker.port(), &["--interval", "20ms"]);
    let mut order = Order::default();
    order.read(&record, |_, number| number == 10);
    record.kill_9();
    (0..30).for_each(|_| drop(machine.next_line()));
    let record = start("record", &room, broker.port(), &[]);
    // What was said but not acknowledged comes again.
    let first = record.line_where(|line| line.starts_with("Message received"));
    let first = field(&first, "'number': ").expect("a number");
    assert!(first <= order.last.map_or(0, |(_, last)| last) + 1, "{first} is too late");
    let mut order = Order::default();
    order.read(&record, |_, number| number == 60);
}

#[test]
fn a_restarted_broker_is_told_again_whether_to_heat() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let port = broker.port();
    let house = start("house", &room, port, &["--interval", "100ms"]);
    let control = start("control", &room, port, &[]);
    expect(&house, "Message received: {'heating_on': True}");
    expect(&control, "Sending message: {\"heating_on\": true}");
    broker.end_with("KILL");
    let _broker = restart(port);
    expect(&control, "MQTT connected!");
    let next = control.line_where(|line| line.starts_with("Sending message"));
    assert_eq!(next, "Sending message: {\"heating_on\": true}", "nothing has changed");
    expect(&house, "Message received: {'heating_on': True}");
    // From now on nothing changes: the broker tells it.
    drop(house);
    let house = start("house", &room, port, &["--interval", "100ms"]);
    expect(&house, "Message received: {'heating_on': True}");
}

/// The readings of a machine in the order in which they are recorded: none twice, none missing.
#[derive(Default)]
struct Order {
    last: Option<(u64, u64)>,
}

impl Order {
    /// Reads on until a run and a number are those; gives the number before it.
    fn read(&mut self, record: &Program, is_last: impl Fn(u64, u64) -> bool) -> Option<u64> {
        loop {
            let line = record.line_where(|line| line.starts_with("Message received"));
            let run = field(&line, "'run': ").expect("a run");
            let number = field(&line, "'number': ").expect("a number");
            let before = self.last.replace((run, number));
            if let Some((last_run, last)) = before {
                let expected = if run == last_run { last + 1 } else { 1 };
                assert_eq!(number, expected, "{line}");
            }
            if is_last(run, number) {
                return before.map(|(_, number)| number);
            }
        }
    }
}

/// The number that follows these words.
fn field(line: &str, words: &str) -> Option<u64> {
    let rest = &line[line.find(words)? + words.len()..];
    let digits = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}
