//! What only plain bytes show: packet ids, DUP, and when an acknowledgement leaves.

use crate::broker_process::BrokerProcess;
use crate::wire::{Connect, Wire, packet, pubcomp, publish, pubrec, subscribe};

// MQTT-4.4.0-1, MQTT-3.3.1-1, MQTT-4.6.0-1: sent again in order, with the same ids and DUP.
#[test]
fn what_was_not_acknowledged_is_sent_again_with_dup_and_the_same_packet_ids() {
    let broker = BrokerProcess::start();
    let keeper = Connect::new("keeper").keep_session();
    let mut first = Wire::connect(&broker, &keeper);
    first.send(&subscribe(1, &[("again/#", 2)]));
    assert_eq!(first.expect_suback(), [2]);

    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    for (id, topic) in [(1, "again/a"), (2, "again/b"), (3, "again/c")] {
        publisher.send(&publish(0x32, topic.as_bytes(), Some(id), b"x"));
        assert_eq!(publisher.packet().expect("a PUBACK").body, id.to_be_bytes());
    }
    let sent: Vec<_> = (0..3).map(|_| first.expect_publish()).collect();
    assert!(sent.iter().all(|publish| !publish.dup && publish.qos == 1));
    // The second is acknowledged, the others are not.
    first.send(&packet(0x40, &sent[1].packet_id.to_be_bytes()));
    // A PINGRESP shows that the PUBACK was read.
    first.send(&packet(0xc0, &[]));
    assert_eq!(first.packet().expect("a PINGRESP").first, 0xd0);
    drop(first);

    let mut second = Wire::connect(&broker, &keeper);
    for before in [&sent[0], &sent[2]] {
        let again = second.expect_publish();
        assert!(again.dup, "{again:?}");
        assert_eq!((&again.topic, again.packet_id), (&before.topic, before.packet_id));
    }
}

// MQTT-4.3.3-1 and MQTT-4.4.0-1: after PUBREC only PUBREL is sent again.
#[test]
fn a_qos_2_delivery_goes_on_with_pubrel_after_a_reconnect() {
    let broker = BrokerProcess::start();
    let keeper = Connect::new("keeper").keep_session();
    let mut first = Wire::connect(&broker, &keeper);
    first.send(&subscribe(1, &[("two", 2)]));
    assert_eq!(first.expect_suback(), [2]);
    let mut publisher = Wire::connect(&broker, &Connect::new("publisher"));
    publisher.send(&publish(0x34, b"two", Some(7), b"x"));
    assert_eq!(publisher.packet().expect("a PUBREC").first, 0x50);
    publisher.send(&packet(0x62, &[0, 7]));
    assert_eq!(publisher.packet().expect("a PUBCOMP").first, 0x70);

    let sent = first.expect_publish();
    first.send(&pubrec(sent.packet_id));
    let pubrel = first.packet().expect("a PUBREL");
    assert_eq!((pubrel.first, pubrel.body), (0x62, sent.packet_id.to_be_bytes().to_vec()));
    drop(first);

    let mut second = Wire::connect(&broker, &keeper);
    let again = second.packet().expect("the PUBREL again");
    assert_eq!((again.first, again.body), (0x62, sent.packet_id.to_be_bytes().to_vec()));
    second.send(&pubcomp(sent.packet_id));
    second.send(&packet(0xc0, &[]));
    assert_eq!(second.packet().expect("a PINGRESP").first, 0xd0);
}

// MQTT-4.3.3-2: until PUBREL the same packet id is the same message.
#[test]
fn a_qos_2_publish_that_is_sent_twice_is_delivered_once() {
    let broker = BrokerProcess::start();
    let mut subscriber = Wire::connect(&broker, &Connect::new("subscriber"));
    subscriber.send(&subscribe(1, &[("once/#", 0)]));
    assert_eq!(subscriber.expect_suback(), [0]);
    let sender = Connect::new("sender").keep_session();
    let mut publisher = Wire::connect(&broker, &sender);
    publisher.send(&publish(0x34, b"once/a", Some(7), b"x"));
    assert_eq!(publisher.packet().expect("a PUBREC").first, 0x50);
    drop(publisher);

    let mut publisher = Wire::connect(&broker, &sender);
    publisher.send(&publish(0x3c, b"once/a", Some(7), b"x"));
    assert_eq!(publisher.packet().expect("a PUBREC").first, 0x50);
    publisher.send(&packet(0x62, &[0, 7]));
    assert_eq!(publisher.packet().expect("a PUBCOMP").first, 0x70);
    publisher.send(&publish(0x32, b"once/end", Some(8), b"x"));
    assert_eq!(publisher.packet().expect("a PUBACK").first, 0x40);

    assert_eq!(subscriber.expect_publish().topic, "once/a");
    assert_eq!(subscriber.expect_publish().topic, "once/end");
}

// The packet ids of a broker begin at 1 and go up by 1: scripts that read traces rely on it.
#[test]
fn packet_ids_to_a_client_begin_at_1_and_go_up_by_1() {
    let broker = BrokerProcess::start();
    let mut wire = Wire::connect(&broker, &Connect::new("ids"));
    wire.send(&subscribe(1, &[("ids", 1)]));
    assert_eq!(wire.expect_suback(), [1]);
    for number in 1..=5 {
        wire.send(&publish(0x32, b"ids", Some(100 + number), b"x"));
        let mut id = None;
        for _ in 0..2 {
            let packet = wire.packet().expect("the message and the PUBACK");
            if packet.first >> 4 == 3 {
                id = Some(u16::from_be_bytes([packet.body[5], packet.body[6]]));
            }
        }
        assert_eq!(id, Some(number));
        wire.send(&packet(0x40, &number.to_be_bytes()));
    }
}

// A script that only asks whether it may subscribe hears it.
#[test]
fn a_client_that_subscribes_and_leaves_in_one_write_gets_its_suback() {
    let broker = BrokerProcess::start();
    let mut wire = Wire::open(&broker);
    let subscribe = subscribe(7, &[("a", 1), ("b", 2)]);
    let all = [Connect::new("short").packet(), subscribe, packet(0xe0, &[])];
    wire.send(&all.concat());
    let packets = wire.expect_end();
    let first: Vec<_> = packets.iter().map(|packet| packet.first).collect();
    assert_eq!(first, [0x20, 0x90], "CONNACK and SUBACK");
    assert_eq!(packets[1].body, [0, 7, 1, 2]);
}
