//! TLS over TCP and WebSocket: who gets in with which certificate.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mqtt_client::{Client, Publish, QoS, Tls};
use mqtt_examples::password::{PasswordHash, PasswordText, Scheme};
use tokio::time::timeout;

use crate::broker_process::{BrokerProcess, free_port, is_mosquitto, local};
use crate::certificates::{Authority, Certificate};
use crate::foreign::{in_path, required};
use crate::mosquitto::{Subscriber, clients_installed, command, publish, received};
use crate::program::{DEADLINE, eventually, scratch, scripts};
use crate::websocket::{CONNACK, CONNECT, HANDSHAKE, frame};
use crate::wire::{Connect, Wire, subscribe};

/// The options of a TLS listener.
fn server_options(authority: &Authority, server: &Certificate) -> String {
    format!(
        "certfile {}\nkeyfile {}\ncafile {}\n",
        server.file.display(),
        server.key.display(),
        authority.file().display()
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of this test is UTF-8")
}

/// Publishes with `mosquitto_pub`, with a client's certificate or without. True if it was let in.
fn mosquitto_gets_in(broker: &BrokerProcess, ca: &Path, client: Option<&Certificate>) -> bool {
    let mut command = command("mosquitto_pub", broker);
    command.args(["-t", "tls", "-m", "x", "-q", "1", "--cafile", text(ca)]);
    if let Some(client) = client {
        command.args(["--cert", text(&client.file), "--key", text(&client.key)]);
    }
    command.output().expect("mosquitto_pub runs").status.success()
}

/// The same with MQTT.js over WebSocket. `None` when it is not installed.
fn mqtt_js_gets_in(
    broker: &BrokerProcess,
    ca: &Path,
    client: Option<&Certificate>,
) -> Option<bool> {
    let folder = scripts().join("mqttjs");
    let package = folder.join("node_modules/mqtt").is_dir().then_some(());
    let (node, ()) = required("MQTT.js", in_path("node").zip(package))?;
    let mut command = Command::new(node);
    command.current_dir(&folder).arg("connect.mjs");
    command.args([&format!("wss://127.0.0.1:{}/mqtt", broker.port()), text(ca)]);
    if let Some(client) = client {
        command.args([text(&client.file), text(&client.key)]);
    }
    Some(command.output().expect("node runs").status.success())
}

/// Runs `openssl s_client` with these options, sends bytes and returns what comes back until the
/// broker closes.
fn s_client(broker: &BrokerProcess, options: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", broker.port()), "-quiet"])
        .args(["-verify_quiet", "-verify_return_error"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A broken pipe is one of the answers.
    let _ = stdin.write_all(bytes);
    let output = child.wait_with_output().expect("openssl ends");
    drop(stdin);
    output.stdout
}

/// Connects and disconnects with `openssl s_client`. True if it was let in.
fn openssl_gets_in(
    broker: &BrokerProcess,
    is_websocket: bool,
    ca: &Path,
    client: Option<&Certificate>,
) -> Option<bool> {
    required("openssl", in_path("openssl"))?;
    let mut options = vec!["-CAfile", text(ca)];
    if let Some(client) = client {
        options.extend(["-cert", text(&client.file), "-key", text(&client.key)]);
    }
    let bytes = if is_websocket {
        let frames = [frame(2, CONNECT), frame(2, DISCONNECT)].concat();
        [format!("{HANDSHAKE}\r\n").into_bytes(), frames].concat()
    } else {
        [CONNECT, DISCONNECT].concat()
    };
    let answer = s_client(broker, &options, &bytes);
    Some(answer.windows(CONNACK.len()).any(|bytes| bytes == CONNACK))
}

const DISCONNECT: &[u8] = &[0xe0, 0];

/// Publishes with our own client. True if it was let in.
fn our_client_gets_in(
    broker: &BrokerProcess,
    is_websocket: bool,
    ca: &Path,
    client: Option<&Certificate>,
) -> bool {
    let (scheme, path) = if is_websocket { ("wss", "/mqtt") } else { ("mqtts", "") };
    let url = format!("{scheme}://127.0.0.1:{}{path}", broker.port());
    let mut tls = Tls::ca_file(ca);
    if let Some(client) = client {
        tls = tls.client_certificate(&client.file, &client.key);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let Ok(client) = Client::builder(&url).tls(tls).connect().await else { return false };
        let publish = Publish::new("tls", "x").qos(QoS::AtLeastOnce);
        client.publish(publish).await.expect("accepted").await.is_ok()
    })
}

// MQTT-7.1.1-1
#[test]
fn clients_that_trust_the_authority_publish_and_subscribe() {
    if !clients_installed() {
        return;
    }
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let options = server_options(&authority, &server);
    let broker = BrokerProcess::start_with_config(&format!("{options}allow_anonymous true"));
    let ca_file = authority.file();
    let ca = ["--cafile", text(&ca_file)];
    let mut subscriber = Subscriber::start(&broker, &[&ca[..], &["-t", "a", "-q", "2"]].concat());
    publish(&broker, &[&ca[..], &["-t", "a", "-m", "hello", "-q", "2"]].concat());
    assert_eq!(subscriber.message(), received("a", 2, false, "hello"));

    let large = "x".repeat(100_000);
    publish(&broker, &[&ca[..], &["-t", "a", "-m", &large, "-q", "1"]].concat());
    assert_eq!(subscriber.message(), received("a", 1, false, &large));

    let other = Authority::new("Other CA");
    assert!(!mosquitto_gets_in(&broker, &other.file(), None), "the client does not trust us");
    // Plain MQTT on a TLS port is closed, and disturbs nobody.
    let mut plain = Wire::open(&broker);
    plain.send_to_the_end(&Connect::new("plain").packet());
    plain.expect_end();
    publish(&broker, &[&ca[..], &["-t", "a", "-m", "end", "-q", "1"]].concat());
    assert_eq!(subscriber.message(), received("a", 1, false, "end"));
}

#[test]
fn only_certificates_of_the_authority_that_count_get_in() {
    if !clients_installed() {
        return;
    }
    let authority = Authority::new("Home CA");
    let other = Authority::new("Other CA");
    let server = authority.server();
    let good = authority.client("good");
    let expired = authority.expired("expired");
    let (revoked, list) = authority.revoked("revoked");
    let self_signed = authority.self_signed("self-signed");
    let wrong = other.client("wrong");
    let cases = [
        ("none", None, false),
        ("self-signed", Some(&self_signed), false),
        ("of another authority", Some(&wrong), false),
        ("expired", Some(&expired), false),
        ("revoked", Some(&revoked), false),
        ("a server's", Some(&server), false),
        ("good", Some(&good), true),
    ];
    let options = server_options(&authority, &server);
    let lines = format!("{options}allow_anonymous true\nrequire_certificate true\n");
    for protocol in ["mqtt", "websockets"] {
        let crl = format!("{lines}protocol {protocol}\ncrlfile {}\n", list.display());
        let broker = BrokerProcess::start_with_config(&crl);
        let is_websocket = protocol == "websockets";
        let ca = authority.file();
        for (name, certificate, expected) in cases {
            let foreign = match is_websocket {
                false => Some(mosquitto_gets_in(&broker, &ca, certificate)),
                true => mqtt_js_gets_in(&broker, &ca, certificate),
            };
            let openssl = openssl_gets_in(&broker, is_websocket, &ca, certificate);
            let ours = Some(our_client_gets_in(&broker, is_websocket, &ca, certificate));
            // Mosquitto 2.0 does not look at its list for WebSocket.
            if is_mosquitto() && is_websocket && name == "revoked" {
                continue;
            }
            for (client, gets_in) in [("foreign", foreign), ("openssl", openssl), ("ours", ours)] {
                let gets_in = gets_in.unwrap_or(expected);
                assert_eq!(gets_in, expected, "{name}, over {protocol}, with the {client} client");
            }
        }
    }
    // Without the list the revoked one is as good as any.
    let broker = BrokerProcess::start_with_config(&lines);
    assert!(mosquitto_gets_in(&broker, &authority.file(), Some(&revoked)));
    assert!(!mosquitto_gets_in(&broker, &authority.file(), Some(&expired)));
}

#[test]
fn disable_client_cert_date_checks_lets_old_certificates_in() {
    if !clients_installed() {
        return;
    }
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not have disable_client_cert_date_checks");
        return;
    }
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let lines = format!(
        "{}allow_anonymous true\nrequire_certificate true\ndisable_client_cert_date_checks true\n",
        server_options(&authority, &server)
    );
    let broker = BrokerProcess::start_with_config(&lines);
    let ca = authority.file();
    assert!(mosquitto_gets_in(&broker, &ca, Some(&authority.client("good"))));
    assert!(mosquitto_gets_in(&broker, &ca, Some(&authority.expired("expired"))));
    assert!(!mosquitto_gets_in(&broker, &ca, Some(&authority.self_signed("self"))));
    assert!(!mosquitto_gets_in(&broker, &ca, Some(&Authority::new("Other").expired("wrong"))));
}

// What the certificate says is the user name for the ACL, whatever the client says.
#[test]
fn the_name_in_a_certificate_is_the_user_name() {
    if !clients_installed() {
        return;
    }
    let authority = Authority::new("Home CA");
    let (server, lamp, fan) =
        (authority.server(), authority.client("lamp"), authority.client("fan"));
    let acl = authority.file().with_file_name("acl");
    let ca = authority.file();
    for (option, name) in
        [("use_identity_as_username", "lamp"), ("use_subject_as_username", "C=DE,O=Home,CN=lamp")]
    {
        std::fs::write(&acl, format!("user {name}\ntopic lamp\n")).expect("it can be written");
        let lines = format!(
            "{}require_certificate true\n{option} true\nacl_file {}\n",
            server_options(&authority, &server),
            acl.display()
        );
        let broker = BrokerProcess::start_with_config(&lines);
        let as_client = |client: &Certificate| {
            ["--cafile", text(&ca), "--cert", text(&client.file), "--key", text(&client.key)]
                .map(str::to_owned)
        };
        let (lamp, fan) = (as_client(&lamp), as_client(&fan));
        let with = |client: &[String; 6], more: &[&str]| -> Vec<String> {
            client.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect()
        };
        let publish = |arguments: Vec<String>| {
            publish(&broker, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        };
        let arguments = with(&lamp, &["-t", "lamp", "-q", "1"]);
        let mut subscriber =
            Subscriber::start(&broker, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        // The fan may not, not even under the name of the lamp.
        publish(with(&fan, &["-t", "lamp", "-q", "1", "-m", "by the fan", "-u", name]));
        publish(with(&lamp, &["-t", "lamp", "-q", "1", "-m", "by the lamp", "-u", "fan"]));
        assert_eq!(subscriber.message(), received("lamp", 1, false, "by the lamp"), "{option}");
    }
}

// HUP: connections go on with the certificate that they have, new ones get the new one.
#[test]
fn certificates_are_read_anew_at_hup_and_nobody_is_disconnected() {
    if !clients_installed() {
        return;
    }
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let options = server_options(&authority, &server);
    let broker = BrokerProcess::start_with_config(&format!("{options}allow_anonymous true"));
    let ca_file = authority.file();
    let ca = ["--cafile", text(&ca_file)];
    let mut subscriber = Subscriber::start(&broker, &[&ca[..], &["-t", "a", "-q", "1"]].concat());

    let other = Authority::new("Other CA");
    let renewed = other.server();
    for (from, to) in [(&renewed.file, &server.file), (&renewed.key, &server.key)] {
        std::fs::copy(from, to).expect("a file can be replaced");
    }
    assert!(!mosquitto_gets_in(&broker, &other.file(), None), "not before the HUP");
    broker.signal("HUP");
    let renewed = || mosquitto_gets_in(&broker, &other.file(), None).then_some(());
    assert!(eventually(renewed).is_some());
    assert!(!mosquitto_gets_in(&broker, &authority.file(), None));

    let other_file = other.file();
    let other_ca = ["--cafile", text(&other_file)];
    publish(&broker, &[&other_ca[..], &["-t", "a", "-m", "hello", "-q", "1"]].concat());
    assert_eq!(subscriber.message(), received("a", 1, false, "hello"));

    if !is_mosquitto() {
        std::fs::write(&server.key, "no key").expect("a file can be written");
        broker.signal("HUP");
        let told = || broker.log_text().contains("nothing is changed").then_some(());
        assert!(eventually(told).is_some());
        assert!(mosquitto_gets_in(&broker, &other.file(), None), "the old ones stay in use");
    }
}

// Authorities may be many files in a folder.
#[test]
fn capath_is_a_folder_of_authorities() {
    if !clients_installed() {
        return;
    }
    if is_mosquitto() {
        println!("skipped: Mosquitto's folder needs `openssl rehash`");
        return;
    }
    let (one, two) = (Authority::new("One CA"), Authority::new("Two CA"));
    let server = one.server();
    let folder = one.file().with_file_name("authorities");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    for (number, authority) in [&one, &two].into_iter().enumerate() {
        std::fs::copy(authority.file(), folder.join(format!("{number}.pem"))).expect("it can");
    }
    let broker = BrokerProcess::start_with_config(&format!(
        "certfile {}\nkeyfile {}\ncapath {}\nrequire_certificate true\nallow_anonymous true",
        server.file.display(),
        server.key.display(),
        folder.display()
    ));
    assert!(mosquitto_gets_in(&broker, &one.file(), Some(&one.client("a"))));
    assert!(mosquitto_gets_in(&broker, &one.file(), Some(&two.client("b"))));
    let other = Authority::new("Other CA").client("c");
    assert!(!mosquitto_gets_in(&broker, &one.file(), Some(&other)));
}

#[test]
fn tls_version_and_ciphers_choose_what_is_spoken() {
    let Some(_) = required("openssl", in_path("openssl")) else { return };
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let ca = authority.file();
    let (one, other) = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384");
    let (one_1_3, other_1_3) = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384");
    let with_1_2 = |cipher| vec!["-tls1_2", "-cipher", cipher];
    let with_1_3 = |cipher| vec!["-tls1_3", "-ciphersuites", cipher];
    for (lines, options, expected) in [
        ("", with_1_2(one), true),
        ("", with_1_2(other), true),
        ("", with_1_3(other_1_3), true),
        ("tls_version tlsv1.3", with_1_2(one), false),
        ("tls_version tlsv1.3", with_1_3(one_1_3), true),
        ("ciphers ECDHE-ECDSA-AES128-GCM-SHA256", with_1_2(one), true),
        ("ciphers ECDHE-ECDSA-AES128-GCM-SHA256", with_1_2(other), false),
        ("ciphers ECDHE-ECDSA-AES128-GCM-SHA256", with_1_3(other_1_3), true),
        ("ciphers_tls1.3 TLS_AES_128_GCM_SHA256", with_1_3(one_1_3), true),
        ("ciphers_tls1.3 TLS_AES_128_GCM_SHA256", with_1_3(other_1_3), false),
        ("ciphers HIGH:!aNULL", with_1_2(other), true),
    ] {
        let config =
            format!("{}allow_anonymous true\n{lines}", server_options(&authority, &server));
        let broker = BrokerProcess::start_with_config(&config);
        let options = [vec!["-CAfile", text(&ca)], options].concat();
        let answer = s_client(&broker, &options, &[CONNECT, DISCONNECT].concat());
        assert_eq!(answer.starts_with(CONNACK), expected, "{lines} {options:?}");
        if lines.contains("HIGH") && !is_mosquitto() {
            let told = "ciphers: HIGH, !aNULL has no meaning here";
            assert!(broker.log_text().contains(told), "{}", broker.log_text());
        }
    }
}

// All files are read before one of them counts.
#[test]
fn a_hup_with_a_broken_file_changes_nothing_at_all() {
    if is_mosquitto() {
        println!("skipped: Mosquitto takes what it can read");
        return;
    }
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let acl = authority.file().with_file_name("acl");
    std::fs::write(&acl, "topic #\n").expect("it can be written");
    let plain = free_port();
    let broker = BrokerProcess::start_with_config(&format!(
        "{}allow_anonymous true\nacl_file {}\nlistener {plain} 127.0.0.1\n",
        server_options(&authority, &server),
        acl.display()
    ));
    let mut wire = Wire::connect_at(local(plain), &Connect::new("client"));
    wire.send(&subscribe(1, &[("a", 0)]));
    assert_eq!(wire.expect_suback(), [0]);
    std::fs::write(&acl, "topic other\n").expect("it can be written");
    let key = std::fs::read(&server.key).expect("it is there");
    std::fs::write(&server.key, "no key").expect("it can be written");
    let mut hup = |told: &str, count: usize| {
        broker.signal("HUP");
        let told = || (broker.log_text().matches(told).count() == count).then_some(());
        assert!(eventually(told).is_some(), "{}", broker.log_text());
        wire.send(&crate::wire::publish(0x30, b"a", None, b"x"));
        wire.ping().len()
    };
    assert_eq!(hup("nothing is changed", 1), 1, "for the key");
    assert!(broker.log_text().contains("there is no key without passphrase in it"));
    std::fs::write(&server.key, key).expect("it can be written");
    let config = scratch().join(format!("broker-{}.conf", broker.port()));
    let text = std::fs::read_to_string(&config).expect("it is there");
    let bad_log = format!("{text}log_dest file /nonexistent/log\n");
    std::fs::write(&config, bad_log).expect("it can be written");
    assert_eq!(hup("nothing is changed", 2), 1, "for the log");
    std::fs::write(&config, text).expect("it can be written");
    assert_eq!(hup("certificates count now", 1), 0, "now the new ACL counts");
}

#[test]
fn dhparamfile_is_read_over_with_a_warning() {
    if is_mosquitto() {
        return;
    }
    let authority = Authority::new("Home CA");
    let server = authority.server();
    let options = server_options(&authority, &server);
    let lines = format!("{options}allow_anonymous true\ndhparamfile /nonexistent");
    let broker = BrokerProcess::start_with_config(&lines);
    assert!(our_client_gets_in(&broker, false, &authority.file(), None));
    let told = || broker.log_text().contains(":6: dhparamfile has no effect").then_some(());
    assert!(eventually(told).is_some(), "{}", broker.log_text());
}

/// Messages that are on their way while files are read anew.
const UNDER_LOAD: u32 = 20_000;

// Certificates, passwords and ACL change again and again while two clients exchange QoS 1 messages.
#[test]
fn hup_under_load_cuts_nobody_and_loses_nothing() {
    if is_mosquitto() {
        println!("skipped: Mosquitto drops what a receiver does not take fast enough");
        return;
    }
    let authorities = [Authority::new("Home CA"), Authority::new("New CA")];
    let servers = [authorities[0].server(), authorities[1].server()];
    let folder = authorities[0].file().with_file_name("live");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let [certificate, key, passwords, acl] =
        ["server.crt", "server.key", "passwords", "acl"].map(|name| folder.join(name));
    let write_files = |round: usize| {
        let server = &servers[round % 2];
        std::fs::copy(&server.file, &certificate).expect("a file can be replaced");
        std::fs::copy(&server.key, &key).expect("a file can be replaced");
        let mut text = PasswordText::new("");
        for name in ["alice", &format!("user-{round}")] {
            let hash = PasswordHash::new(b"secret", Scheme::Pbkdf2).expect("random bytes");
            text.set(name, &hash).expect("a good name");
        }
        text.write(&passwords).expect("it can be written");
        let rules = format!("user alice\ntopic load/#\ntopic other/{round}\n");
        std::fs::write(&acl, rules).expect("it can be written");
    };
    write_files(0);
    let broker = BrokerProcess::start_with_config(&format!(
        "certfile {}\nkeyfile {}\npassword_file {}\nacl_file {}",
        certificate.display(),
        key.display(),
        passwords.display(),
        acl.display()
    ));
    let times_read = || broker.log_text().matches("certificates count now").count();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let rounds = runtime.expect("a runtime can be made").block_on(async {
        let connect = |name: &'static str| {
            let tls = Tls::ca_file(authorities[0].file()).and_ca_file(authorities[1].file());
            let url = format!("mqtts://127.0.0.1:{}", broker.port());
            Client::builder(&url).client_id(name).credentials("alice", "secret").tls(tls).connect()
        };
        let receiver = connect("receiver").await.expect("it connects");
        let mut messages = receiver.subscribe("load/#", QoS::AtLeastOnce).await.expect("granted");
        let publisher = connect("publisher").await.expect("it connects");
        let publishing = tokio::spawn(async move {
            for number in 0..UNDER_LOAD {
                let publish = Publish::new("load/a", number.to_string()).qos(QoS::AtLeastOnce);
                drop(publisher.publish(publish).await.expect("accepted"));
            }
            publisher
        });
        let mut round = 0;
        for number in 0..UNDER_LOAD {
            let message = timeout(DEADLINE, messages.recv()).await.expect("it comes in time");
            assert_eq!(message.expect("it goes on").payload(), number.to_string().as_bytes());
            // Not before the last ones were read: half a file is none.
            if number % 1000 == 500 && times_read() == round {
                round += 1;
                write_files(round);
                broker.signal("HUP");
            }
        }
        publishing.await.expect("the publisher does not panic");
        round
    });
    println!("{rounds} times under {UNDER_LOAD} messages");
    assert!(rounds >= 3, "{rounds}");
    assert!(eventually(|| (times_read() == rounds).then_some(())).is_some());
    let log = broker.log_text();
    assert!(!log.contains("nothing is changed"), "{log}");
    for name in ["receiver", "publisher"] {
        let connects = log.matches(&format!("client {name} connected")).count();
        assert_eq!(connects, 1, "{name} was never cut");
    }
}

// The lines of the broker's README, as they stand there.
#[test]
fn the_openssl_lines_of_the_readme_make_certificates_that_work() {
    let Some(_) = required("openssl", in_path("openssl")) else { return };
    if !clients_installed() {
        return;
    }
    let readme = include_str!("../../broker/README.md");
    let script = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let folder = scratch().join(format!("openssl-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let status = Command::new("sh")
        .args(["-e", "-c", script.expect("the README has the lines")])
        .current_dir(&folder)
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("sh runs").success());
    let certificate = |name: &str| Certificate {
        file: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    let (server, lamp, ca) = (certificate("server"), certificate("lamp"), folder.join("ca.crt"));
    let broker = BrokerProcess::start_with_config(&format!(
        "certfile {}\nkeyfile {}\ncafile {}\nrequire_certificate true\nallow_anonymous true",
        server.file.display(),
        server.key.display(),
        ca.display()
    ));
    assert!(mosquitto_gets_in(&broker, &ca, Some(&lamp)));
    assert!(!mosquitto_gets_in(&broker, &ca, None));
    let _ = std::fs::remove_dir_all(folder);
}
