use core::fmt;

use crate::parse::next_field;
use crate::{EncodeError, QoS, Text, TopicName};

/// A client asks for a connection (section 3.1).
///
/// A decoded CONNECT is the validated wire form, and its accessors read from it. One to send is made
/// of [`ConnectFields`]:
///
/// ```
/// use mqtt_codec::{Connect, ConnectFields, Packet, Text};
///
/// let fields = ConnectFields { keep_alive: 30, ..ConnectFields::new(Text::new("thermostat")?) };
/// let mut frame = [0; 32];
/// let length = Packet::from(Connect::new(&fields)?).encode_to_slice(&mut frame)?;
/// assert_eq!(&frame[..length], b"\x10\x16\x00\x04MQTT\x04\x02\x00\x1e\x00\x0athermostat");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Connect<'a>(pub(crate) Form<'a>);

/// Where the fields are. Both forms are valid; they never differ for the outside.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    Wire(Wire<'a>),
    Fields(&'a ConnectFields<'a>),
}

/// A variable header taken apart and the payload as it came.
#[derive(Clone, Copy)]
pub(crate) struct Wire<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) flags: ConnectFlags,
    pub(crate) keep_alive: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Connect<'a> {
    /// The packet of these fields.
    ///
    /// # Errors
    /// If the fields contradict each other: a password without user name (`[MQTT-3.1.2-22]`), an
    /// empty client id without clean session (`[MQTT-3.1.3-7]`) or in MQTT 3.1; or if a binary field
    /// is over 65,535 bytes.
    pub fn new(fields: &'a ConnectFields<'a>) -> Result<Self, EncodeError> {
        if fields.password.is_some() && fields.user_name.is_none() {
            return Err(EncodeError::PasswordWithoutUserName);
        }
        if fields.client_id.as_bytes().is_empty()
            && !fields.protocol.allows_empty_id(fields.clean_session)
        {
            return Err(EncodeError::EmptyClientId);
        }
        let limit = usize::from(u16::MAX);
        if fields.will.is_some_and(|will| will.message.len() > limit) {
            return Err(EncodeError::WillMessageTooLong);
        }
        if fields.password.is_some_and(|password| password.len() > limit) {
            return Err(EncodeError::PasswordTooLong);
        }
        Ok(Self(Form::Fields(fields)))
    }

    /// Protocol name and level (sections 3.1.2.1 and 3.1.2.2).
    pub const fn protocol(&self) -> Protocol {
        match self.0 {
            Form::Wire(wire) => wire.protocol,
            Form::Fields(fields) => fields.protocol,
        }
    }

    /// Whether the session begins and ends with the connection (section 3.1.2.4).
    pub const fn clean_session(&self) -> bool {
        match self.0 {
            Form::Wire(wire) => wire.flags.clean_session(),
            Form::Fields(fields) => fields.clean_session,
        }
    }

    /// The longest silence of the client in seconds; 0 is no limit (section 3.1.2.10).
    pub const fn keep_alive(&self) -> u16 {
        match self.0 {
            Form::Wire(wire) => wire.keep_alive,
            Form::Fields(fields) => fields.keep_alive,
        }
    }

    /// The name of the client; may be empty with a clean session (section 3.1.3.1).
    pub fn client_id(&self) -> Text<'a> {
        match self.0 {
            Form::Wire(Wire { mut payload, .. }) => Text::from_valid(next_field(&mut payload)),
            Form::Fields(fields) => fields.client_id,
        }
    }

    /// What the server publishes when the client goes without DISCONNECT (section 3.1.2.5).
    pub fn will(&self) -> Option<Will<'a>> {
        match self.0 {
            Form::Wire(_) => self.fields().will,
            Form::Fields(fields) => fields.will,
        }
    }

    /// The user name (section 3.1.3.4).
    pub fn user_name(&self) -> Option<Text<'a>> {
        match self.0 {
            Form::Wire(_) => self.fields().user_name,
            Form::Fields(fields) => fields.user_name,
        }
    }

    /// The password: any bytes (section 3.1.3.5).
    pub fn password(&self) -> Option<&'a [u8]> {
        match self.0 {
            Form::Wire(_) => self.fields().password,
            Form::Fields(fields) => fields.password,
        }
    }

    /// All fields at once.
    pub fn fields(&self) -> ConnectFields<'a> {
        match self.0 {
            Form::Wire(wire) => wire.fields(),
            Form::Fields(fields) => *fields,
        }
    }
}

impl<'a> Wire<'a> {
    /// Reads the payload in the order of `[MQTT-3.1.3-1]`. The parser has seen that it is all there.
    fn fields(&self) -> ConnectFields<'a> {
        let Self { protocol, flags, keep_alive, mut payload } = *self;
        let client_id = Text::from_valid(next_field(&mut payload));
        let will = flags.will().then(|| Will {
            topic: TopicName::from_valid(next_field(&mut payload)),
            message: next_field(&mut payload),
            qos: flags.will_qos().unwrap_or_default(),
            retain: flags.will_retain(),
        });
        let user_name = flags.user_name().then(|| Text::from_valid(next_field(&mut payload)));
        let password = flags.password().then(|| next_field(&mut payload));
        ConnectFields {
            protocol,
            clean_session: flags.clean_session(),
            keep_alive,
            client_id,
            will,
            user_name,
            password,
        }
    }
}

impl PartialEq for Connect<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.fields() == other.fields()
    }
}

impl Eq for Connect<'_> {}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}

