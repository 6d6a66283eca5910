//! The same ACL file gives the same decisions here and in Mosquitto.

use crate::broker_process::{BrokerProcess, is_mosquitto};
use crate::program::{eventually, scratch};
use crate::wire::{Connect, Wire, packet, publish, subscribe};

const ACL: &str = "\
# for clients without a user name
topic read public/#
topic write in/+
topic both
topic deny public/secret

user alice
topic readwrite alice/#
topic read public/#
topic deny alice/private/#
topic write with space/x
topic read dollar/$x
topic read $x/#
topic write +/plus
topic /lead
topic trail/

user bob
topic read alice/#
topic deny alice/+/hidden
topic write #
topic deny nowhere

pattern readwrite u/%u/#
pattern read c/%c
pattern write x/%c/%u/y
pattern read all/#

user admin
topic readwrite #
topic readwrite $x/#
";

/// User name ("" for none), client id, `r` or `w`, topic, and whether it is allowed.
const CASES: &[(&str, &str, char, &str, bool)] = &[
    // Clients without a user name.
    ("", "c1", 'r', "public/a", true),
    ("", "c1", 'r', "public", true),
    ("", "c1", 'r', "public/a/b/c", true),
    ("", "c1", 'w', "public/a", false),
    ("", "c1", 'r', "public/secret", false),
    ("", "c1", 'r', "publicx", false),
    ("", "c1", 'w', "in/a", true),
    ("", "c1", 'w', "in/a/b", false),
    ("", "c1", 'w', "in", false),
    ("", "c1", 'w', "in/", true),
    ("", "c1", 'r', "in/a", false),
    ("", "c1", 'r', "both", true),
    ("", "c1", 'w', "both", true),
    ("", "c1", 'r', "alice/a", false),
    ("", "c1", 'w', "nothing", false),
    ("", "c1", 'r', "c/c1", true),
    ("", "c1", 'r', "c/c2", false),
    ("", "c1", 'r', "u//a", false),
    ("", "c1", 'w', "u//a", false),
    ("", "c1", 'r', "all/a", true),
    ("", "c1", 'w', "all/a", false),
    ("", "c1", 'w', "x/c1//y", false),
    // A user with a block of its own.
    ("alice", "c1", 'r', "alice/a", true),
    ("alice", "c1", 'w', "alice/a/b", true),
    ("alice", "c1", 'w', "alice", true),
    ("alice", "c1", 'w', "alice/private/a", false),
    ("alice", "c1", 'r', "alice/private", false),
    ("alice", "c1", 'r', "public/secret", true),
    ("alice", "c1", 'w', "public/a", false),
    ("alice", "c1", 'w', "in/a", false),
    ("alice", "c1", 'r', "both", false),
    ("alice", "c1", 'w', "with space/x", true),
    ("alice", "c1", 'w', "with", false),
    ("alice", "c1", 'r', "dollar/$x", true),
    ("alice", "c1", 'r', "$x/a", true),
    ("alice", "c1", 'w', "$x/a", false),
    ("alice", "c1", 'w', "a/plus", true),
    ("alice", "c1", 'w', "/plus", true),
    ("alice", "c1", 'w', "a/b/plus", false),
    ("alice", "c1", 'w', "$a/plus", false),
    ("alice", "c1", 'w', "/lead", true),
    ("alice", "c1", 'w', "lead", false),
    ("alice", "c1", 'w', "trail/", true),
    ("alice", "c1", 'w', "trail", false),
    ("alice", "c1", 'r', "u/alice/a", true),
    ("alice", "c1", 'w', "u/alice", true),
    ("alice", "c1", 'r', "u/bob/a", false),
    ("alice", "c1", 'w', "u/alice2/a", false),
    ("alice", "c1", 'r', "u/%u/a", false),
    ("alice", "c1", 'r', "c/c1", true),
    ("alice", "c1", 'w', "c/c1", false),
    ("alice", "c1", 'w', "x/c1/alice/y", true),
    ("alice", "c1", 'w', "x/alice/c1/y", false),
    ("alice", "c1", 'r', "all", true),
    // Grants that are wider than a denial, and a denial that is wider than nothing.
    ("bob", "b", 'r', "alice/a", true),
    ("bob", "b", 'w', "alice/a", true),
    ("bob", "b", 'r', "alice/a/hidden", false),
    ("bob", "b", 'w', "alice/a/hidden", false),
    ("bob", "b", 'r', "alice/a/b/hidden", true),
    ("bob", "b", 'w', "nowhere", false),
    ("bob", "b", 'w', "somewhere", true),
    ("bob", "b", 'w', "$y/a", false),
    ("bob", "b", 'r', "somewhere", false),
    // A user without a block: patterns only.
    ("carol", "c3", 'r', "public/a", false),
    ("carol", "c3", 'r', "both", false),
    ("carol", "c3", 'r', "u/carol/x", true),
    ("carol", "c3", 'w', "x/c3/carol/y", true),
    ("carol", "c3", 'r', "c/c3", true),
    ("carol", "c3", 'r', "all/a/b", true),
    // Names that would make a pattern wider than it was meant.
    ("+", "c4", 'r', "u/alice/a", false),
    ("#", "c4", 'w', "u/alice/a", false),
    ("alice", "+", 'r', "c/c1", false),
    ("alice", "#", 'r', "c/c1", false),
];

