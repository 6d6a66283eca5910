#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use crate::parse::ack::{connack, empty, id, id_only};
use crate::parse::connect::connect;
use crate::parse::list::{suback, subscribe, unsubscribe};
use crate::parse::publish::{plain_publish, publish};
use crate::{DecodeError, Packet, PacketType};

/// The longest packet that the standard allows, in bytes: four bytes of remaining length can say
/// 268,435,455 (section 2.2.3), and the fixed header is five bytes.
pub const MAX_PACKET: usize = 268_435_460;

/// Where the packet at the front of a buffer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// It is there: its body (variable header and payload) is `buf[body..end]`.
    Complete {
        /// Length of the fixed header in bytes.
        body: usize,
        /// Length of the whole packet in bytes.
        end: usize,
    },
    /// It is not all there.
    Incomplete {
        /// Length that the buffer must have before it is worth to look again, in bytes. The whole
        /// packet as soon as the remaining length is known.
        needed: usize,
    },
}

/// Finds the end of the packet at the front of `buf` (section 2.2.3), without a look at what it is.
///
/// `max_packet` is the longest packet to accept, in bytes with the fixed header. It is compared as
/// soon as the fixed header is there, before anybody waits for or stores the rest.
///
/// # Errors
/// [`DecodeError::TooLarge`], or [`DecodeError::RemainingLength`] if the length has no end.
#[inline]
pub fn frame(buf: &[u8], max_packet: usize) -> Result<Frame, DecodeError> {
    let (body, remaining) = match buf {
        [_, length @ 0..0x80, ..] => (2, usize::from(*length)),
        _ => match long_remaining_length(buf)? {
            Some(header) => header,
            None => return Ok(Frame::Incomplete { needed: buf.len().saturating_add(1) }),
        },
    };
    // At most 5 + 268,435,455.
    let end = body.saturating_add(remaining);
    if end > max_packet {
        return Err(too_large(end, max_packet));
    }
    Ok(if end <= buf.len() {
        Frame::Complete { body, end }
    } else {
        Frame::Incomplete { needed: end }
    })
}

/// Fixed header and remaining length in bytes, where the length takes more than one byte.
#[inline]
fn long_remaining_length(buf: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut remaining = 0;
    for (at, &byte) in buf.iter().enumerate().skip(1).take(4) {
        let shift = at.wrapping_sub(1).wrapping_mul(7);
        remaining |= usize::from(byte & 0x7f).wrapping_shl(shift as u32);
        if byte < 0x80 {
            return Ok(Some((at.saturating_add(1), remaining)));
        }
    }
    if buf.len() >= 5 { Err(DecodeError::RemainingLength) } else { Ok(None) }
}