/// The fields of a CONNECT in the open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectFields<'a> {
    /// Protocol name and level.
    pub protocol: Protocol,
    /// Whether the session begins and ends with the connection.
    pub clean_session: bool,
    /// The longest silence of the client in seconds; 0 is no limit.
    pub keep_alive: u16,
    /// The name of the client; may be empty with a clean session.
    pub client_id: Text<'a>,
    /// What the server publishes when the client goes without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user_name: Option<Text<'a>>,
    /// The password: any bytes, at most 65,535. Only with a user name.
    pub password: Option<&'a [u8]>,
}

impl<'a> ConnectFields<'a> {
    /// MQTT 3.1.1, clean session, no keep-alive, nothing else.
    pub const fn new(client_id: Text<'a>) -> Self {
        Self {
            protocol: Protocol::V311,
            clean_session: true,
            keep_alive: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
        }
    }

    pub(crate) fn flags(&self) -> ConnectFlags {
        let mut bits = u8::from(self.clean_session) << 1;
        if let Some(will) = &self.will {
            bits |= 0x04 | u8::from(will.qos) << 3 | u8::from(will.retain) << 5;
        }
        bits |= u8::from(self.password.is_some()) << 6;
        bits |= u8::from(self.user_name.is_some()) << 7;
        ConnectFlags(bits)
    }
}

/// Without the password, which has no place in a log.
impl fmt::Debug for ConnectFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("protocol", &self.protocol)
            .field("clean_session", &self.clean_session)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("user_name", &self.user_name)
            .field("password", &self.password.map(|_| "..."))
            .finish()
    }
}

/// The message that a server publishes for a client that is gone (section 3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where the message goes.
    pub topic: TopicName<'a>,
    /// The message: any bytes, at most 65,535 (section 3.1.3.3).
    pub message: &'a [u8],
    /// The QoS that it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
}

/// The protocols whose CONNECT this crate reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// MQTT 3.1: `MQIsdp`, level 3. Differs in CONNECT only, as far as this crate goes.
    V310,
    /// MQTT 3.1.1: `MQTT`, level 4.
    #[default]
    V311,
}

impl Protocol {
    /// The protocol name on the wire (section 3.1.2.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::V310 => "MQIsdp",
            Self::V311 => "MQTT",
        }
    }

    /// The protocol level on the wire (section 3.1.2.2).
    pub const fn level(self) -> u8 {
        match self {
            Self::V310 => 3,
            Self::V311 => 4,
        }
    }

    /// MQTT 3.1.1 allows an empty client id with a clean session (`[MQTT-3.1.3-7]`), 3.1 never.
    pub(crate) const fn allows_empty_id(self, clean_session: bool) -> bool {
        clean_session && matches!(self, Self::V311)
    }
}

/// The connect flags (section 3.1.2.3).
#[derive(Clone, Copy)]
pub(crate) struct ConnectFlags(pub(crate) u8);

impl ConnectFlags {
    pub(crate) const fn reserved(self) -> bool {
        self.0 & 0x01 != 0
    }

    pub(crate) const fn clean_session(self) -> bool {
        self.0 & 0x02 != 0
    }

    pub(crate) const fn will(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// `None` for 3.
    pub(crate) const fn will_qos(self) -> Option<QoS> {
        match self.0 >> 3 & 3 {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }

    pub(crate) const fn will_retain(self) -> bool {
        self.0 & 0x20 != 0
    }

    pub(crate) const fn password(self) -> bool {
        self.0 & 0x40 != 0
    }

    pub(crate) const fn user_name(self) -> bool {
        self.0 & 0x80 != 0
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn the_password_is_not_in_debug_output() {
        let fields = ConnectFields {
            user_name: Some(Text::new("ann").unwrap()),
            password: Some(b"secret"),
            ..ConnectFields::new(Text::new("c").unwrap())
        };
        let text = format!("{:?}", Connect::new(&fields).unwrap());
        assert!(text.contains("ann") && !text.contains("secret"), "{text}");
    }

    // MQTT-3.1.2-22, MQTT-3.1.3-7
    #[test]
    fn contradicting_fields_make_no_connect() {
        let plain = ConnectFields::new(Text::new("c").unwrap());
        let password = ConnectFields { password: Some(b""), ..plain };
        assert_eq!(Connect::new(&password), Err(EncodeError::PasswordWithoutUserName));
        let nameless = ConnectFields { client_id: Text::new("").unwrap(), ..plain };
        assert!(Connect::new(&nameless).is_ok());
        let kept = ConnectFields { clean_session: false, ..nameless };
        assert_eq!(Connect::new(&kept), Err(EncodeError::EmptyClientId));
        let old = ConnectFields { protocol: Protocol::V310, ..nameless };
        assert_eq!(Connect::new(&old), Err(EncodeError::EmptyClientId));
    }

    // MQTT-4.7.3-3
    #[test]
    fn a_field_over_65535_bytes_is_an_error_and_no_wrap_around() {
        let long = [0; 65_536];
        let plain = ConnectFields::new(Text::new("c").unwrap());
        let topic = TopicName::new("t").unwrap();
        let will = Will { topic, message: &long, qos: QoS::AtMostOnce, retain: false };
        let fields = ConnectFields { will: Some(will), ..plain };
        assert_eq!(Connect::new(&fields), Err(EncodeError::WillMessageTooLong));
        let user_name = Some(plain.client_id);
        let fields = ConnectFields { user_name, password: Some(&long), ..plain };
        assert_eq!(Connect::new(&fields), Err(EncodeError::PasswordTooLong));
    }
}
