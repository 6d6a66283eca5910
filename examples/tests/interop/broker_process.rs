use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

use crate::foreign::in_path;
use crate::program::{eventually, scratch, signal, wait};

/// A broker in a process of its own, on a port of its own, that ends with the test.
///
/// It is the broker example, or Mosquitto with `MQTT_TEST_BROKER=mosquitto`.
pub(crate) struct BrokerProcess {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl BrokerProcess {
    /// Starts the broker as a user does, with a port and nothing else, and waits until it listens.
    pub(crate) fn start() -> Self {
        Self::start_with(|port| vec!["-p".into(), port.to_string()])
    }

    /// Starts the broker with a configuration file: a listener on loopback, and then these lines.
    pub(crate) fn start_with_config(lines: &str) -> Self {
        if is_mosquitto() { Self::mosquitto(lines) } else { Self::example(lines) }
    }

    /// The same, and always Mosquitto.
    pub(crate) fn mosquitto(lines: &str) -> Self {
        let program = in_path("mosquitto").expect("mosquitto is installed");
        Self::start_program(&program, |port| with_file(port, &mosquitto_config(port, lines)))
    }

    /// The same, and always our example.
    pub(crate) fn example(lines: &str) -> Self {
        Self::start_program(&example("broker"), |port| {
            with_file(port, &format!("listener {port} 127.0.0.1\n{lines}\n"))
        })
    }

    /// Starts the broker with a configuration file that is as it stands, but for the port in it.
    pub(crate) fn start_with_file(text: impl Fn(u16) -> String) -> Self {
        let more = if is_mosquitto() { "user root\n" } else { "" };
        Self::start_with(|port| with_file(port, &(more.to_owned() + &text(port))))
    }

    /// Starts the broker with arguments that depend on the port.
    pub(crate) fn start_with(arguments: impl Fn(u16) -> Vec<String>) -> Self {
        Self::start_program(&broker_program(), arguments)
    }

    fn start_program(program: &Path, arguments: impl Fn(u16) -> Vec<String>) -> Self {
        // Another program can take the port between our look and the broker's: then try the next.
        for _ in 0..10 {
            let port = free_port();
            if let Some(broker) = Self::try_start(program, port, &arguments(port)) {
                return broker;
            }
        }
        panic!("the broker did not start on any of 10 ports");
    }

    /// Starts a broker on this port, such as that of one that was ended; `None` if it does not listen.
    pub(crate) fn try_start(program: &Path, port: u16, arguments: &[String]) -> Option<Self> {
        Self::spawn(port, Command::new(program).arg("-v").args(arguments))
    }

    fn spawn(port: u16, command: &mut Command) -> Option<Self> {
        let log = scratch().join(format!("broker-{port}.log"));
        let file = File::create(&log).expect("the log can be written");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be cloned"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut broker = Self { child, port, log };
        let listens = eventually(|| {
            if TcpStream::connect(broker.address()).is_ok() {
                return Some(true);
            }
            broker.child.try_wait().expect("a child can be waited for").map(|_| false)
        });
        match listens {
            Some(true) => Some(broker),
            Some(false) => {
                eprintln!("{}", broker.log_text());
                None
            }
            None => panic!("{command:?} does not listen"),
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory of the process in bytes, from `/proc`.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The addresses that the process has taken, used or not, in bytes.
    pub(crate) fn address_space(&self) -> u64 {
        self.status("VmSize:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("the broker runs on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// What the broker has logged so far.
    pub(crate) fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal that does not end the process.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Sends a signal and waits for the end of the process.
    pub(crate) fn end_with(mut self, name: &str) -> ExitStatus {
        signal(&self.child, name);
        wait(&mut self.child).expect("the broker ends after a signal")
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // It may have ended already: nothing to do about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log_text();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("the broker's last lines ({}):", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        } else {
            let _ = std::fs::remove_file(&self.log);
            let _ = std::fs::remove_file(self.log.with_extension("conf"));
            let _ = std::fs::remove_file(self.log.with_extension("sock"));
        }
    }
}

/// The arguments for a configuration file with this text.
fn with_file(port: u16, text: &str) -> Vec<String> {
    let file = scratch().join(format!("broker-{port}.conf"));
    std::fs::write(&file, text).expect("the configuration can be written");
    vec!["-c".into(), file.to_str().expect("a path of this test is UTF-8").into()]
}

/// What Mosquitto 2.0 needs in addition. As root it becomes a user that cannot read the files of the
/// tests; and it does not start with a WebSocket listener alone.
fn mosquitto_config(port: u16, lines: &str) -> String {
    if lines.contains("protocol websockets") {
        let socket = scratch().join(format!("broker-{port}.sock"));
        let _ = std::fs::remove_file(&socket);
        return format!("listener 0 {}\nlistener {port}\nuser root\n{lines}\n", socket.display());
    }
    format!("listener {port} 127.0.0.1\nuser root\n{lines}\n")
}

/// True when the tests run against the real Mosquitto.
pub(crate) fn is_mosquitto() -> bool {
    std::env::var("MQTT_TEST_BROKER").is_ok_and(|name| name == "mosquitto")
}

/// The program under test.
pub(crate) fn broker_program() -> PathBuf {
    if is_mosquitto() {
        return in_path("mosquitto").expect("mosquitto is installed");
    }
    example("broker")
}

/// The path of an example of this package.
pub(crate) fn example(name: &str) -> PathBuf {
    built(name, &["examples/broker", "examples/passwd", "mqtt-broker-core/src", "mqtt-codec/src"])
}

/// The path of an example, which was built after everything in these folders of the workspace: testing
/// yesterday's broker would be worse than not testing. `cargo test` builds it before it runs its tests;
/// with the name of a test target it does not.
pub(crate) fn built(name: &str, sources: &[&str]) -> PathBuf {
    static BUILT: Once = Once::new();
    let test = std::env::current_exe().expect("the test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("it is in target/PROFILE/deps");
    let program = profile.join("examples").join(name);
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    let workspace = workspace.expect("the package is in a workspace");
    let is_older = |source: &&str| {
        let folder = workspace.join(source);
        assert!(folder.is_dir(), "{} has moved", folder.display());
        newest_file(&folder).is_some_and(|file| modified(&file) > modified(&program))
    };
    if !program.exists() || sources.iter().any(is_older) {
        BUILT.call_once(|| build_examples(workspace, profile));
    }
    assert!(program.exists(), "{} is missing", program.display());
    program
}

/// Builds all examples as this test was built.
fn build_examples(workspace: &Path, profile: &Path) {
    let name = profile.file_name().expect("the profile has a name");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace).args(["build", "--workspace", "--examples", "--profile"]);
    cargo.arg(if name == "debug" { OsStr::new("dev") } else { name });
    cargo.arg("--target-dir").arg(profile.parent().expect("it is in a target folder"));
    assert!(cargo.status().expect("cargo runs").success(), "the examples cannot be built");
}

/// The source file of a folder and the folders in it that was changed last.
fn newest_file(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let files = entries.filter_map(|entry| match entry.ok()?.path() {
        folder if folder.is_dir() => newest_file(&folder),
        file => file.extension().is_some_and(|extension| extension == "rs").then_some(file),
    });
    files.max_by_key(|file| modified(file))
}

fn modified(file: &Path) -> SystemTime {
    file.metadata().and_then(|metadata| metadata.modified()).expect("the time of a file is known")
}

/// An address of this machine.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A port that nobody listens on.
///
/// Below the range that the kernel hands to outgoing connections (32768 and up on Linux), so that
/// the many clients of other tests cannot take it in between.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Test processes that run side by side start at different places.
    let offset = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}
