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
//! # Encode without an allocator
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
//! # Features
//!
//! - `std` (default): implies `alloc`; `DecodeError` converts into `std::io::Error`.
//! - `alloc`: the owned forms and encoding into `BufMut`.
//! - `codec`: `Codec` for tokio-util's `Framed`.
//! - `serde`: `Serialize` and `Deserialize` for topics, ids, QoS and return codes.
//! - none: `core` only.

#![no_std]
#![forbid(unsafe_code)]

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
#[cfg(feature = "alloc")]
pub use topic::owned::{TopicFilterBuf, TopicNameBuf};
pub use topic::text::Text;
pub use topic::{Levels, TopicFilter, TopicName};
