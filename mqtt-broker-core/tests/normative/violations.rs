use mqtt_broker_core::ConnectionError;

use crate::wire::*;
use crate::world::World;

/// Everything that a connected client must not send.
fn violations() -> Vec<(&'static str, Vec<u8>)> {
    let bad_texts: [&[u8]; 9] = [
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"a\xff",
        b"\xe2\x82",
        b"\0",
        b"a\0b",
        b"a\0",
        b"\xf8\x88\x80\x80\x80",
    ];
    let mut all = vec![
        ("type 0", packet(0x00, b"")),
        ("type 15", packet(0xf0, b"")),
        ("PUBLISH with QoS 3", publish(0x36, "t", 1, "x")),
        ("PUBLISH with QoS 3 and DUP", publish(0x3e, "t", 1, "x")),
        ("PUBLISH with packet id 0", publish(0x32, "t", 0, "x")),
        ("QoS 2 PUBLISH with packet id 0", publish(0x34, "t", 0, "x")),
        ("PUBLISH to an empty topic", publish0("", "x")),
        ("PUBLISH to +", publish0("a/+", "x")),
        ("PUBLISH to #", publish0("#", "x")),
        ("PUBLISH without topic", packet(0x30, b"")),
        ("PUBLISH with a topic longer than itself", packet(0x30, b"\0\x05ab")),
        ("QoS 1 PUBLISH without packet id", packet(0x32, b"\0\x01t")),
        ("QoS 1 PUBLISH with half a packet id", packet(0x32, b"\0\x01t\0")),
        ("SUBSCRIBE with flags 0", packet(0x80, &subscribe(1, &[("t", 0)])[2..])),
        ("SUBSCRIBE with flags 3", packet(0x83, &subscribe(1, &[("t", 0)])[2..])),
        ("SUBSCRIBE with packet id 0", subscribe(0, &[("t", 0)])),
        ("SUBSCRIBE without filters", subscribe(1, &[])),
        ("SUBSCRIBE with QoS 3", subscribe(1, &[("t", 3)])),
        ("SUBSCRIBE with reserved QoS bits", subscribe(1, &[("t", 4)])),
        ("SUBSCRIBE with QoS 0x80", subscribe(1, &[("t", 0x80)])),
        ("SUBSCRIBE with QoS 0xff", subscribe(1, &[("t", 0xff)])),
        ("SUBSCRIBE without QoS", packet(0x82, b"\0\x01\0\x01t")),
        ("SUBSCRIBE to nothing", subscribe(1, &[("", 0)])),
        ("SUBSCRIBE to a#", subscribe(1, &[("a#", 0)])),
        ("SUBSCRIBE to #/a", subscribe(1, &[("#/a", 0)])),
        ("SUBSCRIBE to a/#/b", subscribe(1, &[("a/#/b", 0)])),
        ("SUBSCRIBE to a+", subscribe(1, &[("a+", 0)])),
        ("SUBSCRIBE to +a/b", subscribe(1, &[("+a/b", 0)])),
        ("a bad filter after a good one", subscribe(1, &[("ok", 0), ("b#", 0)])),
        ("UNSUBSCRIBE with flags 0", packet(0xa0, &unsubscribe(1, &["t"])[2..])),
        ("UNSUBSCRIBE with flags 3", packet(0xa3, &unsubscribe(1, &["t"])[2..])),
        ("UNSUBSCRIBE with packet id 0", unsubscribe(0, &["t"])),
        ("UNSUBSCRIBE without filters", unsubscribe(1, &[])),
        ("UNSUBSCRIBE with half a filter", packet(0xa2, b"\0\x01\0\x05t")),
        ("PUBACK with packet id 0", puback(0)),
        ("PUBACK that is too short", packet(0x40, b"\0")),
        ("PUBACK that is too long", packet(0x40, b"\0\x01\0")),
        ("PUBREL with packet id 0", pubrel(0)),
        ("PINGREQ with a body", packet(0xc0, b"x")),
        ("DISCONNECT with a body", packet(0xe0, b"x")),
        ("a remaining length of five bytes", b"\x30\xff\xff\xff\xff\x01".to_vec()),
        ("a packet over the limit", b"\x30\xff\xff\xff\x7f".to_vec()),
        ("CONNACK", connack(false, 0)),
        ("SUBACK", suback(1, &[0])),
        ("UNSUBACK", unsuback(1)),
        ("PINGRESP", PINGRESP.to_vec()),
        ("CONNECT", connect(CLEAN, 0, &[b"bad"])),
    ];
    for (kind, flags) in [
        ("PUBACK", 0x40),
        ("PUBREC", 0x50),
        ("PUBCOMP", 0x70),
        ("PINGREQ", 0xc0),
        ("DISCONNECT", 0xe0),
    ] {
        let body: &[u8] = if flags < 0xc0 { b"\0\x01" } else { b"" };
        all.extend((1..16).map(|nibble| (kind, packet(flags | nibble, body))));
    }
    all.extend((0..16).filter(|&n| n != 2).map(|n| ("PUBREL flags", packet(0x60 | n, b"\0\x01"))));
    for bad in bad_texts {
        all.push(("text in PUBLISH", packet(0x30, &text(bad))));
        all.push(("text in SUBSCRIBE", packet(0x82, &[b"\0\x01", &text(bad)[..], b"\0"].concat())));
        all.push(("text in UNSUBSCRIBE", packet(0xa2, &[b"\0\x01", &text(bad)[..]].concat())));
    }
    all
}

