use core::fmt;
use core::num::NonZeroU16;
use core::str::FromStr;

use crate::ValueError;

/// A packet id: 1 to 65,535, never 0 (section 2.3.1, `[MQTT-2.3.1-1]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The smallest id, 1.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The largest id, 65,535.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The id with this number; `None` for 0.
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The id after this one; 1 comes after 65,535.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(id) => Self(id),
            None => Self::MIN,
        }
    }

    pub(crate) const fn to_be_bytes(self) -> [u8; 2] {
        self.get().to_be_bytes()
    }
}

impl TryFrom<u16> for PacketId {
    type Error = ValueError;

    fn try_from(id: u16) -> Result<Self, ValueError> {
        Self::new(id).ok_or(ValueError::new("PacketId"))
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(id: NonZeroU16) -> Self {
        Self(id)
    }
}

impl From<PacketId> for u16 {
    fn from(id: PacketId) -> Self {
        id.get()
    }
}

impl From<PacketId> for NonZeroU16 {
    fn from(id: PacketId) -> Self {
        id.0
    }
}

impl FromStr for PacketId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self).map_err(|_| ValueError::new("PacketId"))
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // MQTT-2.3.1-1
    #[test]
    fn no_packet_id_is_0() {
        assert_eq!(PacketId::new(0), None);
        assert!(PacketId::try_from(0).is_err());
        assert!("0".parse::<PacketId>().is_err());
        assert_eq!(PacketId::MAX.next(), PacketId::MIN);
        assert_eq!(PacketId::MIN.next().get(), 2);
    }
}
