//! What a broker allocates at the worst moment.

#[path = "normative/wire.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod wire;
#[path = "normative/world.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod world;

use allocation_counter::{AllocationInfo, measure};
use wire::{connect, packet, publish, publish0, suback, subscribe};
use world::World;

/// What the limits allow for one client that takes nothing: its outbox, and with QoS 1 and 2 twice
/// its queue, with the standard configuration.
const OUTBOX: u64 = 1 << 20;
const QUEUE: u64 = 2 << 20;

const MIB: u64 = 1 << 20;

// Loads of 200 MB.
fn flood(qos: u8) -> AllocationInfo {
    let world = World::new();
    let _stopped = world.subscriber("stopped", "t", qos);
    let mut good = world.subscriber("good", "other", 1);
    let mut publisher = world.client("p");
    let message = publish(0x30 | qos << 1, "t", 1, &"x".repeat(4096));
    let other = publish(0x32, "other", 1, "y");
    measure(|| {
        for n in 0..50_000u16 {
            publisher.send(&message);
            publisher.received();
            if n % 100 == 0 {
                // Others are served meanwhile.
                let mut pair = world.client("q");
                pair.ask(&other, &wire::puback(1));
                assert_eq!(good.received().0.len(), other.len());
                good.send(&wire::puback(n / 100 + 1));
            }
            if !publisher.wants_input() {
                // It is held back until the stopped client's time is over.
                world.pass(std::time::Duration::from_secs(5));
            }
        }
    })
}

#[test]
fn a_client_that_does_not_read_costs_its_outbox_at_qos_0() {
    let info = flood(0);
    assert!(info.bytes_max <= OUTBOX + MIB, "{} bytes", info.bytes_max);
}

#[test]
fn a_client_that_does_not_read_costs_its_queue_at_qos_1() {
    let info = flood(1);
    assert!(info.bytes_max <= OUTBOX + QUEUE + MIB, "{} bytes", info.bytes_max);
}

#[test]
fn a_socket_that_claims_a_large_connect_costs_less_than_2_kib() {
    let world = World::new();
    for claim in
        [&b"\x10\xff\xff\xff\x7f"[..], &b"\x10\x80\x80\x02\0\x04MQTT"[..], b"\x10\xf0\xff\x03"]
    {
        let mut clients = Vec::with_capacity(900);
        let info = measure(|| {
            for _ in 0..900 {
                let mut client = world.open();
                client.send(claim);
                client.received();
                clients.push(client);
            }
        });
        let each = info.bytes_max / 900;
        assert!(each < 2048, "{each} bytes for {claim:x?}");
    }
}

// A client that was refused, or broke the standard, leaves nothing behind.
#[test]
fn a_million_malformed_packets_leave_memory_where_it_was() {
    let world = World::new();
    let malformed = [
        connect(0x03, 0, &[b"a"]),
        connect(0x1e, 0, &[b"a", b"t", b"m"]),
        connect(0x06, 0, &[b"a", b"will/#", b"m"]),
        connect(0xc2, 0, &[b"a", b"user"]),
        connect(0x00, 0, &[b""]),
        [connect(0x06, 0, &[b"a", b"t", b"m"]), packet(0x82, b"\0\x01\0\x01t\x03")].concat(),
        [connect(0x00, 0, &[b"b"]), subscribe(1, &[("ok", 1), ("b#", 0)])].concat(),
        [connect(0x02, 0, &[b"c"]), subscribe(1, &[])].concat(),
    ];
    let round = || {
        for bytes in &malformed {
            let mut client = world.open();
            client.send(bytes);
            client.expect_end_after_any().unwrap_err();
        }
    };
    // The kept session of `b`, with its first and its last client, and the buffers that are used again
    // stay.
    round();
    round();
    let before = world.broker.stats();
    let info = measure(|| (0..125_000).for_each(|_| round()));
    assert_eq!(info.bytes_current, 0);
    let after = world.broker.stats();
    assert_eq!((after.sessions, after.subscriptions), (before.sessions, before.subscriptions));
}

