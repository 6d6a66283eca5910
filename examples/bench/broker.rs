use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::Meter;

/// How long a broker may take to listen.
const START: Duration = Duration::from_secs(20);

/// The configuration of every broker that reads Mosquitto's format, ours among them: no limit of
/// queues or windows, so that nobody is measured by a setting. Brokers that write `$SYS` go on doing
/// so.
const CONFIG: &str = "\
allow_anonymous true
log_type error
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
";

/// How to start a broker: `NAME=COMMAND`.
///
/// The command goes to `sh`, with `{port}` for the port to listen on and `{conf}` for a configuration
/// file in Mosquitto's format. Of several commands the broker's begins with `exec`, since the process
/// that is started is the one that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerCommand {
    /// What tables call it.
    pub name: String,
    command: String,
}

/// A broker that cannot be measured.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// It does not start.
    #[error("{name} does not start: {error}")]
    Start {
        /// Its name.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// It has ended by itself, or does not answer a CONNECT.
    #[error("{name} does not serve MQTT on port {port}; it said: {output}")]
    Silent {
        /// Its name.
        name: String,
        /// Where it should have.
        port: u16,
        /// What it wrote.
        output: String,
    },
}

/// A broker's process, which ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    port: u16,
    files: Files,
}

/// Files of one process, removed with it.
#[derive(Debug)]
struct Files {
    config: PathBuf,
    output: PathBuf,
}

impl FromStr for BrokerCommand {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.is_empty() => {
                Ok(Self { name: name.into(), command: command.into() })
            }
            _ => Err("write NAME=COMMAND"),
        }
    }
}

impl BrokerCommand {
    /// The broker example at this place.
    pub fn ours(program: &Path) -> Self {
        let command = format!("'{}' -c {{conf}}", program.display());
        Self { name: "ours".to_owned(), command }
    }

    /// Mosquitto as it is installed.
    pub fn mosquitto() -> Self {
        Self { name: "mosquitto".to_owned(), command: "mosquitto -c {conf}".to_owned() }
    }

    /// The same with more arguments, which the name tells.
    #[must_use]
    pub fn with_arguments(&self, arguments: &str) -> Self {
        let add = |text: &str| format!("{text} {arguments}");
        Self { name: add(&self.name), command: add(&self.command) }
    }

    /// Starts it on a port of its own and waits until it answers.
    pub fn start(&self) -> Result<Running, BrokerError> {
        self.start_with("persistence false\n")
    }

    /// The same with more lines in the configuration file.
    pub(crate) fn start_with(&self, lines: &str) -> Result<Running, BrokerError> {
        let failed = |error| BrokerError::Start { name: self.name.clone(), error };
        let port = free_port().map_err(failed)?;
        let files = Files::new(port);
        fs::write(&files.config, format!("listener {port} 127.0.0.1\n{CONFIG}{lines}"))
            .map_err(failed)?;
        let output = File::create(&files.output).map_err(failed)?;
        let command = self
            .command
            .replace("{port}", &port.to_string())
            .replace("{conf}", &format!("'{}'", files.config.display()));
        let exec = if command.contains("exec ") { "" } else { "exec " };
        let child = Command::new("sh")
            .args(["-c", &format!("{exec}{command}")])
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .spawn()
            .map_err(failed)?;
        let mut running = Running { child, port, files };
        match running.wait_until_it_serves() {
            true => Ok(running),
            false => Err(BrokerError::Silent {
                name: self.name.clone(),
                port,
                output: fs::read_to_string(&running.files.output).unwrap_or_default(),
            }),
        }
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// For its process.
    pub fn meter(&self) -> Meter {
        Meter::new(self.child.id())
    }

    fn wait_until_it_serves(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START && matches!(self.child.try_wait(), Ok(None)) {
            if answers(self.address()).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to lose, and some take seconds to say goodbye.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Files {
    fn new(port: u16) -> Self {
        let stem = format!("mqtt-bench-{}-{port}", std::process::id());
        let place = std::env::temp_dir().join(stem);
        Self { config: place.with_extension("conf"), output: place.with_extension("log") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
        let _ = fs::remove_file(&self.output);
    }
}

/// Connects and says goodbye.
fn answers(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05bench")?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    stream.write_all(b"\xe0\0")
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_a_name() {
        let broker: BrokerCommand = "flashmq=flashmq --config-file=x".parse().unwrap();
        assert_eq!(broker.name, "flashmq");
        assert_eq!(broker.command, "flashmq --config-file=x");
        for wrong in ["flashmq", "=flashmq", "flashmq="] {
            assert!(wrong.parse::<BrokerCommand>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_broker_says_before_it_ends_is_told() {
        let broker: BrokerCommand = "no=echo no such thing {port}".parse().unwrap();
        let error = broker.start().unwrap_err().to_string();
        assert!(error.contains("it said: no such thing "), "{error}");
    }
}
