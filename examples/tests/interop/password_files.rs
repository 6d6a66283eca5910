//! Password files go both ways: Mosquitto's here, ours in Mosquitto.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::broker_process::{BrokerProcess, example, is_mosquitto};
use crate::foreign::{in_path, required};
use crate::program::{eventually, run, scratch};
use crate::wire::{Connect, Wire};

/// A line in the format of Mosquitto 2.1, of argon2-cffi with Mosquitto's parameters: "secret".
const ARGON2: &str = "carol:$argon2id$v=19$m=47104,t=1,p=1$s0/rpKxPbZOCsv01O7dvCXM75jN1EUSwc0nmGjG2zufmLijccN6baTQzCo0ZgR2cdKe2nCXISNQ/7GuVD484Jg$l91NdF37zlfP7zdHhT6e45NHH7jkFPX4R+k7hYiLOKx0KtYg4ASv8t08Y/AS7m8M2r7wRuQvQr+2J/cDo/Ev+g\n";

#[test]
fn a_file_of_mosquitto_passwd_lets_its_users_in() {
    let Some(tool) = required("mosquitto_passwd", in_path("mosquitto_passwd")) else { return };
    lets_users_in(&tool, "theirs");
}

#[test]
fn a_file_of_our_passwd_lets_its_users_in() {
    lets_users_in(&example("passwd"), "ours");
}

/// Makes a file with all the ways of the tool, and logs in.
fn lets_users_in(tool: &Path, name: &str) {
    let file = scratch_file(name);
    let path = file.to_str().expect("a path of this test is UTF-8");
    let tool = |arguments: &[&str]| run(Command::new(tool).args(arguments));
    tool(&["-c", "-b", path, "alice", "secret"]);
    tool(&["-b", path, "bob", "first"]);
    tool(&["-b", path, "bob", "pass:wörd with spaces"]);
    tool(&["-H", "sha512", "-b", path, "old", "legacy"]);
    tool(&["-b", path, "gone", "x"]);
    tool(&["-D", path, "gone"]);
    std::fs::write(format!("{path}-plain"), "dave:plain\nerin:a:b\n").expect("it can be written");
    tool(&["-U", &format!("{path}-plain")]);
    let plain = std::fs::read_to_string(format!("{path}-plain")).expect("it can be read");
    assert!(!plain.contains("dave:plain"), "{plain}");
    let all = std::fs::read_to_string(&file).expect("it can be read") + &plain;
    std::fs::write(&file, all).expect("it can be written");

    let broker = BrokerProcess::start_with_config(&format!("password_file {path}"));
    let login = |user, password| {
        Wire::connect_code(&broker, &Connect::new("guest").user(user, Some(password)))
    };
    assert_eq!(login("alice", "secret"), 0);
    assert_eq!(login("bob", "pass:wörd with spaces"), 0);
    assert_eq!(login("old", "legacy"), 0);
    assert_eq!(login("dave", "plain"), 0);
    // Mosquitto's own -U reads the password to the next colon only.
    if name == "ours" {
        assert_eq!(login("erin", "a:b"), 0);
    }
    // Mosquitto 2.0 says 5 to all that follows; the standard has 4 for this.
    let refused = if is_mosquitto() { 5 } else { 4 };
    for (user, password) in [
        ("alice", "Secret"),
        ("alice", ""),
        ("alice", "secret "),
        ("bob", "first"),
        ("gone", "x"),
        ("nobody", "secret"),
        ("", "secret"),
        ("alice:", "secret"),
    ] {
        assert_eq!(login(user, password), refused, "{user} {password}");
    }
    let without_password = Connect::new("guest").user("alice", None);
    assert_eq!(Wire::connect_code(&broker, &without_password), refused);
    // Nobody said that anonymous clients may come.
    assert_eq!(Wire::connect_code(&broker, &Connect::new("guest")), 5);
    let _ = std::fs::remove_file(format!("{path}-plain"));
    let _ = std::fs::remove_file(file);
}

