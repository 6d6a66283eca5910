//! Mosquitto's own command lines: what people type first.

use std::fmt::Write as _;
use std::process::Stdio;

use crate::broker_process::BrokerProcess;
use crate::mosquitto::{Subscriber, clients_installed, command, publish, received};
use crate::program::{Program, scratch};
use crate::wire::{self, Wire};

#[test]
fn the_two_commands_of_the_readme_work() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let subscriber =
        Program::start(command("mosquitto_sub", &broker).args(["-t", "garden/#", "-v", "-C", "1"]));
    // This is how a user does it, and a user is slow. A test is not: it repeats the message until
    // the subscriber has it.
    let printed = std::thread::scope(|scope| {
        let finished = scope.spawn(|| subscriber.finish());
        while !finished.is_finished() {
            publish(&broker, &["-t", "garden/fan", "-m", "hello world"]);
        }
        finished.join().expect("the subscriber ends")
    });
    assert!(printed.0.success());
    assert_eq!(printed.1, ["garden/fan hello world"]);
}

// MQTT-3.8.4-6: the QoS of a delivery is the lower of published and granted.
#[test]
fn a_message_arrives_at_the_lower_of_both_qos() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    for granted in 0..=2 {
        let mut subscriber =
            Subscriber::start(&broker, &["-t", "qos/#", "-q", &granted.to_string()]);
        for published in 0..=2 {
            let topic = format!("qos/{published}");
            publish(&broker, &["-t", &topic, "-q", &published.to_string(), "-m", "hello"]);
            let expected = received(&topic, granted.min(published), false, "hello");
            assert_eq!(subscriber.message(), expected, "granted {granted}");
        }
    }
}

// MQTT-4.6.0-5
#[test]
fn a_thousand_lines_of_one_publisher_arrive_in_order_at_every_qos() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    for qos in ["0", "1", "2"] {
        let mut subscriber = Subscriber::start(&broker, &["-t", "lines", "-q", qos]);
        publish_lines(&broker, &["-t", "lines", "-q", qos], 1..=1000);
        for number in 1..=1000 {
            assert_eq!(subscriber.message().payload, number.to_string(), "at QoS {qos}");
        }
    }
}

// MQTT-3.3.1-5, MQTT-3.3.1-7, MQTT-3.3.1-8, MQTT-3.3.1-9, MQTT-3.3.1-10, MQTT-3.3.1-11
#[test]
fn a_retained_message_is_set_replaced_and_cleared() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let mut early = Subscriber::start(&broker, &["-t", "garden/#", "-q", "2"]);

    publish(&broker, &["-t", "garden/fan", "-m", "on", "-r", "-q", "1"]);
    assert_eq!(early.message(), received("garden/fan", 1, false, "on"));
    let mut late = Subscriber::start(&broker, &["-t", "garden/#", "-q", "2"]);
    assert_eq!(late.message(), received("garden/fan", 1, true, "on"));

    publish(&broker, &["-t", "garden/fan", "-m", "off", "-r", "-q", "2"]);
    // Before the next one: mosquitto_sub hands out a message of QoS 2 only at its PUBREL.
    assert_eq!(early.message(), received("garden/fan", 2, false, "off"));
    let mut late = Subscriber::start(&broker, &["-t", "garden/+", "-q", "2"]);
    assert_eq!(late.message(), received("garden/fan", 2, true, "off"));

    publish(&broker, &["-t", "garden/fan", "-n", "-r", "-q", "1"]);
    let mut late = Subscriber::start(&broker, &["-t", "garden/#", "-q", "2"]);
    publish(&broker, &["-t", "garden/end", "-m", "end", "-q", "1"]);
    assert_eq!(late.message(), received("garden/end", 1, false, "end"));

    let expected = [received("garden/fan", 1, false, ""), received("garden/end", 1, false, "end")];
    assert_eq!([early.message(), early.message()], expected);
}

