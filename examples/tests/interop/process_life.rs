//! The broker as a process: start, end, keep alive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker_process::{BrokerProcess, broker_program, free_port, is_mosquitto, local};
use crate::certificates::Authority;
use crate::foreign::{in_path, required};
use crate::program::{DEADLINE, eventually, run, scratch, signal, wait};
use crate::websocket::HANDSHAKE;
use crate::wire::{Connect, Wire, packet, publish, subscribe};

#[test]
fn term_and_int_end_the_broker_with_status_0_and_close_its_connections() {
    for name in ["TERM", "INT"] {
        let broker = BrokerProcess::start();
        let mut wire = Wire::connect(&broker, &Connect::new("guest"));
        wire.send(&packet(0xc0, &[]));
        assert_eq!(wire.packet().expect("a PINGRESP").first, 0xd0);
        let start = Instant::now();
        let status = broker.end_with(name);
        assert_eq!(status.code(), Some(0), "after {name}");
        assert!(start.elapsed() < Duration::from_secs(10), "{name} took {:?}", start.elapsed());
        assert!(wire.expect_end().is_empty());
    }
}

#[test]
fn the_first_lines_of_the_log_tell_what_is_served() {
    if is_mosquitto() {
        return;
    }
    let broker = BrokerProcess::start_with_config(
        "allow_anonymous true\naccept_protocol_versions 4\nmax_packet_size 5000\n\
         global_max_connections 77\nmemory_limit 104857600",
    );
    for text in [
        &format!("serving MQTT on 127.0.0.1:{}, anonymous clients allowed", broker.port()),
        "MQTT 3.1.1 in packets of up to 5000 bytes, at most 77 connections and 100 MiB of memory, \
         sessions and messages in memory only",
    ] {
        let is_told = eventually(|| broker.log_text().contains(text).then_some(()));
        assert!(is_told.is_some(), "{text} is missing in {}", broker.log_text());
    }
}

// USR1 has Mosquitto write its file, and USR2 print what it has.
#[test]
fn signals_that_scripts_send_to_mosquitto_are_not_the_end() {
    let broker = BrokerProcess::start();
    let mut wire = Wire::connect(&broker, &Connect::new("guest"));
    for name in ["USR1", "USR2"] {
        broker.signal(name);
        assert!(wire.ping().is_empty());
    }
    let both = || {
        let log = broker.log_text();
        (is_mosquitto() || log.contains("USR1: ") && log.contains("USR2: ")).then_some(())
    };
    assert!(eventually(both).is_some());
    assert!(wire.ping().is_empty());
}

#[test]
fn connections_that_never_sent_a_connect_do_not_hold_up_the_end() {
    let broker = BrokerProcess::start();
    let mut silent = Wire::open(&broker);
    let mut half = Wire::open(&broker);
    half.send(&Connect::new("half").packet()[..5]);
    let start = Instant::now();
    assert!(broker.end_with("TERM").success());
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
    assert!(silent.expect_end().is_empty());
    assert!(half.expect_end().is_empty());
}

// What is on its way is not cut: the last thing that a client reads is a whole packet.
#[test]
fn term_cuts_no_packet_in_the_middle() {
    let broker = BrokerProcess::start();
    let mut subscriber = Wire::connect(&broker, &Connect::new("subscriber"));
    subscriber.send(&subscribe(1, &[("flood", 0)]));
    assert_eq!(subscriber.expect_suback(), [0]);
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    let message = publish(0x30, b"flood", None, &[b'x'; 10_000]);
    let flood = std::thread::spawn(move || {
        for _ in 0..1000 {
            publisher.send_to_the_end(&message);
        }
    });
    let first = subscriber.expect_publish();
    let ending = std::thread::spawn(move || broker.end_with("TERM"));
    assert_eq!(first.payload.len(), 10_000);
    // `expect_end` ends at half a packet as well, so count bytes instead.
    let rest = subscriber.bytes_to_the_end();
    assert_eq!(rest % subscriber_frame(), 0, "{rest} bytes are not a number of whole packets");
    assert!(ending.join().expect("the broker ends").success());
    flood.join().expect("the publisher does not care");
}

