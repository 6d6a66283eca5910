use std::time::Duration;

use mqtt_broker_core::{Admission, Authentication, Closed, ConnectionError, Event, Hooks, Login};
use mqtt_codec::ConnectReturnCode;

use crate::wire::*;
use crate::world::World;

// MQTT-3.1.4-4, MQTT-3.2.0-1, MQTT-3.2.2-1
#[test]
fn an_accepted_connect_is_answered_with_code_0_and_nothing_before_it() {
    World::new().client("a").expect_nothing();
}

// MQTT-3.1.0-1
#[test]
fn any_other_first_packet_ends_the_connection_without_an_answer() {
    let firsts = [
        connack(false, 0),
        publish0("t", "x"),
        puback(1),
        pubrec(1),
        pubrel(1),
        pubcomp(1),
        subscribe(1, &[("t", 0)]),
        suback(1, &[0]),
        unsubscribe(1, &["t"]),
        unsuback(1),
        PINGREQ.to_vec(),
        PINGRESP.to_vec(),
        DISCONNECT.to_vec(),
    ];
    let world = World::new();
    for first in firsts {
        let mut client = world.open();
        client.send(&first);
        let end = client.expect_end();
        assert!(matches!(end, Err(ConnectionError::FirstPacket(_))), "{first:?}: {end:?}");
    }
}

// MQTT-3.1.0-2
#[test]
fn a_second_connect_ends_the_connection() {
    let world = World::new();
    let mut client = world.client("a");
    client.send(&connect(CLEAN, 0, &[b"a"]));
    assert_eq!(client.expect_end(), Err(ConnectionError::SecondConnect));
}

// MQTT-3.1.2-1
#[test]
fn a_wrong_protocol_name_is_no_mqtt() {
    let world = World::new();
    for name in ["MQTZ", "mqtt", "", "MQTTMQTT", "MQIsdP"] {
        let mut client = world.open();
        client.send(&connect_as(name, 4, CLEAN, 0, &[b"a"]));
        assert!(matches!(client.expect_end(), Err(ConnectionError::Malformed(_))), "{name}");
    }
}

// MQTT-3.1.2-2
#[test]
fn an_unknown_protocol_level_is_answered_with_code_1() {
    let world = World::new();
    for level in [0, 1, 2, 5, 6, 0x83, 0x84, 255] {
        let mut client = world.open();
        client.send(&connect_as("MQTT", level, CLEAN, 0, &[b"a"]));
        let refused = ConnectionError::Refused(ConnectReturnCode::UnacceptableProtocolVersion);
        assert_eq!(client.expect_last(&[&[0x20, 2, 0, 1]]), Err(refused), "{level}");
    }
}

#[test]
fn mqtt_3_1_is_served() {
    let world = World::new();
    let mut client = world.open();
    client.send(&connect_as("MQIsdp", 3, CLEAN, 0, &[b"a"]));
    client.expect(&[&connack(false, 0)]);
    client.subscribe("t", 1);
    client.send(&publish(0x32, "t", 5, "x"));
    client.expect(&[&publish(0x32, "t", 1, "x"), &puback(5)]);
    // It knows no empty client id, whatever the session.
    let mut nameless = world.open();
    nameless.send(&connect_as("MQIsdp", 3, CLEAN, 0, &[b""]));
    nameless.expect_last(&[&[0x20, 2, 0, 2]]).unwrap_err();
}

// MQTT-3.1.2-3, MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-14, MQTT-3.1.2-15, MQTT-3.1.2-22, MQTT-3.1.4-1,
// MQTT-3.2.2-6
#[test]
fn connect_flags_that_contradict_each_other_end_the_connection_without_connack() {
    let world = World::new();
    // Reserved bit; will QoS or retain without will; will QoS 3; password without user name.
    for flags in [0x03, 0x0a, 0x12, 0x22, 0x1e, 0x42] {
        let mut client = world.open();
        client.send(&connect(flags, 0, &[b"a", b"t", b"m"]));
        let end = client.expect_end();
        assert!(matches!(end, Err(ConnectionError::Malformed(_))), "{flags:#x}: {end:?}");
    }
}

// MQTT-3.1.3-5
#[test]
fn every_client_id_of_1_to_23_letters_and_digits_is_accepted() {
    let world = World::new();
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for len in 1..=23 {
        world.client(&alphabet[..len]).leave();
        world.client(&alphabet[alphabet.len() - len..]).leave();
    }
    for n in 0..alphabet.len() {
        world.client(&alphabet[n..=n]).leave();
    }
    world.client(&"long".repeat(100)).leave();
}

