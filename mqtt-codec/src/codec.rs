use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::{DecodeError, EncodeError, MAX_PACKET, Packet, PacketBuf};

/// Packets over tokio-util's `Framed`, `FramedRead` and `FramedWrite` (feature `codec`).
///
/// Reads [`PacketBuf`], writes [`Packet`] and [`PacketBuf`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures::{SinkExt, StreamExt};
/// use mqtt_codec::{Codec, Packet};
/// use tokio_util::codec::Framed;
///
/// let (client, server) = tokio::io::duplex(64);
/// let mut client = Framed::new(client, Codec::new(1024));
/// let mut server = Framed::new(server, Codec::new(1024));
/// client.send(Packet::PingReq).await?;
/// let received = server.next().await.unwrap()?;
/// assert_eq!(received.packet(), Packet::PingReq);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Codec {
    decoder: crate::Decoder,
}

impl Codec {
    /// The most that is reserved ahead for an announced packet, in bytes: what a peer says of a
    /// length is not worth its memory before the bytes come. 64 KiB is eight of `Framed`'s reads.
    const RESERVE: usize = 64 * 1024;

    /// A codec that accepts packets of up to `max_packet` bytes, fixed header included.
    pub const fn new(max_packet: usize) -> Self {
        Self { decoder: crate::Decoder::new(max_packet) }
    }

    /// The longest packet that is accepted, in bytes.
    pub const fn max_packet(&self) -> usize {
        self.decoder.max_packet()
    }
}

/// Why reading or writing packets ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The peer sent bytes that are no packet.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A packet of ours cannot be sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The transport failed, or ended within a packet.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Decoder for Codec {
    type Item = PacketBuf;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<PacketBuf>, CodecError> {
        let packet = PacketBuf::decode_next(&mut self.decoder, src)?;
        if packet.is_none() {
            let missing = self.decoder.needed().saturating_sub(src.len());
            src.reserve(missing.min(Self::RESERVE));
        }
        Ok(packet)
    }
}

impl Encoder<Packet<'_>> for Codec {
    type Error = CodecError;

    fn encode(&mut self, packet: Packet<'_>, dst: &mut BytesMut) -> Result<(), CodecError> {
        let len = packet.encoded_len();
        if len > MAX_PACKET {
            return Err(EncodeError::TooLarge { len }.into());
        }
        dst.reserve(len);
        packet.encode(dst);
        Ok(())
    }
}

impl Encoder<&PacketBuf> for Codec {
    type Error = CodecError;

    fn encode(&mut self, packet: &PacketBuf, dst: &mut BytesMut) -> Result<(), CodecError> {
        packet.encode(dst);
        Ok(())
    }
}

impl Encoder<PacketBuf> for Codec {
    type Error = CodecError;

    fn encode(&mut self, packet: PacketBuf, dst: &mut BytesMut) -> Result<(), CodecError> {
        packet.encode(dst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delivery, Publish, TopicName};

    #[test]
    fn an_announced_packet_is_not_worth_its_length_in_memory() {
        let mut codec = Codec::new(MAX_PACKET);
        let mut received = BytesMut::from(&b"\x30\xFF\xFF\xFF\x7F\0\x01a"[..]);
        assert!(codec.decode(&mut received).unwrap().is_none());
        assert!(received.capacity() < 3 * Codec::RESERVE, "{}", received.capacity());
    }

    #[test]
    fn a_stream_that_ends_within_a_packet_is_an_error() {
        let mut codec = Codec::new(100);
        let mut received = BytesMut::from(&b"\xC0\0\x40\x02\0"[..]);
        let packet = codec.decode_eof(&mut received).unwrap().unwrap();
        assert_eq!(packet.packet(), Packet::PingReq);
        assert!(matches!(codec.decode_eof(&mut received), Err(CodecError::Io(_))));
    }

    #[test]
    fn the_limit_and_the_rules_are_those_of_the_decoder() {
        let mut codec = Codec::new(10);
        let mut received = BytesMut::from(&b"\x30\x09"[..]);
        let error = codec.decode(&mut received).unwrap_err();
        assert!(matches!(error, CodecError::Decode(DecodeError::TooLarge { len: 11, max: 10 })));
        let mut received = BytesMut::from(&b"\x30\x03\0\x01#"[..]);
        let error = codec.decode(&mut received).unwrap_err();
        assert!(matches!(error, CodecError::Decode(DecodeError::WildcardInTopicName)));
        assert_eq!(codec.max_packet(), 10);
    }

    #[test]
    fn packets_are_written_one_after_the_other() {
        let mut codec = Codec::new(100);
        let mut out = BytesMut::new();
        let publish = Publish {
            topic: TopicName::new("t").unwrap(),
            payload: b"p",
            delivery: Delivery::AtMostOnce,
            retain: false,
        };
        let owned = PacketBuf::new(&publish.into()).unwrap();
        codec.encode(Packet::Publish(publish), &mut out).unwrap();
        codec.encode(&owned, &mut out).unwrap();
        codec.encode(owned, &mut out).unwrap();
        assert_eq!(out, &b"\x30\x04\0\x01tp".repeat(3)[..]);
    }
}
