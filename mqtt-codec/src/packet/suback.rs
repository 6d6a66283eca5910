use core::fmt;

use crate::encode::check_len;
use crate::{EncodeError, PacketId, QoS, ValueError};

/// The server's answer to SUBSCRIBE (section 3.9).
#[derive(Clone, Copy)]
pub struct SubAck<'a> {
    id: PacketId,
    codes: ReturnCodes<'a>,
}

impl<'a> SubAck<'a> {
    /// The packet of these return codes, one for each filter of the SUBSCRIBE (`[MQTT-3.9.3-1]`).
    ///
    /// # Errors
    /// If there is no code, or if the packet is longer than MQTT allows.
    pub fn new(id: PacketId, codes: &'a [SubscribeReturnCode]) -> Result<Self, EncodeError> {
        if codes.is_empty() {
            return Err(EncodeError::EmptyList);
        }
        let suback = Self { id, codes: ReturnCodes(Form::Fields(codes)) };
        check_len(suback.remaining_len())?;
        Ok(suback)
    }

    /// `codes` is what follows the packet id, all of them valid.
    pub(crate) const fn from_valid(id: PacketId, codes: &'a [u8]) -> Self {
        Self { id, codes: ReturnCodes(Form::Wire(codes)) }
    }

    /// The packet id of the SUBSCRIBE (`[MQTT-3.8.4-2]`).
    pub const fn packet_id(&self) -> PacketId {
        self.id
    }

    /// One code a filter, in the order of the SUBSCRIBE.
    pub const fn codes(&self) -> ReturnCodes<'a> {
        self.codes
    }

    pub(crate) fn remaining_len(&self) -> usize {
        2 + self.codes.len()
    }
}

impl PartialEq for SubAck<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.codes.eq(other.codes)
    }
}

impl Eq for SubAck<'_> {}

impl fmt::Debug for SubAck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubAck").field("id", &self.id).field("codes", &self.codes).finish()
    }
}

/// What became of one filter of a SUBSCRIBE (section 3.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscribeReturnCode {
    /// Subscribed, with this QoS at most: 0, 1 or 2 on the wire.
    Granted(QoS),
    /// Refused: 0x80 on the wire.
    Failure,
}

impl From<SubscribeReturnCode> for u8 {
    fn from(code: SubscribeReturnCode) -> Self {
        match code {
            SubscribeReturnCode::Granted(qos) => qos.into(),
            SubscribeReturnCode::Failure => 0x80,
        }
    }
}

impl TryFrom<u8> for SubscribeReturnCode {
    type Error = ValueError;

    fn try_from(code: u8) -> Result<Self, ValueError> {
        match code {
            0 => Ok(Self::Granted(QoS::AtMostOnce)),
            1 => Ok(Self::Granted(QoS::AtLeastOnce)),
            2 => Ok(Self::Granted(QoS::ExactlyOnce)),
            0x80 => Ok(Self::Failure),
            _ => Err(ValueError::new("SubscribeReturnCode")),
        }
    }
}

/// The return codes of a [`SubAck`], read from the wire form while iterating.
#[derive(Clone, Copy)]
pub struct ReturnCodes<'a>(pub(crate) Form<'a>);

#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    Wire(&'a [u8]),
    Fields(&'a [SubscribeReturnCode]),
}

impl Iterator for ReturnCodes<'_> {
    type Item = SubscribeReturnCode;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Form::Wire(codes) => {
                let (first, rest) = codes.split_first()?;
                *codes = rest;
                SubscribeReturnCode::try_from(*first).ok()
            }
            Form::Fields(codes) => {
                let (first, rest) = codes.split_first()?;
                *codes = rest;
                Some(*first)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self.0 {
            Form::Wire(codes) => codes.len(),
            Form::Fields(codes) => codes.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for ReturnCodes<'_> {}

impl core::iter::FusedIterator for ReturnCodes<'_> {}

impl fmt::Debug for ReturnCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
