//! Each option of a configuration file has the effect that Mosquitto's manual tells, or the one that
//! our README tells. `options.csv` says which test is for which option.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::broker_process::{BrokerProcess, broker_program, free_port, is_mosquitto, local};
use crate::certificates::Authority;
use crate::program::{eventually, scratch};
use crate::wire::{Connect, Wire, packet, publish, subscribe};

fn guest() -> Connect {
    Connect::new("guest")
}

fn subscriber(broker: &BrokerProcess, connect: &Connect, filters: &[(&str, u8)]) -> Wire {
    let mut wire = Wire::connect(broker, connect);
    wire.send(&subscribe(1, filters));
    wire.expect_suback();
    wire
}

/// Publishes at QoS 1 and waits for the PUBACK.
fn publish_1(wire: &mut Wire, topic: &str, payload: &[u8]) {
    wire.send(&publish(0x32, topic.as_bytes(), Some(1), payload));
    assert_eq!(wire.packet().expect("a PUBACK").first, 0x40);
}

/// The topics of PUBLISH packets.
fn topics(packets: &[crate::wire::Packet]) -> Vec<String> {
    let publishes = packets.iter().filter(|packet| packet.first >> 4 == 3);
    let topic = |body: &[u8]| {
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        String::from_utf8(body[2..2 + length].to_vec()).expect("a topic is UTF-8")
    };
    publishes.map(|packet| topic(&packet.body)).collect()
}

#[test]
fn include_dir_reads_what_ends_in_conf() {
    let folder = scratch().join(format!("include-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let other = free_port();
    for (name, text) in [
        ("B.conf", format!("listener {other} 127.0.0.1\nmax_qos 1\n")),
        ("a.conf", "message_size_limit 3\n".to_owned()),
        ("c.txt", "not an option\n".to_owned()),
    ] {
        std::fs::write(folder.join(name), text).expect("it can be written");
    }
    // What follows is about the listener of this file again.
    let broker = BrokerProcess::start_with_config(&format!(
        "allow_anonymous true\ninclude_dir {}\nmax_qos 0",
        folder.display()
    ));
    let mut second = Wire::connect_at(local(other), &Connect::new("second"));
    second.send(&subscribe(1, &[("a", 0)]));
    second.expect_suback();
    publish_1(&mut second, "a", b"1234");
    second.send(&publish(0x30, b"a", None, b"123"));
    assert_eq!(second.expect_publish().payload, b"123");
    let mut first = Wire::connect(&broker, &guest());
    first.send_to_the_end(&publish(0x32, b"a", Some(1), b"x"));
    // Mosquitto 2.0.11 has lost it when an included file has added another.
    if !is_mosquitto() {
        assert!(first.expect_end().iter().all(|packet| packet.first != 0x40));
    }

    if !is_mosquitto() {
        let broken = "\nallow_anonymous maybe\n";
        std::fs::write(folder.join("d.conf"), broken).expect("it can be written");
        broker.signal("HUP");
        let told = || broker.log_text().contains("d.conf:2: allow_anonymous").then_some(());
        assert!(eventually(told).is_some(), "{}", broker.log_text());
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn per_listener_settings_gives_each_listener_its_own_policy() {
    let other = free_port();
    for (per_listener, codes) in [("true", [0, 5]), ("false", [0, 0])] {
        let broker = BrokerProcess::start_with_file(|port| {
            format!(
                "per_listener_settings {per_listener}\nlistener {other} 127.0.0.1\n\
                 listener {port} 127.0.0.1\nallow_anonymous true\n"
            )
        });
        let at_other = Wire::connect_code_at(local(other), &guest());
        assert_eq!([Wire::connect_code(&broker, &guest()), at_other], codes, "{per_listener}");
        assert!(broker.end_with("TERM").success());
    }
}

#[test]
fn listener_allow_anonymous_is_about_one_listener() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not have listener_allow_anonymous");
        return;
    }
    let other = free_port();
    let broker = BrokerProcess::start_with_file(|port| {
        format!(
            "listener {port} 127.0.0.1\nlistener {other} 127.0.0.1\n\
             listener_allow_anonymous true\n"
        )
    });
    assert_eq!(Wire::connect_code(&broker, &guest()), 5);
    assert_eq!(Wire::connect_code_at(local(other), &guest()), 0);
}

// The default listener, as files of Mosquitto 1 have it.
#[test]
fn port_and_bind_address_are_the_default_listener() {
    let Some(elsewhere) = own_address() else { return };
    let broker =
        BrokerProcess::start_with_file(|port| format!("port {port}\nallow_anonymous true\n"));
    let from_outside = SocketAddr::new(elsewhere, broker.port());
    assert_eq!(Wire::connect_code(&broker, &guest()), 0);
    assert_eq!(Wire::connect_code_at(from_outside, &guest()), 0);

    let broker = BrokerProcess::start_with_file(|port| {
        format!("bind_address 127.0.0.1\nport {port}\nallow_anonymous true\n")
    });
    let from_outside = SocketAddr::new(elsewhere, broker.port());
    assert_eq!(Wire::connect_code(&broker, &guest()), 0);
    assert!(TcpStream::connect(from_outside).is_err());
}

#[test]
fn socket_domain_leaves_one_version_of_ip() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: there is no IPv6");
        return;
    }
    let broker = BrokerProcess::start_with_file(|port| {
        format!("listener {port}\nsocket_domain ipv4\nallow_anonymous true\n")
    });
    assert_eq!(Wire::connect_code(&broker, &guest()), 0);
    assert!(TcpStream::connect(("::1", broker.port())).is_err());

    let other = free_port();
    let _broker = BrokerProcess::start_with_file(|port| {
        format!("listener {port}\nallow_anonymous true\nlistener {other}\nsocket_domain ipv6\n")
    });
    assert!(eventually(|| TcpStream::connect(("::1", other)).ok()).is_some());
    assert!(TcpStream::connect(local(other)).is_err());
}