#[test]
fn an_argon2id_line_lets_its_user_in() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not read argon2id");
        return;
    }
    let file = scratch_file("argon2");
    std::fs::write(&file, ARGON2).expect("it can be written");
    let broker = BrokerProcess::start_with_config(&format!("password_file {}", file.display()));
    for (password, code) in [("secret", 0), ("Secret", 4)] {
        let connect = Connect::new("guest").user("carol", Some(password));
        assert_eq!(Wire::connect_code(&broker, &connect), code);
    }
    let _ = std::fs::remove_file(file);
}

// A login that hashes for 40 ms must not hold up those who are connected.
#[test]
fn a_flood_of_logins_is_shed_and_disturbs_nobody() {
    if is_mosquitto() {
        return;
    }
    let file = scratch_file("flood");
    std::fs::write(&file, ARGON2).expect("it can be written");
    let config = format!("password_file {}\nallow_anonymous true", file.display());
    let broker = BrokerProcess::start_with_config(&config);
    let mut guest = Wire::connect(&broker, &Connect::new("guest"));
    let mut flood: Vec<_> = (0..200)
        .map(|number| {
            let mut wire = Wire::open(&broker);
            let connect = Connect::new(&format!("flood-{number}")).user("carol", Some("wrong"));
            wire.send(&connect.packet());
            wire
        })
        .collect();
    for _ in 0..10 {
        let start = Instant::now();
        assert!(guest.ping().is_empty());
        let took = start.elapsed();
        assert!(took.as_millis() < 500, "a PINGRESP took {took:?} during the flood");
    }
    let mut codes = [0; 6];
    for wire in &mut flood {
        // On a busy machine the last in the queue meet the time limit of a CONNECT.
        if let Some(connack) = wire.packet() {
            codes[usize::from(connack.body[1])] += 1;
        }
    }
    assert_eq!(codes[0], 0, "{codes:?}");
    assert!(codes[4] > 0, "some are hashed: {codes:?}");
    assert!(codes[3] > 0, "the rest is told that the server is not available: {codes:?}");
    let _ = std::fs::remove_file(file);
}

// Its figures stand in the output. MQTT_FLOOD_SECONDS=60 makes it as long as that.
#[test]
fn a_flood_of_bad_logins_slows_nobody_down_and_takes_no_memory() {
    if is_mosquitto() {
        return;
    }
    let seconds = std::env::var("MQTT_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(4));
    let file = scratch_file("bad-logins");
    std::fs::write(&file, ARGON2).expect("it can be written");
    let config = format!("password_file {}\nallow_anonymous true\nlog_type none", file.display());
    let broker = BrokerProcess::start_with_config(&config);
    let mut guest = Wire::connect(&broker, &Connect::new("guest"));
    let end = Instant::now() + length;
    let attempts = std::thread::scope(|scope| {
        // More than are hashed and wait for it: the others are shed.
        let attackers: Vec<_> = (0..80)
            .map(|_| {
                scope.spawn(|| {
                    let wrong = Connect::new("attacker").user("carol", Some("wrong"));
                    let mut codes = [0_u32; 6];
                    while Instant::now() < end {
                        let mut wire = Wire::open(&broker);
                        wire.send(&wrong.packet());
                        // On a busy machine the last in the queue meet the time limit of a CONNECT.
                        let code = wire.packet().map_or(1, |connack| connack.body[1]);
                        codes[usize::from(code)] += 1;
                        // A machine has some ten thousand ports, and each is in use for a minute.
                        std::thread::sleep(Duration::from_millis(200));
                    }
                    codes
                })
            })
            .collect();
        let half = end - length / 2;
        let (mut before, mut after) = (0, 0);
        let mut times = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            assert!(guest.ping().is_empty());
            times.push(start.elapsed());
            // Each hash takes its memory and gives it back: the most of both halves is compared.
            let most = if start < half { &mut before } else { &mut after };
            *most = broker.memory().max(*most);
            std::thread::sleep(Duration::from_millis(20));
        }
        times.sort_unstable();
        let worst_but_one_percent = times[times.len() * 99 / 100];
        let grown = after.saturating_sub(before);
        println!(
            "{length:?}: 99 % of PINGRESPs within {worst_but_one_percent:?}, memory grew by {grown} \
             bytes"
        );
        assert!(worst_but_one_percent < Duration::from_millis(500), "{worst_but_one_percent:?}");
        assert!(grown < 20 << 20, "memory grew by {grown} bytes");
        attackers.into_iter().map(|a| a.join().expect("no panic")).collect::<Vec<_>>()
    });
    let total = |code: usize| attempts.iter().map(|codes| codes[code]).sum::<u32>();
    println!("{} logins refused with 4, {} with 3, {} too late", total(4), total(3), total(1));
    assert_eq!(total(0), 0);
    assert!(total(3) > 0, "who cannot wait is told");
    let _ = std::fs::remove_file(file);
}

