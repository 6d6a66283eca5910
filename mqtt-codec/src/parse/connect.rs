use nom::number::complete::{be_u8, be_u16};

use super::{Parsed, field, finish, reject, text, topic_name};
use crate::packet::connect::{Connect, ConnectFlags, Form, Wire};
use crate::{DecodeError, Protocol};

pub(crate) fn connect(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let (wire, empty_id) = finish(packet(body))?;
    // Last, so that this error, which the server answers, is not said of a malformed packet.
    if empty_id && !wire.protocol.allows_empty_id(wire.flags.clean_session()) {
        return Err(DecodeError::EmptyClientId);
    }
    Ok(Connect(Form::Wire(wire)))
}

/// As [`connect`] for a body that was checked before.
#[cfg(feature = "alloc")]
pub(crate) fn checked_connect(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    finish(variable_header(body).map(|(_, wire)| (&[][..], Connect(Form::Wire(wire)))))
}

#[inline(always)]
fn packet(body: &[u8]) -> Parsed<'_, (Wire<'_>, bool)> {
    let (input, wire) = variable_header(body)?;
    let flags = wire.flags;
    let (mut input, client_id) = text(input)?;
    if flags.will() {
        (input, _) = topic_name(input)?;
        (input, _) = field(input)?;
    }
    if flags.user_name() {
        (input, _) = text(input)?;
    }
    if flags.password() {
        (input, _) = field(input)?;
    }
    Ok((input, (wire, client_id.as_bytes().is_empty())))
}

/// The variable header (section 3.1.2); gives back the payload as input and as part of the value.
#[inline(always)]
fn variable_header(body: &[u8]) -> Parsed<'_, Wire<'_>> {
    let (protocol, input) = match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, rest @ ..] => (Protocol::V311, rest),
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, rest @ ..] => (Protocol::V310, rest),
        _ => return other_protocol(body),
    };
    let (input, flags) = be_u8(input)?;
    let flags = ConnectFlags(flags);
    if let Err(error) = check_flags(flags) {
        return reject(error);
    }
    let (payload, keep_alive) = be_u16(input)?;
    Ok((payload, Wire { protocol, flags, keep_alive, payload }))
}

/// What is wrong with the protocol name or level.
#[cold]
fn other_protocol(body: &[u8]) -> Parsed<'_, Wire<'_>> {
    let (input, name) = field(body)?;
    if !matches!(name, b"MQTT" | b"MQIsdp") {
        return reject(DecodeError::ProtocolName);
    }
    let (_, level) = be_u8(input)?;
    reject(DecodeError::UnsupportedProtocolLevel(level))
}

/// Section 3.1.2.3.
#[inline(always)]
fn check_flags(flags: ConnectFlags) -> Result<(), DecodeError> {
    if flags.reserved() {
        return Err(DecodeError::ReservedConnectFlag);
    }
    match flags.will_qos() {
        None => return Err(DecodeError::WillQos),
        Some(qos) if !flags.will() && qos != crate::QoS::AtMostOnce => {
            return Err(DecodeError::WillQosWithoutWill);
        }
        Some(_) => {}
    }
    if flags.will_retain() && !flags.will() {
        return Err(DecodeError::WillRetainWithoutWill);
    }
    if flags.password() && !flags.user_name() {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(())
}