#[test]
fn global_max_connections_counts_all_listeners_and_handshakes() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not have global_max_connections");
        return;
    }
    let web = free_port();
    let broker = BrokerProcess::start_with_file(|port| {
        format!(
            "global_max_connections 2\nallow_anonymous true\nlistener {port} 127.0.0.1\n\
             listener {web} 127.0.0.1\nprotocol websockets\n"
        )
    });
    let first = eventually(|| {
        let mut first = Wire::open(&broker);
        first.send_to_the_end(&Connect::new("first").packet());
        first.packet().map(|_| first)
    });
    let _first = first.expect("the look whether it listens is over");
    let is_refused = || {
        let mut third = Wire::open(&broker);
        third.send_to_the_end(&Connect::new("third").packet());
        third.packet().is_none().then_some(())
    };
    // The look whether it listens may still have the place, so this is tried again, too.
    let shaking_hands = eventually(|| {
        let silent = TcpStream::connect(local(web)).ok()?;
        sleep(Duration::from_millis(20));
        is_refused().map(|()| silent)
    });
    let silent = shaking_hands.expect("one that shakes hands has the second place");
    assert!(broker.log_text().contains("all 2 places are taken"), "{}", broker.log_text());
    drop(silent);
    assert!(eventually(|| is_refused().is_none().then_some(())).is_some());
}

// Connections from this machine are not counted, so it takes another address of it.
#[test]
fn max_connect_rate_sheds_a_flood_of_connections() {
    let Some(elsewhere) = own_address().filter(|_| !is_mosquitto()) else { return };
    for (rate, expected) in [(1, 10), (0, 100)] {
        let broker = BrokerProcess::start_with_file(|port| {
            format!("listener {port}\nallow_anonymous true\nmax_connect_rate {rate}\n")
        });
        let address = SocketAddr::new(elsewhere, broker.port());
        let served = |attempts: usize| {
            let connects = (0..attempts).filter(|number| {
                let mut wire = Wire::open_at(address);
                wire.send_to_the_end(&Connect::new(&format!("c{number}")).packet());
                wire.packet().is_some()
            });
            connects.count()
        };
        let count = served(100);
        assert!((expected..=expected + 5).contains(&count), "{count} at {rate} a second");
        assert_eq!(broker.log_text().contains("connections refused"), rate == 1);
        assert_eq!(Wire::connect_code(&broker, &guest()), 0, "this machine is not counted");
        if rate == 1 {
            sleep(Duration::from_millis(1100));
            assert!(served(1) == 1, "the next second has a place");
        }
    }
}

