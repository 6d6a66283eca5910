//! The other programs of an evening, started beside a device.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to start and to end: a small computer from a slow card.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the broker of an evening listens.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address: 127.0.0.1 for this machine, 0.0.0.0 for everyone who reaches it.
    pub address: Ipv4Addr,
    /// The port for MQTT.
    pub mqtt: u16,
    /// The port for the page, and for MQTT over WebSocket.
    pub web: u16,
}

/// A broker and a server, which end with this.
pub struct Evening {
    server: Companion,
    broker: Companion,
    folder: PathBuf,
}

/// Why an evening cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum EveningError {
    /// A program could not be built.
    #[error("cargo could not build the broker and the server")]
    Build,
    /// A program is not there.
    #[error("{}: {error}; `cargo build --example {name}` makes it", program.display())]
    Missing {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A port is taken.
    #[error("something listens on port {0} already; --port and --web choose others")]
    Taken(u16),
    /// A program has ended, or does not listen.
    #[error("{name} does not serve:\n{log}")]
    Silent {
        /// Its name.
        name: &'static str,
        /// What it said.
        log: String,
    },
    /// A file could not be written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Evening {
    /// Starts a broker and a server for every device, and waits until the broker listens.
    ///
    /// # Errors
    /// If one of them is not there, or a port is taken.
    pub fn begin(place: &Place, web: &Path) -> Result<Self, EveningError> {
        for port in [place.mqtt, place.web] {
            if listens(port) {
                return Err(EveningError::Taken(port));
            }
        }
        build()?;
        let folder = std::env::temp_dir().join(format!("nightlight-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("broker.conf");
        let mut file = File::create(&config)?;
        writeln!(file, "allow_anonymous true\nlistener {} {}", place.mqtt, place.address)?;
        writeln!(file, "listener {} {}\nprotocol websockets", place.web, place.address)?;
        writeln!(file, "http_dir {}", web.display())?;
        let mut broker = Companion::start("broker", &folder, |command| {
            command.arg("-c").arg(&config);
        })?;
        broker.expect_port(place.mqtt)?;
        let server = Companion::start("nightlight-server", &folder, |command| {
            let url = format!("mqtt://127.0.0.1:{}", place.mqtt);
            command.args(["--fleet", "--broker", &url]);
        })?;
        Ok(Self { server, broker, folder })
    }

    /// Where the programs write what they say.
    pub fn logs(&self) -> [&Path; 2] {
        [&self.broker.log, &self.server.log]
    }
}

impl Drop for Evening {
    fn drop(&mut self) {
        // The server first, so that it does not complain.
        self.server.end();
        self.broker.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program that is built beside this one.
struct Companion {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Companion {
    fn start(
        name: &'static str,
        folder: &Path,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<Self, EveningError> {
        let program = std::env::current_exe()?.with_file_name(name);
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(&program);
        arguments(&mut command);
        // Ctrl-C is for this program, which ends the others when it has said goodbye.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        match command.spawn() {
            Ok(child) => Ok(Self { name, child, log }),
            Err(error) => Err(EveningError::Missing { name, program, error }),
        }
    }

    fn expect_port(&mut self, port: u16) -> Result<(), EveningError> {
        let start = Instant::now();
        while !listens(port) {
            if self.child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(EveningError::Silent { name: self.name, log });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn end(&mut self) {
        let start = Instant::now();
        let id = i32::try_from(self.child.id()).map(Pid::from_raw);
        // It may have ended by itself; there is nothing more to be done about it here.
        let _ = id.map(|id| kill(id, Signal::SIGTERM));
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.end();
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Under `cargo run`, which has built this program only, builds the others the same way.
fn build() -> Result<(), EveningError> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let program = std::env::current_exe()?;
    let profile = program.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
    let profile = if profile == "debug" { "dev".as_ref() } else { profile };
    let status = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--workspace", "--example", "broker", "--example", "nightlight-server"])
        .arg("--profile")
        .arg(profile)
        .status()?;
    if status.success() { Ok(()) } else { Err(EveningError::Build) }
}