// MQTT-3.3.1-5: a retained message of QoS 0 is replaced like any other, and kept.
#[test]
fn a_retained_message_of_qos_0_is_kept_for_new_subscribers() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    publish(&broker, &["-t", "state/lamp", "-m", "on", "-r", "-q", "1"]);
    publish(&broker, &["-t", "state/lamp", "-m", "off", "-r", "-q", "0"]);
    // The QoS 0 publish has no answer; another message of its own connection would not tell either.
    // Subscribing anew until it is there is what shows that it was kept.
    let found = crate::program::eventually(|| {
        let mut late = Subscriber::start(&broker, &["-t", "state/lamp", "-q", "2"]);
        let message = late.message();
        (message.payload == "off").then_some(message)
    });
    assert_eq!(found, Some(received("state/lamp", 0, true, "off")));
}

// MQTT-3.1.2-8
#[test]
fn a_will_is_published_when_its_client_is_killed() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let mut watcher = Subscriber::start(&broker, &["-t", "will/#", "-q", "2"]);
    let will = |topic| {
        let options = ["-t", "x", "--will-topic", topic, "--will-payload", "gone"];
        Subscriber::start(&broker, &[&options[..], &["--will-qos", "1", "--will-retain"]].concat())
    };
    will("will/killed").kill_9();
    assert_eq!(watcher.message(), received("will/killed", 1, false, "gone"));

    // MQTT-3.1.2-17: it was to be retained.
    let mut late = Subscriber::start(&broker, &["-t", "will/#", "-q", "2"]);
    assert_eq!(late.message(), received("will/killed", 1, true, "gone"));
}

// MQTT-3.1.2-10, MQTT-3.14.4-3
#[test]
fn a_will_is_forgotten_when_its_client_says_goodbye() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let mut watcher = Subscriber::start(&broker, &["-t", "will/#", "-q", "2"]);
    let polite = ["-t", "x", "--will-topic", "will/polite", "--will-payload", "gone"];
    let polite = Subscriber::start(&broker, &polite);
    assert!(polite.terminate().success());
    publish(&broker, &["-t", "will/end", "-m", "end", "-q", "1"]);
    assert_eq!(watcher.message(), received("will/end", 1, false, "end"));
}

// MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-4.4.0-1, MQTT-4.6.0-6
#[test]
fn a_kept_session_gets_what_it_missed_in_order() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let keeper = ["-c", "-i", "keeper", "-q", "2", "-t", "queue/#"];
    assert!(Subscriber::start(&broker, &keeper).terminate().success());

    publish_lines(&broker, &["-t", "queue/one", "-q", "1"], 1..=100);
    publish_lines(&broker, &["-t", "queue/two", "-q", "2"], 101..=200);

    let mut subscriber = Subscriber::start(&broker, &keeper);
    for number in 1..=200 {
        let (topic, qos) = if number <= 100 { ("queue/one", 1) } else { ("queue/two", 2) };
        assert_eq!(subscriber.message(), received(topic, qos, false, &number.to_string()));
    }
    publish(&broker, &["-t", "queue/live", "-q", "1", "-m", "live"]);
    assert_eq!(subscriber.message(), received("queue/live", 1, false, "live"));
}

// MQTT-4.4.0-1: what was sent and not acknowledged is sent again after a broken connection.
#[test]
fn a_kept_session_of_a_killed_client_misses_nothing() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let keeper = ["-c", "-i", "keeper", "-q", "2", "-t", "queue/#"];
    Subscriber::start(&broker, &keeper).kill_9();
    publish_lines(&broker, &["-t", "queue/a", "-q", "2"], 1..=100);

    // Read the packets and acknowledge none, then go away.
    let mut silent = Wire::connect(&broker, &wire::Connect::new("keeper").keep_session());
    assert!(silent.expect_publish().payload.starts_with(b"1"));
    drop(silent);

    let mut subscriber = Subscriber::start(&broker, &keeper);
    for number in 1..=100 {
        assert_eq!(subscriber.message().payload, number.to_string());
    }
}

