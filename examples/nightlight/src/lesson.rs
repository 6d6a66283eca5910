//! What device and server have agreed on, as the lesson has it.

use std::fmt;

use serde_json::Value;

/// The light level below which it is dark, in the units of a 10 bit sensor.
pub const THRESHOLD: f64 = 300.0;

/// The largest value of a sensor with 10 bits.
pub const BRIGHTEST: u16 = 1023;

/// The topics of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Device to server: `{"light": 652}`.
    pub telemetry: String,
    /// Server to device: `{"led_on": true}`.
    pub commands: String,
    /// Retained: `{"online": true}`, and `{"online": false}` as the will. The lesson does not have it,
    /// and its programs do not notice it.
    pub status: String,
}

impl Topics {
    /// The topics of the device with this id.
    pub fn of(id: &str) -> Self {
        Self {
            telemetry: format!("{id}/telemetry"),
            commands: format!("{id}/commands"),
            status: format!("{id}/status"),
        }
    }
}

/// The MQTT client id of a device.
pub fn device_client(id: &str) -> String {
    format!("{id}nightlight_client")
}

/// The MQTT client id of a server.
pub fn server_client(id: &str) -> String {
    format!("{id}nightlight_server")
}

/// A reading as it is sent, spaced as `json.dumps` does it.
pub fn telemetry(light: u16) -> String {
    format!("{{\"light\": {light}}}")
}

/// A command as it is sent.
pub fn command(led_on: bool) -> String {
    format!("{{\"led_on\": {led_on}}}")
}

/// A command to heat, or not to.
pub fn heating(heating_on: bool) -> String {
    format!("{{\"heating_on\": {heating_on}}}")
}

/// What a device says about itself.
pub fn status(is_online: bool) -> String {
    format!("{{\"online\": {is_online}}}")
}

/// A payload of one of the topics: a JSON object with the field that matters, shown as Python prints
/// it.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload<T> {
    /// The field that matters.
    pub field: T,
    whole: Value,
}

impl Payload<f64> {
    /// Reads telemetry. Any number will do, as it does in Python.
    ///
    /// # Errors
    /// If it is not JSON, or has no number `light`.
    pub fn telemetry(bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::read(bytes, "a number", "light", Value::as_f64)
    }

    /// Reads the telemetry of a house: the temperature at its thermostat matters, the others are for
    /// people.
    ///
    /// # Errors
    /// If it is not JSON, or has no number `thermostat_temperature`.
    pub fn thermostat(bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::read(bytes, "a number", "thermostat_temperature", Value::as_f64)
    }
}

impl Payload<(u64, u64)> {
    /// Reads the telemetry of a machine: its run and the number of the reading in it.
    ///
    /// # Errors
    /// If it is not JSON, or one of the two is missing.
    pub fn machine(bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::read_from(bytes, "a number, and \"run\"", "number", |whole| {
            Some((whole.get("run")?.as_u64()?, whole.get("number")?.as_u64()?))
        })
    }
}

impl Payload<bool> {
    /// Reads a command.
    ///
    /// # Errors
    /// If it is not JSON, or `led_on` is neither `true` nor `false`.
    pub fn command(bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::read(bytes, "true or false", "led_on", Value::as_bool)
    }

    /// Reads a command to heat.
    ///
    /// # Errors
    /// If it is not JSON, or `heating_on` is neither `true` nor `false`.
    pub fn heating(bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::read(bytes, "true or false", "heating_on", Value::as_bool)
    }

    /// Reads a status.
    ///
    /// # Errors
    /// If it is not JSON, or `online` is neither `true` nor `false`.
    pub fn status(bytes: &[u8]) -> Result<Self, BadPayload> {
        Self::read(bytes, "true or false", "online", Value::as_bool)
    }
}

impl<T> Payload<T> {
    fn read(
        bytes: &[u8],
        kind: &'static str,
        name: &'static str,
        field: impl Fn(&Value) -> Option<T>,
    ) -> Result<Self, BadPayload> {
        Self::read_from(bytes, kind, name, |whole| whole.get(name).and_then(&field))
    }

