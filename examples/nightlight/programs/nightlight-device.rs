//! The nightlight's device: a light sensor and an LED at a broker.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures::FutureExt as _;
use futures::future::try_join_all;
use mqtt_nightlight::connection::{self, BrokerOptions, parse_period};
use mqtt_nightlight::console::Console;
use mqtt_nightlight::led::LedChoice;
use mqtt_nightlight::lesson::THRESHOLD;
use mqtt_nightlight::life::{Life, LifeError, Policy, Setup};
use mqtt_nightlight::pace::Pace;
use mqtt_nightlight::rule::Rule;
use mqtt_nightlight::screen::{Panel, Screen};
use mqtt_nightlight::sensor::SensorChoice;

/// A nightlight: sends what its light sensor says to ID/telemetry, and switches its LED as
/// ID/commands tells it.
///
/// In a terminal it draws itself; without one, or with --headless, it prints what it does.
#[derive(Parser, Debug)]
#[command(name = "nightlight-device", version, after_help = EXAMPLES)]
struct Options {
    /// Id of the device, the first part of its topics; has to be its own at the broker
    #[arg(long, value_parser = connection::parse_id)]
    id: String,
    #[command(flatten)]
    broker: BrokerOptions,
    /// Time between readings that are sent
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_period)]
    interval: Duration,
    /// Send when the light has changed by so much, in place of at an interval
    #[arg(long, value_name = "DELTA", conflicts_with = "interval")]
    on_change: Option<u16>,
    /// With --on-change: send after so long in any case
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_period, requires = "on_change")]
    max_silence: Duration,
    /// Light sensor: sim (keys), day, walk, random:MIN:MAX, file:PATH, stdin, gpio:LINE
    #[arg(long, default_value = "sim")]
    sensor: SensorChoice,
    /// LED: term (drawn), file:PATH, gpio:LINE, none
    #[arg(long, default_value = "term")]
    led: LedChoice,
    /// GPIO chip for gpio:LINE
    #[arg(long, value_name = "DEVICE", default_value = "/dev/gpiochip0")]
    gpio_chip: String,
    /// Readings while there is no connection: keep the latest, or queue all of them
    #[arg(long, default_value = "latest")]
    policy: PolicyChoice,
    /// With --policy queue: folder where readings outlive the program
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Below this light the device switches its LED on when it is alone
    #[arg(long, value_name = "LIGHT", default_value_t = THRESHOLD)]
    threshold: f64,
    /// How much brighter it has to become to switch it off again
    #[arg(long, value_name = "LIGHT", default_value_t = 20.0)]
    hysteresis: f64,
    /// The device decides by itself after so long without a connection
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    offline_after: Duration,
    /// So many devices in this process: ID-1, ID-2, ...
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    devices: Option<u32>,
    /// Print lines, also in a terminal
    #[arg(long)]
    headless: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyChoice {
    Latest,
    Queue,
}

const EXAMPLES: &str = "\
Sensors:
  sim             a value set by keys; day and walk begin with a day of a minute, or a random walk
  random:0:1023   a new value for each reading
  file:PATH       the number in a file, such as /sys/bus/iio/devices/iio:device0/in_voltage0_raw
  stdin           a number a line, one for each reading
  gpio:LINE       a module with a digital output (built with `-p mqtt-nightlight -F gpio`)

LEDs:
  file:PATH       1 or 0 in a file, such as /sys/class/leds/ACT/brightness
  gpio:LINE       a line of the GPIO chip

Examples:
  nightlight-device --id 0bd2db82
  nightlight-device --id attic --sensor random:0:1023 --interval 1s --headless
  nightlight-device --id barn --policy queue --store ~/.nightlight
  nightlight-device --id hall --devices 200 --sensor walk

TIME is a number with a unit: 500ms, 5s, 2m, 1h.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our lines has gone: `nightlight-device | head`.
        Err(LifeError::View(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("nightlight-device: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), LifeError> {
    if options.store.is_some() && options.policy == PolicyChoice::Latest {
        return Err(io::Error::other("--store needs --policy queue").into());
    }
    let end = connection::end_signal()?;
    let Some(count) = options.devices else {
        let life = Life::begin(options.setup(&options.id, 0.0)?)?;
        if options.has_screen() {
            let panel = Panel::new(options.led != LedChoice::None);
            return life.run(&mut Screen::open(panel)?, end).await;
        }
        return life.run(&mut Console::new(), end).await;
    };
    let end = end.shared();
    let mut lives = Vec::new();
    for number in 1..=count {
        let id = format!("{}-{number}", options.id);
        let phase = f64::from(number - 1) / f64::from(count);
        let life = Life::begin(options.setup(&id, phase)?)?;
        let end = end.clone();
        lives.push(async move { life.run(&mut Console::with_id(&id), end).await });
    }
    try_join_all(lives).await.map(drop)
}

impl Options {
    /// Whether there is a terminal to draw in. One that lines are typed in is not drawn over.
    fn has_screen(&self) -> bool {
        let is_typed = self.sensor == SensorChoice::Stdin && io::stdin().is_terminal();
        io::stdout().is_terminal() && !self.headless && !is_typed
    }

    /// The setup of one device, which sends first after this part of its interval.
    fn setup(&self, id: &str, phase: f64) -> io::Result<Setup> {
        let pace = match self.on_change {
            Some(delta) => Pace::OnChange { delta, max_silence: self.max_silence },
            None => Pace::Steady(self.interval),
        };
        let policy = match self.policy {
            PolicyChoice::Latest => Policy::Latest,
            PolicyChoice::Queue => Policy::Queue { store: self.store.clone() },
        };
        Ok(Setup {
            id: id.to_owned(),
            broker: self.broker.clone(),
            sensor: self.sensor.open(&self.gpio_chip)?,
            led: self.led.open(&self.gpio_chip)?,
            pace,
            policy,
            rule: Rule { threshold: self.threshold, hysteresis: self.hysteresis },
            offline_after: self.offline_after,
            first_after: pace.period().mul_f64(phase),
        })
    }
}
