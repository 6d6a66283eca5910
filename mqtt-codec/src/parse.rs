//! The bodies of packets.
//!
//! nom sees complete bodies only, so its parsers are the `complete` ones, and its error is our own:
//! running out of input means that a field is longer than its packet. Nothing here can panic.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub(crate) mod ack;
pub(crate) mod connect;
pub(crate) mod list;
pub(crate) mod publish;

use nom::IResult;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::be_u16;

use crate::topic::scan;
use crate::{DecodeError, PacketId, Text, TopicName};

type Parsed<'a, T> = IResult<&'a [u8], T, Reject>;

/// A [`DecodeError`] as nom wants it. nom's own errors all mean that the input ended.
#[derive(Clone, Copy)]
struct Reject(DecodeError);

impl ParseError<&[u8]> for Reject {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self(DecodeError::Truncated)
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

#[inline]
fn reject<T>(error: impl Into<DecodeError>) -> Result<T, nom::Err<Reject>> {
    Err(nom::Err::Failure(Reject(error.into())))
}

/// Leaves nom. `Incomplete` does not occur with complete parsers.
#[inline(always)]
fn finish<T>(parsed: Parsed<'_, T>) -> Result<T, DecodeError> {
    match parsed {
        Ok(([], value)) => Ok(value),
        Ok(_) => Err(DecodeError::TrailingBytes),
        Err(nom::Err::Error(Reject(error)) | nom::Err::Failure(Reject(error))) => Err(error),
        Err(nom::Err::Incomplete(_)) => Err(DecodeError::Truncated),
    }
}

/// Two bytes of length and as many bytes: strings and binary fields (section 1.5.3).
///
/// By slices: a CONNECT of five fields takes 60 instructions of 380 more with `be_u16` and `take`.
#[inline(always)]
fn field(input: &[u8]) -> Parsed<'_, &[u8]> {
    match split_field(input) {
        Some((field, rest)) => Ok((rest, field)),
        None => reject(DecodeError::Truncated),
    }
}

/// The field at the front, and the rest.
#[inline(always)]
fn split_field(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[inline(always)]
fn text(input: &[u8]) -> Parsed<'_, Text<'_>> {
    let (input, bytes) = field(input)?;
    match scan::check_text(bytes) {
        Ok(()) => Ok((input, Text::from_valid(bytes))),
        Err(error) => reject(error),
    }
}

#[inline(always)]
fn topic_name(input: &[u8]) -> Parsed<'_, TopicName<'_>> {
    let (input, bytes) = field(input)?;
    match scan::check_name(bytes) {
        Ok(()) => Ok((input, TopicName::from_valid(bytes))),
        Err(error) => reject(error),
    }
}

#[inline(always)]
fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (input, id) = be_u16(input)?;
    match PacketId::new(id) {
        Some(id) => Ok((input, id)),
        None => reject(DecodeError::ZeroPacketId),
    }
}

/// Takes a length-prefixed field off the front of a list that was parsed before.
#[inline(always)]
pub(crate) fn next_field<'a>(list: &mut &'a [u8]) -> &'a [u8] {
    let taken = list
        .split_first_chunk()
        .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
    // Never `None`: the parser has seen the whole list.
    let (field, rest) = taken.unwrap_or_default();
    *list = rest;
    field
}

/// Takes a byte off the front of a list that was parsed before.
#[inline(always)]
pub(crate) fn next_byte(list: &mut &[u8]) -> u8 {
    match list.split_first() {
        Some((byte, rest)) => {
            *list = rest;
            *byte
        }
        None => 0,
    }
}
