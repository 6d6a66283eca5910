//! What a client must not send: its own connection is closed and no other notices.

use std::time::Duration;

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};

use crate::broker_process::{BrokerProcess, is_mosquitto};
use crate::program::DEADLINE;
use crate::wire::{Connect, Packet, Wire, packet, publish, string, subscribe};

/// How long a connection may stay open after a forbidden packet. It is closed at once in fact; this
/// is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// One forbidden input. What it breaks stands in its name.
struct Case {
    name: String,
    bytes: Vec<u8>,
    /// The CONNACK code that the standard asks for before the connection is closed.
    refused: Option<u8>,
    /// Mosquitto 2.0 lets it pass, so the run against Mosquitto leaves it out.
    tolerated_by_mosquitto: bool,
}

/// Packets that break the protocol on a connection that was accepted.
// MQTT-4.8.0-1: a protocol violation closes the network connection.
#[test]
fn each_forbidden_packet_closes_its_own_connection_only() {
    let cases: Vec<_> = after_connect().into_iter().filter(tested).collect();
    assert!(is_mosquitto() || cases.len() >= 60, "{} cases", cases.len());
    disturb_nobody(|broker| {
        let wrong: Vec<_> = cases
            .iter()
            .filter_map(|case| case.tell_what_is_wrong(Wire::connect(broker, &attacker())))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        println!("{} forbidden packets after CONNECT", cases.len());
    });
}

/// First packets that are no acceptable CONNECT.
#[test]
fn each_forbidden_first_packet_closes_its_own_connection_only() {
    let cases: Vec<_> = before_connect().into_iter().filter(tested).collect();
    disturb_nobody(|broker| {
        let wrong: Vec<_> =
            cases.iter().filter_map(|case| case.tell_what_is_wrong(Wire::open(broker))).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        println!("{} forbidden first packets", cases.len());
    });
}

impl Case {
    /// Sends the input and says how the broker's reaction differs from what the standard asks for.
    fn tell_what_is_wrong(&self, mut wire: Wire) -> Option<String> {
        wire.send_to_the_end(&self.bytes);
        let Some(answers) = wire.end_within(PATIENCE) else {
            return Some(format!("{}: not closed", self.name));
        };
        // MQTT-3.2.2-4: a refusal says that no session is present.
        let refusal = self.refused.map(|code| Packet { first: 0x20, body: vec![0, code] });
        let expected: Vec<_> = refusal.into_iter().collect();
        (answers != expected).then(|| format!("{}: answered {answers:?}", self.name))
    }
}

// CVE-2017-7651 and CVE-2023-0809 of Mosquitto: memory by what a packet only claims. A thread that is
// started late would show here as well, by the addresses that it takes.
#[test]
fn bad_input_takes_no_memory_and_no_addresses() {
    if is_mosquitto() {
        println!("skipped: the bounds are ours");
        return;
    }
    let broker = BrokerProcess::start();
    let once = || {
        for case in before_connect().into_iter().filter(tested) {
            let mut wire = Wire::open(&broker);
            wire.send_to_the_end(&case.bytes);
            wire.end_within(PATIENCE);
        }
    };
    // What the first ones need is needed once.
    once();
    let before = (broker.memory(), broker.address_space());
    for _ in 0..20 {
        once();
    }
    // The beginnings of a CONNECT that claims 64 KiB, and of one that claims all that there is.
    let claims: Vec<_> = (0..1000)
        .map(|number| {
            let mut wire = Wire::open(&broker);
            let length: &[u8] = if number % 2 == 0 { &[0xff, 0xff, 3] } else { &[0xff; 3] };
            wire.send_to_the_end(&[&[0x10], length, b"\x7f\x00\x04MQTT\x04\x02"].concat());
            wire
        })
        .collect();
    let mut good = Wire::connect(&broker, &Connect::new("good"));
    assert!(good.ping().is_empty());
    let memory = broker.memory().saturating_sub(before.0);
    let addresses = broker.address_space().saturating_sub(before.1);
    println!("{memory} bytes of memory and {addresses} of addresses, {} claims", claims.len());
    assert!(memory < 8 << 20, "{memory} bytes of memory");
    assert!(addresses < 20 << 20, "{addresses} bytes of addresses");
}

