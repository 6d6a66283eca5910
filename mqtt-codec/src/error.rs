use crate::{ConnectReturnCode, PacketType};

/// Why bytes are not an MQTT 3.1.1 packet: one variant a rule.
///
/// After any of these the stream cannot be trusted and the connection is closed
/// (`[MQTT-4.8.0-1]`). Where the standard wants an answer first, [`DecodeError::connack_code`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet is longer than the receiver allows. A local limit, not a rule of the standard.
    #[error("packet of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Length of the whole packet in bytes, fixed header included.
        len: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// The remaining length has more than four bytes (section 2.2.3).
    #[error("remaining length has more than four bytes")]
    RemainingLength,
    /// Packet types 0 and 15 are reserved (section 2.2.1).
    #[error("packet type {0} is reserved")]
    ReservedPacketType(u8),
    /// The flags of the fixed header differ from the table (`[MQTT-2.2.2-2]`, for some packets
    /// repeated as `[MQTT-3.6.1-1]`, `[MQTT-3.8.1-1]`, `[MQTT-3.10.1-1]`, `[MQTT-3.14.1-1]`).
    #[error("{packet:?} with reserved flags {flags:#06b}")]
    ReservedFlags {
        /// The packet type that the first byte names.
        packet: PacketType,
        /// The lower four bits of the first byte.
        flags: u8,
    },
    /// A PUBLISH has QoS 3 (`[MQTT-3.3.1-4]`).
    #[error("PUBLISH with QoS 3")]
    PublishQos,
    /// A PUBLISH with QoS 0 has the DUP flag (`[MQTT-3.3.1-2]`).
    #[error("PUBLISH with QoS 0 and DUP")]
    DupAtMostOnce,
    /// A field ends beyond the end of its packet, or is missing.
    #[error("a field is longer than its packet")]
    Truncated,
    /// Bytes are left in the packet after its last field.
    #[error("bytes after the last field of the packet")]
    TrailingBytes,
    /// A packet of fixed length has another one: CONNACK and the acknowledgements have a remaining
    /// length of 2, PINGREQ, PINGRESP and DISCONNECT of 0 (sections 3.2 to 3.14).
    #[error("{packet:?} with remaining length {remaining}")]
    FixedLength {
        /// The packet type.
        packet: PacketType,
        /// The remaining length that was found.
        remaining: u32,
    },
    /// A packet id is 0 (`[MQTT-2.3.1-1]`).
    #[error("packet id 0")]
    ZeroPacketId,
    /// A string is not well-formed UTF-8 (`[MQTT-1.5.3-1]`).
    #[error("string is not UTF-8")]
    InvalidUtf8,
    /// A string contains U+0000 (`[MQTT-1.5.3-2]`).
    #[error("string contains U+0000")]
    NulCharacter,
    /// A topic name or filter is empty (`[MQTT-4.7.3-1]`).
    #[error("empty topic")]
    EmptyTopic,
    /// A topic name contains `+` or `#` (`[MQTT-3.3.2-2]`).
    #[error("wildcard in a topic name")]
    WildcardInTopicName,
    /// `#` is not the last level of a filter, or shares its level (`[MQTT-4.7.1-2]`).
    #[error("`#` is not alone in the last level of the filter")]
    MultiLevelWildcard,
    /// `+` shares its level with other characters (`[MQTT-4.7.1-3]`).
    #[error("`+` is not alone in its level of the filter")]
    SingleLevelWildcard,
    /// CONNECT names a protocol other than `MQTT` or `MQIsdp` (`[MQTT-3.1.2-1]`).
    #[error("CONNECT for another protocol")]
    ProtocolName,
    /// CONNECT has a level that this crate does not speak (`[MQTT-3.1.2-2]`): answer with CONNACK 1.
    #[error("unsupported protocol level {0}")]
    UnsupportedProtocolLevel(u8),
    /// The reserved connect flag is set (`[MQTT-3.1.2-3]`).
    #[error("reserved connect flag")]
    ReservedConnectFlag,
    /// Will QoS without will flag (`[MQTT-3.1.2-13]`).
    #[error("will QoS without a will")]
    WillQosWithoutWill,
    /// Will retain without will flag (`[MQTT-3.1.2-15]`).
    #[error("will retain without a will")]
    WillRetainWithoutWill,
    /// Will QoS 3 (`[MQTT-3.1.2-14]`).
    #[error("will QoS 3")]
    WillQos,
    /// Password flag without user name flag (`[MQTT-3.1.2-22]`).
    #[error("password without user name")]
    PasswordWithoutUserName,
    /// The client id is empty and the session is to be kept (`[MQTT-3.1.3-8]`), or it is empty in
    /// MQTT 3.1, which has no empty ids: answer with CONNACK 2.
    #[error("empty client id for a kept session")]
    EmptyClientId,
    /// CONNACK has reserved acknowledge flags (section 3.2.2.1).
    #[error("reserved acknowledge flags {0:#04x}")]
    ConnAckFlags(u8),
    /// CONNACK has a reserved return code (section 3.2.2.3).
    #[error("reserved CONNACK return code {0}")]
    ConnectReturnCode(u8),
    /// CONNACK refuses and says that a session is present (`[MQTT-3.2.2-4]`).
    #[error("refusing CONNACK with session present")]
    SessionPresentRefused,
    /// SUBSCRIBE without a topic filter (`[MQTT-3.8.3-3]`).
    #[error("SUBSCRIBE without a topic filter")]
    NothingToSubscribe,
    /// The requested QoS byte of SUBSCRIBE is not 0, 1 or 2 (`[MQTT-3.8.3-4]`).
    #[error("requested QoS byte {0:#04x}")]
    RequestedQos(u8),
    /// SUBACK without a return code (`[MQTT-3.9.3-1]`).
    #[error("SUBACK without a return code")]
    NothingGranted,
    /// A SUBACK return code is not 0, 1, 2 or 0x80 (`[MQTT-3.9.3-2]`).
    #[error("reserved SUBACK return code {0:#04x}")]
    SubscribeReturnCode(u8),
    /// UNSUBSCRIBE without a topic filter (`[MQTT-3.10.3-2]`).
    #[error("UNSUBSCRIBE without a topic filter")]
    NothingToUnsubscribe,
}

