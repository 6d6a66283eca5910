use super::{Parsed, field, finish, split_field, text, topic_name};
use crate::packet::connect::{Connect, ConnectFlags, Form, Wire};
use crate::{DecodeError, Protocol, QoS, Text};

pub(crate) fn connect(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let wire = variable_header(body)?;
    let client_id = finish(payload(wire.flags, wire.payload))?;
    // Last, so that this error, which the server answers, is not said of a malformed packet.
    if client_id.as_bytes().is_empty() && !wire.protocol.allows_empty_id(wire.flags.clean_session())
    {
        return Err(DecodeError::EmptyClientId);
    }
    Ok(Connect(Form::Wire(wire)))
}

/// As [`connect`] for a body that was checked before.
#[cfg(feature = "alloc")]
pub(crate) fn checked_connect(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    Ok(Connect(Form::Wire(variable_header(body)?)))
}

/// The payload (section 3.1.3), of which the client id decides one thing more.
#[inline(always)]
fn payload(flags: ConnectFlags, input: &[u8]) -> Parsed<'_, Text<'_>> {
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
    Ok((input, client_id))
}

/// The variable header (section 3.1.2), and the payload as it is.
#[inline(always)]
fn variable_header(body: &[u8]) -> Result<Wire<'_>, DecodeError> {
    let (protocol, rest) = match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, rest @ ..] => (Protocol::V311, rest),
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, rest @ ..] => (Protocol::V310, rest),
        _ => return Err(other_protocol(body)),
    };
    let [flags, high, low, payload @ ..] = rest else {
        return Err(DecodeError::Truncated);
    };
    let flags = ConnectFlags(*flags);
    check_flags(flags)?;
    let keep_alive = u16::from_be_bytes([*high, *low]);
    Ok(Wire { protocol, flags, keep_alive, payload })
}

/// What is wrong with the protocol name or level.
#[cold]
fn other_protocol(body: &[u8]) -> DecodeError {
    match split_field(body) {
        None | Some((b"MQTT" | b"MQIsdp", [])) => DecodeError::Truncated,
        Some((b"MQTT" | b"MQIsdp", [level, ..])) => DecodeError::UnsupportedProtocolLevel(*level),
        Some(_) => DecodeError::ProtocolName,
    }
}

/// Section 3.1.2.3.
#[inline(always)]
fn check_flags(flags: ConnectFlags) -> Result<(), DecodeError> {
    if flags.reserved() {
        return Err(DecodeError::ReservedConnectFlag);
    }
    match flags.will_qos() {
        None => return Err(DecodeError::WillQos),
        Some(qos) if !flags.will() && qos != QoS::AtMostOnce => {
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
