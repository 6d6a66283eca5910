//! `pub` and `sub` beside `mosquitto_pub` and `mosquitto_sub` on the same broker: the same command
//! lines give the same output and status.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Command lines of `sub`. The topics under `r/` hold retained messages. `{port}` is the broker's,
/// `{tls}` its port with TLS, `{ca}` the authority to trust there and `{capath}` its folder, `{proxy}`
/// the port of a SOCKS proxy, `{id}` a name of the run's own.
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
    "-t r/1 -C 1 -F [%p] -N",
    "-t r/1 -C 1 -F [%p] -v",
    "-t r/1 -C 0",
    "-t r/1 -W 0",
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
    "-t r/1 -C 1 -P password",
    "-L mqtt://user@127.0.0.1:{port}/r/1 -P password -C 1",
    "-L http://127.0.0.1:{port}/r/1 -C 1",
    "-L mqtt://127.0.0.1:{port}/r/1 -C 1",
    "-t r/1 -C 1 --will-topic w --will-payload gone --will-qos 1 --will-retain",
    "-t r/1 -C 1 --nodelay --quiet",
    "-p 1 -t r/1",
    "-t r/1 -C 1 -d",
    "-t r/1 -C 1 -d -q 1 -v",
    "-t r/1 -t r/2 -C 2 -d -q 1 -i {id}",
    "-t nothing/here -U nothing/there -d -W 1",
    "-t r/1 -C 1 -F @Y-@m-@d|%p|@j",
    "-t r/1 -C 1 -F @y|@Z|@z|@@|@B",
    "-t r/1 -C 1 -F @",
    "-t r/1 -C 1 -F %",
    "-t r/1 -C 1 -A 127.0.0.1",
    "-t r/1 -C 1 -A 192.0.2.1",
    "-t r/1 -C 1 --proxy socks5h://127.0.0.1:{proxy}",
    "-t r/1 -C 1 --proxy socks5h://me:se%3Acret@127.0.0.1:{proxy} -d",
    "-t r/1 -C 1 --proxy socks5h://127.0.0.1:1",
    "-t r/1 -C 1 --proxy http://127.0.0.1:{proxy}",
    "-t r/1 -C 1 -h localhost -p {tls} --cafile {ca}",
    "-t r/1 -C 1 -h localhost -p {tls} --capath {capath} -q 2",
    "-L mqtt://localhost:{tls}/r/1 -C 1 --cafile {ca}",
    "-t r/1 -C 1 -h localhost -p {tls} --capath {capath} --proxy socks5h://127.0.0.1:{proxy}",
    "-t r/1 -C 1 -h 127.0.0.1 -p {tls} --cafile {ca} --insecure",
    "-t r/1 -C 1 -h localhost -p {tls} --cafile /no/such/file",
    "-t r/1 -C 1 -q 0 -q 2 -F %q|%m",
];

// The status of Mosquitto's programs after a TLS handshake that failed is 8 or 1, as it happens: no
// row has one.

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
    ("-t {topic} -m x --repeat 0", b""),
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
    ("-t {topic} -m x -d", b""),
    ("-t {topic} -m x -d -q 1 --repeat 3", b""),
    ("-t {topic} -m x -d -q 2 -i {id} -r", b""),
    ("-t {topic} -m x -q 1 -A 127.0.0.1", b""),
    ("-t {topic} -m x -q 2 --proxy socks5h://127.0.0.1:{proxy}", b""),
    ("-t {topic} -m x --proxy socks5h://me:secret@127.0.0.1:{proxy}", b""),
    ("-t {topic} -m x -q 1 -h localhost -p {tls} --capath {capath}", b""),
];

