use std::collections::VecDeque;
use std::process::{Command, ExitStatus};

use crate::broker_process::BrokerProcess;
use crate::foreign::{in_path, required};
use crate::program::{Program, run};

/// True when `mosquitto_pub` and `mosquitto_sub` are there; says so when not.
pub(crate) fn clients_installed() -> bool {
    let both = in_path("mosquitto_pub").and(in_path("mosquitto_sub"));
    required("mosquitto_pub and mosquitto_sub", both).is_some()
}

/// A message as `mosquitto_sub` got it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) payload: String,
}

/// What a test expects: shorter to write than the fields.
pub(crate) fn received(topic: &str, qos: u8, retain: bool, payload: &str) -> Received {
    Received { topic: topic.into(), qos, retain, payload: payload.into() }
}

/// A running `mosquitto_sub` whose subscription the broker has granted.
pub(crate) struct Subscriber {
    program: Program,
    early: VecDeque<Received>,
}

impl Subscriber {
    /// Starts `mosquitto_sub` and returns when the SUBACK is there: nothing that is published after
    /// this may be missed.
    pub(crate) fn start(broker: &BrokerProcess, arguments: &[&str]) -> Self {
        let program = Program::start(command("mosquitto_sub", broker).args(arguments).args([
            "-d",
            "-F",
            ">\\t%t\\t%q\\t%r\\t%p",
        ]));
        let mut early = VecDeque::new();
        program.line_where(|line| {
            assert!(!line.starts_with("Connection error"), "the broker refuses: {line}");
            // What a kept session missed can come before the SUBACK.
            if line.starts_with(">\t") {
                early.push_back(parse(line));
            }
            line.starts_with("Subscribed (mid")
        });
        Self { program, early }
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Received {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        let line = self.program.line_where(|line| line.starts_with(">\t"));
        parse(&line)
    }

    /// Ends it with TERM: it sends DISCONNECT.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.program.terminate()
    }

    /// Ends it with KILL: its connection breaks without DISCONNECT.
    pub(crate) fn kill_9(self) {
        self.program.kill_9();
    }
}

/// Runs `mosquitto_pub` to its end: with QoS 1 and 2 the broker has acknowledged the message then.
pub(crate) fn publish(broker: &BrokerProcess, arguments: &[&str]) {
    run(command("mosquitto_pub", broker).args(arguments));
}

/// A Mosquitto program that talks to `broker`.
///
/// Under `stdbuf`, because `mosquitto_sub -d` keeps its debug lines, the SUBACK among them, in a
/// buffer until a message comes.
pub(crate) fn command(name: &str, broker: &BrokerProcess) -> Command {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", name, "-h", "127.0.0.1", "-p", &broker.port().to_string()]);
    command
}

fn parse(line: &str) -> Received {
    // Tabs, because a topic may have spaces.
    let mut words = line.splitn(5, '\t').skip(1);
    let mut word = || words.next().unwrap_or_else(|| panic!("not a message: {line}"));
    let topic = word().to_owned();
    let qos = word().parse().expect("a QoS");
    let retain = word() == "1";
    Received { topic, qos, retain, payload: word().to_owned() }
}
