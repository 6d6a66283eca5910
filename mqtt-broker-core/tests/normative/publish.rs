use mqtt_codec::{Packet, decode};

use crate::wire::*;
use crate::world::{Client, World};

// MQTT-3.3.4-1, MQTT-2.3.1-6
#[test]
fn the_answer_to_publish_follows_its_qos_and_carries_its_id() {
    let world = World::new();
    let mut client = world.client("a");
    client.send(&publish0("t", "x"));
    client.expect_nothing();
    client.ask(&publish(0x32, "t", 300, "x"), &puback(300));
    client.ask(&publish(0x34, "t", 301, "x"), &pubrec(301));
    client.ask(&pubrel(301), &pubcomp(301));
    client.ask(&publish(0x32, "t", 65_535, "x"), &puback(65_535));
}

// MQTT-3.3.1-3
#[test]
fn dup_of_the_publisher_is_not_passed_on() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "t", 2);
    let mut client = world.client("a");
    client.ask(&publish(0x3a, "t", 7, "x"), &puback(7));
    client.ask(&publish(0x3c, "t", 8, "y"), &pubrec(8));
    subscriber.expect(&[&publish(0x32, "t", 1, "x"), &publish(0x34, "t", 2, "y")]);
}

// MQTT-3.8.4-6, MQTT-4.3.1-1
#[test]
fn messages_are_delivered_at_the_lower_of_published_and_granted_qos() {
    for granted in 0..=2 {
        for published in 0..=2 {
            let world = World::new();
            let mut subscriber = world.subscriber("s", "t", granted);
            world.client("p").send(&publish(0x30 | published << 1, "t", 5, "x"));
            let first = 0x30 | granted.min(published) << 1;
            subscriber.expect(&[&publish(first, "t", 1, "x")]);
        }
    }
}

// MQTT-3.3.5-1
#[test]
fn overlapping_filters_deliver_once_at_the_highest_qos() {
    let world = World::new();
    let mut subscriber = world.client("s");
    for (filter, qos) in [("#", 0), ("+/b", 2), ("a/b", 1), ("a/#", 0)] {
        subscriber.subscribe(filter, qos);
    }
    world.client("p").send(&publish(0x34, "a/b", 5, "x"));
    subscriber.expect(&[&publish(0x34, "a/b", 1, "x")]);
}

/// Counts what two publishers have sent, by publisher and QoS, and answers it.
#[derive(Default)]
struct Reader {
    next: [[u16; 2]; 2],
    answers: Vec<u8>,
}

impl Reader {
    /// False when there was nothing to read.
    fn read(&mut self, client: &mut Client) -> bool {
        let Wire(bytes) = client.received();
        let mut rest = &bytes[..];
        while let Ok(Some((packet, len))) = decode(rest, usize::MAX) {
            rest = &rest[len..];
            match packet {
                Packet::Publish(publish) => {
                    let topic = publish.topic.as_bytes();
                    let (publisher, qos) = (topic[2] - b'0', topic[4] - b'0');
                    let n: u16 = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
                    let next = &mut self.next[usize::from(publisher)][usize::from(qos) - 1];
                    assert!(n == *next || n < *next && publish.delivery.is_dup(), "{publish:?}");
                    *next = (*next).max(n + 1);
                    let id = publish.packet_id().unwrap().get();
                    self.answers.extend(if qos == 1 { puback(id) } else { pubrec(id) });
                }
                Packet::PubRel(id) => self.answers.extend(pubcomp(id.get())),
                _ => {}
            }
        }
        !bytes.is_empty()
    }

    fn answer(&mut self, client: &mut Client) {
        client.send(&std::mem::take(&mut self.answers));
    }
}

// MQTT-4.6.0-5, MQTT-4.6.0-6
#[test]
fn messages_of_a_publisher_keep_their_order_also_across_a_reconnect() {
    let world = World::with(|config| config.max_inflight = 7);
    let mut subscriber = world.kept("s", false);
    subscriber.subscribe("t/#", 2);
    let mut publishers = [world.client("p"), world.client("q")];
    let mut reader = Reader::default();
    for n in 0..200 {
        for (p, publisher) in publishers.iter_mut().enumerate() {
            for qos in 1..=2 {
                let topic = format!("t/{p}/{qos}");
                publisher.send(&publish(0x30 | qos << 1, &topic, 1 + n, &n.to_string()));
            }
            publisher.send(&pubrel(1 + n));
        }
        match n % 50 {
            // The answers to what was read are lost with the connection.
            25 => assert!(reader.read(&mut subscriber)),
            // What was sent is lost as well.
            49 => {}
            _ => {
                reader.read(&mut subscriber);
                reader.answer(&mut subscriber);
                continue;
            }
        }
        subscriber.cut();
        subscriber = world.connecting("s", KEPT);
        reader.answers.clear();
    }
    while reader.read(&mut subscriber) {
        reader.answer(&mut subscriber);
    }
    assert_eq!(reader.next, [[200; 2]; 2]);
}

// MQTT-3.3.2-3
#[test]
fn the_topic_is_passed_on_as_it_came() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "#", 0);
    let mut publisher = world.client("p");
    for topic in ["a", "/", "//", "a/", "A", " ", "\u{feff}x", "e\u{301}", "\u{e9}", "$"] {
        publisher.send(&publish0(topic, "x"));
        let meant = !topic.starts_with('$');
        subscriber.expect(&[if meant { publish0(topic, "x") } else { vec![] }.as_slice()]);
    }
}

#[test]
fn large_payloads_are_shared_and_arrive_whole() {
    let world = World::with(|config| config.max_packet = 10 << 20);
    let mut zero = world.subscriber("z", "t", 0);
    let mut one = world.subscriber("o", "t", 1);
    let payload: String = (0..3 << 20).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let mut publisher = world.client("p");
    publisher.publish1("t", &payload);
    zero.expect(&[&publish(0x30, "t", 0, &payload)]);
    one.expect(&[&publish(0x32, "t", 1, &payload)]);
}
