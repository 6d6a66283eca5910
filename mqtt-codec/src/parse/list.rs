//! SUBSCRIBE, UNSUBSCRIBE and SUBACK: a packet id and a list that stays in its wire form.

use nom::number::complete::be_u8;

use super::{Parsed, field, finish, packet_id, reject};
use crate::topic::scan;
use crate::{DecodeError, PacketId, SubAck, Subscribe, SubscribeReturnCode, Unsubscribe};

pub(crate) fn subscribe(body: &[u8]) -> Result<Subscribe<'_>, DecodeError> {
    let (id, list, count) = finish(filters(body, requested_qos))?;
    if count == 0 {
        return Err(DecodeError::NothingToSubscribe);
    }
    Ok(Subscribe::from_valid(id, list, count))
}

pub(crate) fn unsubscribe(body: &[u8]) -> Result<Unsubscribe<'_>, DecodeError> {
    let (id, list, count) = finish(filters(body, |input| Ok((input, ()))))?;
    if count == 0 {
        return Err(DecodeError::NothingToUnsubscribe);
    }
    Ok(Unsubscribe::from_valid(id, list, count))
}

pub(crate) fn suback(body: &[u8]) -> Result<SubAck<'_>, DecodeError> {
    let (id, codes) = finish(id_and_rest(body))?;
    if codes.is_empty() {
        return Err(DecodeError::NothingGranted);
    }
    match codes.iter().find(|&&code| SubscribeReturnCode::try_from(code).is_err()) {
        Some(&code) => Err(DecodeError::SubscribeReturnCode(code)),
        None => Ok(SubAck::from_valid(id, codes)),
    }
}

/// As [`subscribe`] for a body with `count` filters that were checked before.
#[cfg(feature = "alloc")]
pub(crate) fn checked_subscribe(body: &[u8], count: u32) -> Result<Subscribe<'_>, DecodeError> {
    let (id, list) = finish(id_and_rest(body))?;
    Ok(Subscribe::from_valid(id, list, count))
}

/// As [`unsubscribe`] for a body with `count` filters that were checked before.
#[cfg(feature = "alloc")]
pub(crate) fn checked_unsubscribe(body: &[u8], count: u32) -> Result<Unsubscribe<'_>, DecodeError> {
    let (id, list) = finish(id_and_rest(body))?;
    Ok(Unsubscribe::from_valid(id, list, count))
}

/// As [`suback`] for a body whose codes were checked before.
#[cfg(feature = "alloc")]
pub(crate) fn checked_suback(body: &[u8]) -> Result<SubAck<'_>, DecodeError> {
    let (id, codes) = finish(id_and_rest(body))?;
    Ok(SubAck::from_valid(id, codes))
}

#[inline(always)]
fn id_and_rest(body: &[u8]) -> Parsed<'_, (PacketId, &[u8])> {
    let (rest, id) = packet_id(body)?;
    Ok((&[], (id, rest)))
}

/// Packet id, the list of filters as it came, and their number. `option` reads what follows each.
#[inline(always)]
fn filters<'a>(
    body: &'a [u8],
    option: impl Fn(&'a [u8]) -> Parsed<'a, ()>,
) -> Parsed<'a, (PacketId, &'a [u8], u32)> {
    let (list, id) = packet_id(body)?;
    let mut input = list;
    let mut count = 0_u32;
    while !input.is_empty() {
        let (rest, bytes) = field(input)?;
        if let Err(error) = scan::check_filter(bytes) {
            return reject(error);
        }
        (input, ()) = option(rest)?;
        // A filter has at least three bytes and a packet less than 2^28: no overflow.
        count = count.wrapping_add(1);
    }
    Ok((input, (id, list, count)))
}

#[inline(always)]
fn requested_qos(input: &[u8]) -> Parsed<'_, ()> {
    match be_u8(input)? {
        (input, 0..=2) => Ok((input, ())),
        (_, qos) => reject(DecodeError::RequestedQos(qos)),
    }
}