// MQTT-3.1.3-6
#[test]
fn clients_without_an_id_get_different_ones() {
    let world = World::new();
    let mut one = world.client("");
    let mut two = world.client("");
    one.subscribe("t", 0);
    two.subscribe("t", 0);
    one.send(&publish0("t", "x"));
    one.expect(&[&publish0("t", "x")]);
    two.expect(&[&publish0("t", "x")]);
    assert_eq!(world.broker.stats().sessions, 2);
}

// MQTT-3.1.3-8, MQTT-3.2.2-5
#[test]
fn an_empty_client_id_with_a_kept_session_is_answered_with_code_2() {
    let mut client = World::new().connecting("", KEPT);
    client.expect_last(&[&[0x20, 2, 0, 2]]).unwrap_err();
}

// MQTT-3.1.3-9
#[test]
fn a_refused_client_id_is_answered_with_code_2() {
    let world = World::with(|config| config.allow_empty_client_id = false);
    world.connecting("", CLEAN).expect_last(&[&[0x20, 2, 0, 2]]).unwrap_err();
    world.client("a").leave();
}

// MQTT-3.1.4-2
#[test]
fn a_second_connection_with_the_same_id_disconnects_the_first() {
    let world = World::new();
    let mut watcher = world.subscriber("w", "will", 0);
    let mut first = world.open();
    first.send(&connect(CLEAN | 0x04, 0, &[b"a", b"will", b"gone"]));
    first.expect(&[&connack(false, 0)]);
    let mut second = world.client("a");
    watcher.expect(&[&publish0("will", "gone")]);
    assert_eq!(first.expect_end(), Ok(Closed::TakenOver));
    first.send(&publish0("will", "from the old one"));
    watcher.expect_nothing();
    second.ask(PINGREQ, PINGRESP);
}

// MQTT-3.1.4-5
#[test]
fn nothing_behind_a_refused_connect_is_processed() {
    struct Nobody;
    impl Hooks for Nobody {
        fn authenticate(&self, login: &Login) -> Authentication {
            match login.client.client_id() {
                "watcher" => Admission::Accept,
                _ => Admission::Refuse(ConnectReturnCode::BadUserNameOrPassword),
            }
            .into()
        }
    }
    let world = World::with_hooks(|_| {}, Nobody);
    let mut watcher = world.subscriber("watcher", "#", 0);
    let mut client = world.open();
    client.send(&[connect(CLEAN, 0, &[b"a"]), publish0("t", "x")].concat());
    client.expect_last(&[&connack(false, 4)]).unwrap_err();
    client.send(&publish0("t", "y"));
    client.expect_end().unwrap_err();
    watcher.expect_nothing();
}

// MQTT-3.2.0-1. The PUBACK came alone.
#[test]
fn a_client_that_says_everything_at_once_gets_connack_first() {
    let world = World::new();
    let mut client = world.open();
    let all = [connect(CLEAN, 0, &[b"a"]), publish(0x32, "t", 1, "x"), DISCONNECT.to_vec()];
    client.send(&all.concat());
    client.expect_last(&[&connack(false, 0), &puback(1)]).unwrap();

    let mut old = world.connecting("a", CLEAN);
    old.send(PINGREQ);
    let _new = world.client("a");
    assert_eq!(old.expect_last(&[&connack(false, 0), PINGRESP]), Ok(Closed::TakenOver));
}

// MQTT-3.2.0-1
#[test]
fn connack_comes_before_what_waited_and_what_is_retained() {
    let world = World::new();
    let mut publisher = world.client("p");
    let mut sleeper = world.kept("s", false);
    sleeper.subscribe("t", 1);
    sleeper.cut();
    publisher.publish1("t", "waited");
    publisher.retain("r", "retained");
    let mut sleeper = world.open();
    sleeper.send(&[connect(KEPT, 0, &[b"s"]), subscribe(3, &[("r", 0)])].concat());
    sleeper.expect(&[
        &connack(true, 0),
        &publish(0x32, "t", 1, "waited"),
        &suback(3, &[0]),
        &publish(0x31, "r", 0, "retained"),
    ]);
}