// HUP: new users can come, those who are in both files stay, those who are gone have to leave.
#[test]
fn the_password_file_is_read_anew_at_hup() {
    let Some(tool) = required("mosquitto_passwd", in_path("mosquitto_passwd")) else { return };
    let file = scratch_file("hup");
    let path = file.to_str().expect("a path of this test is UTF-8");
    run(Command::new(&tool).args(["-c", "-b", path, "alice", "secret"]));
    run(Command::new(&tool).args(["-b", path, "carol", "secret"]));
    let broker = BrokerProcess::start_with_config(&format!("password_file {path}"));
    let alice = Connect::new("alice").user("alice", Some("secret"));
    let bob = Connect::new("bob").user("bob", Some("secret"));
    let mut connected = Wire::connect(&broker, &alice);
    let mut gone = Wire::connect(&broker, &Connect::new("c").user("carol", Some("secret")));
    assert_ne!(Wire::connect_code(&broker, &bob), 0);

    run(Command::new(&tool).args(["-b", path, "bob", "secret"]));
    if !is_mosquitto() {
        // Mosquitto keeps the passwords of its clients to check them again. Ours forgets them.
        run(Command::new(&tool).args(["-b", path, "alice", "changed"]));
    }
    run(Command::new(&tool).args(["-D", path, "carol"]));
    broker.signal("HUP");
    let code = |connect| Wire::connect_code(&broker, connect);
    assert!(eventually(|| (code(&bob) == 0).then_some(())).is_some());
    assert!(connected.ping().is_empty(), "who is connected stays");
    assert!(gone.expect_end().is_empty(), "who is deleted does not");
    let second = Connect::new("second").user("carol", Some("secret"));
    assert_ne!(code(&second), 0);

    if !is_mosquitto() {
        std::fs::write(&file, "bob\n").expect("it can be written");
        broker.signal("HUP");
        assert!(eventually(|| broker.log_text().contains(":1: a line").then_some(())).is_some());
        assert_eq!(code(&bob), 0, "a broken file changes nothing");
    }
    let _ = std::fs::remove_file(file);
}

#[test]
fn a_password_file_for_all_to_read_is_told() {
    if is_mosquitto() {
        return;
    }
    let file = scratch_file("open");
    std::fs::write(&file, ARGON2).expect("it can be written");
    for (mode, expected) in [(0o644, true), (0o640, false)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, permissions).expect("it is ours");
        let broker = BrokerProcess::start_with_config(&format!("password_file {}", file.display()));
        let is_told = broker.log_text().contains("can be read by every user of this machine");
        assert_eq!(is_told, expected, "{mode:o}");
    }
    let _ = std::fs::remove_file(file);
}

fn scratch_file(name: &str) -> PathBuf {
    scratch().join(format!("passwords-{name}-{}", std::process::id()))
}