#[test]
fn our_programs_do_what_mosquittos_do() {
    let Some(broker) = Broker::start_with_tls() else { return };
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
fn options_come_from_a_file_and_the_command_line_has_the_last_word() {
    let Some(broker) = Broker::start("allow_anonymous true\n") else { return };
    broker.publish("r/1", b"one two");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("options");
    let text = "# a comment\n\n-t r/1\n  -C 1\n-F %t: %p\n-p 1\n--quiet\n-h 127.0.0.1\n";
    std::fs::write(&file, text).unwrap();
    let line = format!("-o {} -p {{port}}", file.display());
    assert_eq!(broker.run("sub", &line, b""), (b"r/1: one two\n".to_vec(), Some(0)));
    let (out, status) = broker.run("sub", "-o /no/such/file", b"");
    assert_eq!((out.len(), status), (0, Some(1)));
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

#[test]
fn times_that_no_clock_goes_as_far_as_end_nothing() {
    let Some(broker) = Broker::start("allow_anonymous true\n") else { return };
    for line in ["--wait 1e18", "--repeat 1 --repeat-delay 1e18"] {
        assert_eq!(broker.run("pub", &format!("-t t -m x {line}"), b"").1, Some(0), "{line}");
    }
    for line in ["--wait=-1", "--wait inf", "--wait nan", "--repeat-delay=-1"] {
        assert_eq!(broker.run("pub", &format!("-t t -m x {line}"), b"").1, Some(1), "{line}");
    }
    assert_eq!(broker.run("sub", "-t t -E -W 4294967295", b"").1, Some(0));
    assert_eq!(broker.run("sub", "-t t -E -W 18446744073709551615", b"").1, Some(1));
}

#[test]
fn a_connection_that_is_lost_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut command = Command::new(example("pub"));
    command.args(["-h", "127.0.0.1", "-p", &port, "-t", "t", "-m", "x", "-q", "1"]);
    let publisher = command.stderr(Stdio::piped()).spawn().unwrap();
    // The first connection ends when the message has come.
    let (first, id) = accept_message(&listener);
    drop(first.shutdown(Shutdown::Both));
    drop(first);
    let (mut second, again) = accept_message(&listener);
    assert_eq!(id, again);
    second.write_all(&[0x40, 2, id[0], id[1]]).unwrap();
    let end = publisher.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{told}");
    assert!(told.contains("trying again"), "{told}");
}

#[test]
fn a_subscriber_that_cannot_print_says_so() {
    let Some(broker) = Broker::start("allow_anonymous true\n") else { return };
    broker.publish("r/1", b"lost");
    let mut command = Command::new(example("sub"));
    command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-t", "r/1", "-W", "9"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let end = command.stdout(full).output().unwrap();
    let told = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(1), "{told}");
    assert!(told.contains("standard output"), "{told}");
}

// Who says goodbye has no will.
#[test]
fn a_subscriber_that_is_asked_to_end_says_goodbye() {
    let Some(broker) = Broker::start("allow_anonymous true\n") else { return };
    broker.publish("r/1", b"ready");
    for program in ["mosquitto_sub", "sub"] {
        for signal in ["TERM", "INT"] {
            let line = format!("-t r/1 --will-topic w --will-payload {program}-{signal}");
            let mut process = broker.spawn(program, &(line + " --will-retain"));
            // It is there when it prints, and it looks for signals then.
            let mut out = [0; 6];
            process.stdout.as_mut().unwrap().read_exact(&mut out).unwrap();
            let id = process.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
            assert_eq!(process.wait().unwrap().code(), Some(0), "{program} {signal}");
        }
    }
    assert_eq!(broker.run("mosquitto_sub", "-t w -W 1", b""), (Vec::new(), Some(27)));
}

/// A connection with CONNECT, CONNACK and a PUBLISH of QoS 1, whose packet id comes back.
fn accept_message(listener: &TcpListener) -> (TcpStream, [u8; 2]) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut connect = [0; 2];
    stream.read_exact(&mut connect).unwrap();
    stream.read_exact(&mut vec![0; connect[1].into()]).unwrap();
    stream.write_all(b"\x20\x02\0\0").unwrap();
    let mut publish = [0; 8];
    stream.read_exact(&mut publish).unwrap();
    (stream, [publish[5], publish[6]])
}

/// A Mosquitto for this test.
struct Broker {
    process: Child,
    port: u16,
    /// What stands in command lines, and what it means.
    places: Vec<(&'static str, String)>,
}

impl Broker {
    /// With `MQTT_INTEROP=required` it has to be there; else the test is skipped without it.
    fn start(config: &str) -> Option<Self> {
        let port = free_port();
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
                Some(Self { process, port, places: vec![("{port}", port.to_string())] })
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

    /// With a listener for TLS, and a SOCKS proxy beside it.
    fn start_with_tls() -> Option<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli-tls");
        let capath = folder.join("authorities");
        std::fs::create_dir_all(&capath).unwrap();
        let ca = certificates(&folder);
        // OpenSSL looks for an authority by the hash of its name.
        let hash =
            Command::new("openssl").args(["x509", "-hash", "-noout", "-in"]).arg(&ca).output();
        let hash = String::from_utf8(hash.map(|run| run.stdout).unwrap_or_default()).unwrap();
        std::fs::copy(&ca, capath.join(format!("{}.0", hash.trim()))).unwrap();
        let tls = free_port();
        let file = |name: &str| folder.join(name).display().to_string();
        let mut broker = Self::start(&format!(
            "allow_anonymous true\nlistener {tls}\ncertfile {}\nkeyfile {}\n",
            file("server.pem"),
            file("server.key")
        ))?;
        broker.places.extend([
            ("{tls}", tls.to_string()),
            ("{ca}", ca.display().to_string()),
            ("{capath}", capath.display().to_string()),
            ("{proxy}", socks_proxy().to_string()),
        ]);
        Some(broker)
    }