#[test]
fn mount_point_keeps_the_clients_of_a_listener_among_themselves() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0.11 leaves the mount point in what it sends");
        return;
    }
    let other = free_port();
    let broker = BrokerProcess::start_with_file(|port| {
        format!(
            "allow_anonymous true\nlistener {port} 127.0.0.1\nlistener {other} 127.0.0.1\n\
             mount_point home/\n"
        )
    });
    let mut outside = subscriber(&broker, &Connect::new("outside"), &[("#", 1)]);
    let mut inside = Wire::connect_at(local(other), &Connect::new("inside").will("will", "gone"));
    inside.send(&subscribe(1, &[("#", 1), ("$SYS/#", 0)]));
    inside.expect_suback();
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    publish_1(&mut publisher, "lamp", b"x");
    publish_1(&mut publisher, "home/lamp", b"x");
    inside.send(&publish(0x30, b"fan", None, b"x"));
    assert_eq!(topics(&inside.ping()), ["lamp", "fan"]);
    inside.send(&publish(0x31, b"kept", None, b"x"));
    inside.ping();
    drop(inside);
    for topic in ["lamp", "home/lamp", "home/fan", "home/kept", "home/will"] {
        assert_eq!(outside.expect_publish().topic, topic);
    }
    let mut late = subscriber(&broker, &Connect::new("late"), &[("home/kept", 0)]);
    assert_eq!(late.expect_publish().topic, "home/kept");
}

// The rules are about topics as the broker has them.
#[test]
fn acl_file_sees_the_topics_with_their_mount_point() {
    // Mosquitto 2.0.11 leaves the mount point in what it sends.
    let expected = if is_mosquitto() { "home/open" } else { "open" };
    let file = scratch().join(format!("acl-mount-{}", std::process::id()));
    std::fs::write(&file, "topic home/open\ntopic read closed\n").expect("it can be written");
    let lines = format!("allow_anonymous true\nmount_point home/\nacl_file {}", file.display());
    let broker = BrokerProcess::start_with_config(&lines);
    let mut wire = subscriber(&broker, &guest(), &[("#", 0)]);
    for topic in ["closed", "open", "home/open"] {
        wire.send(&publish(0x30, topic.as_bytes(), None, b"x"));
    }
    assert_eq!(topics(&wire.ping()), [expected]);
    let _ = std::fs::remove_file(file);
}

#[test]
fn max_inflight_bytes_bounds_the_window() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0.11 mixes it up with max_queued_bytes");
        return;
    }
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nmax_inflight_bytes 100");
    let mut slow = subscriber(&broker, &Connect::new("slow"), &[("a", 1)]);
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    for _ in 0..4 {
        publish_1(&mut publisher, "a", &[b'x'; 150]);
    }
    // One whatever its size, and the next when it is through.
    for id in 1..=4_u16 {
        assert_eq!(topics(&slow.ping()).len(), 1, "message {id}");
        slow.send(&packet(0x40, &id.to_be_bytes()));
    }
    assert!(slow.ping().is_empty());
}

#[test]
fn max_queued_bytes_bounds_what_waits() {
    let lines = "allow_anonymous true\nmax_inflight_messages 1\nmax_queued_bytes 1000\n\
                 max_queued_messages 100";
    let broker = BrokerProcess::start_with_config(lines);
    let keeper = Connect::new("keeper").keep_session();
    let mut away = subscriber(&broker, &keeper, &[("a", 1)]);
    away.send(&packet(0xe0, &[]));
    away.expect_end();
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    for _ in 0..20 {
        publish_1(&mut publisher, "a", &[b'x'; 200]);
    }
    let mut back = Wire::connect(&broker, &keeper);
    let mut count = 0;
    for id in 1..=20_u16 {
        count += topics(&back.ping()).len();
        back.send(&packet(0x40, &id.to_be_bytes()));
    }
    // 1,000 bytes have room for 5 payloads, and Mosquitto does not count topics.
    assert!((4..=6).contains(&count), "{count} messages were kept");
}

#[test]
fn queue_qos0_messages_keeps_them_for_an_absent_client() {
    for (option, expected) in [("false", vec![]), ("true", vec!["a", "a"])] {
        let lines = format!("allow_anonymous true\nqueue_qos0_messages {option}");
        let broker = BrokerProcess::start_with_config(&lines);
        let keeper = Connect::new("keeper").keep_session();
        let mut away = subscriber(&broker, &keeper, &[("a", 1)]);
        away.send(&packet(0xe0, &[]));
        away.expect_end();
        let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
        publisher.send(&publish(0x30, b"a", None, b"x").repeat(2));
        publisher.ping();
        assert_eq!(topics(&Wire::connect(&broker, &keeper).ping()), expected, "{option}");
    }
}

