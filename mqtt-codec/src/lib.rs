//! Strict, zero-copy MQTT 3.1.1 packets.
//!
//! The crate turns bytes into packets and packets into bytes. It has no sockets, no clock and no
//! session state: what a packet means for a connection is decided elsewhere.
//!
//! - [`decode`] and [`Decoder`] give a [`Packet`] that borrows from the receive buffer. Nothing is
//!   allocated, also not for the lists of SUBSCRIBE, UNSUBSCRIBE and SUBACK.
//! - [`Packet::encode_to_slice`] writes into a fixed array, [`Packet::encode`] into any
//!   [`BufMut`](bytes::BufMut).
//! - [`PacketBuf`] and [`PublishBuf`] are the owned forms: one frame in one shared buffer.
//!   [`PublishRun`] is for brokers: messages of one topic that follow each other.
//! - [`TopicName`], [`TopicFilter`], [`PacketId`] and [`Delivery`] are valid by construction.
//!
//! Everything that MQTT 3.1.1 calls malformed is refused with a [`DecodeError`] that names the
//! rule. CONNECT of MQTT 3.1 (`MQIsdp`, level 3) is accepted.
//!
//! # A decode loop over a growing buffer
//!
//! ```
//! # fn main() -> Result<(), mqtt_codec::DecodeError> {
//! use mqtt_codec::{Decoder, Packet};
//!
//! let mut decoder = Decoder::new(64 * 1024);
//! let mut received = Vec::new();
//! let mut topics = Vec::new();
//! for chunk in [&b"\x30\x05\x00\x03a/"[..], &b"b\xC0"[..], &b"\x00"[..]] {
//!     received.extend_from_slice(chunk);
//!     while let Some((packet, length)) = decoder.next(&received)? {
//!         if let Packet::Publish(publish) = &packet {
//!             topics.push(publish.topic.to_string());
//!         }
//!         received.drain(..length);
//!     }
//! }
//! assert_eq!(topics, ["a/b"]);
//! assert!(received.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Encode
//!
//! ```
//! use mqtt_codec::{Delivery, Packet, Publish, TopicName};
//!
//! let publish = Publish {
//!     topic: TopicName::new("sensors/1/temperature").unwrap(),
//!     payload: b"21.5",
//!     delivery: Delivery::AtMostOnce,
//!     retain: false,
//! };
//! let mut frame = [0; 64];
//! let length = Packet::Publish(publish).encode_to_slice(&mut frame).unwrap();
//! assert_eq!(&frame[..4], b"\x30\x1b\x00\x15");
//! assert_eq!(length, 29);
//! ```
//!
//! # A device without an allocator
//!
//! Fixed arrays, `core` only. The device says who it is, sends a reading, and answers what it gets;
//! `Link` is its modem.
//!
//! ```
//! use mqtt_codec::{
//!     Ack, BufferTooSmall, Connect, ConnectFields, ConnectReturnCode, DecodeError, Decoder,
//!     Delivery, Packet, Publish, Text, TopicName,
//! };
//!
//! trait Link {
//!     /// Waits for bytes; 0 at the end.
//!     fn read(&mut self, buf: &mut [u8]) -> usize;
//!     fn write(&mut self, bytes: &[u8]);
//! }
//!
//! fn run(link: &mut impl Link, set_led: &mut impl FnMut(bool)) -> Result<(), DecodeError> {
//!     // Nothing longer than this can come, so `received` is never full.
//!     const LONGEST: usize = 256;
//!     let mut received = [0; LONGEST];
//!     let mut held = 0;
//!     let mut decoder = Decoder::new(LONGEST);
//!
//!     let id = Text::new("lamp-7").expect("a short text");
//!     let fields = ConnectFields { keep_alive: 60, ..ConnectFields::new(id) };
//!     send(link, Connect::new(&fields).expect("a client id").into());
//!     loop {
//!         let count = link.read(&mut received[held..]);
//!         if count == 0 {
//!             return Ok(());
//!         }
//!         held += count;
//!         let mut start = 0;
//!         while let Some((packet, length)) = decoder.next(&received[start..held])? {
//!             start += length;
//!             match packet {
//!                 Packet::ConnAck(connack) if connack.code == ConnectReturnCode::Accepted => {
//!                     send(link, reading(b"21.5").into());
//!                 }
//!                 Packet::Publish(publish) => {
//!                     set_led(publish.payload == b"on");
//!                     if let Delivery::AtLeastOnce { id, .. } = publish.delivery {
//!                         link.write(&Ack::PubAck(id).to_bytes());
//!                     }
//!                 }
//!                 _ => {}
//!             }
//!         }
//!         received.copy_within(start..held, 0);
//!         held -= start;
//!     }
//! }
//!
//! fn reading(celsius: &[u8]) -> Publish<'_> {
//!     let topic = TopicName::new("lamps/7/celsius").expect("a topic without wildcards");
//!     Publish { topic, payload: celsius, delivery: Delivery::AtMostOnce, retain: true }
//! }
//!
//! fn send(link: &mut impl Link, packet: Packet<'_>) {
//!     let mut frame = [0; 64];
//!     match packet.encode_to_slice(&mut frame) {
//!         Ok(length) => link.write(&frame[..length]),
//!         Err(BufferTooSmall { needed }) => panic!("the frame needs {needed} bytes"),
//!     }
//! }
//! #
//! # /// Gives a script of bytes, three at a time, and keeps what is written.
//! # struct Script(&'static [u8], Vec<u8>);
//! # impl Link for Script {
//! #     fn read(&mut self, buf: &mut [u8]) -> usize {
//! #         let (chunk, rest) = self.0.split_at(self.0.len().min(3));
//! #         buf[..chunk.len()].copy_from_slice(chunk);
//! #         self.0 = rest;
//! #         chunk.len()
//! #     }
//! #     fn write(&mut self, bytes: &[u8]) {
//! #         self.1.extend_from_slice(bytes);
//! #     }
//! # }
//! #
//! # let mut link = Script(b"\x20\x02\0\0\x32\x07\0\x01l\0\x05on", Vec::new());
//! # let mut led = false;
//! # run(&mut link, &mut |on| led = on).unwrap();
//! # assert!(led);
//! # let connect = b"\x10\x12\0\x04MQTT\x04\x02\0\x3C\0\x06lamp-7";
//! # let publish = b"\x31\x15\0\x0Flamps/7/celsius21.5";
//! # assert_eq!(link.1, [&connect[..], publish, b"\x40\x02\0\x05"].concat());
//! ```
//!
//! # Cost
//!
//! Decoding and [`Packet::encode_to_slice`] allocate nothing; an owned packet is one buffer, and the
//! acknowledgements among them none (`tests/allocations.rs`). The workloads of `benches/` run with
//! `cargo bench`; beside the published codecs they run in `compare/`, whose README names the command.
//!
//! # What is refused, and what is not
//!
//! A table of malformed packets with the statement that each breaks is in `tests/packets/`, beside
//! one of unusual packets that are legal. Two choices where the standard leaves one: a remaining
//! length that is padded with zeros is accepted, and so is a client id of any length in MQTT 3.1.
//!
//! # Features
//!
//! - `std` (default): implies `alloc`; `DecodeError` converts into `std::io::Error`.
//! - `alloc`: the owned forms and encoding into `BufMut`.
//! - `codec`: [`Codec`] for tokio-util's `Framed`.
//! - `serde`: `Serialize` and `Deserialize` for topics, ids, QoS and return codes.
//! - none: `core` only.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "alloc", feature = "codec")),
    allow(rustdoc::broken_intra_doc_links, reason = "some links lead to items behind features")
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(feature = "codec")]
mod codec;
mod decode;
mod encode;
mod error;
mod packet;
#[cfg(feature = "alloc")]
mod packet_buf;
mod parse;
#[cfg(feature = "alloc")]
mod publish_buf;
mod publish_run;
#[cfg(feature = "serde")]
mod serde;
mod topic;

#[cfg(feature = "codec")]
pub use codec::{Codec, CodecError};
pub use decode::{Decoder, Frame, MAX_PACKET, decode, frame};
pub use error::{BufferTooSmall, DecodeError, EncodeError, TextError, TopicError, ValueError};
pub use packet::ack::Ack;
pub use packet::connack::{ConnAck, ConnectReturnCode};
pub use packet::connect::{Connect, ConnectFields, Protocol, Will};
pub use packet::id::PacketId;
pub use packet::publish::{Delivery, Publish, QoS};
pub use packet::suback::{ReturnCodes, SubAck, SubscribeReturnCode};
pub use packet::subscribe::{Filters, Subscribe};
pub use packet::unsubscribe::{Unsubscribe, UnsubscribeFilters};
pub use packet::{Packet, PacketType};
#[cfg(feature = "alloc")]
pub use packet_buf::PacketBuf;
#[cfg(feature = "alloc")]
pub use publish_buf::PublishBuf;
pub use publish_run::PublishRun;
#[cfg(feature = "alloc")]
pub use topic::owned::{TopicFilterBuf, TopicNameBuf};
pub use topic::text::Text;
pub use topic::{Levels, TopicFilter, TopicName};
