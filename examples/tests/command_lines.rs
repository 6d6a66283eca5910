//! `pub` and `sub` beside `mosquitto_pub` and `mosquitto_sub` on the same broker: the same command
//! lines give the same output and status.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Command lines of `sub`. The topics under `r/` hold retained messages. `{port}` is the broker's,
/// `{id}` a name of the run's own.
const SUB: &[&str] = &[
    "-t r/1 -C 1",
    "-t r/1 -C 1 -v",
    "-t r/1 -C 1 -N",
    "-t r/1 -C 1 -q 1 -v",
    "-t r/+ -C 3 -v",
    "-t r/# -C 4 -v",
    "-t r/1 -t r/2 -C 2 -v",
    "--topic r/1 -C 1 --verbose",
    "-t r/# -W 1 -v",
    "-t r/# -R -W 1",
    "-t r/# --retained-only -W 1 -v",
    "-t r/# -T r/1 -C 3 -v",
    "-t r/# -T r/1 -T r/2 -C 2 -v",
    "-t r/# -T r/+ -C 1 -v",
    "-t r/# -q 2 -C 4 -F %t|%p|%l|%q|%r|%m|%%",
    "-t r/# -q 1 -C 4 -F %x|%X|%q",
    "-t r/# -C 4 -F %t\\t%p\\n--",
    "-t r/json -C 1 -F %J",
    "-t r/1 -C 1 -F %j",
    "-t r/1 -q 1 -C 1 -F %j",
    "-t r/2 -C 1 -F %x",
    "-t r/1 -C 1 -F %Q",
    "-t r/1 -E",
    "-t nothing/here -W 1",
    "-t nothing/here -E -q 2",
    "-t a#",
    "-t a/#/b",
    "",
    "-t r/1 -q 3",
    "-t r/1 --no-such-option",
    "-t r/1 -C 1 -i {id}",
    "-t r/1 -C 1 -I {id}",
    "-t r/1 -C 1 -c -i {id}",
    "-t r/1 -c -C 1",
    "-t r/1 -C 1 -k 20 -V mqttv311",
    "-t r/1 -C 1 -u user -P password",
    "-L mqtt://127.0.0.1:{port}/r/1 -C 1",
    "-t r/1 -C 1 --will-topic w --will-payload gone --will-qos 1 --will-retain",
    "-t r/1 -C 1 --nodelay --quiet",
    "-p 1 -t r/1",
];

/// Command lines of `pub` with what they read. `{topic}` is watched by a subscriber.
const PUB: &[(&str, &[u8])] = &[
    ("-t {topic} -m hello", b""),
    ("-t {topic} -m hello -q 1", b""),
    ("-t {topic} -m hello -q 2 -d --quiet", b""),
    ("--topic {topic} --message hello --qos 1", b""),
    ("-t {topic} -n", b""),
    ("-t {topic} -n -r", b""),
    ("-t {topic} -m kept -r -q 1", b""),
    ("-t {topic} -s", b"one\ntwo\n"),
    ("-t {topic} -s -q 2", b""),
    ("-t {topic} -l", b"one\ntwo\n\nlast"),
    ("-t {topic} -l -q 1", b"one\ntwo\nthree\n"),
    ("-t {topic} -l -q 2", b"one\ntwo\nthree\n"),
    ("-t {topic} -l -q 1", b""),
    ("-t {topic} -f {file}", b""),
    ("-t {topic} -f /no/such/file", b""),
    ("-t {topic} -m x --repeat 3 -q 1", b""),
    ("-t {topic} -m x --repeat 2 --repeat-delay 0.1", b""),
    ("-t {topic} -m x -i {id} -c -q 1", b""),
    ("-t {topic} -m x -M 5 -q 2", b""),
    ("-L mqtt://127.0.0.1:{port}/{topic} -m x", b""),
    ("-t {topic}", b""),
    ("-m x", b""),
    ("-t {topic} -m x -n", b""),
    ("-t {topic}/# -m x", b""),
    ("-t {topic} -m x -q 4", b""),
    ("-t {topic} -m x --no-such-option", b""),
    ("-p 1 -t {topic} -m x", b""),
];