/// The length of each PUBLISH in the test above on the wire.
fn subscriber_frame() -> usize {
    publish(0x30, b"flood", None, &[b'x'; 10_000]).len()
}

// MQTT-3.1.4-1 asks for a reasonable time. Handshakes are in it: half of one costs a place as well.
#[test]
fn a_client_has_ten_seconds_from_its_accept_on_until_it_is_admitted() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 waits much longer");
        return;
    }
    let (web, tls) = (free_port(), free_port());
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let broker = BrokerProcess::start_with_file(|port| {
        format!(
            "allow_anonymous true\nlistener {web} 127.0.0.1\nprotocol websockets\n\
             listener {tls} 127.0.0.1\ncertfile {}\nkeyfile {}\nlistener {port} 127.0.0.1\n",
            server.file.display(),
            server.key.display()
        )
    });
    let mut connections = [broker.port(), web, tls].map(|port| Wire::open_at(local(port)));
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(6));
    // A beginning of each, late.
    connections[0].send(&Connect::new("slow").packet()[..5]);
    connections[1].send(format!("{HANDSHAKE}\r\n").as_bytes());
    connections[2].send(&[0x16, 3, 1]);
    for connection in &mut connections {
        connection.bytes_to_the_end();
        let took = start.elapsed();
        assert!(took > Duration::from_secs(9), "closed after {took:?}");
        assert!(took < Duration::from_secs(13), "closed after {took:?}");
    }
}

// MQTT-3.1.2-24: one and a half times the keep alive.
#[test]
fn a_client_that_is_silent_for_longer_than_its_keep_alive_is_closed_and_its_will_published() {
    let broker = BrokerProcess::start();
    let mut watcher = Wire::connect(&broker, &Connect::new("watcher"));
    watcher.send(&subscribe(1, &[("will", 0)]));
    assert_eq!(watcher.expect_suback(), [0]);

    let start = Instant::now();
    let connect = Connect::new("silent").keep_alive(1).will("will", "gone");
    let mut silent = Wire::connect(&broker, &connect);
    assert!(silent.expect_end().is_empty());
    let closed = start.elapsed();
    assert!(closed >= Duration::from_millis(1400), "closed after {closed:?}");
    // Mosquitto looks only now and then.
    let limit = Duration::from_secs(if is_mosquitto() { 15 } else { 5 });
    assert!(closed < limit, "closed after {closed:?}");
    assert_eq!(watcher.expect_publish().payload, b"gone");
}

// MQTT-3.1.2-24: a client that sends PINGREQ stays.
#[test]
fn a_client_that_pings_within_its_keep_alive_stays() {
    let broker = BrokerProcess::start();
    let mut wire = Wire::connect(&broker, &Connect::new("alive").keep_alive(1));
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(700));
        wire.send(&packet(0xc0, &[]));
        assert_eq!(wire.packet().expect("a PINGRESP").first, 0xd0);
    }
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_a_message() {
    let broker = BrokerProcess::start();
    let output = Command::new(broker_program())
        .args(["-p", &broker.port().to_string()])
        .output()
        .expect("the broker runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("in use"), "{text}");
    if !is_mosquitto() {
        assert!(text.contains(&broker.port().to_string()), "the message names the port: {text}");
    }
}

#[test]
fn pid_file_has_the_process_id_while_the_broker_runs() {
    let file = scratch().join(format!("pid-{}", std::process::id()));
    let lines = format!("allow_anonymous true\npid_file {}", file.display());
    let broker = BrokerProcess::start_with_config(&lines);
    let text = eventually(|| std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty()));
    assert_eq!(text.as_deref().map(str::trim), Some(broker.id().to_string().as_str()));
    assert!(broker.end_with("TERM").success());
    assert!(!file.exists());
}