impl DecodeError {
    /// The normative statement that the bytes break, such as `"MQTT-3.3.2-2"`.
    ///
    /// Where the standard numbers no statement of its own this is `"MQTT-4.8.0-1"`: a protocol
    /// violation closes the connection. [`DecodeError::TooLarge`] breaks no statement and gives the
    /// empty string.
    pub const fn statement(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "",
            Self::ReservedFlags { packet, .. } => match packet {
                PacketType::PubRel => "MQTT-3.6.1-1",
                PacketType::Subscribe => "MQTT-3.8.1-1",
                PacketType::Unsubscribe => "MQTT-3.10.1-1",
                PacketType::Disconnect => "MQTT-3.14.1-1",
                _ => "MQTT-2.2.2-2",
            },
            Self::PublishQos => "MQTT-3.3.1-4",
            Self::DupAtMostOnce => "MQTT-3.3.1-2",
            Self::RemainingLength
            | Self::ReservedPacketType(_)
            | Self::Truncated
            | Self::TrailingBytes
            | Self::FixedLength { .. }
            | Self::ConnAckFlags(_)
            | Self::ConnectReturnCode(_) => "MQTT-4.8.0-1",
            Self::ZeroPacketId => "MQTT-2.3.1-1",
            Self::InvalidUtf8 => "MQTT-1.5.3-1",
            Self::NulCharacter => "MQTT-1.5.3-2",
            Self::EmptyTopic => "MQTT-4.7.3-1",
            Self::WildcardInTopicName => "MQTT-3.3.2-2",
            Self::MultiLevelWildcard => "MQTT-4.7.1-2",
            Self::SingleLevelWildcard => "MQTT-4.7.1-3",
            Self::ProtocolName => "MQTT-3.1.2-1",
            Self::UnsupportedProtocolLevel(_) => "MQTT-3.1.2-2",
            Self::ReservedConnectFlag => "MQTT-3.1.2-3",
            Self::WillQosWithoutWill => "MQTT-3.1.2-13",
            Self::WillRetainWithoutWill => "MQTT-3.1.2-15",
            Self::WillQos => "MQTT-3.1.2-14",
            Self::PasswordWithoutUserName => "MQTT-3.1.2-22",
            Self::EmptyClientId => "MQTT-3.1.3-8",
            Self::SessionPresentRefused => "MQTT-3.2.2-4",
            Self::NothingToSubscribe => "MQTT-3.8.3-3",
            Self::RequestedQos(_) => "MQTT-3.8.3-4",
            Self::NothingGranted => "MQTT-3.9.3-1",
            Self::SubscribeReturnCode(_) => "MQTT-3.9.3-2",
            Self::NothingToUnsubscribe => "MQTT-3.10.3-2",
        }
    }

    /// The CONNACK that a server sends before it closes, where the standard has one:
    /// unacceptable protocol version (`[MQTT-3.1.2-2]`), identifier rejected (`[MQTT-3.1.3-8]`).
    pub const fn connack_code(&self) -> Option<ConnectReturnCode> {
        match self {
            Self::UnsupportedProtocolLevel(_) => {
                Some(ConnectReturnCode::UnacceptableProtocolVersion)
            }
            Self::EmptyClientId => Some(ConnectReturnCode::IdentifierRejected),
            _ => None,
        }
    }
}