// MQTT-3.2.2-4, MQTT-3.2.2-5
#[test]
fn a_refusal_never_says_that_a_session_is_present() {
    struct OnceOnly(std::sync::atomic::AtomicBool);
    impl Hooks for OnceOnly {
        fn authenticate(&self, _: &Login) -> Authentication {
            match self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
                false => Admission::Accept,
                true => Admission::Refuse(ConnectReturnCode::NotAuthorized),
            }
            .into()
        }
    }
    let world = World::with_hooks(|_| {}, OnceOnly(false.into()));
    world.kept("a", false).cut();
    world.connecting("a", KEPT).expect_last(&[&[0x20, 2, 0, 5]]).unwrap_err();
}

#[test]
fn what_comes_while_a_login_is_decided_waits_for_it() {
    struct Later;
    impl Hooks for Later {
        fn authenticate(&self, _: &Login) -> Authentication {
            Authentication::Later(Box::pin(std::future::pending()))
        }
    }
    let world = World::with_hooks(|_| {}, Later);
    let mut client = world.open();
    client.send(&[connect(CLEAN, 0, &[b"a"]), subscribe(3, &[("t", 0)])].concat());
    client.expect_nothing();
    assert!(!client.wants_input());
    assert!(matches!(client.event(), Some(Event::Authenticate(_))));
    client.admit(Admission::Accept);
    client.expect(&[&connack(false, 0), &suback(3, &[0])]);
    assert!(client.wants_input());

    let mut client = world.open();
    client.send(&[connect(CLEAN, 0, &[b"b"]), subscribe(3, &[("t", 0)])].concat());
    client.admit(Admission::Refuse(ConnectReturnCode::ServerUnavailable));
    client.expect_last(&[&connack(false, 3)]).unwrap_err();

    let mut client = world.connecting("c", CLEAN);
    world.pass(Duration::from_secs(10));
    assert_eq!(client.expect_end(), Err(ConnectionError::ConnectTimeout));
}

// MQTT-3.1.2-24
#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    let world = World::new();
    let mut watcher = world.subscriber("w", "will", 0);
    let mut client = world.open();
    client.send(&connect(CLEAN | 0x04, 10, &[b"a", b"will", b"gone"]));
    client.expect(&[&connack(false, 0)]);
    for _ in 0..3 {
        world.pass(Duration::from_secs(14));
        client.ask(PINGREQ, PINGRESP);
    }
    world.pass(Duration::from_millis(14_999));
    client.expect_nothing();
    assert_eq!(client.timeout(), Some(world.now() + Duration::from_millis(1)));
    watcher.expect_nothing();
    world.pass(Duration::from_millis(1));
    assert_eq!(client.expect_end(), Err(ConnectionError::KeepAliveTimeout));
    watcher.expect(&[&publish0("will", "gone")]);
}

// MQTT-3.1.2-24
#[test]
fn keep_alive_0_never_ends_a_connection() {
    let world = World::new();
    let mut client = world.client("a");
    assert_eq!(client.timeout(), None);
    world.pass(Duration::from_secs(1_000_000));
    client.ask(PINGREQ, PINGRESP);
}

#[test]
fn any_byte_keeps_a_connection_alive() {
    let world = World::new();
    let mut client = world.open();
    client.send(&connect(CLEAN, 10, &[b"a"]));
    client.expect(&[&connack(false, 0)]);
    for byte in publish0("t", "slow") {
        world.pass(Duration::from_secs(14));
        client.expect_nothing();
        client.send(&[byte]);
    }
    client.expect_nothing();
}

// MQTT-3.12.4-1
#[test]
fn pingreq_is_answered() {
    World::new().client("a").ask(PINGREQ, PINGRESP);
}

#[test]
fn connect_has_to_come_in_time_and_in_bounded_length() {
    let world = World::new();
    let mut client = world.open();
    client.send(&connect(CLEAN, 0, &[b"a"])[..9]);
    world.pass(Duration::from_secs(9));
    client.expect_nothing();
    world.pass(Duration::from_secs(1));
    assert_eq!(client.expect_end(), Err(ConnectionError::ConnectTimeout));

    let mut client = world.open();
    // A CONNECT that claims to have 256 MiB ends with its fifth byte.
    client.send(&[0x10, 0xff, 0xff, 0xff]);
    client.expect_nothing();
    client.send(&[0x7f]);
    client.expect_end().unwrap_err();
}