    fn read_from(
        bytes: &[u8],
        kind: &'static str,
        name: &'static str,
        field: impl Fn(&Value) -> Option<T>,
    ) -> Result<Self, BadPayload> {
        let bad = |reason| BadPayload { reason, bytes: bytes.to_vec() };
        let whole: Value =
            serde_json::from_slice(bytes).map_err(|error| bad(Reason::Json(error.to_string())))?;
        let found = field(&whole);
        let field = found.ok_or_else(|| bad(Reason::Field { name, kind }))?;
        Ok(Self { field, whole })
    }
}

/// As Python prints the dictionary.
impl<T> fmt::Display for Payload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_python(f, &self.whole)
    }
}

/// The command as Python prints it: `{'led_on': True}`.
pub struct PythonCommand(
    /// Whether the LED is to be on.
    pub bool,
);

impl fmt::Display for PythonCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "{'led_on': True}" } else { "{'led_on': False}" })
    }
}

/// A payload that does not say what it should, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} in \"{}\"", shortened(bytes))]
pub struct BadPayload {
    reason: Reason,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("no JSON ({0})")]
    Json(String),
    #[error("no {name:?} with {kind}")]
    Field { name: &'static str, kind: &'static str },
}

/// Enough to recognise a message; a megabyte of them would bury the log.
const SHOWN: usize = 80;

fn shortened(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii();
    let more = if bytes.len() > SHOWN { "..." } else { "" };
    format!("{shown}{more}")
}

fn write_python(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Null => f.write_str("None"),
        Value::Bool(true) => f.write_str("True"),
        Value::Bool(false) => f.write_str("False"),
        Value::Number(number) => write!(f, "{number}"),
        Value::String(text) => write_quoted(f, text),
        Value::Array(values) => {
            f.write_str("[")?;
            for (index, value) in values.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { ", " })?;
                write_python(f, value)?;
            }
            f.write_str("]")
        }
        Value::Object(fields) => {
            f.write_str("{")?;
            for (index, (name, value)) in fields.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { ", " })?;
                write_quoted(f, name)?;
                f.write_str(": ")?;
                write_python(f, value)?;
            }
            f.write_str("}")
        }
    }
}

/// Python takes the quotes that need fewer backslashes. Control characters are escaped, so that a
/// message cannot paint the terminal.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    write!(f, "{quote}")?;
    for character in text.chars() {
        match character {
            '\\' => f.write_str("\\\\")?,
            character if character == quote => write!(f, "\\{character}")?,
            character if character.is_control() => write!(f, "{}", character.escape_default())?,
            character => write!(f, "{character}")?,
        }
    }
    write!(f, "{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_those_of_the_lesson() {
        assert_eq!(telemetry(652), r#"{"light": 652}"#);
        assert_eq!(command(true), r#"{"led_on": true}"#);
        assert_eq!(device_client("0bd2"), "0bd2nightlight_client");
        assert_eq!(Topics::of("0bd2").commands, "0bd2/commands");
    }

    #[test]
    fn both_spellings_of_json_are_read_and_shown_as_python_does() {
        for text in [r#"{"light": 0}"#, r#"{"light":0}"#] {
            let payload = Payload::telemetry(text.as_bytes()).unwrap();
            assert_eq!((payload.field, payload.to_string().as_str()), (0.0, "{'light': 0}"));
        }
        let payload = Payload::command(br#"{"led_on": true, "by": ["it's", null, 2.5]}"#).unwrap();
        assert!(payload.field);
        assert_eq!(payload.to_string(), r#"{'led_on': True, 'by': ["it's", None, 2.5]}"#);
    }

    #[test]
    fn what_is_wrong_with_a_payload_is_told_with_its_bytes() {
        let error = |bytes: &[u8]| Payload::telemetry(bytes).unwrap_err().to_string();
        assert!(error(b"bright\xff").ends_with(r#"in "bright\xff""#), "{}", error(b"bright\xff"));
        assert_eq!(error(b"[1]"), r#"no "light" with a number in "[1]""#);
        assert_eq!(
            Payload::command(br#"{"led_on": 1}"#).unwrap_err().to_string(),
            r#"no "led_on" with true or false in "{\"led_on\": 1}""#
        );
        assert!(error(&[b'x'; 4000]).len() < 200);
    }
}