// MQTT-3.1.2-6: connecting with a clean session forgets the kept one.
#[test]
fn a_clean_session_discards_what_was_kept() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let keeper = ["-c", "-i", "keeper", "-q", "1", "-t", "queue/#"];
    Subscriber::start(&broker, &keeper).terminate();
    publish_lines(&broker, &["-t", "queue/lost", "-q", "1"], 1..=10);
    Subscriber::start(&broker, &["-i", "keeper", "-t", "other"]).terminate();

    let mut subscriber = Subscriber::start(&broker, &keeper);
    publish(&broker, &["-t", "queue/end", "-q", "1", "-m", "end"]);
    assert_eq!(subscriber.message(), received("queue/end", 1, false, "end"));
}

// MQTT-4.7.1-2, MQTT-4.7.1-3
#[test]
fn filters_match_as_the_standard_says() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    // The examples of sections 4.7.1.2 and 4.7.1.3, and empty levels.
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "sport/tennis/player1/#",
            &["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/a/b"],
            &["sport/tennis/player2", "sport/tennis"],
        ),
        ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "/sport"]),
        ("sport/tennis/+", &["sport/tennis/player1"], &["sport/tennis/player1/ranking"]),
        ("sport/+", &["sport/"], &["sport", "sport/a/b"]),
        ("+", &["finance"], &["/finance", "a/b"]),
        ("+/+", &["/finance", "a/b", "/"], &["finance", "/a/b"]),
        ("/+", &["/finance", "/"], &["finance"]),
        ("#", &["finance", "/finance", "a/b/c", "/"], &[]),
        ("+/monitor/#", &["a/monitor", "a/monitor/x"], &["monitor"]),
        ("a//b", &["a//b"], &["a/b", "a///b"]),
        ("a/+/b", &["a//b", "a/x/b"], &["a/b"]),
        ("GARDEN/fan", &["GARDEN/fan"], &["garden/fan", "GARDEN/Fan"]),
        ("a b/ü", &["a b/ü"], &["ab/ü"]),
    ];
    for (filter, matching, others) in cases {
        let mut subscriber =
            Subscriber::start(&broker, &["-t", filter, "-t", "the/end", "-q", "1"]);
        for topic in matching.iter().chain(*others) {
            publish(&broker, &["-t", topic, "-m", "x", "-q", "1"]);
        }
        publish(&broker, &["-t", "the/end", "-m", "x", "-q", "1"]);
        let mut got: Vec<_> =
            std::iter::repeat_with(|| subscriber.message().topic).take(matching.len()).collect();
        if *filter != "#" {
            got.push(subscriber.message().topic);
        } else {
            got.push("the/end".to_owned());
        }
        let expected: Vec<_> = matching.iter().copied().chain(["the/end"]).collect();
        assert_eq!(got, expected, "filter {filter}");
    }
}

// MQTT-4.7.2-1
#[test]
fn wildcards_at_the_start_do_not_match_topics_with_a_dollar() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let wild = ["-t", "#", "-t", "+/a", "-t", "+/#", "-q", "1"];
    let mut subscriber = Subscriber::start(&broker, &wild);
    publish(&broker, &["-t", "$test/a", "-m", "hidden", "-q", "1"]);
    publish(&broker, &["-t", "$SYS/a", "-m", "hidden", "-q", "1"]);
    publish(&broker, &["-t", "the/end", "-m", "seen", "-q", "1"]);
    assert_eq!(subscriber.message(), received("the/end", 1, false, "seen"));
}

// MQTT-3.3.5-1: overlapping subscriptions, one delivery at the highest QoS.
#[test]
fn overlapping_subscriptions_deliver_once_at_the_highest_qos() {
    if !clients_installed() {
        return;
    }
    if crate::broker_process::is_mosquitto() {
        println!("skipped: Mosquitto 2.0 delivers once for each subscription");
        return;
    }
    let broker = BrokerProcess::start();
    let mut wire = Wire::connect(&broker, &wire::Connect::new("overlap"));
    wire.send(&wire::subscribe(1, &[("o/#", 0), ("o/+", 2), ("o/a", 1)]));
    assert_eq!(wire.expect_suback(), [0, 2, 1]);
    publish(&broker, &["-t", "o/a", "-m", "once", "-q", "2"]);
    publish(&broker, &["-t", "o/b", "-m", "end", "-q", "0"]);
    let first = wire.expect_publish();
    assert_eq!((first.topic.as_str(), first.qos), ("o/a", 2));
    wire.send(&wire::pubrec(first.packet_id));
    wire.send(&wire::pubcomp(first.packet_id));
    let second = wire.expect_publish();
    assert_eq!((second.topic.as_str(), second.qos), ("o/b", 0));
}

