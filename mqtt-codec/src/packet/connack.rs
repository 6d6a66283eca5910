use core::fmt;

use crate::ValueError;

/// The server's answer to CONNECT (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnAck {
    /// The server kept a session of this client (section 3.2.2.2). Sent as 0 with any code but
    /// [`ConnectReturnCode::Accepted`] (`[MQTT-3.2.2-4]`).
    pub session_present: bool,
    /// Accepted, or why not.
    pub code: ConnectReturnCode,
}

impl ConnAck {
    /// The whole packet.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 4] {
        let present = self.session_present && matches!(self.code, ConnectReturnCode::Accepted);
        [0x20, 2, present as u8, self.code as u8]
    }
}

/// The return codes of CONNACK (section 3.2.2.3, table 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// The connection is open.
    Accepted = 0,
    /// The server does not speak the protocol level (`[MQTT-3.1.2-2]`).
    UnacceptableProtocolVersion = 1,
    /// The client id is correct UTF-8 but not allowed by the server (`[MQTT-3.1.3-9]`).
    IdentifierRejected = 2,
    /// The MQTT service is not available.
    ServerUnavailable = 3,
    /// The user name or password is malformed or wrong.
    BadUserNameOrPassword = 4,
    /// The client may not connect.
    NotAuthorized = 5,
}

impl From<ConnectReturnCode> for u8 {
    fn from(code: ConnectReturnCode) -> Self {
        code as Self
    }
}

impl TryFrom<u8> for ConnectReturnCode {
    type Error = ValueError;

    fn try_from(code: u8) -> Result<Self, ValueError> {
        Ok(match code {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return Err(ValueError::new("ConnectReturnCode")),
        })
    }
}

impl fmt::Display for ConnectReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::UnacceptableProtocolVersion => "unacceptable protocol version",
            Self::IdentifierRejected => "identifier rejected",
            Self::ServerUnavailable => "server unavailable",
            Self::BadUserNameOrPassword => "bad user name or password",
            Self::NotAuthorized => "not authorized",
        })
    }
}
