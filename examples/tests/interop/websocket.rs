//! WebSocket listeners as HTTP sees them.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker_process::{BrokerProcess, is_mosquitto};
use crate::program::{DEADLINE, scratch};

pub(crate) const HANDSHAKE: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n";

/// Sends a request and reads what comes until nothing more does, or the head of the answer.
fn ask(broker: &BrokerProcess, request: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(broker.address()).expect("the broker accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream.write_all(request.as_bytes()).expect("the broker reads");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length > 0) {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).expect("the head is text"))
}

/// A frame as a client sends it: masked, with a mask of zeros.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    assert!(length < 126);
    [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

pub(crate) const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01w";
pub(crate) const CONNACK: &[u8] = &[0x20, 2, 0, 0];

// MQTT-6.0.0-2: packets and messages need not begin and end together.
#[test]
fn packets_may_span_messages_and_messages_hold_packets() {
    let broker = BrokerProcess::start_with_config("protocol websockets\nallow_anonymous true");
    let (mut stream, head) = ask(&broker, &format!("{HANDSHAKE}\r\n"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // MQTT-6.0.0-4
    assert!(lower.contains("sec-websocket-protocol: mqtt\r\n"), "{head}");

    let (first, rest) = CONNECT.split_at(5);
    stream.write_all(&frame(2, first)).expect("the broker reads");
    let two = [rest, &[0xc0, 0]].concat();
    stream.write_all(&frame(2, &two)).expect("the broker reads");
    let mut bytes = Vec::new();
    while bytes.len() < 6 {
        let mut header = [0; 2];
        stream.read_exact(&mut header).expect("a frame");
        assert_eq!(header[0], 0x82, "a binary message");
        let mut payload = vec![0; usize::from(header[1])];
        stream.read_exact(&mut payload).expect("a payload");
        bytes.extend(payload);
    }
    assert_eq!(bytes, [CONNACK, &[0xd0, 0]].concat());
}

// MQTT-6.0.0-1: text messages close the connection.
#[test]
fn a_text_message_closes_the_connection() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 takes text messages");
        return;
    }
    let broker = BrokerProcess::start_with_config("protocol websockets\nallow_anonymous true");
    let (mut stream, head) = ask(&broker, &format!("{HANDSHAKE}\r\n"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream.write_all(&frame(1, b"hello")).expect("the broker reads");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() <= 4, "at most a close frame: {rest:?}");
}

#[test]
fn websockets_origin_refuses_other_pages() {
    if is_mosquitto() {
        println!("skipped: Mosquitto 2.0 does not have websockets_origin");
        return;
    }
    let broker = BrokerProcess::start_with_config(
        "protocol websockets\nallow_anonymous true\nwebsockets_origin https://home.example\n\
         websockets_origin https://other.example",
    );
    let status = |origin: &str| {
        let (_, head) = ask(&broker, &format!("{HANDSHAKE}{origin}\r\n"));
        head.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(status("Origin: https://home.example\r\n").as_deref(), Some("101"));
    assert_eq!(status("Origin: https://other.example\r\n").as_deref(), Some("101"));
    assert_eq!(status("Origin: https://evil.example\r\n").as_deref(), Some("403"));
    assert_eq!(status("").as_deref(), Some("403"));
}

#[test]
fn http_dir_serves_files_beside_websockets() {
    let folder = scratch().join(format!("pages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::write(folder.join("index.html"), "<h1>hello</h1>").expect("it can be written");
    let broker = BrokerProcess::start_with_config(&format!(
        "protocol websockets\nallow_anonymous true\nhttp_dir {}",
        folder.display()
    ));
    let get = |path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (mut stream, head) = ask(&broker, &request);
        let mut body = String::new();
        let _ = stream.read_to_string(&mut body);
        (head.split(' ').nth(1).unwrap_or_default().to_owned(), body)
    };
    for path in ["/", "/index.html"] {
        let (status, body) = get(path);
        assert_eq!(status, "200", "{path}");
        assert!(body.contains("<h1>hello</h1>"), "{body}");
    }
    for path in ["/nothing", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd"] {
        let (status, body) = get(path);
        assert_ne!(status, "200", "{path}");
        assert!(!body.contains("root:"), "{path}");
    }
    let (_, head) = ask(&broker, &format!("{HANDSHAKE}\r\n"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let _ = std::fs::remove_dir_all(folder);
}

// Who asks for much and takes nothing costs neither memory nor descriptors.
#[test]
fn slow_readers_of_files_hold_up_nobody() {
    if is_mosquitto() {
        return;
    }
    const LENGTH: usize = 20_000_000;
    let folder = scratch().join(format!("film-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let film: Vec<u8> = (0..LENGTH).map(|at| (at / 1000 % 251) as u8).collect();
    std::fs::write(folder.join("film"), &film).expect("it can be written");
    let broker = BrokerProcess::start_with_config(&format!(
        "protocol websockets\nallow_anonymous true\nhttp_dir {}",
        folder.display()
    ));
    let request = "GET /film HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let before = broker.memory();
    let slow: Vec<_> = (0..100).map(|_| ask(&broker, request)).collect();
    assert!(slow.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200 ")));
    let (mut stream, head) = ask(&broker, request);
    assert!(head.contains(&format!("Content-Length: {LENGTH}\r\n")), "{head}");
    let mut body = Vec::new();
    stream.read_to_end(&mut body).expect("it is sent in full");
    assert!(body == film, "{} bytes came", body.len());
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    let _ = std::fs::remove_dir_all(folder);
}