#[test]
fn the_same_acl_file_gives_the_same_decisions() {
    let file = scratch().join(format!("acl-{}", std::process::id()));
    std::fs::write(&file, ACL).expect("the ACL can be written");
    let config = format!("allow_anonymous true\nacl_file {}", file.display());
    let broker = BrokerProcess::start_with_config(&config);
    let mut admin = Wire::connect(&broker, &Connect::new("admin").user("admin", None));
    admin.send(&subscribe(1, &[("#", 0), ("$x/#", 0), ("$a/#", 0), ("$y/#", 0)]));
    admin.expect_suback();

    let mut wrong = Vec::new();
    for (number, (user, client_id, access, topic, expected)) in CASES.iter().enumerate() {
        let mut connect = Connect::new(client_id);
        if !user.is_empty() {
            connect = connect.user(user, None);
        }
        let mut client = Wire::connect(&broker, &connect);
        let payload = number.to_string();
        let allowed = match access {
            'w' => {
                client.send(&publish(0x32, topic.as_bytes(), Some(1), payload.as_bytes()));
                assert_eq!(client.packet().expect("a PUBACK").first, 0x40);
                admin.ping().iter().any(|packet| packet.body.ends_with(payload.as_bytes()))
            }
            _ => {
                client.send(&subscribe(1, &[(topic, 0)]));
                let granted = client.expect_suback() != [0x80];
                admin.send(&publish(0x32, topic.as_bytes(), Some(1), payload.as_bytes()));
                admin.ping();
                let delivered = !client.ping().is_empty();
                // Mosquitto grants every subscription; ours tells when nothing can come.
                assert!(is_mosquitto() || granted == delivered, "case {number}: {granted}");
                delivered
            }
        };
        if allowed != *expected {
            wrong.push(format!("{user:?} {client_id} {access} {topic}: {allowed}"));
        }
    }
    assert!(CASES.len() >= 60);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let _ = std::fs::remove_file(file);
}

// A client may subscribe to more than it may read: what it may not read does not come.
#[test]
fn reading_is_checked_at_delivery() {
    let file = scratch().join(format!("acl-delivery-{}", std::process::id()));
    std::fs::write(&file, ACL).expect("the ACL can be written");
    let config = format!("allow_anonymous true\nacl_file {}", file.display());
    let broker = BrokerProcess::start_with_config(&config);
    let mut admin = Wire::connect(&broker, &Connect::new("admin").user("admin", None));
    for (id, topic) in [(1, "public/secret"), (2, "public/news"), (3, "alice/diary")] {
        admin.send(&publish(0x33, topic.as_bytes(), Some(id), b"retained"));
        assert_eq!(admin.packet().expect("a PUBACK").first, 0x40);
    }
    let mut reader = Wire::connect(&broker, &Connect::new("reader"));
    reader.send(&subscribe(1, &[("#", 1)]));
    assert_eq!(reader.expect_suback(), [1]);
    let retained = reader.expect_publish();
    assert_eq!(retained.topic, "public/news");
    reader.send(&packet(0x40, &retained.packet_id.to_be_bytes()));
    for (id, topic) in [(4, "public/secret"), (5, "alice/diary"), (6, "public/b")] {
        admin.send(&publish(0x32, topic.as_bytes(), Some(id), b"live"));
        assert_eq!(admin.packet().expect("a PUBACK").first, 0x40);
    }
    assert_eq!(reader.expect_publish().topic, "public/b");
    let _ = std::fs::remove_file(file);
}

