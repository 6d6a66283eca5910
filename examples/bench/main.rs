//! Measures MQTT brokers beside each other: `cargo run --release --example bench`.

use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use mqtt_bench::{
    BrokerCommand, Effort, Keeping, Metric, Report, Workload, chart, durable_table, growth,
    restart_table, table,
};

/// Measures what messages cost MQTT brokers: CPU time, memory, latency.
///
/// Starts this repository's broker, Mosquitto if it is installed, and every other broker that is
/// named, in turn, several times, each on a fresh process for each workload. Checks that every message
/// arrives once and in order, and prints medians and ratios. Runs on Linux. On a machine with two
/// cores the generator takes one; leave the other to the broker.
///
/// The brokers that read Mosquitto's configuration get one without limits for queues and windows, and
/// without persistence. Window workloads keep 100 messages of each publisher on their way.
#[derive(Parser)]
#[command(name = "bench", version, max_term_width = 100)]
struct Arguments {
    /// Another broker. The command goes to `sh`; `{port}` in it stands for the port to listen on,
    /// `{conf}` for a configuration file in Mosquitto's format. Of several commands the broker's
    /// begins with `exec`. Can be given several times.
    #[arg(long = "broker", value_name = "NAME=COMMAND")]
    brokers: Vec<BrokerCommand>,
    /// Measures only the brokers given with --broker.
    #[arg(long, requires = "brokers")]
    alone: bool,
    /// Only workloads whose name has this in it. Can be given several times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Measures how the cost of a message grows with connections and filters, instead of the table.
    #[arg(long)]
    growth: bool,
    /// Measures what it costs to have messages on the disk before they are acknowledged, and a start
    /// with a million of them, instead of the table.
    #[arg(long)]
    durable: bool,
    /// Prints the names of the workloads and ends.
    #[arg(long)]
    list: bool,
    /// How often everything is measured; the table has medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Time of each measurement, in seconds.
    #[arg(long, default_value = "1.5", value_parser = seconds)]
    seconds: Duration,
    /// Divides the numbers of connections, filters and stored messages, for a quick look.
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    divide: usize,
    /// Writes the values of all rounds to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a bar chart of the CPU times to an SVG file.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).ok_or_else(|| "more than 0 seconds".to_owned())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False when some broker failed in some workload.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let mut workloads = if arguments.growth { growth() } else { table() };
    let only = &arguments.only;
    workloads.retain(|workload| {
        only.is_empty() || only.iter().any(|text| workload.name.contains(&text[..]))
    });
    if workloads.is_empty() {
        return Err(
            format!("no workload has {} in its name; --list has them", only.join(" or ")).into()
        );
    }
    if arguments.list {
        workloads.iter().for_each(|workload| println!("{}", workload.name));
        return Ok(true);
    }
    mqtt_bench::raise_open_files();
    let brokers = arguments.brokers()?;
    if arguments.durable {
        arguments.measure_durability(&brokers)?;
        return Ok(true);
    }
    let names = brokers.iter().map(|broker| broker.name.clone()).collect();
    let mut report = Report::new(names);
    let machine = machine();
    let all_well = arguments.measure(&workloads, &brokers, &mut report);
    println!("{machine}\n\n{}", report.table());
    if let Some(file) = &arguments.json {
        fs::write(file, format!("{:#}\n", report.json(&machine)))?;
    }
    if let Some(file) = &arguments.chart {
        fs::write(file, chart(&report, &machine))?;
    }
    Ok(all_well)
}

impl Arguments {
    fn brokers(&self) -> Result<Vec<BrokerCommand>, Box<dyn Error>> {
        let mut brokers = Vec::new();
        if !self.alone {
            brokers.push(BrokerCommand::ours(&our_broker()?));
            match Command::new("mosquitto").arg("-h").output() {
                Ok(_) => brokers.push(BrokerCommand::mosquitto()),
                Err(error) => eprintln!("bench: without Mosquitto: {error}"),
            }
        }
        brokers.extend(self.brokers.iter().cloned());
        Ok(brokers)
    }

    fn measure_durability(&self, brokers: &[BrokerCommand]) -> Result<(), Box<dyn Error>> {
        let ways: Vec<_> = brokers
            .iter()
            .enumerate()
            // How the first one does without a disk is what the others are compared with.
            .flat_map(|(n, broker)| {
                Keeping::both(broker).into_iter().take(if n == 0 { 2 } else { 1 })
            })
            .collect();
        println!("{}\n", machine());
        let time = self.seconds;
        println!("{}", durable_table(&ways, time)?);
        if let Some(ours) = brokers.first() {
            println!("{}", restart_table(ours, 1_000_000 / self.divide)?);
        }
        Ok(())
    }

    /// Round after round, and in each workload one broker after the other, so that what else the
    /// machine does meets all of them.
    fn measure(
        &self,
        workloads: &[Workload],
        brokers: &[BrokerCommand],
        report: &mut Report,
    ) -> bool {
        let effort = Effort {
            warm_up: Duration::from_millis(300),
            time: self.seconds,
            divisor: self.divide,
        };
        let runs = self.rounds as usize * workloads.len() * brokers.len();
        let mut done = 0;
        let mut all_well = true;
        for round in 1..=self.rounds {
            for workload in workloads {
                for (number, broker) in brokers.iter().enumerate() {
                    done += 1;
                    let what = format!("round {round}, {}: {}", workload.name, broker.name);
                    progress(&format!("[{done}/{runs}] {what}"));
                    match measure_once(workload, broker, &effort) {
                        Ok(values) => report.enter(&workload.name, number, &values),
                        Err(error) => {
                            progress("");
                            eprintln!("bench: {what}: {error}");
                            all_well = false;
                        }
                    }
                }
            }
        }
        progress("");
        all_well
    }
}

fn measure_once(
    workload: &Workload,
    broker: &BrokerCommand,
    effort: &Effort,
) -> Result<Vec<(Metric, f64)>, Box<dyn Error>> {
    let running = broker.start()?;
    Ok(workload.run(&running, effort)?)
}

/// The broker example, built as this program was: it lies beside it.
fn our_broker() -> Result<PathBuf, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let examples = own.parent().unwrap_or(Path::new("."));
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "mqtt-examples", "--example", "broker"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    // target/release/examples/bench
    build.args(own.ancestors().nth(3).map(|target| format!("--target-dir={}", target.display())));
    match build.status()?.success() {
        true => Ok(examples.join("broker")),
        false => Err("the broker example does not build".into()),
    }
}

/// One line that is written over, where somebody looks.
fn progress(text: &str) {
    let mut terminal = stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K{text}");
        let _ = terminal.flush();
    }
}

/// What the figures were measured on.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