/// Every valid packet, one byte at a time: splitting the stream changes nothing.
#[test]
fn packets_that_arrive_byte_by_byte_are_understood() {
    let broker = BrokerProcess::start();
    let mut wire = Wire::open(&broker);
    let mut bytes = Connect::new("slow").packet();
    bytes.extend(subscribe(1, &[("slow/#", 1)]));
    bytes.extend(publish(0x32, b"slow/a", Some(2), b"hello"));
    bytes.extend(packet(0xc0, &[]));
    for byte in bytes {
        wire.send(&[byte]);
    }
    let mut kinds: Vec<_> = (0..5).map(|_| wire.packet().expect("a packet").first & 0xf0).collect();
    assert_eq!(kinds[..2], [0x20, 0x90]);
    // The order of the last three is the broker's choice.
    kinds[2..].sort_unstable();
    assert_eq!(kinds[2..], [0x30, 0x40, 0xd0]);
}

/// Random bytes from a fixed seed, before and after CONNECT.
#[test]
fn noise_closes_its_own_connection_only() {
    disturb_nobody(|broker| {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..200 {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                // xorshift64: good enough for noise, and the same in each run.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .take(64 + round)
            .collect();
            let mut wire = if round % 2 == 0 {
                Wire::open(broker)
            } else {
                Wire::connect(broker, &Connect::new("noise"))
            };
            // Noise may look like the beginning of a long packet: half a packet is not forbidden.
            wire.send_to_the_end(&noise);
        }
    });
}

/// Runs `attack` while two good clients exchange messages at QoS 1, and checks that none is missing,
/// doubled or out of order, and that neither client lost its connection.
fn disturb_nobody(attack: impl FnOnce(&BrokerProcess)) {
    let broker = BrokerProcess::start();
    let (client, mut connection) = Client::new(options("good-subscriber", &broker), 100);
    let (sent, count) = std::sync::mpsc::channel();
    let (ready, granted) = std::sync::mpsc::channel();
    client.subscribe("good", QoS::AtLeastOnce).expect("the client takes it");
    let subscriber = std::thread::spawn(move || {
        let mut numbers = Vec::new();
        let mut expected = None;
        while expected != Some(numbers.len()) {
            match connection.recv_timeout(Duration::from_millis(100)) {
                Ok(Ok(Event::Incoming(Incoming::SubAck(_)))) => {
                    ready.send(()).expect("the test waits");
                }
                Ok(Ok(Event::Incoming(Incoming::Publish(message)))) => {
                    let text = std::str::from_utf8(&message.payload).expect("a number");
                    numbers.push(text.parse::<usize>().expect("a number"));
                }
                Ok(Ok(_)) | Err(rumqttc::RecvTimeoutError::Timeout) => {}
                error => panic!("the good subscriber was disturbed: {error:?}"),
            }
            expected = expected.or_else(|| count.try_recv().ok());
        }
        numbers
    });
    granted.recv_timeout(DEADLINE).expect("the subscription is granted");

    let (stop, stopped) = std::sync::mpsc::channel();
    let options = options("good-publisher", &broker);
    let publisher = std::thread::spawn(move || {
        let (client, mut connection) = Client::new(options, 100);
        let mut published = 0;
        let mut acknowledged = 0;
        let mut ended = false;
        // A message at a time, each after the acknowledgement of the one before.
        while !ended || acknowledged < published {
            if acknowledged == published {
                client
                    .publish("good", QoS::AtLeastOnce, false, published.to_string())
                    .expect("the client takes it");
                published += 1;
            }
            match connection.recv_timeout(DEADLINE) {
                Ok(Ok(Event::Incoming(Incoming::PubAck(_)))) => acknowledged += 1,
                Ok(Ok(_)) => {}
                error => panic!("the good publisher was disturbed: {error:?}"),
            }
            ended = ended || stopped.try_recv().is_ok();
        }
        published
    });

    attack(&broker);
    stop.send(()).expect("the publisher listens");
    let published = publisher.join().expect("the publisher was not disturbed");
    sent.send(published).expect("the subscriber listens");
    let numbers = subscriber.join().expect("the subscriber was not disturbed");
    assert!(numbers.iter().copied().eq(0..published), "of {published} messages came {numbers:?}");
    println!("{published} messages at QoS 1 went undisturbed meanwhile");
}

fn options(client_id: &str, broker: &BrokerProcess) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(60));
    options
}

fn attacker() -> Connect {
    Connect::new("attacker")
}