    fn publish(&self, topic: &str, payload: &[u8]) {
        let line = format!("-t {topic} -r -q 2 -s");
        assert_eq!(self.run("mosquitto_pub", &line, payload).1, Some(0));
    }

    /// Output and status.
    fn run_sub(&self, program: &str, line: &str, row: usize) -> (String, Option<i32>) {
        let (out, status) = self.run(program, &line.replace("{id}", &format!("sub{row}")), b"");
        let out = without_time(&String::from_utf8_lossy(&out));
        (if is_debug(line) { without_client(&out) } else { out }, status)
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
        let (out, status) = self.run(program, &line.replace("{id}", &format!("pub{row}")), input);
        let seen = watcher.wait_with_output().unwrap().stdout;
        let (kept, _) = self.run("mosquitto_sub", &format!("-t {topic} -W 1 -F kept|%x"), b"");
        if !kept.is_empty() {
            self.run("mosquitto_pub", &format!("-t {topic} -r -n"), b"");
        }
        let seen = String::from_utf8_lossy(&[seen, kept].concat()).into_owned();
        let out = without_client(&String::from_utf8_lossy(&out));
        (if is_debug(&line) { out + &seen } else { seen }, status)
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
        let places = self.places.iter();
        let line = places.fold(line.to_owned(), |line, (name, value)| line.replace(name, value));
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

fn is_debug(line: &str) -> bool {
    line.split(' ').any(|word| word == "-d")
}

/// Without the name of the client, which is made up, and in any order: when an acknowledgement
/// leaves beside other lines is nobody's business.
fn without_client(text: &str) -> String {
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("Client ").and_then(|line| line.split_once(' ')) {
            Some((_, packet)) => packet,
            None => line,
        })
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority, whose file this gives, and a certificate for `localhost` and its key.
fn certificates(folder: &Path) -> PathBuf {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "the authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    write("server.pem", params.signed_by(&key, &issuer).unwrap().pem());
    write("server.key", key.serialize_pem());
    folder.join("ca.pem")
}

/// A SOCKS 5 proxy (RFC 1928) that takes names only, and any user (RFC 1929). Gives its port.
fn socks_proxy() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || tunnel(client.unwrap()));
        }
    });
    port
}

fn tunnel(mut client: TcpStream) -> std::io::Result<()> {
    let read = |client: &mut TcpStream, len: u8| {
        let mut bytes = vec![0; len.into()];
        client.read_exact(&mut bytes).map(|()| bytes)
    };
    let methods = read(&mut client, 2)?[1];
    // A user, if one is offered.
    let method = *read(&mut client, methods)?.iter().max().unwrap();
    client.write_all(&[5, method])?;
    if method == 2 {
        let name = read(&mut client, 2)?[1];
        read(&mut client, name)?;
        let password = read(&mut client, 1)?[0];
        let password = read(&mut client, password)?;
        let is_right = [&b"secret"[..], b"se:cret"].contains(&&password[..]);
        client.write_all(&[1, u8::from(!is_right)])?;
    }
    let request = read(&mut client, 5)?;
    let host = match request[3] {
        1 => [&request[4..], &read(&mut client, 3)?]
            .concat()
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>()
            .join("."),
        _ => String::from_utf8(read(&mut client, request[4])?).unwrap(),
    };
    let port = read(&mut client, 2)?;
    let mut broker = TcpStream::connect((host, u16::from_be_bytes([port[0], port[1]])))?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (mut from_broker, mut to_client) = (broker.try_clone()?, client.try_clone()?);
    let down = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_broker, &mut to_client);
        to_client.shutdown(Shutdown::Both)
    });
    let _ = std::io::copy(&mut client, &mut broker);
    broker.shutdown(Shutdown::Write)?;
    let _ = down.join();
    Ok(())
}
