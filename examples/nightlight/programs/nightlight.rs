//! A whole evening with one command: a broker, a server, and a device.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mqtt_nightlight::connection::{self, BrokerOptions, parse_period};
use mqtt_nightlight::console::Console;
use mqtt_nightlight::device::Line;
use mqtt_nightlight::evening::{Evening, Place};
use mqtt_nightlight::led::LedChoice;
use mqtt_nightlight::lesson::THRESHOLD;
use mqtt_nightlight::life::{Life, Policy, Setup, View};
use mqtt_nightlight::pace::Pace;
use mqtt_nightlight::rule::Rule;
use mqtt_nightlight::screen::{Panel, Screen};
use mqtt_nightlight::sensor::SensorChoice;

/// A whole evening: a broker, a server for every device, and one device, which is drawn.
///
/// More devices may come: `nightlight-device --id attic`.
#[derive(Parser, Debug)]
#[command(name = "nightlight", version)]
struct Options {
    /// Id of the device
    #[arg(long, default_value = "bed", value_parser = connection::parse_id)]
    id: String,
    /// Light sensor: day, walk, sim (keys), and those of nightlight-device
    #[arg(long, default_value = "day")]
    sensor: SensorChoice,
    /// Time between readings that are sent
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_period)]
    interval: Duration,
    /// Port of the broker
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// Port of the page
    #[arg(long, default_value_t = 8080)]
    web: u16,
    /// Address that the broker listens on; 0.0.0.0 lets everyone in who reaches this machine
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST)]
    bind: Ipv4Addr,
    /// Print lines, also in a terminal
    #[arg(long)]
    headless: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nightlight: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let end = connection::end_signal()?;
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let has_page = web.join("node_modules/mqtt").is_dir();
    let place = Place { address: options.bind, mqtt: options.port, web: options.web };
    let evening = Evening::begin(&place, &web)?;
    let broker = BrokerOptions {
        broker: format!("mqtt://127.0.0.1:{}", options.port),
        ..BrokerOptions::default()
    };
    let life = Life::begin(Setup {
        id: options.id,
        broker,
        sensor: options.sensor.open("/dev/gpiochip0")?,
        led: LedChoice::Term.open("")?,
        pace: Pace::Steady(options.interval),
        policy: Policy::Latest,
        rule: Rule { threshold: THRESHOLD, hysteresis: 20.0 },
        offline_after: Duration::from_secs(15),
        first_after: Duration::ZERO,
    })?;
    let mut lines: Vec<_> =
        (evening.logs().iter()).map(|log| Line::Noted(format!("Log: {}", log.display()))).collect();
    lines.push(Line::Noted(match has_page {
        true => format!("Page: http://localhost:{}", options.web),
        false => "Page: after `(cd examples/nightlight/web && npm ci)`".into(),
    }));
    if io::stdout().is_terminal() && !options.headless {
        let mut screen = Screen::open(Panel::new(true))?;
        lines.iter().try_for_each(|line| screen.line(line))?;
        life.run(&mut screen, end).await?;
    } else {
        let mut console = Console::new();
        lines.iter().try_for_each(|line| console.line(line))?;
        life.run(&mut console, end).await?;
    }
    Ok(())
}