// What a group shares is what the rules are about.
#[test]
fn shared_subscriptions_are_granted_by_what_is_shared() {
    let file = scratch().join(format!("acl-shared-{}", std::process::id()));
    std::fs::write(&file, "topic read open/#\ntopic write #\n").expect("it can be written");
    let config = format!("allow_anonymous true\nacl_file {}", file.display());
    let broker = BrokerProcess::start_with_config(&config);
    let mut client = Wire::connect(&broker, &Connect::new("client"));
    client.send(&subscribe(1, &[("$share/group/open/a", 0), ("$share/group/closed", 0)]));
    let granted = client.expect_suback();
    assert!(is_mosquitto() || granted == [0, 0x80], "{granted:?}");
    for (id, topic) in [(1, "closed"), (2, "open/a")] {
        client.send(&publish(0x32, topic.as_bytes(), Some(id), b"x"));
    }
    let packets = client.ping();
    let publishes: Vec<_> = packets.iter().filter(|packet| packet.first == 0x30).collect();
    assert_eq!(publishes.len(), 1);
    assert!(publishes[0].body[2..].starts_with(b"open/a"));
    let _ = std::fs::remove_file(file);
}

// HUP: the new rules count for what connected clients do next, and nobody is disconnected.
#[test]
fn the_acl_file_is_read_anew_at_hup() {
    let file = scratch().join(format!("acl-hup-{}", std::process::id()));
    std::fs::write(&file, "topic read a\ntopic write a\n").expect("the ACL can be written");
    let config = format!("allow_anonymous true\nacl_file {}", file.display());
    let broker = BrokerProcess::start_with_config(&config);
    let mut client = Wire::connect(&broker, &Connect::new("client"));
    client.send(&subscribe(1, &[("#", 0)]));
    client.expect_suback();
    let mut topics_that_come = || {
        for (id, topic) in [(1, "a"), (2, "b")] {
            client.send(&publish(0x32, topic.as_bytes(), Some(id), b"x"));
        }
        let packets = client.ping();
        let publishes = packets.into_iter().filter(|packet| packet.first == 0x30);
        publishes.map(|packet| packet.body[2]).collect::<Vec<_>>()
    };
    assert_eq!(topics_that_come(), b"a");

    std::fs::write(&file, "topic read #\ntopic write b\n").expect("the ACL can be written");
    broker.signal("HUP");
    assert!(eventually(|| (topics_that_come() == b"b").then_some(())).is_some());

    if !is_mosquitto() {
        // Mosquitto denies everything from here on.
        std::fs::write(&file, "topic read\n").expect("the ACL can be written");
        broker.signal("HUP");
        assert!(eventually(|| broker.log_text().contains(":1: the topic").then_some(())).is_some());
        assert_eq!(topics_that_come(), b"b", "a broken file changes nothing");
    }
    let _ = std::fs::remove_file(file);
}

// A broker that had no rules at its start has them from the HUP on, for deliveries as well.
#[test]
fn an_acl_file_that_is_new_at_hup_counts_at_once() {
    let file = scratch().join(format!("acl-new-{}", std::process::id()));
    std::fs::write(&file, "topic read a\ntopic write #\n").expect("the ACL can be written");
    let broker = BrokerProcess::start_with_config("allow_anonymous true");
    let mut client = Wire::connect(&broker, &Connect::new("client"));
    client.send(&subscribe(1, &[("#", 0)]));
    client.expect_suback();
    let config = scratch().join(format!("broker-{}.conf", broker.port()));
    let text = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, format!("{text}acl_file {}\n", file.display())).expect("it can be");
    broker.signal("HUP");
    let only_a_comes = || {
        for topic in [b"a", b"b"] {
            client.send(&publish(0x30, topic, None, b"x"));
        }
        let topics: Vec<_> = client.ping().into_iter().map(|packet| packet.body[2]).collect();
        (topics == b"a").then_some(())
    };
    assert!(eventually(only_a_comes).is_some());
    let _ = std::fs::remove_file(file);
}
