pub(crate) mod ack;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod id;
pub(crate) mod publish;
pub(crate) mod suback;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use crate::{Ack, ConnAck, Connect, PacketId, Publish, SubAck, Subscribe, Unsubscribe};

/// One MQTT control packet (chapter 3) that borrows its bytes.
///
/// 40 bytes, `Copy`. Match on `&packet` in hot loops: moving the value costs more than parsing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// A client asks for a connection (section 3.1).
    Connect(Connect<'a>),
    /// The server's answer to CONNECT (section 3.2).
    ConnAck(ConnAck),
    /// An application message (section 3.3).
    Publish(Publish<'a>),
    /// Answer to a PUBLISH with QoS 1 (section 3.4).
    PubAck(PacketId),
    /// First answer to a PUBLISH with QoS 2 (section 3.5).
    PubRec(PacketId),
    /// Answer to PUBREC (section 3.6).
    PubRel(PacketId),
    /// Answer to PUBREL (section 3.7).
    PubComp(PacketId),
    /// A client asks for messages (section 3.8).
    Subscribe(Subscribe<'a>),
    /// Answer to SUBSCRIBE (section 3.9).
    SubAck(SubAck<'a>),
    /// A client wants no more of these messages (section 3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// Answer to UNSUBSCRIBE (section 3.11).
    UnsubAck(PacketId),
    /// A client asks for a sign of life (section 3.12).
    PingReq,
    /// Answer to PINGREQ (section 3.13).
    PingResp,
    /// A client says good-bye (section 3.14).
    Disconnect,
}

impl Packet<'_> {
    /// The type of the packet (section 2.2.1).
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect => PacketType::Disconnect,
        }
    }

    /// The packet id, for the packets that have one (section 2.3.1).
    pub const fn packet_id(&self) -> Option<PacketId> {
        match self {
            Self::Publish(publish) => publish.packet_id(),
            Self::PubAck(id)
            | Self::PubRec(id)
            | Self::PubRel(id)
            | Self::PubComp(id)
            | Self::UnsubAck(id) => Some(*id),
            Self::Subscribe(subscribe) => Some(subscribe.packet_id()),
            Self::SubAck(suback) => Some(suback.packet_id()),
            Self::Unsubscribe(unsubscribe) => Some(unsubscribe.packet_id()),
            Self::Connect(_)
            | Self::ConnAck(_)
            | Self::PingReq
            | Self::PingResp
            | Self::Disconnect => None,
        }
    }
}

macro_rules! from_variant {
    ($($variant:ident($body:ty)),* $(,)?) => {$(
        impl<'a> From<$body> for Packet<'a> {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        }
    )*};
}

from_variant!(
    Connect(Connect<'a>),
    ConnAck(ConnAck),
    Publish(Publish<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
);

impl From<Ack> for Packet<'_> {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::PubAck(id) => Self::PubAck(id),
            Ack::PubRec(id) => Self::PubRec(id),
            Ack::PubRel(id) => Self::PubRel(id),
            Ack::PubComp(id) => Self::PubComp(id),
            Ack::UnsubAck(id) => Self::UnsubAck(id),
        }
    }
}

/// The 14 packet types of MQTT 3.1.1 with their numbers on the wire (section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of `Packet`, which has their docs")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
}

impl PacketType {
    /// The type that the first byte of a packet names, whatever its flags; `None` for the reserved
    /// types 0 and 15.
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type; for PUBLISH without any of its flags.
    pub(crate) const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        ((self as u8) << 4) | flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_40_bytes() {
        assert_eq!(size_of::<Packet<'_>>(), 40);
    }

    #[test]
    fn each_type_is_found_by_its_first_byte() {
        for first in 0..=255 {
            match PacketType::from_first_byte(first) {
                Some(found) => assert_eq!(found.first_byte() >> 4, first >> 4),
                None => assert!(matches!(first >> 4, 0 | 15)),
            }
        }
    }
}