#[test]
fn upgrade_outgoing_qos_delivers_at_the_qos_of_the_subscription() {
    for (option, expected) in [("false", [0, 1]), ("true", [2, 2])] {
        let lines = format!("allow_anonymous true\nupgrade_outgoing_qos {option}");
        let broker = BrokerProcess::start_with_config(&lines);
        let mut receiver = subscriber(&broker, &Connect::new("receiver"), &[("a", 2)]);
        let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
        publisher.send(&publish(0x30, b"a", None, b"x"));
        publish_1(&mut publisher, "a", b"x");
        for qos in expected {
            assert_eq!(receiver.expect_publish().qos, qos, "{option}");
        }
    }
}

#[test]
fn allow_duplicate_messages_delivers_for_each_subscription() {
    for (option, expected) in [("false", 1), ("true", 2)] {
        let lines = format!("allow_anonymous true\nallow_duplicate_messages {option}");
        let broker = BrokerProcess::start_with_config(&lines);
        let mut receiver =
            subscriber(&broker, &Connect::new("receiver"), &[("a/#", 1), ("a/b", 1)]);
        let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
        publish_1(&mut publisher, "a/b", b"x");
        assert_eq!(topics(&receiver.ping()).len(), expected, "{option}");
    }
}

// CVE-2018-12546 of Mosquitto: who has lost the right to publish has lost it for what is retained.
#[test]
fn check_retain_source_asks_again_before_a_retained_message_is_delivered() {
    let file = scratch().join(format!("acl-source-{}", std::process::id()));
    for (option, expected) in [("true", vec!["b"]), ("false", vec!["a", "b"])] {
        std::fs::write(&file, "topic read #\ntopic readwrite a\ntopic readwrite b\n")
            .expect("it can be written");
        let lines = format!(
            "allow_anonymous true\ncheck_retain_source {option}\nacl_file {}",
            file.display()
        );
        let broker = BrokerProcess::start_with_config(&lines);
        let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
        for topic in ["a", "b"] {
            publisher.send(&publish(0x31, topic.as_bytes(), None, b"x"));
        }
        publisher.ping();
        std::fs::write(&file, "topic read #\ntopic readwrite b\n").expect("it can be written");
        broker.signal("HUP");
        let is_read = || {
            let mut late = subscriber(&broker, &Connect::new("late"), &[("a", 0), ("b", 0)]);
            publisher.send(&publish(0x30, b"a", None, b"live"));
            publisher.ping();
            let packets = late.ping();
            let live = packets.iter().any(|packet| packet.first == 0x30);
            (!live).then(|| topics(&packets))
        };
        let mut delivered = eventually(is_read).expect("the new rules count");
        delivered.sort_unstable();
        assert_eq!(delivered, expected, "{option}");
    }
    let _ = std::fs::remove_file(file);
}

#[test]
fn memory_limit_refuses_publishers_until_there_is_room() {
    if is_mosquitto() {
        println!("skipped: in Mosquitto an allocation fails, whosever it is");
        return;
    }
    let lines = "allow_anonymous true\nmemory_limit 4000000\nmax_queued_bytes 0\n\
                 max_queued_messages 0\n";
    let broker = BrokerProcess::start_with_config(lines);
    let keeper = Connect::new("keeper").keep_session();
    let mut away = subscriber(&broker, &keeper, &[("a", 1)]);
    away.send(&packet(0xe0, &[]));
    away.expect_end();
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    let mut accepted: u16 = 0;
    loop {
        publisher.send_to_the_end(&publish(0x32, b"a", Some(accepted + 1), &[b'x'; 50_000]));
        match publisher.packet() {
            Some(puback) => assert_eq!(puback.body, (accepted + 1).to_be_bytes()),
            None => break,
        }
        accepted += 1;
        assert!(accepted < 200, "10 MB are over the limit");
    }
    assert!(accepted > 20, "{accepted} of 50 kB fit");
    let told = broker.log_text();
    assert!(told.contains("(memory_limit): messages and new clients are refused"), "{told}");
    let is_served = || {
        let mut wire = Wire::open(&broker);
        wire.send_to_the_end(&Connect::new("new").packet());
        wire.packet().is_some_and(|connack| connack.body == [0, 0]).then_some(())
    };
    assert!(is_served().is_none());
    // The limit is lowered and raised at HUP, like the other rules.
    let config = scratch().join(format!("broker-{}.conf", broker.port()));
    let text = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, text.replace("4000000", "0")).expect("it can be written");
    broker.signal("HUP");
    assert!(eventually(is_served).is_some());
    // Nothing that was acknowledged is lost.
    let mut back = Wire::connect(&broker, &keeper);
    for id in 1..=accepted {
        assert_eq!(back.expect_publish().packet_id, id);
        back.send(&packet(0x40, &id.to_be_bytes()));
    }
    assert!(back.ping().is_empty());
}

