//! What a configuration file says is what the broker does.

use std::process::{Command, Stdio};

use crate::broker_process::{BrokerProcess, broker_program, free_port, is_mosquitto, local};
use crate::program::scratch;
use crate::wire::{Connect, Wire, packet, publish, subscribe};

#[test]
fn a_line_that_is_wrong_ends_the_start_with_status_3_and_names_it() {
    let file = scratch().join(format!("wrong-{}.conf", std::process::id()));
    for (lines, reason) in [
        ("listener 1883\nfoo bar\n", ":2: unknown option foo"),
        ("allow_anonymous tru\n", ":1: allow_anonymous is `tru`"),
        ("\n\nconnection east\n", ":3: connection is an option of bridges"),
    ] {
        std::fs::write(&file, lines).expect("the configuration can be written");
        let output = Command::new(broker_program())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .expect("the broker runs");
        assert_eq!(output.status.code(), Some(3), "{lines}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !is_mosquitto() {
            assert!(text.contains(&format!("{}{reason}", file.display())), "{text}");
        }
        if lines.starts_with("\n\n") && is_mosquitto() {
            break;
        }
    }
    let _ = std::fs::remove_file(file);
}

#[test]
fn a_password_file_that_is_missing_ends_the_start_with_its_name() {
    let file = scratch().join(format!("missing-{}.conf", std::process::id()));
    std::fs::write(&file, "password_file /nonexistent/pw\n").expect("it can be written");
    let output =
        Command::new(broker_program()).arg("-c").arg(&file).output().expect("the broker runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/pw"));
    let _ = std::fs::remove_file(file);
}

#[test]
fn anonymous_clients_need_permission_where_a_listener_is_named() {
    let broker = BrokerProcess::start_with_config("");
    assert_eq!(Wire::connect_code(&broker, &Connect::new("guest")), 5);
    // A name that nobody can check is worth as much as none.
    let named = Connect::new("guest").user("somebody", Some("x"));
    assert_eq!(Wire::connect_code(&broker, &named), 5);
    let broker = BrokerProcess::start_with_config("allow_anonymous true");
    assert_eq!(Wire::connect_code(&broker, &Connect::new("guest")), 0);
    assert_eq!(Wire::connect_code(&broker, &named), 0);
}

#[test]
fn message_size_limit_drops_what_is_larger_and_acknowledges_it() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nmessage_size_limit 5");
    let mut wire = Wire::connect(&broker, &Connect::new("client"));
    wire.send(&subscribe(1, &[("a", 0)]));
    wire.expect_suback();
    wire.send(&publish(0x32, b"a", Some(1), b"123456"));
    wire.send(&publish(0x32, b"a", Some(2), b"12345"));
    let packets = wire.ping();
    let acks = packets.iter().filter(|packet| packet.first == 0x40).count();
    let payloads: Vec<_> = packets
        .iter()
        .filter(|packet| packet.first == 0x30)
        .map(|p| p.body[3..].to_vec())
        .collect();
    assert_eq!((acks, payloads), (2, vec![b"12345".to_vec()]));
    // A will that could never be published is refused at once.
    let connect = Connect::new("will").will("a", "123456");
    assert_eq!(Wire::connect_code(&broker, &connect), 5);
}

#[test]
fn max_packet_size_closes_the_connection() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nmax_packet_size 100");
    let mut wire = Wire::connect(&broker, &Connect::new("client"));
    wire.send(&publish(0x32, b"a", Some(1), &[0; 80]));
    assert_eq!(wire.packet().expect("a PUBACK").first, 0x40);
    wire.send_to_the_end(&publish(0x32, b"a", Some(1), &[0; 100]));
    assert!(wire.expect_end().is_empty());
}

#[test]
fn retain_available_false_closes_who_retains() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nretain_available false");
    let mut wire = Wire::connect(&broker, &Connect::new("client"));
    wire.send(&publish(0x30, b"a", None, b"x"));
    assert!(wire.ping().is_empty());
    wire.send_to_the_end(&publish(0x31, b"a", None, b"x"));
    assert!(wire.expect_end().is_empty());
}

#[test]
fn max_qos_closes_who_asks_for_more() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nmax_qos 1");
    let mut wire = Wire::connect(&broker, &Connect::new("client"));
    wire.send(&publish(0x32, b"a", Some(1), b"x"));
    assert_eq!(wire.packet().expect("a PUBACK").first, 0x40);
    wire.send_to_the_end(&publish(0x34, b"a", Some(2), b"x"));
    assert!(wire.expect_end().iter().all(|packet| packet.first == 0x50));
}

#[test]
fn clientid_prefixes_keeps_others_out() {
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nclientid_prefixes dev-");
    assert_eq!(Wire::connect_code(&broker, &Connect::new("dev-1")), 0);
    // Mosquitto says 5.
    let code = if is_mosquitto() { 5 } else { 2 };
    assert_eq!(Wire::connect_code(&broker, &Connect::new("other")), code);
}

#[test]
fn max_connections_closes_who_is_one_too_many() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 miscounts after a connection that sent no CONNECT");
        return;
    }
    let broker = BrokerProcess::start_with_config("max_connections 2\nallow_anonymous true");
    let mut connected =
        [1, 2].map(|number| Wire::connect(&broker, &Connect::new(&format!("client-{number}"))));
    let mut third = Wire::open(&broker);
    third.send_to_the_end(&Connect::new("client-3").packet());
    assert!(third.expect_end().is_empty());
    assert!(connected.iter_mut().all(|wire| wire.ping().is_empty()));
    drop(connected);
    // Their places are free as soon as the broker has seen them go.
    let connects = || {
        let mut wire = Wire::open(&broker);
        wire.send_to_the_end(&Connect::new("client-4").packet());
        wire.packet().map(|packet| assert_eq!(packet.body, [0, 0]))
    };
    assert!(crate::program::eventually(connects).is_some());
}