// MQTT-3.1.4-2
#[test]
fn a_second_client_with_the_same_id_takes_over() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let mut first = Wire::connect(&broker, &wire::Connect::new("twin"));
    first.send(&wire::subscribe(1, &[("twin/#", 1)]));
    assert_eq!(first.expect_suback(), [1]);

    let mut second = Subscriber::start(&broker, &["-i", "twin", "-t", "twin/#", "-q", "1"]);
    first.expect_end();
    publish(&broker, &["-t", "twin/a", "-m", "hello", "-q", "1"]);
    assert_eq!(second.message(), received("twin/a", 1, false, "hello"));
}

#[test]
fn a_payload_of_one_mebibyte_arrives_unchanged() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    // Different at each place, so that a piece that is lost or moved is seen.
    let mut payload = String::new();
    for number in 0..131_072 {
        write!(payload, "{number:07},").expect("a string can be written to");
    }
    assert_eq!(payload.len(), 1 << 20);
    let file = scratch().join(format!("payload-{}", broker.port()));
    std::fs::write(&file, &payload).expect("the payload can be written");
    let path = file.to_str().expect("a path of this test is UTF-8");

    for qos in ["0", "1", "2"] {
        let mut subscriber = Subscriber::start(&broker, &["-t", "big", "-q", qos]);
        publish(&broker, &["-t", "big", "-q", qos, "-f", path]);
        let message = subscriber.message();
        assert!(message.payload == payload, "{} bytes differ at QoS {qos}", message.payload.len());
    }
    let _ = std::fs::remove_file(file);
}

// MQTT-3.1.2-1 and the protocol name of the version before.
#[test]
fn a_client_of_mqtt_3_1_publishes_and_subscribes() {
    if !clients_installed() {
        return;
    }
    let broker = BrokerProcess::start();
    let old = ["-V", "mqttv31", "-q", "2"];
    let mut subscriber = Subscriber::start(&broker, &[&old[..], &["-t", "old/#"]].concat());
    publish(&broker, &[&old[..], &["-t", "old/a", "-m", "hello", "-r"]].concat());
    assert_eq!(subscriber.message(), received("old/a", 2, false, "hello"));
    let mut new = Subscriber::start(&broker, &["-t", "old/#", "-q", "1"]);
    assert_eq!(new.message(), received("old/a", 1, true, "hello"));
}

// MQTT-3.1.2-2: an unacceptable protocol level is refused with CONNACK 1.
#[test]
fn a_client_of_mqtt_5_is_told_that_its_version_is_not_spoken() {
    if !clients_installed() || crate::broker_process::is_mosquitto() {
        return;
    }
    let broker = BrokerProcess::start();
    let output = command("mosquitto_pub", &broker)
        .args(["-V", "5", "-t", "a", "-m", "x"])
        .stdin(Stdio::null())
        .output()
        .expect("mosquitto_pub runs");
    assert!(!output.status.success(), "{output:?}");
}

/// Publishes numbers, each a message, with one `mosquitto_pub` that reads lines.
fn publish_lines(
    broker: &BrokerProcess,
    arguments: &[&str],
    numbers: std::ops::RangeInclusive<u32>,
) {
    let file = scratch().join(format!("lines-{}", broker.port()));
    let lines: Vec<_> = numbers.map(|number| number.to_string()).collect();
    std::fs::write(&file, lines.join("\n") + "\n").expect("the lines can be written");
    let input = std::fs::File::open(&file).expect("the lines can be read");
    crate::program::run(command("mosquitto_pub", broker).args(arguments).arg("-l").stdin(input));
    let _ = std::fs::remove_file(file);
}
