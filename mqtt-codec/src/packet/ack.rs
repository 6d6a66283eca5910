use crate::{PacketId, PacketType};

/// One of the packets that only carry a packet id, as the four bytes that it is on the wire.
///
/// The short way for a sender of many acknowledgements:
///
/// ```
/// use mqtt_codec::{Ack, PacketId};
///
/// let mut out = Vec::new();
/// out.extend_from_slice(&Ack::PubAck(PacketId::MIN).to_bytes());
/// assert_eq!(out, [0x40, 2, 0, 1]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ack {
    /// Answer to a PUBLISH with QoS 1 (section 3.4).
    PubAck(PacketId),
    /// First answer to a PUBLISH with QoS 2 (section 3.5).
    PubRec(PacketId),
    /// Answer to PUBREC (section 3.6).
    PubRel(PacketId),
    /// Answer to PUBREL (section 3.7).
    PubComp(PacketId),
    /// Answer to UNSUBSCRIBE (section 3.11).
    UnsubAck(PacketId),
}

impl Ack {
    /// The whole packet.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 4] {
        let (packet_type, id) = match self {
            Self::PubAck(id) => (PacketType::PubAck, id),
            Self::PubRec(id) => (PacketType::PubRec, id),
            Self::PubRel(id) => (PacketType::PubRel, id),
            Self::PubComp(id) => (PacketType::PubComp, id),
            Self::UnsubAck(id) => (PacketType::UnsubAck, id),
        };
        let [high, low] = id.to_be_bytes();
        [packet_type.first_byte(), 2, high, low]
    }
}
