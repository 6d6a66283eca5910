//! TLS over TCP and WebSocket: who gets in with which certificate.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::broker_process::{BrokerProcess, is_mosquitto};
use crate::certificates::{Authority, Certificate};
use crate::foreign::{in_path, required};
use crate::mosquitto::{Subscriber, clients_installed, command, publish, received};
use crate::program::{eventually, scratch, scripts};
use crate::wire::{Connect, Wire};

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
        for (name, certificate, expected) in cases {
            let gets_in = match protocol {
                "mqtt" => mosquitto_gets_in(&broker, &authority.file(), certificate),
                _ => match mqtt_js_gets_in(&broker, &authority.file(), certificate) {
                    Some(gets_in) => gets_in,
                    None => return,
                },
            };
            // Mosquitto 2.0 does not look at its list for WebSocket.
            let skipped = is_mosquitto() && protocol == "websockets" && name == "revoked";
            assert!(
                gets_in == expected || skipped,
                "a certificate that is {name}, over {protocol}"
            );
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
