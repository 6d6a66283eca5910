use core::fmt;
use core::str::FromStr;

use crate::{PacketId, TopicName, ValueError};

/// An application message (section 3.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where the message goes.
    pub topic: TopicName<'a>,
    /// The message: any bytes, also none.
    pub payload: &'a [u8],
    /// QoS, packet id and DUP, which depend on each other.
    pub delivery: Delivery,
    /// To a server: keep the message for future subscribers. From a server: it was kept
    /// (section 3.3.1.3).
    pub retain: bool,
}

impl Publish<'_> {
    /// The quality of service.
    #[inline]
    pub const fn qos(&self) -> QoS {
        self.delivery.qos()
    }

    /// The packet id; `None` for QoS 0 (`[MQTT-2.3.1-5]`).
    #[inline]
    pub const fn packet_id(&self) -> Option<PacketId> {
        self.delivery.packet_id()
    }
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The start of a payload as text; logs and test failures need no 64 KiB.
        struct Excerpt<'a>(&'a [u8]);

        impl fmt::Debug for Excerpt<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0.split_at_checked(64) {
                    None => write!(f, "\"{}\"", self.0.escape_ascii()),
                    Some((start, rest)) => {
                        write!(f, "\"{}\" and {} bytes", start.escape_ascii(), rest.len())
                    }
                }
            }
        }

        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("payload", &Excerpt(self.payload))
            .field("delivery", &self.delivery)
            .field("retain", &self.retain)
            .finish()
    }
}

/// How a PUBLISH travels: its QoS with the packet id and the DUP flag that only QoS 1 and 2 have
/// (`[MQTT-2.3.1-5]`, `[MQTT-3.3.1-2]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Names the message until its PUBACK.
        id: PacketId,
        /// Sent before (`[MQTT-3.3.1-1]`).
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Names the message until its PUBCOMP.
        id: PacketId,
        /// Sent before (`[MQTT-3.3.1-1]`).
        dup: bool,
    },
}

impl Delivery {
    /// The quality of service.
    #[inline]
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Self::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }

    /// The packet id; `None` for QoS 0.
    #[inline]
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { id, .. } | Self::ExactlyOnce { id, .. } => Some(id),
        }
    }

    /// Whether the sender sent it before (section 3.3.1.1).
    #[inline]
    pub const fn is_dup(self) -> bool {
        matches!(self, Self::AtLeastOnce { dup: true, .. } | Self::ExactlyOnce { dup: true, .. })
    }

    /// The first byte of a PUBLISH.
    #[inline]
    pub(crate) const fn first_byte(self, retain: bool) -> u8 {
        0x30 | (self.is_dup() as u8) << 3 | (self.qos() as u8) << 1 | retain as u8
    }
}

/// Quality of service (section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// May be lost, never arrives twice.
    #[default]
    AtMostOnce = 0,
    /// Arrives, perhaps more than once.
    AtLeastOnce = 1,
    /// Arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// A message that is sent for the first time at this QoS; without the id at QoS 0.
    #[inline]
    pub const fn delivery(self, id: PacketId) -> Delivery {
        match self {
            Self::AtMostOnce => Delivery::AtMostOnce,
            Self::AtLeastOnce => Delivery::AtLeastOnce { id, dup: false },
            Self::ExactlyOnce => Delivery::ExactlyOnce { id, dup: false },
        }
    }
}

impl From<QoS> for u8 {
    fn from(qos: QoS) -> Self {
        qos as Self
    }
}

impl TryFrom<u8> for QoS {
    type Error = ValueError;

    fn try_from(qos: u8) -> Result<Self, ValueError> {
        match qos {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(ValueError::new("QoS")),
        }
    }
}

/// From the digits `0`, `1` and `2`.
impl FromStr for QoS {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "0" => Ok(Self::AtMostOnce),
            "1" => Ok(Self::AtLeastOnce),
            "2" => Ok(Self::ExactlyOnce),
            _ => Err(ValueError::new("QoS")),
        }
    }
}

/// As the digit.
impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&u8::from(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn a_long_payload_is_cut_in_debug_output() {
        let publish = Publish {
            topic: TopicName::new("t").unwrap(),
            payload: &[b'x'; 100],
            delivery: Delivery::AtMostOnce,
            retain: false,
        };
        assert!(format!("{publish:?}").contains("x\" and 36 bytes"));
    }

    #[test]
    fn qos_is_read_from_its_digit_and_written_as_such() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(format!("{qos}").parse(), Ok(qos));
            assert_eq!(QoS::try_from(u8::from(qos)), Ok(qos));
        }
        assert!(QoS::try_from(3).is_err());
        assert!("3".parse::<QoS>().is_err());
    }
}
