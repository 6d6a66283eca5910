//! paho-mqtt: the client of most courses, in the version of older code and in the newest.

use std::path::PathBuf;
use std::process::Command;

use crate::broker_process::BrokerProcess;
use crate::foreign::{installed, required};
use crate::program::{Program, run, scripts};

#[test]
fn the_scripts_of_a_newcomer_run_with_paho_1() {
    newcomer("paho-1", "v1");
}

#[test]
fn the_scripts_of_a_newcomer_run_with_paho_2() {
    newcomer("paho-2", "v2");
}

#[test]
fn paho_1_exchanges_messages() {
    exchange("paho-1");
}

#[test]
fn paho_2_exchanges_messages() {
    exchange("paho-2");
}

#[test]
fn paho_2_exchanges_messages_over_websocket() {
    let broker = BrokerProcess::start_with_config("protocol websockets\nallow_anonymous true");
    exchange_with("paho-2", &broker, &["websockets"]);
}

/// A publisher that sends a number each second and a subscriber that prints it.
fn newcomer(environment: &str, version: &str) {
    let Some(python) = python(environment) else { return };
    let broker = BrokerProcess::start();
    let script = |name: &str| {
        let mut command = script(&python, &format!("{name}_{version}.py"), &broker);
        Program::start(&mut command)
    };
    let subscriber = script("print_numbers");
    let publisher = script("publish_numbers");
    assert!(publisher.line_where(|line| line.starts_with("connected")).contains("connected"));
    let first = subscriber.line_where(|line| line.starts_with("MYTOPIC "));
    let first: u32 = first["MYTOPIC ".len()..].parse().expect("a number");
    for number in first + 1..first + 4 {
        assert_eq!(subscriber.next_line(), Some(format!("MYTOPIC {number}")));
    }
}

fn exchange(environment: &str) {
    exchange_with(environment, &BrokerProcess::start(), &[]);
}

fn exchange_with(environment: &str, broker: &BrokerProcess, more: &[&str]) {
    let Some(python) = python(environment) else { return };
    // paho 2 warns about the callbacks of paho 1, which this script uses with both.
    let mut script = script(&python, "exchange.py", broker);
    script.args(more);
    print!("{}", run(script.env("PYTHONWARNINGS", "ignore::DeprecationWarning")));
}

/// The interpreter of a virtual environment that `tests/install-clients` made.
fn python(environment: &str) -> Option<PathBuf> {
    let python = installed().join(environment).join("bin/python");
    required(environment, python.is_file().then_some(python))
}

fn script(python: &PathBuf, name: &str, broker: &BrokerProcess) -> Command {
    let mut command = Command::new(python);
    command.arg(scripts().join("paho").join(name));
    command.args(["127.0.0.1", &broker.port().to_string()]);
    command
}
