//! The brokers of an MQTT course: its configuration files as they stand, on the ports that they name,
//! with the commands that it gives. Only the broker's name is another one.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::broker_process::{broker_program, is_mosquitto, local};
use crate::certificates::Authority;
use crate::foreign::{in_path, required};
use crate::mosquitto::clients_installed;
use crate::program::{eventually, run, scratch, signal, wait};

/// A folder with what a lesson has made, and the broker that runs there. Ends with the lesson.
struct Lesson {
    folder: PathBuf,
    broker: Child,
}

impl Lesson {
    /// Starts the broker with a file of the course, in a folder that `prepare` has filled. `None`
    /// when another program has the port.
    fn start(name: &str, port: u16, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let is_free = || TcpListener::bind(("0.0.0.0", port)).is_ok().then_some(());
        if eventually(is_free).is_none() {
            println!("skipped: port {port} is taken");
            return None;
        }
        let folder = scratch().join(format!("course-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        prepare(&folder);
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/course").join(name);
        std::fs::copy(config, folder.join("mosquitto.conf")).expect("a file can be copied");
        let broker = Command::new(broker_program())
            .args(["-c", "mosquitto.conf", "-v"])
            .current_dir(&folder)
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker runs");
        let listens = || std::net::TcpStream::connect(local(port)).ok().map(drop);
        assert!(eventually(listens).is_some(), "it listens on port {port}");
        Some(Self { folder, broker })
    }

    /// Runs a command of the course.
    fn run(&self, command: &str) -> Output {
        let mut words = command.split(' ');
        let output = Command::new(words.next().expect("a program"))
            .args(words)
            .current_dir(&self.folder)
            .output();
        output.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Leaves a message, and fetches it: both with these options.
    fn exchanges(&self, options: &str) -> bool {
        let publish =
            self.run(&format!("mosquitto_pub {options} -t course/lesson -r -q 1 -m hello"));
        if !publish.status.success() {
            return false;
        }
        let subscribe = self.run(&format!("mosquitto_sub {options} -t course/# -C 1 -W 10"));
        assert_eq!(subscribe.stdout, b"hello\n", "{options}: {subscribe:?}");
        true
    }
}

impl Drop for Lesson {
    fn drop(&mut self) {
        signal(&self.broker, "TERM");
        assert!(wait(&mut self.broker).is_some_and(|status| status.success()), "it ends with TERM");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

// One after the other: two of them have the same port.
#[test]
fn the_configuration_files_of_a_course_work_as_they_stand() {
    if is_mosquitto() || !clients_installed() {
        return;
    }
    let Some(passwd) = required("mosquitto_passwd", in_path("mosquitto_passwd")) else { return };

    let open = Lesson::start("open.conf", 1883, |_| {});
    if let Some(open) = open {
        assert!(open.exchanges("-h localhost"));
        assert!(open.exchanges("-h 127.0.0.1 -p 1883 -V mqttv311"));
    }

    let with_password = Lesson::start("password.conf", 1883, |folder| {
        run(Command::new(passwd).current_dir(folder).args(["-c", "-b", "passwd", "ann", "tulip"]));
    });
    if let Some(with_password) = with_password {
        assert!(with_password.exchanges("-h localhost -u ann -P tulip"));
        for wrong in ["-u ann -P rose", "-u bob -P tulip", "-u ann", ""] {
            let refused =
                with_password.run(&format!("mosquitto_pub {wrong} -t a -m x").replace("  ", " "));
            assert!(!refused.status.success(), "{wrong}: {refused:?}");
        }
    }

    let with_tls = Lesson::start("tls.conf", 8883, |folder| {
        let authority = Authority::new("Course CA");
        let server = authority.server();
        for (from, to) in [
            (&authority.file(), "ca.crt"),
            (&server.file, "server.crt"),
            (&server.key, "server.key"),
        ] {
            std::fs::copy(from, folder.join(to)).expect("a file can be copied");
        }
    });
    if let Some(with_tls) = with_tls {
        assert!(with_tls.exchanges("-h localhost -p 8883 --cafile ca.crt"));
        assert!(!with_tls.exchanges("-h localhost -p 8883"), "without the authority");
    }
}