#[test]
fn log_dest_writes_to_a_file_and_opens_it_anew_at_hup() {
    let file = scratch().join(format!("log-{}", std::process::id()));
    let rotated = file.with_extension("old");
    let _ = std::fs::remove_file(&file);
    let lines = format!("allow_anonymous true\nlog_dest file {}", file.display());
    let broker = BrokerProcess::start_with_config(&lines);
    let has = |file: &std::path::Path, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.contains(name)).then_some(())
    };
    Wire::connect(&broker, &Connect::new("before"));
    assert!(eventually(|| has(&file, "before")).is_some());
    std::fs::rename(&file, &rotated).expect("a log can be rotated");
    broker.signal("HUP");
    assert!(eventually(|| file.exists().then_some(())).is_some());
    Wire::connect(&broker, &Connect::new("after"));
    assert!(eventually(|| has(&file, "after")).is_some());
    assert!(has(&rotated, "after").is_none());
    for file in [file, rotated] {
        let _ = std::fs::remove_file(file);
    }
}

#[test]
fn log_dest_topic_publishes_lines() {
    let broker =
        BrokerProcess::start_with_config("allow_anonymous true\nlog_dest topic\nlog_type all");
    let mut watcher = Wire::connect(&broker, &Connect::new("watcher"));
    watcher.send(&subscribe(1, &[("$SYS/broker/log/#", 0)]));
    // Lines may come before the SUBACK.
    let _guest = Wire::connect(&broker, &Connect::new("the-guest"));
    loop {
        let packet = watcher.packet().expect("a line");
        if String::from_utf8_lossy(&packet.body).contains("the-guest") {
            assert_eq!(packet.first, 0x30);
            assert!(String::from_utf8_lossy(&packet.body[2..]).starts_with("$SYS/broker/log/"));
            return;
        }
    }
}

#[test]
fn started_as_root_the_broker_becomes_the_user_of_its_configuration() {
    let status =
        |id: u32| std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    if !status(std::process::id()).contains("Uid:\t0\t0") {
        println!("skipped: not root");
        return;
    }
    if is_mosquitto() {
        // The tests keep it root.
        return;
    }
    // Where everybody may go.
    let log = std::env::temp_dir().join(format!("log-of-nobody-{}", std::process::id()));
    let lines = format!("allow_anonymous true\nuser nobody\nlog_dest file {}", log.display());
    let broker = BrokerProcess::start_with_config(&lines);
    let nobody = eventually(|| (!status(broker.id()).contains("Uid:\t0\t")).then_some(()));
    assert!(nobody.is_some(), "{}", status(broker.id()));
    assert!(status(broker.id()).contains("CapEff:\t0000000000000000"));
    Wire::connect(&broker, &Connect::new("guest"));
    // It can still open the log that root has made.
    broker.signal("HUP");
    let hup = || {
        std::fs::read_to_string(&log)
            .ok()?
            .lines()
            .find_map(|l| Some(l.split_once("HUP: ")?.1.to_owned()))
    };
    let told = eventually(hup).expect("a line about it");
    assert!(told.contains("count now"), "{told}");
    let _ = std::fs::remove_file(log);
}

