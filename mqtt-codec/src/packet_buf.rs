use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::parse::connect::checked_connect;
use crate::parse::list::{checked_suback, checked_subscribe, checked_unsubscribe};
use crate::parse::publish::checked_publish;
use crate::{DecodeError, Decoder, EncodeError, Frame, MAX_PACKET, Packet, PacketType};
use crate::{decode, frame};

/// An owned packet: its bytes, checked once.
///
/// Packets of up to four bytes (the acknowledgements, PINGREQ and the like) are held in place, the
/// others are one shared buffer. A clone shares it. [`PacketBuf::packet`] lends the packet without
/// another check, and encoding is a copy.
///
/// ```
/// use bytes::BytesMut;
/// use mqtt_codec::{MAX_PACKET, Packet, PacketBuf};
///
/// let mut received = BytesMut::from(&b"\x30\x05\x00\x03a/b\xC0\x00"[..]);
/// let publish = PacketBuf::decode(&mut received, MAX_PACKET)?.unwrap();
/// let Packet::Publish(publish) = publish.packet() else { panic!() };
/// assert_eq!(publish.topic, "a/b");
/// let ping = PacketBuf::decode(&mut received, MAX_PACKET)?.unwrap();
/// assert_eq!(ping.packet(), Packet::PingReq);
/// # Ok::<(), mqtt_codec::DecodeError>(())
/// ```
#[derive(Clone)]
pub struct PacketBuf(Repr);

#[derive(Clone)]
enum Repr {
    Short {
        bytes: [u8; 4],
        len: u8,
    },
    /// `body` is the length of the fixed header, `count` the number of filters where there are any.
    Frame {
        frame: Bytes,
        body: u8,
        count: u32,
    },
}

impl PacketBuf {
    /// Takes the packet at the front of `src` out of it; `None` if it is not all there.
    ///
    /// A frame over four bytes shares the memory of `src`, and so keeps it from being freed.
    ///
    /// # Errors
    /// As [`decode`]. Then `src` is as before.
    pub fn decode(src: &mut BytesMut, max_packet: usize) -> Result<Option<Self>, DecodeError> {
        match decode(src, max_packet)? {
            Some((packet, end)) => {
                let count = filter_count(&packet);
                Ok(Some(Self::split_off(src, end, count)))
            }
            None => Ok(None),
        }
    }

    /// As [`PacketBuf::decode`], with a decoder that remembers what an incomplete packet needs.
    ///
    /// # Errors
    /// As [`Decoder::next`]. Then `src` is as before.
    pub fn decode_next(
        decoder: &mut Decoder,
        src: &mut BytesMut,
    ) -> Result<Option<Self>, DecodeError> {
        match decoder.next(src)? {
            Some((packet, end)) => {
                let count = filter_count(&packet);
                Ok(Some(Self::split_off(src, end, count)))
            }
            None => Ok(None),
        }
    }

    /// The first `end` bytes of `src` are a packet with `count` filters.
    #[inline]
    fn split_off(src: &mut BytesMut, end: usize, count: u32) -> Self {
        if let Some(short) = src.get(..end).and_then(Repr::short) {
            src.advance(end);
            return Self(short);
        }
        Self::from_valid(src.split_to(end).freeze(), count)
    }

    /// The owned form of a packet, in a buffer of its own.
    ///
    /// # Errors
    /// If a PUBLISH is longer than MQTT allows.
    pub fn new(packet: &Packet<'_>) -> Result<Self, EncodeError> {
        let len = packet.encoded_len();
        if len > MAX_PACKET {
            return Err(EncodeError::TooLarge { len });
        }
        let mut short = [0; 4];
        if let Ok(len) = packet.encode_to_slice(&mut short) {
            return Ok(Self(Repr::Short { bytes: short, len: len as u8 }));
        }
        let mut frame = Vec::with_capacity(len);
        packet.encode(&mut frame);
        Ok(Self::from_valid(frame.into(), filter_count(packet)))
    }

    fn from_valid(frame: Bytes, count: u32) -> Self {
        let body = body_start(&frame);
        Self(Repr::Frame { frame, body, count })
    }

    /// The packet. Nothing is checked again.
    pub fn packet(&self) -> Packet<'_> {
        self.view().expect("a PacketBuf holds a packet by construction")
    }

    fn view(&self) -> Option<Packet<'_>> {
        let (frame, body, count) = match &self.0 {
            Repr::Short { bytes, len } => {
                let (packet, _) = decode(bytes.get(..usize::from(*len))?, MAX_PACKET).ok()??;
                return Some(packet);
            }
            Repr::Frame { frame, body, count } => (frame, *body, *count),
        };
        let first = *frame.first()?;
        let body = frame.get(usize::from(body)..)?;
        Some(match PacketType::from_first_byte(first)? {
            PacketType::Publish => Packet::Publish(checked_publish(first, body)?),
            PacketType::Connect => Packet::Connect(checked_connect(body).ok()?),
            PacketType::Subscribe => Packet::Subscribe(checked_subscribe(body, count).ok()?),
            PacketType::Unsubscribe => Packet::Unsubscribe(checked_unsubscribe(body, count).ok()?),
            PacketType::SubAck => Packet::SubAck(checked_suback(body).ok()?),
            // The others have four bytes, unless their remaining length is padded.
            _ => decode(frame, MAX_PACKET).ok()??.0,
        })
    }

    /// The payload of a PUBLISH; shares the buffer.
    pub fn payload(&self) -> Option<Bytes> {
        match (&self.0, self.packet()) {
            (Repr::Frame { frame, .. }, Packet::Publish(publish)) => {
                Some(frame.slice_ref(publish.payload))
            }
            _ => None,
        }
    }

    /// The encoded packet.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { bytes, len } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Frame { frame, .. } => frame,
        }
    }

    /// Appends the packet to `dst`.
    pub fn encode(&self, dst: &mut impl BufMut) {
        dst.put_slice(self.as_bytes());
    }
}

impl Repr {
    /// The form of a frame of up to four bytes.
    fn short(frame: &[u8]) -> Option<Self> {
        let bytes = match *frame {
            [a, b] => [a, b, 0, 0],
            // A padded PINGREQ or the like.
            [a, b, c] => [a, b, c, 0],
            [a, b, c, d] => [a, b, c, d],
            _ => return None,
        };
        Some(Self::Short { bytes, len: frame.len() as u8 })
    }
}

impl PartialEq for PacketBuf {
    fn eq(&self, other: &Self) -> bool {
        self.packet() == other.packet()
    }
}

impl Eq for PacketBuf {}

impl fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet().fmt(f)
    }
}

/// Length of the fixed header of a whole frame.
pub(crate) fn body_start(bytes: &[u8]) -> u8 {
    match frame(bytes, MAX_PACKET) {
        Ok(Frame::Complete { body, .. }) => body as u8,
        _ => 0,
    }
}

fn filter_count(packet: &Packet<'_>) -> u32 {
    let count = match packet {
        Packet::Subscribe(subscribe) => subscribe.filters().len(),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters().len(),
        _ => 0,
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}