// Ids, names, filters and topics that nobody has had before, each time.
#[test]
fn clients_and_topics_that_come_and_go_leave_memory_where_it_was() {
    let world = World::new();
    let go_round = |n: usize| {
        let mut client = world.client(&format!("client {n}"));
        for filter in [format!("exact/{n}"), format!("{n}/+/wild"), format!("$share/{n}/a/#")] {
            client.ask(&subscribe(9, &[(&filter, 1)]), &suback(9, &[1]));
        }
        client.retain(&format!("kept/{n}"), "x");
        client.retain(&format!("kept/{n}"), "");
        client.leave();
        let mut kept = world.kept(&format!("kept {n}"), false);
        kept.subscribe(&format!("{n}/#"), 1);
        kept.cut();
        assert!(world.broker.delete_session(&format!("kept {n}")));
    };
    // What was looked up last is remembered for as long as it may be asked for again.
    (0..5000).for_each(go_round);
    let info = measure(|| (5000..25_000).for_each(go_round));
    assert!(info.bytes_current.abs() < 1000, "{} bytes stay", info.bytes_current);
    let stats = world.broker.stats();
    assert_eq!((stats.sessions, stats.subscriptions, stats.retained), (0, 0, 0));
}

#[test]
fn one_qos_2_id_again_and_again_costs_nothing() {
    let world = World::new();
    let mut client = world.client("a");
    let message = publish(0x34, "t", 5, "x");
    client.ask(&message, &wire::pubrec(5));
    let info = measure(|| {
        for _ in 0..100_000 {
            client.send(&message);
            client.received();
        }
    });
    assert_eq!(info.bytes_current, 0);
}

#[test]
fn qos_0_messages_are_passed_on_without_allocating_for_each() {
    let world = World::new();
    let mut subscriber = world.subscriber("s", "a/+", 0);
    let mut publisher = world.client("p");
    let batch = publish0("a/b", "twenty degrees").repeat(100);
    publisher.send(&batch);
    subscriber.received();
    let info = measure(|| publisher.send(&batch));
    // One waker, one buffer that grows.
    assert!(info.count_total < 20, "{} allocations for 100 messages", info.count_total);
}

#[test]
fn the_deepest_topic_is_matched_on_a_small_stack() {
    let match_it = || {
        let world = World::with(|config| {
            config.max_topic_length = 65_535;
            config.max_topic_levels = 65_536;
        });
        let slashes = "/".repeat(65_535);
        let mut client = world.client("s");
        for filter in ["#", "/#", &slashes, &("+/".repeat(32_767) + "#")] {
            client.ask(&subscribe(1, &[(filter, 0)]), &suback(1, &[0]));
        }
        client.send(&publish0(&slashes, "x"));
        client.expect(&[&publish0(&slashes, "x")]);
        client.send(&publish(0x31, &slashes, 0, "x"));
        client.expect(&[&publish0(&slashes, "x")]);
    };
    // Far less than a level of recursion for each level of the topic would take.
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(match_it).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_client_that_was_busy_gives_its_window_back_with_a_ping() {
    let world = World::new();
    let mut publisher = world.client("p");
    let mut client = world.subscriber("s", "t", 1);
    for id in 1..=30 {
        publisher.ask(&publish(0x32, "t", id, "x"), &wire::puback(id));
        client.received();
        client.send(&wire::puback(id));
    }
    let freed = |info: AllocationInfo| -info.bytes_current;
    assert!(freed(measure(|| client.ask(b"\xc0\0", b"\xd0\0"))) > 500);
    // Packet ids go on where they were.
    publisher.ask(&publish(0x32, "t", 31, "x"), &wire::puback(31));
    client.expect(&[&publish(0x32, "t", 31, "x")]);
}