#[test]
fn systemd_is_told_when_the_broker_is_ready() {
    if is_mosquitto() {
        return;
    }
    let path = scratch().join(format!("notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    let mut child = Command::new(broker_program())
        .args(["-p", &free_port().to_string()])
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .expect("the broker runs");
    let word = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("a word of the broker");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!(word(), "READY=1");
    signal(&child, "TERM");
    assert_eq!(word(), "STOPPING=1");
    assert!(wait(&mut child).is_some_and(|status| status.success()));
    let _ = std::fs::remove_file(path);
}

// Accepting pauses and recovers; who is connected notices nothing.
#[test]
fn a_broker_without_file_descriptors_says_so_and_recovers() {
    if is_mosquitto() {
        return;
    }
    let Some(prlimit) = required("prlimit", in_path("prlimit")) else { return };
    let broker = BrokerProcess::start();
    let mut good = Wire::connect(&broker, &Connect::new("good"));
    // Its own limit leaves descriptors over, so they can only run out from below.
    let files = std::fs::read_dir(format!("/proc/{}/fd", broker.id())).expect("it runs").count();
    let limit = |files: usize| {
        let id = broker.id().to_string();
        run(Command::new(&prlimit).args(["--pid", &id, &format!("--nofile={files}:")]));
    };
    limit(files + 2);
    let flood: Vec<_> = (0..50).map(|_| TcpStream::connect(broker.address())).collect();
    let told = || broker.log_text().contains("accepts nobody for now").then_some(());
    assert!(eventually(told).is_some(), "{}", broker.log_text());
    for _ in 0..20 {
        assert!(good.ping().is_empty());
    }
    let lines = broker.log_text().lines().filter(|line| line.contains("for now")).count();
    assert!(lines <= 4, "the log is not flooded as well: {lines} lines");
    drop(flood);
    // It serves those that are left over, one after the other.
    let mut back = Wire::connect(&broker, &Connect::new("back"));
    assert!(back.ping().is_empty());
    limit(1000);
    let again: Vec<_> =
        (0..50).map(|n| Wire::connect(&broker, &Connect::new(&format!("{n}")))).collect();
    assert_eq!(again.len(), 50);
    assert!(broker.log_text().contains("accepts connections again"), "{}", broker.log_text());
    assert!(good.ping().is_empty());
}

// Clients go to the threads in turn, and messages from one to the next. They are many, so that the
// connections are watched as busy ones.
#[test]
fn clients_of_several_threads_exchange_messages() {
    if is_mosquitto() {
        return;
    }
    const CLIENTS: usize = 6;
    let broker = BrokerProcess::start_with(|port| {
        ["-p", &port.to_string(), "--workers", "3"].map(String::from).to_vec()
    });
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut wire = Wire::connect(&broker, &Connect::new(&format!("client-{number}")));
            wire.send(&subscribe(1, &[(&format!("to/{number}"), 0)]));
            assert_eq!(wire.expect_suback(), [0]);
            wire
        })
        .collect();
    for message in 0..100 {
        for number in 0..CLIENTS {
            let next = (number + 1) % CLIENTS;
            let payload = format!("{message} of {number}");
            clients[number].send(&publish(
                0x30,
                format!("to/{next}").as_bytes(),
                None,
                payload.as_bytes(),
            ));
            assert_eq!(clients[next].expect_publish().payload, payload.as_bytes());
        }
    }
}

// A Unix socket is there at once, and gone with the broker.
#[test]
fn a_unix_socket_serves_and_is_removed() {
    let path = scratch().join(format!("socket-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let lines = format!("allow_anonymous true\nlistener 0 {}", path.display());
    let broker = BrokerProcess::start_with_config(&lines);
    let stream = eventually(|| UnixStream::connect(&path).ok());
    let mut stream = stream.expect("the socket is there");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream.write_all(&Connect::new("local").packet()).expect("the broker reads");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("a CONNACK");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    assert!(broker.end_with("TERM").success());
    assert!(!path.exists());
}

// The figure stands in the output: bytes of the broker's memory for each connection.
#[test]
fn ten_thousand_idle_clients_are_served() {
    const CLIENTS: u64 = 10_000;
    let files = mqtt_examples::descriptors::raise_limit();
    if files < CLIENTS as usize + 1000 || is_mosquitto() {
        println!("skipped: {files} open files are not enough (or it is Mosquitto)");
        return;
    }
    let broker = BrokerProcess::start();
    let before = broker.memory();
    let start = Instant::now();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut wire = Wire::connect(&broker, &Connect::new(&format!("idle-{number}")));
            wire.send(&subscribe(1, &[(&format!("idle/{number}"), 1)]));
            assert_eq!(wire.expect_suback(), [1]);
            wire
        })
        .collect();
    let each = (broker.memory() - before) / CLIENTS;
    let total = broker.memory() >> 20;
    let took = start.elapsed();
    println!("{CLIENTS} clients after {took:?}, {each} bytes of memory each, {total} MiB in all");
    // A debug build takes about 900. Twice that would be a buffer that nobody needs.
    assert!(each < 1800, "{each} bytes of memory for each client");
    for number in [0, 4711, clients.len() - 1] {
        let topic = format!("idle/{number}");
        let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
        publisher.send(&publish(0x30, topic.as_bytes(), None, b"hello"));
        assert_eq!(clients[number].expect_publish().topic, topic);
    }
}