// MQTT-4.8.0-1, MQTT-2.2.2-2, MQTT-1.5.3-1, MQTT-1.5.3-2
#[test]
fn a_violation_ends_its_connection_and_disturbs_no_other() {
    let world = World::new();
    let mut watcher = world.subscriber("watcher", "#", 1);
    let mut good = world.subscriber("good", "good", 1);
    let mut publisher = world.client("publisher");
    for (n, (name, bytes)) in violations().into_iter().enumerate() {
        let mut bad = world.client("bad");
        bad.send(&bytes);
        let end = bad.received();
        assert_eq!(end, Wire(vec![]), "{name}: {bytes:x?} was answered");
        let end = bad.expect_end();
        assert!(end.is_err(), "{name}: {end:?}");
        // What comes behind it has no effect.
        bad.send(&publish0("late", "x"));
        let id = (n + 1) as u16;
        publisher.publish1("good", name);
        good.ask(&puback(id.wrapping_sub(1).max(1)), &publish(0x32, "good", id, name));
        good.send(&puback(id));
        watcher.expect(&[&publish(0x32, "good", id, name)]);
        watcher.send(&puback(id));
    }
    assert!(violations().len() > 140);
}

// MQTT-3.3.4-1
#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    let wrong = [(0x32, pubrec(1)), (0x32, pubcomp(1)), (0x34, puback(1)), (0x34, pubcomp(1))];
    for (first, answer) in wrong {
        let world = World::new();
        let mut client = world.subscriber("a", "t", 2);
        world.client("p").send(&publish(first, "t", 1, "x"));
        client.expect(&[&publish(first, "t", 1, "x")]);
        client.send(&answer);
        assert!(matches!(client.expect_end(), Err(ConnectionError::WrongAck(_))));
    }
}

#[test]
fn acknowledgements_of_unknown_ids_are_ignored() {
    let world = World::new();
    let mut client = world.client("a");
    client.send(&[puback(1), puback(65_535), pubcomp(3)].concat());
    client.ask(PINGREQ, PINGRESP);
}

#[test]
fn input_may_be_cut_anywhere() {
    let session: Vec<u8> = [
        connect(CLEAN, 0, &[b"a"]),
        subscribe(1, &[("t/#", 2)]),
        publish(0x32, "t/1", 5, "one"),
        publish(0x34, "t/2", 6, &"two".repeat(100)),
        pubrel(6),
        puback(1),
        PINGREQ.to_vec(),
        pubrec(2),
        pubcomp(2),
        unsubscribe(2, &["t/#"]),
    ]
    .concat();
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let world = World::new();
        let mut client = world.open();
        pieces.for_each(|piece| client.send(piece));
        client.received()
    };
    let whole = run(&mut [&session[..]].into_iter());
    assert!(whole.0.len() > 300);
    for size in 1..session.len() {
        assert_eq!(run(&mut session.chunks(size)), whole, "pieces of {size}");
    }
    for cut in 0..session.len() {
        let (a, b) = session.split_at(cut);
        assert_eq!(run(&mut [a, b].into_iter()), whole, "cut at {cut}");
    }
}