#[test]
fn max_keepalive_refuses_longer_ones() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 has max_keepalive for MQTT 5 only");
        return;
    }
    let broker = BrokerProcess::start_with_config("allow_anonymous true\nmax_keepalive 60");
    assert_eq!(Wire::connect_code(&broker, &Connect::new("a").keep_alive(60)), 0);
    assert_eq!(Wire::connect_code(&broker, &Connect::new("a").keep_alive(61)), 2);
    assert_eq!(Wire::connect_code(&broker, &Connect::new("a").keep_alive(0)), 2);
}

#[test]
fn allow_zero_length_clientid_false_refuses_empty_client_ids() {
    let lines = "allow_anonymous true\nallow_zero_length_clientid false";
    let broker = BrokerProcess::start_with_config(lines);
    assert_eq!(Wire::connect_code(&broker, &Connect::new("")), 2);
    assert_eq!(Wire::connect_code(&broker, &Connect::new("a")), 0);
}

// Seen in the log: MQTT 3.1.1 does not tell a client which id it was given.
#[test]
fn auto_id_prefix_and_empty_client_ids_are_the_listeners_own() {
    if is_mosquitto() {
        return;
    }
    let other = free_port();
    let broker = BrokerProcess::start_with_file(|port| {
        format!(
            "per_listener_settings true\nlistener {port} 127.0.0.1\nallow_anonymous true\n\
             auto_id_prefix first-\nlistener {other} 127.0.0.1\nallow_anonymous true\n\
             allow_zero_length_clientid false\n"
        )
    });
    assert_eq!(Wire::connect_code(&broker, &Connect::new("")), 0);
    let named = || broker.log_text().contains("client first-").then_some(());
    assert!(crate::program::eventually(named).is_some());
    assert_eq!(Wire::connect_code_at(local(other), &Connect::new("")), 2);
}

#[test]
fn accept_protocol_versions_refuses_the_others() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not have accept_protocol_versions");
        return;
    }
    let mut old = Connect::new("old");
    old.name = crate::wire::string(b"MQIsdp");
    old.level = 3;
    let new = Connect::new("new");
    for (versions, codes) in [("3", (0, 1)), ("4", (1, 0)), ("3, 4", (0, 0))] {
        let lines = format!("allow_anonymous true\naccept_protocol_versions {versions}");
        let broker = BrokerProcess::start_with_config(&lines);
        let code = |connect| Wire::connect_code(&broker, connect);
        assert_eq!((code(&old), code(&new)), codes, "{versions}");
    }
}

#[test]
fn use_username_as_clientid_takes_over_by_user_name() {
    let lines = "use_username_as_clientid true\nallow_anonymous true";
    let broker = BrokerProcess::start_with_config(lines);
    let mut first = Wire::connect(&broker, &Connect::new("one").user("alice", None));
    let mut second = Wire::connect(&broker, &Connect::new("two").user("alice", None));
    assert!(first.expect_end().is_empty());
    assert!(second.ping().is_empty());
}

#[test]
fn max_inflight_messages_and_max_queued_messages_bound_a_session() {
    let lines = "allow_anonymous true\nmax_inflight_messages 3\nmax_queued_messages 5";
    let broker = BrokerProcess::start_with_config(lines);
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));

    let keeper = Connect::new("keeper").keep_session();
    let mut away = Wire::connect(&broker, &keeper);
    away.send(&subscribe(1, &[("q", 1)]));
    away.expect_suback();
    away.send(&packet(0xe0, &[]));
    assert!(away.expect_end().is_empty());
    for number in 1..=20_u16 {
        publisher.send(&publish(0x32, b"q", Some(number), &number.to_be_bytes()));
        assert_eq!(publisher.packet().expect("a PUBACK").first, 0x40);
    }
    let mut back = Wire::connect(&broker, &keeper);
    let inflight = back.ping();
    assert_eq!(inflight.len(), 3, "no more than the window without acknowledgements");
    let mut received = inflight.len();
    let mut unacknowledged: Vec<_> = inflight.into_iter().map(|packet| packet.body).collect();
    while let Some(body) = unacknowledged.pop() {
        back.send(&packet(0x40, &body[3..5]));
        let more = back.ping();
        received += more.len();
        unacknowledged.extend(more.into_iter().map(|packet| packet.body));
    }
    // Mosquitto counts the window extra; how many are kept is the limit, not the exact number.
    assert!((5..=8).contains(&received), "{received} messages were kept");
}

// The file that users start from, and the same with all that is commented out.
#[test]
fn the_annotated_configuration_file_is_valid() {
    let text = include_str!("../../broker/broker.conf");
    let config = mqtt_examples::config::Config::parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.listeners.len(), 1);
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // Examples of ACL lines and sentences begin with a space.
            Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase()) => option,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    // Here it stands below listeners, for those who read from the top.
    let all = all.replace("allow_anonymous true\n", "").replace("listener 8883", "listener 8884");
    let config = mqtt_examples::config::Config::parse(&all).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.listeners.len(), 4);
}