// Packets that never end are looked at by nobody, but for how much memory they take.
#[test]
fn memory_limit_counts_packets_that_have_not_ended() {
    if is_mosquitto() {
        return;
    }
    const LIMIT: u64 = 8_000_000;
    let broker = BrokerProcess::start_with_config(&format!(
        "allow_anonymous true\nmemory_limit {LIMIT}\nlog_type warning"
    ));
    let before = broker.memory();
    let beginning = &publish(0x30, b"a", None, &[b'x'; 200_000])[..190_000];
    let mut senders: Vec<_> = (0..200)
        .map(|number| Wire::connect(&broker, &Connect::new(&format!("sender-{number}"))))
        .collect();
    senders.iter_mut().for_each(|sender| sender.send_to_the_end(beginning));
    // Reading 38 MB takes some hundredths of a second.
    let most = (0..100).map(|_| {
        sleep(Duration::from_millis(10));
        broker.memory()
    });
    let grown = most.max().unwrap_or_default().saturating_sub(before);
    assert!(grown < LIMIT * 2, "38 MB were sent, and memory grew by {grown} bytes");
    drop(senders);
    let is_served = || {
        let mut wire = Wire::open(&broker);
        wire.send_to_the_end(&guest().packet());
        wire.packet().is_some_and(|connack| connack.body == [0, 0]).then_some(())
    };
    assert!(eventually(is_served).is_some());
}

#[test]
fn connection_messages_false_leaves_them_out_of_the_log() {
    for (option, expected) in [("true", true), ("false", false)] {
        let lines = format!("allow_anonymous true\nlog_type all\nconnection_messages {option}");
        let broker = BrokerProcess::start_with_config(&lines);
        let mut wire = subscriber(&broker, &Connect::new("the-guest"), &[("a/b", 0)]);
        wire.ping();
        let told = || broker.log_text().contains("the-guest 0 a/b").then_some(());
        assert!(eventually(told).is_some(), "the subscription is told anyway");
        let is_told = broker.log_text().lines().any(|line| line.contains(" connected from "));
        assert_eq!(is_told, expected, "{option}");
    }
}

/// The options of a file in which each is once: with files that exist and ports that are free.
fn all_options(folder: &std::path::Path, port: u16, others: [u16; 5]) -> String {
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let (_, list) = authority.revoked("revoked");
    std::fs::create_dir_all(folder.join("included")).expect("a folder can be made");
    std::fs::create_dir_all(folder.join("ca")).expect("a folder can be made");
    let copy = |from: &std::path::Path, to: &str| {
        std::fs::copy(from, folder.join(to)).expect("a file can be copied");
    };
    copy(&authority.file(), "ca/ca.pem");
    copy(&server.file, "server.crt");
    copy(&server.key, "server.key");
    copy(&list, "ca.crl");
    std::fs::write(folder.join("passwords"), "").expect("it can be written");
    std::fs::write(folder.join("acl"), "topic read #\n").expect("it can be written");
    let [second, tls, web, metrics, last] = others;
    let at = folder.display();
    format!(
        "per_listener_settings false
bind_address 127.0.0.1
port {port}
protocol mqtt
socket_domain ipv4
max_connections 100
max_qos 2
accept_protocol_versions 3, 4
use_username_as_clientid false
global_max_connections 1000
max_connect_rate 50
set_tcp_nodelay true
allow_anonymous true
password_file {at}/passwords
acl_file {at}/acl
clientid_prefixes g
allow_zero_length_clientid true
auto_id_prefix auto-
message_size_limit 1000000
max_packet_size 2000000
max_inflight_messages 20
max_inflight_bytes 0
max_queued_messages 1000
max_queued_bytes 0
queue_qos0_messages false
upgrade_outgoing_qos false
retain_available true
check_retain_source true
max_keepalive 65535
persistent_client_expiration 2m
memory_limit 0
allow_duplicate_messages true
persistence true
persistence_location {at}/
persistence_file all.db
autosave_interval 1800
autosave_on_changes false
sys_interval 10
metrics_listener {metrics}
log_dest stderr
log_type all
log_timestamp true
log_timestamp_format %Y-%m-%dT%H:%M:%S
connection_messages true
log_facility 5
retry_interval 20
store_clean_interval 10
websockets_log_level 0
websockets_headers_size 1024
pid_file {at}/pid
user root
listener {second} 127.0.0.1
listener_allow_anonymous true
mount_point home/
listener {tls} 127.0.0.1
cafile {at}/ca/ca.pem
certfile {at}/server.crt
keyfile {at}/server.key
require_certificate true
crlfile {at}/ca.crl
use_identity_as_username true
tls_version tlsv1.2
ciphers ECDHE-ECDSA-AES128-GCM-SHA256
ciphers_tls1.3 TLS_AES_128_GCM_SHA256
disable_client_cert_date_checks false
dhparamfile {at}/dh.pem
listener {web} 127.0.0.1
protocol websockets
websockets_origin https://example.com
http_dir {at}
capath {at}/ca
certfile {at}/server.crt
keyfile {at}/server.key
require_certificate true
use_subject_as_username true
include_dir {at}/included
listener {last} 127.0.0.1
"
    )
}