#[test]
fn our_programs_do_what_mosquittos_do() {
    let Some(broker) = Broker::start("allow_anonymous true\n") else { return };
    for (topic, payload) in
        [("r/1", "one"), ("r/2", "tw\"o\\"), ("r/3/deep", "three"), ("r/json", "{\"a\":1}")]
    {
        broker.publish(topic, payload.as_bytes());
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("payload");
    std::fs::write(&file, b"from\na file\0").unwrap();
    // Built before anything is timed.
    example("pub");
    let begin = Instant::now();
    let rows = SUB.len() + PUB.len();
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (n, line) in SUB.iter().enumerate() {
            let broker = &broker;
            running.push(scope.spawn(move || {
                let run = |program: &str| broker.run_sub(program, line, n);
                (*line, run("mosquitto_sub"), run("sub"))
            }));
            // Few at a time: the machine may be small.
            if running.len() % 8 == 0 {
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        for (n, (line, input)) in PUB.iter().enumerate() {
            let (broker, file) = (&broker, file.to_str().unwrap());
            running.push(scope.spawn(move || {
                let run = |program: &str| broker.run_pub(program, line, input, n, file);
                (*line, run("mosquitto_pub"), run("pub"))
            }));
            if running.len() % 8 == 0 {
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        for row in running {
            let (line, theirs, ours) = row.join().unwrap();
            if theirs != ours {
                wrong.push(format!("{line}\n    theirs {theirs:?}\n    ours   {ours:?}"));
            }
        }
    });
    println!("{rows} command lines in {:.1?}, {} differ", begin.elapsed(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_status_of_a_refused_connection_is_the_code_of_the_refusal() {
    let Some(broker) = Broker::start("allow_anonymous false\n") else { return };
    for (ours, theirs, line) in [
        ("pub", "mosquitto_pub", "-t t -m x"),
        ("pub", "mosquitto_pub", "-t t -m x -q 1 -u nobody -P wrong"),
        ("sub", "mosquitto_sub", "-t t -C 1"),
    ] {
        let statuses = [theirs, ours].map(|program| broker.run(program, line, b"").1);
        assert_eq!(statuses[0], statuses[1], "{line}");
        assert_eq!(statuses[1], Some(5), "{line}");
    }
}

/// A Mosquitto for this test.
struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    /// With `MQTT_INTEROP=required` it has to be there; else the test is skipped without it.
    fn start(config: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{port}.conf"));
        std::fs::write(&path, format!("listener {port} 127.0.0.1\n{config}")).unwrap();
        let spawn = |program: &str| {
            let mut mosquitto = Command::new(program);
            mosquitto.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let clients = Command::new("mosquitto_pub").arg("--help").output().map(drop);
        match clients.and_then(|()| spawn("mosquitto").or_else(|_| spawn("/usr/sbin/mosquitto"))) {
            Ok(process) => {
                let begin = Instant::now();
                while TcpStream::connect(("127.0.0.1", port)).is_err() {
                    assert!(begin.elapsed() < Duration::from_secs(20), "mosquitto does not listen");
                    std::thread::sleep(Duration::from_millis(10));
                }
                Some(Self { process, port })
            }
            Err(error) if std::env::var("MQTT_INTEROP").as_deref() == Ok("required") => {
                panic!("mosquitto: {error}")
            }
            Err(error) => {
                eprintln!("skipped: mosquitto and its clients are not installed ({error})");
                None
            }
        }
    }

    fn publish(&self, topic: &str, payload: &[u8]) {
        let line = format!("-t {topic} -r -q 2 -s");
        assert_eq!(self.run("mosquitto_pub", &line, payload).1, Some(0));
    }

    /// Output and status.
    fn run_sub(&self, program: &str, line: &str, row: usize) -> (String, Option<i32>) {
        let (out, status) = self.run(program, &line.replace("{id}", &format!("sub{row}")), b"");
        (without_time(&String::from_utf8_lossy(&out)), status)
    }

    /// What a subscriber sees, and the status.
    fn run_pub(
        &self,
        program: &str,
        line: &str,
        input: &[u8],
        row: usize,
        file: &str,
    ) -> (String, Option<i32>) {
        // The same for both programs, one after the other; what was retained is cleared between.
        let topic = format!("p/{row}");
        let watch = format!("-t {topic} -q 2 -F %q|%r|%x -W 2");
        let watcher = self.spawn("mosquitto_sub", &watch);
        std::thread::sleep(Duration::from_millis(400));
        let line = line.replace("{topic}", &topic).replace("{file}", file);
        let (_, status) = self.run(program, &line.replace("{id}", &format!("pub{row}")), input);
        let seen = watcher.wait_with_output().unwrap().stdout;
        let (kept, _) = self.run("mosquitto_sub", &format!("-t {topic} -W 1 -F kept|%x"), b"");
        if !kept.is_empty() {
            self.run("mosquitto_pub", &format!("-t {topic} -r -n"), b"");
        }
        (String::from_utf8_lossy(&[seen, kept].concat()).into_owned(), status)
    }

    fn run(&self, program: &str, line: &str, input: &[u8]) -> (Vec<u8>, Option<i32>) {
        let mut process = self.spawn(program, line);
        // A program that does not read its input closes it.
        let _ = process.stdin.take().unwrap().write_all(input);
        let mut stdout = process.stdout.take().unwrap();
        let reading = std::thread::spawn(move || {
            let mut out = Vec::new();
            stdout.read_to_end(&mut out).unwrap();
            out
        });
        let begin = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if begin.elapsed() > Duration::from_secs(20) {
                // It differs from one that ends, and the others go on.
                process.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        (reading.join().unwrap(), process.wait().unwrap().code())
    }

    fn spawn(&self, program: &str, line: &str) -> Child {
        let line = line.replace("{port}", &self.port.to_string());
        let mut args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if !args.iter().any(|arg| arg == "-p" || arg == "-L") {
            args.extend(["-h".into(), "127.0.0.1".into(), "-p".into(), self.port.to_string()]);
        }
        let program = match program {
            "pub" | "sub" => example(program),
            other => PathBuf::from(other),
        };
        let mut command = Command::new(&program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where cargo puts the example beside this test. If only this test was asked for, it has not been
/// built yet.
fn example(name: &str) -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-p", "mqtt-examples", "--example", "pub", "--example", "sub"]);
        if folder.ends_with("release/examples") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
    });
    folder.join(name)
}

/// Times are the one thing that differs.
fn without_time(text: &str) -> String {
    match text.split_once("\"tst\":\"") {
        Some((before, after)) => {
            let rest = after.split_once('"').map_or("", |(time, rest)| {
                assert_eq!(time.len(), "2026-01-31T12:00:00.000000Z+0000".len(), "{time}");
                rest
            });
            format!("{before}{}", without_time(rest))
        }
        None => text.to_owned(),
    }
}
