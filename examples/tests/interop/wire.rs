//! Plain bytes over TCP: a client with no opinion, for what real clients never send.
//!
//! It is written from the standard alone and shares no code with the codec under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::broker_process::BrokerProcess;
use crate::program::{DEADLINE, eventually};

/// A TCP connection that speaks in packets.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Opens a connection and sends nothing.
    pub(crate) fn open(broker: &BrokerProcess) -> Self {
        Self::open_at(broker.address())
    }

    /// The same on another listener, which may be open a little later than the first.
    pub(crate) fn open_at(address: SocketAddr) -> Self {
        let stream = eventually(|| TcpStream::connect(address).ok()).expect("the broker accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Self { stream }
    }

    /// Opens a connection, sends CONNECT, and expects to be accepted.
    pub(crate) fn connect(broker: &BrokerProcess, connect: &Connect) -> Self {
        Self::connect_at(broker.address(), connect)
    }

    /// The same on another listener.
    pub(crate) fn connect_at(address: SocketAddr, connect: &Connect) -> Self {
        let mut wire = Self::open_at(address);
        wire.send(&connect.packet());
        let connack = wire.packet().expect("a CONNACK");
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "accepted");
        wire
    }

    /// Opens a connection, sends CONNECT, and returns the code of the CONNACK.
    pub(crate) fn connect_code(broker: &BrokerProcess, connect: &Connect) -> u8 {
        Self::connect_code_at(broker.address(), connect)
    }

    /// The same on another listener.
    pub(crate) fn connect_code_at(address: SocketAddr, connect: &Connect) -> u8 {
        let mut wire = Self::open_at(address);
        wire.send(&connect.packet());
        wire.packet().expect("a CONNACK").body[1]
    }

    /// Sends PINGREQ and returns the packets that came before its answer.
    pub(crate) fn ping(&mut self) -> Vec<Packet> {
        self.send(&packet(0xc0, &[]));
        let mut before = Vec::new();
        loop {
            match self.packet().expect("a PINGRESP") {
                packet if packet.first == 0xd0 => return before,
                packet => before.push(packet),
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// Sends bytes to a broker that may close at any of them.
    pub(crate) fn send_to_the_end(&mut self, bytes: &[u8]) {
        // A broken pipe is what the test waits for: expect_end shows it.
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet, or `None` at the end of the connection.
    pub(crate) fn packet(&mut self) -> Option<Packet> {
        let first = self.byte()?;
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Packet { first, body })
    }

    /// The next packet, or `None` when none begins within `patience`.
    pub(crate) fn packet_within(&mut self, patience: Duration) -> Option<Packet> {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
        let begins = self.stream.peek(&mut [0]).is_ok();
        self.stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
        if begins { self.packet() } else { None }
    }

    /// Expects the broker to close this connection; returns the packets that came before.
    pub(crate) fn expect_end(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.packet()).collect()
    }

    /// As `expect_end`, but `None` when the broker does not close within `patience`.
    pub(crate) fn end_within(&mut self, patience: Duration) -> Option<Vec<Packet>> {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
        let mut packets = Vec::new();
        loop {
            match self.stream.peek(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                _ => {}
            }
            match self.packet() {
                Some(packet) => packets.push(packet),
                None => return Some(packets),
            }
        }
    }

    /// Reads until the broker closes this connection; returns the number of bytes.
    pub(crate) fn bytes_to_the_end(&mut self) -> usize {
        let mut count = 0;
        let mut buffer = [0; 65_536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return count,
                Ok(length) => count += length,
                Err(error) => panic!("the broker does not close in good order: {error}"),
            }
        }
    }

    /// Expects a PUBLISH.
    pub(crate) fn expect_publish(&mut self) -> Publish {
        let packet = self.packet().expect("a PUBLISH");
        assert_eq!(packet.first >> 4, 3, "a PUBLISH and not {packet:?}");
        let qos = packet.first >> 1 & 3;
        let (length, rest) = packet.body.split_at(2);
        let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        let (id, payload) = rest.split_at(if qos == 0 { 0 } else { 2 });
        Publish {
            topic: String::from_utf8(topic.to_vec()).expect("a topic is UTF-8"),
            qos,
            dup: packet.first & 8 != 0,
            packet_id: id.try_into().map_or(0, u16::from_be_bytes),
            payload: payload.to_vec(),
        }
    }

    /// Expects a SUBACK and returns its codes.
    pub(crate) fn expect_suback(&mut self) -> Vec<u8> {
        let packet = self.packet().expect("a SUBACK");
        assert_eq!(packet.first, 0x90, "a SUBACK and not {packet:?}");
        packet.body[2..].to_vec()
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        // `read_exact` goes on after a signal, where `read` would not.
        match self.stream.read_exact(&mut byte) {
            Ok(()) => Some(byte[0]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                None
            }
            Err(error) => panic!("the broker neither sends nor closes: {error}"),
        }
    }
}

/// A packet as it came: its first byte and what follows the remaining length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
}

/// The fields of a PUBLISH.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) packet_id: u16,
    pub(crate) payload: Vec<u8>,
}

/// The fields of a CONNECT: a clean session without user, will and keep alive unless said otherwise.
pub(crate) struct Connect {
    pub(crate) name: Vec<u8>,
    pub(crate) level: u8,
    pub(crate) flags: u8,
    pub(crate) keep_alive: u16,
    pub(crate) payload: Vec<u8>,
}

impl Connect {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            name: string(b"MQTT"),
            level: 4,
            flags: 0x02,
            keep_alive: 0,
            payload: string(client_id.as_bytes()),
        }
    }

    pub(crate) fn keep_session(mut self) -> Self {
        self.flags &= !0x02;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// A will at QoS 0 that is not retained.
    pub(crate) fn will(mut self, topic: &str, payload: &str) -> Self {
        self.flags |= 0x04;
        self.payload.extend(string(topic.as_bytes()));
        self.payload.extend(string(payload.as_bytes()));
        self
    }

    /// A user name and its password. After a will: the fields have an order.
    pub(crate) fn user(mut self, name: &str, password: Option<&str>) -> Self {
        self.flags |= 0x80;
        self.payload.extend(string(name.as_bytes()));
        if let Some(password) = password {
            self.flags |= 0x40;
            self.payload.extend(string(password.as_bytes()));
        }
        self
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut body = self.name.clone();
        body.extend([self.level, self.flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(&self.payload);
        packet(0x10, &body)
    }
}

/// A packet of a first byte and a body, with its remaining length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A string or binary field: two bytes of length, then its bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a field has at most 65,535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A PUBLISH with any first byte; the packet id is written when there is one.
pub(crate) fn publish(first: u8, topic: &[u8], packet_id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let id = packet_id.map(u16::to_be_bytes);
    packet(first, &[&string(topic)[..], id.as_ref().map_or(&[], |id| &id[..]), payload].concat())
}

pub(crate) fn subscribe(packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(string(filter.as_bytes()));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(crate) fn pubrec(packet_id: u16) -> Vec<u8> {
    packet(0x50, &packet_id.to_be_bytes())
}

pub(crate) fn pubcomp(packet_id: u16) -> Vec<u8> {
    packet(0x70, &packet_id.to_be_bytes())
}