fn tested(case: &Case) -> bool {
    !(is_mosquitto() && case.tolerated_by_mosquitto)
}

fn case(name: &str, bytes: Vec<u8>) -> Case {
    Case { name: name.to_owned(), bytes, refused: None, tolerated_by_mosquitto: false }
}

/// A case that Mosquitto 2.0 does not refuse although the standard does.
fn lax(name: &str, bytes: Vec<u8>) -> Case {
    Case { tolerated_by_mosquitto: true, ..case(name, bytes) }
}

fn refused(code: u8, name: &str, bytes: Vec<u8>) -> Case {
    Case { refused: Some(code), ..case(name, bytes) }
}

/// Strings that are not allowed in any field.
// MQTT-1.5.3-1 and MQTT-1.5.3-2
const BAD_STRINGS: [(&str, &[u8]); 5] = [
    ("an overlong encoding", b"a\xc0\xaf"),
    ("a surrogate", b"a\xed\xa0\x80"),
    ("a byte of no character", b"a\xff"),
    ("half a character", b"a\xe2\x82"),
    ("U+0000", b"a\0b"),
];

fn before_connect() -> Vec<Case> {
    let hello = attacker();
    let connect = |change: fn(&mut Connect)| {
        let mut connect = attacker();
        change(&mut connect);
        connect.packet()
    };
    let mut cases = vec![
        // MQTT-3.1.0-1
        case("CONNACK first", packet(0x20, &[0, 0])),
        case("PUBLISH first", publish(0x30, b"a", None, b"x")),
        case("PUBACK first", packet(0x40, &[0, 1])),
        case("PUBREC first", packet(0x50, &[0, 1])),
        case("PUBREL first", packet(0x62, &[0, 1])),
        case("PUBCOMP first", packet(0x70, &[0, 1])),
        case("SUBSCRIBE first", subscribe(1, &[("a", 0)])),
        case("SUBACK first", packet(0x90, &[0, 1, 0])),
        case("UNSUBSCRIBE first", packet(0xa2, &[&[0, 1][..], &string(b"a")].concat())),
        case("UNSUBACK first", packet(0xb0, &[0, 1])),
        case("PINGREQ first", packet(0xc0, &[])),
        case("PINGRESP first", packet(0xd0, &[])),
        case("DISCONNECT first", packet(0xe0, &[])),
        case("packet type 0 first", packet(0x00, &[])),
        case("packet type 15 first", packet(0xf0, &[])),
        case("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        case("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        // MQTT-2.2.2-2
        case("CONNECT with flags in its first byte", {
            let mut bytes = hello.packet();
            bytes[0] = 0x11;
            bytes
        }),
        case(
            "CONNECT with a remaining length of five bytes",
            vec![0x10, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        case("CONNECT without a body", packet(0x10, &[])),
        case("CONNECT that ends in its fixed fields", packet(0x10, &string(b"MQTT"))),
        case("CONNECT without a client id field", connect(|c| c.payload.clear())),
        case("CONNECT that ends in its client id", connect(|c| c.payload = vec![0, 9, b'a'])),
        lax("CONNECT with bytes after its last field", connect(|c| c.payload.push(0))),
        // MQTT-3.1.2-1
        case("a protocol name of another protocol", connect(|c| c.name = string(b"HTTP"))),
        case("an empty protocol name", connect(|c| c.name = string(b""))),
        case("a protocol name in small letters", connect(|c| c.name = string(b"mqtt"))),
        // MQTT-3.1.2-3
        case("the reserved connect flag", connect(|c| c.flags |= 1)),
        // MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-15
        lax("a will QoS without a will", connect(|c| c.flags |= 0x08)),
        lax("a retained will without a will", connect(|c| c.flags |= 0x20)),
        // MQTT-3.1.2-14
        case("a will QoS of 3", {
            let mut connect = attacker().will("a", "gone");
            connect.flags |= 0x18;
            connect.packet()
        }),
        case("a will flag without will fields", connect(|c| c.flags |= 0x04)),
        // MQTT-3.1.2-22
        case("a password without a user name", {
            let mut connect = attacker();
            connect.flags |= 0x40;
            connect.payload.extend(string(b"secret"));
            connect.packet()
        }),
        case("a user name flag without a user name", connect(|c| c.flags |= 0x80)),
        case("a will with an empty topic", attacker().will("", "gone").packet()),
        case("a will topic with #", attacker().will("a/#", "gone").packet()),
        case("a will topic with +", attacker().will("a/+/b", "gone").packet()),
        // MQTT-3.1.3-8 and MQTT-3.1.3-9
        refused(2, "an empty client id that wants a session", {
            Connect::new("").keep_session().packet()
        }),
    ];
    for (what, bytes) in BAD_STRINGS {
        let mut connect = Connect::new("");
        connect.payload = string(bytes);
        cases.push(case(&format!("a client id with {what}"), connect.packet()));

        let mut connect = attacker();
        connect.flags |= 0x80;
        connect.payload.extend(string(bytes));
        cases.push(case(&format!("a user name with {what}"), connect.packet()));

        let mut connect = attacker();
        connect.flags |= 0x04;
        connect.payload.extend([string(bytes), string(b"gone")].concat());
        cases.push(case(&format!("a will topic with {what}"), connect.packet()));
    }
    // MQTT-3.1.2-2. Mosquitto 2.0 speaks 5 and refuses the others in its own way.
    for level in [0, 5, 6, 127] {
        let mut connect = attacker();
        connect.level = level;
        let name = format!("protocol level {level}");
        let case = refused(1, &name, connect.packet());
        cases.push(Case { tolerated_by_mosquitto: true, ..case });
    }
    cases
}

fn after_connect() -> Vec<Case> {
    let one = 1_u16.to_be_bytes();
    let with_id = |rest: &[u8]| [&one[..], rest].concat();
    let filter = |filter: &[u8]| with_id(&[&string(filter)[..], &[0]].concat());
    let mut cases = vec![
        // MQTT-3.1.0-2
        case("a second CONNECT", attacker().packet()),
        case("packet type 0", packet(0x00, &[])),
        case("packet type 15", packet(0xf0, &[])),
        // Only a server sends these.
        case("CONNACK", packet(0x20, &[0, 0])),
        lax("SUBACK", packet(0x90, &with_id(&[0]))),
        lax("UNSUBACK", packet(0xb0, &one)),
        lax("PINGRESP", packet(0xd0, &[])),
        case("a remaining length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
        case("a remaining length that never ends", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        // MQTT-3.3.1-4
        case("PUBLISH at QoS 3", publish(0x36, b"a", Some(1), b"x")),
        // MQTT-3.3.1-2
        lax("PUBLISH at QoS 0 with DUP", publish(0x38, b"a", None, b"x")),
        case("PUBLISH without a body", packet(0x30, &[])),
        case("PUBLISH that ends in its topic", packet(0x30, &[0, 9, b'a'])),
        case("PUBLISH at QoS 1 without a packet id", packet(0x32, &string(b"a"))),
        case("PUBLISH at QoS 2 with half a packet id", {
            packet(0x34, &[&string(b"a")[..], &[1]].concat())
        }),
        // MQTT-2.3.1-1
        case("PUBLISH at QoS 1 with packet id 0", publish(0x32, b"a", Some(0), b"x")),
        case("PUBLISH at QoS 2 with packet id 0", publish(0x34, b"a", Some(0), b"x")),
        // MQTT-4.7.3-1
        case("PUBLISH to an empty topic", publish(0x30, b"", None, b"x")),
        // MQTT-3.3.2-2
        case("PUBLISH to a topic with +", publish(0x30, b"a/+", None, b"x")),
        case("PUBLISH to a topic with #", publish(0x30, b"a/#", None, b"x")),
        case("PUBLISH to #", publish(0x32, b"#", Some(1), b"x")),
        case("PUBLISH to a topic with + inside a level", publish(0x30, b"a+b", None, b"x")),
        // MQTT-3.8.1-1
        case("SUBSCRIBE with flags 0", packet(0x80, &filter(b"a"))),
        case("SUBSCRIBE with flags 3", packet(0x83, &filter(b"a"))),
        // MQTT-3.8.3-3
        case("SUBSCRIBE without filters", packet(0x82, &one)),
        case("SUBSCRIBE without a body", packet(0x82, &[])),
        case("SUBSCRIBE with packet id 0", subscribe(0, &[("a", 0)])),
        case("SUBSCRIBE with a filter and no QoS", packet(0x82, &with_id(&string(b"a")))),
        case("SUBSCRIBE that ends in a filter", packet(0x82, &with_id(&[0, 9, b'a']))),
        case("SUBSCRIBE with a second filter without QoS", {
            packet(0x82, &[&filter(b"a")[..], &string(b"b")].concat())
        }),
        // MQTT-3-8.3-4 as the standard spells it
        case("SUBSCRIBE at QoS 3", subscribe(1, &[("a", 3)])),
        case("SUBSCRIBE with reserved bits", subscribe(1, &[("a", 0x04)])),
        case("SUBSCRIBE with the highest reserved bit", subscribe(1, &[("a", 0x81)])),
        case("a bad QoS after a good one", subscribe(1, &[("a", 1), ("b", 3)])),
        // MQTT-4.7.3-1
        case("SUBSCRIBE to an empty filter", subscribe(1, &[("", 0)])),
        // MQTT-4.7.1-2 and MQTT-4.7.1-3
        case("SUBSCRIBE to a#", subscribe(1, &[("a#", 0)])),
        case("SUBSCRIBE to a/#/b", subscribe(1, &[("a/#/b", 0)])),
        case("SUBSCRIBE to #/a", subscribe(1, &[("#/a", 0)])),
        case("SUBSCRIBE to ##", subscribe(1, &[("##", 0)])),
        case("SUBSCRIBE to a+", subscribe(1, &[("a+", 0)])),
        case("SUBSCRIBE to +a/b", subscribe(1, &[("+a/b", 0)])),
        case("SUBSCRIBE to a/++", subscribe(1, &[("a/++", 0)])),
        case("SUBSCRIBE to +#", subscribe(1, &[("+#", 0)])),
        case("a bad filter after a good one", subscribe(1, &[("a", 0), ("a/#/b", 0)])),
        // MQTT-3.10.1-1
        case("UNSUBSCRIBE with flags 0", packet(0xa0, &with_id(&string(b"a")))),
        // MQTT-3.10.3-2
        case("UNSUBSCRIBE without filters", packet(0xa2, &one)),
        case("UNSUBSCRIBE without a body", packet(0xa2, &[])),
        case("UNSUBSCRIBE with packet id 0", packet(0xa2, &[&[0, 0][..], &string(b"a")].concat())),
        case("UNSUBSCRIBE that ends in a filter", packet(0xa2, &with_id(&[0, 9, b'a']))),
        case("UNSUBSCRIBE from a bad filter", packet(0xa2, &with_id(&string(b"a/#/b")))),
        case("UNSUBSCRIBE from an empty filter", packet(0xa2, &with_id(&string(b"")))),
        // MQTT-3.6.1-1
        case("PUBREL with flags 0", packet(0x60, &one)),
        case("PUBREL without a packet id", packet(0x62, &[])),
        lax("PUBREL with packet id 0", packet(0x62, &[0, 0])),
        lax("PUBREL with a byte too many", packet(0x62, &with_id(&[0]))),
        case("PUBACK without a packet id", packet(0x40, &[])),
        case("PUBACK with half a packet id", packet(0x40, &[1])),
        lax("PUBACK with packet id 0", packet(0x40, &[0, 0])),
        lax("PUBACK with a byte too many", packet(0x40, &with_id(&[0]))),
        lax("PUBACK with flags", packet(0x41, &one)),
        case("PUBREC without a packet id", packet(0x50, &[])),
        lax("PUBREC with flags", packet(0x52, &one)),
        case("PUBCOMP without a packet id", packet(0x70, &[])),
        lax("PUBCOMP with flags", packet(0x72, &one)),
        // MQTT-2.2.2-2
        lax("PINGREQ with flags", packet(0xc1, &[])),
        lax("PINGREQ with a body", packet(0xc0, &[0])),
        // MQTT-3.14.1-1
        case("DISCONNECT with flags", packet(0xe1, &[])),
        case("DISCONNECT with a body", packet(0xe0, &[0])),
    ];
    for (what, bytes) in BAD_STRINGS {
        let name = |packet: &str| format!("{packet} with {what}");
        cases.push(case(&name("PUBLISH to a topic"), publish(0x30, bytes, None, b"x")));
        cases.push(case(&name("SUBSCRIBE to a filter"), packet(0x82, &filter(bytes))));
        cases
            .push(case(&name("UNSUBSCRIBE from a filter"), packet(0xa2, &with_id(&string(bytes)))));
    }
    cases
}