impl From<TextError> for DecodeError {
    fn from(error: TextError) -> Self {
        match error {
            // The two bytes of a length field cannot say more than 65,535.
            TextError::TooLong => Self::Truncated,
            TextError::InvalidUtf8 => Self::InvalidUtf8,
            TextError::NulCharacter => Self::NulCharacter,
        }
    }
}

impl From<TopicError> for DecodeError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Text(error) => error.into(),
            TopicError::Empty => Self::EmptyTopic,
            TopicError::WildcardInTopicName => Self::WildcardInTopicName,
            TopicError::MultiLevelWildcard => Self::MultiLevelWildcard,
            TopicError::SingleLevelWildcard => Self::SingleLevelWildcard,
        }
    }
}

#[cfg(feature = "std")]
impl From<DecodeError> for std::io::Error {
    fn from(error: DecodeError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Why a string cannot be a field of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Longer than the 65,535 bytes that a length field can say (section 1.5.3).
    #[error("string is longer than 65,535 bytes")]
    TooLong,
    /// Not well-formed UTF-8 (`[MQTT-1.5.3-1]`).
    #[error("string is not UTF-8")]
    InvalidUtf8,
    /// Contains U+0000 (`[MQTT-1.5.3-2]`).
    #[error("string contains U+0000")]
    NulCharacter,
}

/// Why a string is not a topic name or a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Not a string that a packet can carry (`[MQTT-4.7.3-2]`, `[MQTT-4.7.3-3]`).
    #[error(transparent)]
    Text(#[from] TextError),
    /// Without a single character (`[MQTT-4.7.3-1]`).
    #[error("topic is empty")]
    Empty,
    /// A topic name contains `+` or `#` (`[MQTT-3.3.2-2]`, `[MQTT-4.7.1-1]`).
    #[error("wildcard in a topic name")]
    WildcardInTopicName,
    /// `#` is not the last level of the filter, or shares its level (`[MQTT-4.7.1-2]`).
    #[error("`#` is not alone in the last level of the filter")]
    MultiLevelWildcard,
    /// `+` shares its level with other characters (`[MQTT-4.7.1-3]`).
    #[error("`+` is not alone in its level of the filter")]
    SingleLevelWildcard,
}

/// A topic that is valid already converts into itself, so that a function can take anything that
/// converts into a topic.
impl From<core::convert::Infallible> for TopicError {
    fn from(never: core::convert::Infallible) -> Self {
        match never {}
    }
}

/// Why fields do not make a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The packet is over the 268,435,460 bytes that the standard allows (section 2.2.3).
    #[error("packet of {len} bytes is longer than MQTT allows")]
    TooLarge {
        /// Length of the whole packet in bytes, fixed header included.
        len: usize,
    },
    /// A will message is longer than 65,535 bytes (section 3.1.3.3).
    #[error("will message is longer than 65,535 bytes")]
    WillMessageTooLong,
    /// A password is longer than 65,535 bytes (section 3.1.3.5).
    #[error("password is longer than 65,535 bytes")]
    PasswordTooLong,
    /// A password without a user name (`[MQTT-3.1.2-22]`).
    #[error("password without user name")]
    PasswordWithoutUserName,
    /// An empty client id without a clean session (`[MQTT-3.1.3-7]`), or in MQTT 3.1.
    #[error("empty client id for a kept session")]
    EmptyClientId,
    /// A SUBSCRIBE, UNSUBSCRIBE or SUBACK with nothing in it (`[MQTT-3.8.3-3]`, `[MQTT-3.10.3-2]`).
    #[error("empty list")]
    EmptyList,
}

/// The slice is shorter than the packet. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("buffer too small: the packet has {needed} bytes")]
pub struct BufferTooSmall {
    /// Length of the packet in bytes.
    pub needed: usize,
}

/// A number or a text that names no value of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("not a value of {expected}")]
pub struct ValueError {
    expected: &'static str,
}

impl ValueError {
    pub(crate) const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}
