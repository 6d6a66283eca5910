use crate::{ConnAck, ConnectReturnCode, DecodeError, PacketId, PacketType};

/// The body of the packets that are a packet id and nothing else; `None` if it is not legal.
#[inline(always)]
pub(crate) fn id(body: &[u8]) -> Option<PacketId> {
    PacketId::new(u16::from_be_bytes(body.try_into().ok()?))
}

/// As [`id`], with the reason.
pub(crate) fn id_only(packet: PacketType, body: &[u8]) -> Result<PacketId, DecodeError> {
    match id(body) {
        Some(id) => Ok(id),
        None if body.len() == 2 => Err(DecodeError::ZeroPacketId),
        None => Err(wrong_length(packet, body)),
    }
}

/// The body of PINGREQ, PINGRESP and DISCONNECT.
pub(crate) fn empty(packet: PacketType, body: &[u8]) -> Result<(), DecodeError> {
    if body.is_empty() { Ok(()) } else { Err(wrong_length(packet, body)) }
}

pub(crate) fn connack(body: &[u8]) -> Result<ConnAck, DecodeError> {
    let [flags, code] = *body else {
        return Err(wrong_length(PacketType::ConnAck, body));
    };
    if flags & !1 != 0 {
        return Err(DecodeError::ConnAckFlags(flags));
    }
    let Ok(code) = ConnectReturnCode::try_from(code) else {
        return Err(DecodeError::ConnectReturnCode(code));
    };
    let session_present = flags != 0;
    if session_present && code != ConnectReturnCode::Accepted {
        return Err(DecodeError::SessionPresentRefused);
    }
    Ok(ConnAck { session_present, code })
}

#[cold]
fn wrong_length(packet: PacketType, body: &[u8]) -> DecodeError {
    let remaining = u32::try_from(body.len()).unwrap_or(u32::MAX);
    DecodeError::FixedLength { packet, remaining }
}