#[test]
fn a_file_with_all_options_starts_and_serves() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not have all of them");
        return;
    }
    let folder = scratch().join(format!("all-options-{}", std::process::id()));
    let others = [(); 5].map(|()| free_port());
    let text = all_options(&folder, 1, others);
    let in_file = |option: &&str| {
        text.lines().any(|line| line.split(' ').next().is_some_and(|word| word == *option))
    };
    let missing: Vec<_> = mqtt_examples::config::OPTIONS.iter().filter(|o| !in_file(o)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let broker = BrokerProcess::start_with_file(|port| all_options(&folder, port, others));
    assert_eq!(Wire::connect_code(&broker, &guest()), 0);
    for port in [others[0], others[4]] {
        assert_eq!(Wire::connect_code_at(local(port), &Connect::new("g2")), 0);
    }
    for port in [others[1], others[2], others[3]] {
        assert!(eventually(|| TcpStream::connect(local(port)).ok()).is_some());
    }
    broker.signal("HUP");
    let told = || broker.log_text().contains("certificates count now").then_some(());
    assert!(eventually(told).is_some(), "{}", broker.log_text());
    assert!(!broker.log_text().contains("waits for a restart"), "nothing has changed");
    assert!(broker.end_with("TERM").success());
    let _ = std::fs::remove_dir_all(folder);
}

// A start that fails says so where it was started, wherever the log goes.
#[test]
fn a_start_that_fails_tells_the_terminal_as_well_as_the_log() {
    if is_mosquitto() {
        return;
    }
    let folder = scratch().join(format!("silent-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let (config, log) = (folder.join("broker.conf"), folder.join("log"));
    let text = format!(
        "listener 0 {0}/socket\nlog_dest file {1}\npid_file /nonexistent/pid\n",
        folder.display(),
        log.display()
    );
    std::fs::write(&config, text).expect("it can be written");
    let output = Command::new(broker_program()).arg("-c").arg(&config).output();
    let output = output.expect("the broker runs");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let logged = std::fs::read_to_string(&log).expect("there is a log");
    assert!(told.contains("/nonexistent/pid") && logged.contains("/nonexistent/pid"), "{told}");

    // A folder that is not there would be a page that nobody finds.
    let text =
        format!("listener {}\nprotocol websockets\nhttp_dir /nonexistent/pages", free_port());
    std::fs::write(&config, text).expect("it can be written");
    let output = Command::new(broker_program()).arg("-c").arg(&config).output();
    let output = output.expect("the broker runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/pages"));
    let _ = std::fs::remove_dir_all(folder);
}

// The file that Mosquitto comes with has its options behind a #.
#[test]
fn every_option_of_mosquittos_own_example_file_is_known() {
    let file = "/usr/share/doc/mosquitto/examples/mosquitto.conf";
    let Ok(text) = std::fs::read_to_string(file) else {
        println!("skipped: there is no {file}");
        return;
    };
    let mut known = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix('#')) {
        let option = line.split(' ').next().unwrap_or_default();
        // Sentences stand behind a space.
        if option.is_empty() || !option.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            continue;
        }
        known += 1;
        // What it includes is read before the lines are.
        if option == "include_dir" {
            continue;
        }
        if let Err(error) = mqtt_examples::config::Config::parse(&format!("{option} x")) {
            assert!(!error.to_string().contains("unknown option"), "{error}");
        }
    }
    assert!(known > 80, "{known} options");
}

