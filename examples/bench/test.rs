//! The workloads run, briefly, against the broker example, so that they cannot rot.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mqtt_bench::{BrokerCommand, Effort, Metric, growth, raise_open_files, table};

const QUICK: Effort =
    Effort { warm_up: Duration::from_millis(30), time: Duration::from_millis(60), divisor: 500 };

/// The broker example, which `cargo test` does not build for this package.
fn our_broker() -> BrokerCommand {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--package", "mqtt-examples", "--example", "broker"])
        .args(["--message-format", "json-render-diagnostics"])
        .output()
        .expect("cargo runs");
    let output = String::from_utf8(build.stdout).expect("JSON");
    let artifact = output.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_broker = message["target"]["name"] == "broker";
        is_broker.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    BrokerCommand::ours(&artifact.expect("the broker example builds"))
}

#[test]
fn every_workload_passes_our_broker_without_loss() {
    raise_open_files();
    let broker = our_broker();
    for workload in table() {
        let running = broker.start().expect("it starts");
        let metrics = workload.run(&running, &QUICK).unwrap_or_else(|error| {
            panic!("{}: {error}", workload.name);
        });
        for (metric, value) in metrics {
            let is_plausible = value.is_finite() && value >= 0.0;
            assert!(is_plausible, "{}: {metric} is {value}", workload.name);
            if metric == Metric::Cpu {
                assert!(value > 0.0, "{}", workload.name);
            }
        }
    }
}

// Publisher, receiver and the session between them are on different threads.
#[test]
fn messages_between_threads_arrive_once_and_in_order() {
    let one = our_broker();
    let two = one.with_arguments("--workers 2");
    for workload in table().into_iter().filter(|workload| workload.name.contains("QoS")) {
        let running = two.start().expect("it starts");
        workload.run(&running, &QUICK).unwrap_or_else(|error| {
            panic!("{}: {error}", workload.name);
        });
    }
}

#[test]
fn the_smallest_workloads_of_growth_pass() {
    let broker = our_broker();
    for workload in growth().into_iter().step_by(3) {
        let running = broker.start().expect("it starts");
        workload.run(&running, &QUICK).unwrap_or_else(|error| {
            panic!("{}: {error}", workload.name);
        });
    }
}