/// Decodes the packet at the front of `buf`.
///
/// Gives the packet and the number of bytes that it took, or `None` if it is not all there.
/// `max_packet` is the longest packet to accept, in bytes with the fixed header; [`MAX_PACKET`]
/// sets no limit. Nothing is allocated.
///
/// # Errors
/// The rule that the bytes break. A bad first byte and a length over the limit are errors as soon as
/// they are seen, also if the rest of the packet is missing.
#[inline(always)]
pub fn decode(buf: &[u8], max_packet: usize) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    match frame(buf, max_packet) {
        Ok(Frame::Complete { body, end }) => packet(buf, body, end),
        _ => match incomplete(buf, max_packet) {
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// A decoder for a buffer that grows, such as one that a socket is read into.
///
/// It remembers how many bytes the packet at the front needs. Until they are there, a call is one
/// comparison: no byte of the header is looked at twice.
///
/// The buffer given to [`Decoder::next`] starts where the last packet ended. There is a loop in the
/// [crate docs](crate).
#[derive(Clone, Debug)]
pub struct Decoder {
    max_packet: usize,
    needed: usize,
}

impl Decoder {
    /// A decoder that accepts packets of up to `max_packet` bytes, fixed header included.
    pub const fn new(max_packet: usize) -> Self {
        Self { max_packet, needed: 0 }
    }

    /// The longest packet that is accepted, in bytes.
    pub const fn max_packet(&self) -> usize {
        self.max_packet
    }

    /// Changes the limit, for instance after CONNECT. Also holds for the packet at the front.
    pub const fn set_max_packet(&mut self, max_packet: usize) {
        self.max_packet = max_packet;
        self.needed = 0;
    }

    /// Decodes the packet at the front of `buf`, as [`decode`].
    ///
    /// # Errors
    /// As [`decode`]. The connection is to be closed after an error; another call gives it again.
    #[inline]
    pub fn next<'a>(&mut self, buf: &'a [u8]) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
        if buf.len() < self.needed {
            return Ok(None);
        }
        match frame(buf, self.max_packet) {
            Ok(Frame::Complete { body, end }) => {
                self.needed = 0;
                packet(buf, body, end)
            }
            _ => match incomplete(buf, self.max_packet) {
                Ok(needed) => {
                    self.needed = needed;
                    Ok(None)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Bytes that the buffer must hold before [`Decoder::next`] can give a packet; 0 if unknown.
    ///
    /// Once the fixed header is read this is the whole packet: reserve this much and read on.
    pub const fn needed(&self) -> usize {
        self.needed
    }
}

type Decoded<'a> = Result<Option<(Packet<'a>, usize)>, DecodeError>;

/// The packets of which a connection has many, as long as nothing about them is unusual. One
/// dispatch on the whole first byte, so that the check of the reserved flags costs nothing.
///
/// Each arm builds the result that it returns: a packet is not moved. Everything else leaves for
/// [`unusual`] by a tail call, so that this path has no error to carry and no register to save.
#[inline(always)]
fn packet(buf: &[u8], body: usize, end: usize) -> Decoded<'_> {
    let (Some(&first), Some(body)) = (buf.first(), buf.get(body..end)) else {
        return Ok(None);
    };
    match first {
        0x30..=0x35 | 0x3A..=0x3D => match plain_publish(first, body) {
            Some(publish) => Ok(Some((Packet::Publish(publish), end))),
            None => unusual(first, body, end),
        },
        0x40 => match id(body) {
            Some(id) => Ok(Some((Packet::PubAck(id), end))),
            None => unusual(first, body, end),
        },
        0x50 => match id(body) {
            Some(id) => Ok(Some((Packet::PubRec(id), end))),
            None => unusual(first, body, end),
        },
        0x62 => match id(body) {
            Some(id) => Ok(Some((Packet::PubRel(id), end))),
            None => unusual(first, body, end),
        },
        0x70 => match id(body) {
            Some(id) => Ok(Some((Packet::PubComp(id), end))),
            None => unusual(first, body, end),
        },
        _ => unusual(first, body, end),
    }
}

/// Any packet, and what is wrong with it.
#[inline(never)]
fn unusual(first: u8, body: &[u8], end: usize) -> Decoded<'_> {
    let packet = match first {
        0x10 => Packet::Connect(connect(body)?),
        0x20 => Packet::ConnAck(connack(body)?),
        0x30..=0x35 | 0x3A..=0x3D => Packet::Publish(publish(first, body)?),
        0x40 => Packet::PubAck(id_only(PacketType::PubAck, body)?),
        0x50 => Packet::PubRec(id_only(PacketType::PubRec, body)?),
        0x62 => Packet::PubRel(id_only(PacketType::PubRel, body)?),
        0x70 => Packet::PubComp(id_only(PacketType::PubComp, body)?),
        0x82 => Packet::Subscribe(subscribe(body)?),
        0x90 => Packet::SubAck(suback(body)?),
        0xA2 => Packet::Unsubscribe(unsubscribe(body)?),
        0xB0 => Packet::UnsubAck(id_only(PacketType::UnsubAck, body)?),
        0xC0 => {
            empty(PacketType::PingReq, body)?;
            Packet::PingReq
        }
        0xD0 => {
            empty(PacketType::PingResp, body)?;
            Packet::PingResp
        }
        0xE0 => {
            empty(PacketType::Disconnect, body)?;
            Packet::Disconnect
        }
        _ => return Err(bad_first_byte(first)),
    };
    Ok(Some((packet, end)))
}

/// How many bytes are needed for a look at the packet, or what is wrong with its header. A bad
/// first byte is said first, so that the error does not depend on how the bytes arrived.
#[inline(never)]
fn incomplete(buf: &[u8], max_packet: usize) -> Result<usize, DecodeError> {
    match buf.first() {
        Some(&first) if !is_first_byte(first) => Err(bad_first_byte(first)),
        _ => match frame(buf, max_packet)? {
            Frame::Complete { end: needed, .. } | Frame::Incomplete { needed } => Ok(needed),
        },
    }
}

/// Whether a packet can begin with this byte: for all but PUBLISH there is one a type.
const fn is_first_byte(first: u8) -> bool {
    match PacketType::from_first_byte(first) {
        Some(PacketType::Publish) => matches!(first, 0x30..=0x35 | 0x3A..=0x3D),
        Some(packet) => packet.first_byte() == first,
        None => false,
    }
}

#[cold]
fn bad_first_byte(first: u8) -> DecodeError {
    match PacketType::from_first_byte(first) {
        None => DecodeError::ReservedPacketType(first >> 4),
        Some(PacketType::Publish) if first & 0x06 == 0x06 => DecodeError::PublishQos,
        Some(PacketType::Publish) => DecodeError::DupAtMostOnce,
        Some(packet) => DecodeError::ReservedFlags { packet, flags: first & 0x0F },
    }
}

#[cold]
fn too_large(len: usize, max: usize) -> DecodeError {
    let saturate = |value| u32::try_from(value).unwrap_or(u32::MAX);
    DecodeError::TooLarge { len: saturate(len), max: saturate(max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_length_is_read_as_in_table_2_4() {
        for (header, expected) in [
            (&[0x30, 0x00][..], (2, 0)),
            (&[0x30, 0x7F], (2, 127)),
            (&[0x30, 0x80, 0x01], (3, 128)),
            (&[0x30, 0xFF, 0x7F], (3, 16_383)),
            (&[0x30, 0x80, 0x80, 0x01], (4, 16_384)),
            (&[0x30, 0xFF, 0xFF, 0x7F], (4, 2_097_151)),
            (&[0x30, 0x80, 0x80, 0x80, 0x01], (5, 2_097_152)),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], (5, 268_435_455)),
        ] {
            let (body, remaining) = expected;
            let end = body + remaining;
            let expected = if end <= header.len() {
                Frame::Complete { body, end }
            } else {
                Frame::Incomplete { needed: end }
            };
            assert_eq!(frame(header, MAX_PACKET), Ok(expected), "{header:x?}");
            assert_eq!(frame(header, end), Ok(expected), "{header:x?}");
            if end > 2 {
                assert!(matches!(frame(header, end - 1), Err(DecodeError::TooLarge { .. })));
            }
        }
        assert_eq!(
            frame(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], MAX_PACKET),
            Err(DecodeError::RemainingLength)
        );
    }

    #[test]
    fn a_part_of_a_header_asks_for_one_byte_more() {
        assert_eq!(frame(&[], MAX_PACKET), Ok(Frame::Incomplete { needed: 1 }));
        assert_eq!(frame(&[0x30], MAX_PACKET), Ok(Frame::Incomplete { needed: 2 }));
        assert_eq!(frame(&[0x30, 0x80], MAX_PACKET), Ok(Frame::Incomplete { needed: 3 }));
        assert_eq!(
            frame(&[0x30, 0x80, 0x80, 0x80], MAX_PACKET),
            Ok(Frame::Incomplete { needed: 5 })
        );
    }

    // MQTT-2.2.2-1, MQTT-2.2.2-2
    #[test]
    fn the_first_bytes_of_the_table_and_no_others_are_accepted() {
        for first in 0..=255 {
            // A body that no packet has, so that the first byte alone decides.
            let refused = unusual(first, &[], 2).is_err_and(|error| error == bad_first_byte(first));
            assert_eq!(is_first_byte(first), !refused, "{first:#04x}");
            assert_eq!(decode(&[first], MAX_PACKET).is_ok(), is_first_byte(first));
        }
        assert_eq!((0..=255).filter(|&first| is_first_byte(first)).count(), 13 + 10);
    }

    #[test]
    fn a_decoder_says_how_much_it_waits_for() {
        let mut decoder = Decoder::new(1000);
        assert_eq!(decoder.next(&[0x30]), Ok(None));
        assert_eq!(decoder.needed(), 2);
        assert_eq!(decoder.next(&[0x30, 0x80, 0x01]), Ok(None));
        assert_eq!(decoder.needed(), 131);
        decoder.set_max_packet(130);
        assert_eq!(
            decoder.next(&[0x30, 0x80, 0x01]),
            Err(DecodeError::TooLarge { len: 131, max: 130 })
        );
    }
}
