use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::broker_process::{BrokerProcess, broker_program, built};
use crate::program::{Program, eventually, scratch};

/// A room with a nightlight: the light in it, and its LED, are files.
pub(crate) struct Room {
    pub(crate) id: String,
    folder: PathBuf,
}

impl Room {
    /// A room of its own for each test.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("room-{}-{number}", std::process::id());
        let folder = scratch().join(&id);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let room = Self { id, folder };
        room.set_light(500);
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Written beside and moved, so that nobody reads half a number.
    pub(crate) fn set_light(&self, light: u16) {
        let new = self.path("light.new");
        std::fs::write(&new, light.to_string()).expect("a file can be written");
        std::fs::rename(new, self.path("light")).expect("a file can be renamed");
    }

    pub(crate) fn led(&self) -> Option<bool> {
        match std::fs::read_to_string(self.path("led")).ok()?.trim() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }
    }

    /// Waits until the LED is on, or off.
    pub(crate) fn expect_led(&self, is_on: bool) {
        let led = || (self.led() == Some(is_on)).then_some(());
        assert!(eventually(led).is_some(), "the LED of {} does not become {is_on}", self.id);
    }

    /// Our device in this room, which notices everything quickly.
    pub(crate) fn device(&self, port: u16, options: &[&str]) -> Program {
        let mut command = nightlight("nightlight-device");
        command
            .args(["--headless", "--id", &self.id])
            .args(["--broker", &format!("mqtt://127.0.0.1:{port}"), "--keep-alive", "1s"])
            .arg("--sensor")
            .arg(format!("file:{}", self.path("light").display()))
            .arg("--led")
            .arg(format!("file:{}", self.path("led").display()));
        if !options.contains(&"--on-change") && !options.contains(&"--interval") {
            command.args(["--interval", "100ms"]);
        }
        Program::start(command.args(options).stderr(self.log("device")))
    }

    /// Our server for this room.
    pub(crate) fn server(&self, port: u16, options: &[&str]) -> Program {
        let mut command = nightlight("nightlight-server");
        command.args(["--broker", &format!("mqtt://127.0.0.1:{port}"), "--keep-alive", "1s"]);
        if !options.iter().any(|option| matches!(*option, "--ids" | "--fleet")) {
            command.args(["--id", &self.id]);
        }
        Program::start(command.args(options).stderr(self.log("server")))
    }

    /// Where a program complains.
    fn log(&self, name: &str) -> File {
        File::create(self.path(name)).expect("a file can be made")
    }

    /// Waits for a complaint.
    pub(crate) fn expect_complaint(&self, program: &str, words: &str) {
        self.expect_complaints(program, words, 1);
    }

    /// Waits until a complaint has been made so often.
    pub(crate) fn expect_complaints(&self, program: &str, words: &str, count: usize) {
        let found = eventually(|| (self.complaints(program, words) >= count).then_some(()));
        assert!(found.is_some(), "{program} does not say {words:?} {count} times");
    }

    /// How often a complaint has been made.
    pub(crate) fn complaints(&self, program: &str, words: &str) -> usize {
        let text = std::fs::read_to_string(self.path(program)).unwrap_or_default();
        text.matches(words).count()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for program in ["device", "server"] {
                let text = std::fs::read_to_string(self.path(program)).unwrap_or_default();
                text.lines().for_each(|line| eprintln!("{program}: {line}"));
            }
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// One of our programs, as cargo has built it.
pub(crate) fn nightlight(name: &str) -> Command {
    let sources = ["examples/nightlight/src", "examples/nightlight/programs", "mqtt-client/src"];
    let mut command = Command::new(built(name, &sources));
    command.stdin(Stdio::null());
    command
}

/// Starts a broker on the port of one that was ended.
pub(crate) fn restart(port: u16) -> BrokerProcess {
    let broker =
        BrokerProcess::try_start(&broker_program(), port, &["-p".into(), port.to_string()]);
    broker.expect("the broker starts")
}

/// For how long the network is cut.
pub(crate) fn cut() -> Duration {
    let text = std::env::var("NIGHTLIGHT_CUT").unwrap_or("4s".into());
    humantime::parse_duration(&text).expect("NIGHTLIGHT_CUT is a time such as 60s")
}

/// The folder of the programs as the lesson teaches them.
pub(crate) fn lesson() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lesson")
}