// Each kind of value, broken.
#[test]
fn a_broken_value_ends_the_start_with_status_3_and_says_what_is_wrong() {
    if is_mosquitto() {
        println!("skipped: Mosquitto says it in other words");
        return;
    }
    let file = scratch().join(format!("broken-{}.conf", std::process::id()));
    for (line, reason) in [
        ("allow_anonymous yes", "`yes`, and must be true or false"),
        ("port 0", "`0`, and must be a port from 1 to 65535"),
        ("listener 65536", "must be a port from 1 to 65535"),
        ("listener 0", "must be 0 and the path of a Unix socket"),
        ("protocol mqttsn", "must be mqtt or websockets"),
        ("socket_domain ipv5", "must be ipv4 or ipv6"),
        ("max_connections many", "must be a number from 0 on, or -1"),
        ("max_connect_rate -1", "must be connections a second, or 0"),
        ("max_qos 3", "must be 0 to 2"),
        ("accept_protocol_versions 4,6", "must be 3, 4 or both"),
        ("accept_protocol_versions 5", "is an option of MQTT 5"),
        ("mount_point a/#", "must be the beginning of a topic, without wildcards"),
        ("tls_version tlsv1.1", "is an option of TLS 1.0 and TLS 1.1"),
        ("tls_version sslv3", "must be tlsv1.2 or tlsv1.3"),
        ("message_size_limit 268435456", "must be at most 268435455 bytes"),
        ("max_packet_size 19", "must be 0, or 20 bytes and more"),
        ("max_inflight_messages -5", "must be a number from 0 on"),
        ("max_keepalive 65536", "must be seconds from 0 to 65535"),
        ("persistent_client_expiration 5", "must be a number and one of h, d, w, m, y"),
        ("memory_limit 1GB", "must be a number from 0 on"),
        ("autosave_interval often", "must be seconds"),
        ("sys_interval ten", "must be seconds from 0 to 65535"),
        ("metrics_listener 9100 somewhere", "must be a port from 1 to 65535 and an IP address"),
        ("log_dest printer", "log_dest is `printer`"),
        ("log_type chatter", "log_type is `chatter`"),
        ("password_file", "needs a value"),
        ("pid_file a\npid_file b", ":2: pid_file is given twice"),
        ("include_dir /nonexistent", "cannot be read"),
        ("allow_anonymous true\nper_listener_settings true", ":2: per_listener_settings must come"),
        ("bridge_protocol_version mqttv31", "is an option of bridges"),
        ("plugin /x.so", "is an option of plugins"),
        ("psk_hint x", "is an option of TLS with pre-shared keys"),
        ("max_topic_alias 5", "is an option of MQTT 5"),
        ("listen 1883", "unknown option listen"),
        ("listener 1883\ncertfile a", "certfile needs keyfile"),
        ("listener 1883\nrequire_certificate true", "needs certfile and keyfile"),
        ("listener 1883\ncertfile /nonexistent/a\nkeyfile b", "/nonexistent/a"),
        ("listener 1883\nlistener 1883", "another listener has the same address"),
        ("acl_file /nonexistent/acl", "/nonexistent/acl: cannot be read"),
        ("password_file /nonexistent/pw", "/nonexistent/pw: cannot be read"),
    ] {
        std::fs::write(&file, format!("{line}\n")).expect("it can be written");
        let mut command = Command::new(broker_program());
        let output = command.arg("-c").arg(&file).stdin(Stdio::null()).output();
        let output = output.expect("the broker runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{line}: {text}");
        assert!(text.contains(reason), "{line}: {text}");
        let names_a_file =
            text.contains(&format!("{}:", file.display())) || text.contains("/nonex");
        assert!(names_a_file, "{line}: {text}");
    }
    let _ = std::fs::remove_file(file);
}

/// An address of this machine that is not loopback.
fn own_address() -> Option<std::net::IpAddr> {
    // Nothing is sent: connecting a UDP socket only looks up the way.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).ok();
    let address = found.map(|found| found.ip()).filter(|ip| !ip.is_loopback());
    if address.is_none() {
        println!("skipped: this machine has no address but loopback");
    }
    address
}
