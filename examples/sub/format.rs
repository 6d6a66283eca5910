//! How a message is printed: the formats of `mosquitto_sub -F` that need no local time zone.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mqtt_client::Message;
use serde_json::value::RawValue;

/// A format, read once.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Field(char),
    /// The payload as it is when nothing but it is printed: empty shows as nothing.
    Newline,
}

const FIELDS: &str = "tpxXlqrmdIUjJ";

impl Format {
    /// The payload, with the topic before it if wanted.
    pub(crate) fn plain(topic: bool, newline: bool) -> Self {
        let mut parts = Vec::new();
        if topic {
            parts.extend([Part::Field('t'), Part::Text(b" ".to_vec()), Part::Field('n')]);
        } else {
            parts.push(Part::Field('p'));
        }
        if newline {
            parts.push(Part::Newline);
        }
        Self(parts)
    }

    /// One JSON object a line.
    pub(crate) fn json() -> Self {
        Self(vec![Part::Field('j'), Part::Newline])
    }

    /// Reads the text of `-F`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match (char, chars.clone().next()) {
                ('%', Some('%')) => plain.push(b'%'),
                ('%', Some(field)) if FIELDS.contains(field) => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Field(field));
                }
                ('%', Some(field)) => return Err(format!("there is no field %{field}")),
                ('%', None) => return Err("% at the end".to_owned()),
                ('\\', Some(escape)) => plain.push(match escape {
                    '\\' => b'\\',
                    '0' => 0,
                    'a' => 7,
                    'e' => 0x1b,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 0x0b,
                    other => return Err(format!("there is no escape \\{other}")),
                }),
                ('\\', None) => return Err("\\ at the end".to_owned()),
                ('@', Some('@')) => plain.push(b'@'),
                ('@', _) => return Err("times by @ are not supported; %I and %U are".to_owned()),
                (char, _) => {
                    plain.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            }
            chars.next();
        }
        parts.extend([Part::Text(plain), Part::Newline]);
        Ok(Self(parts))
    }

    /// Appends the message. False if it cannot be printed so.
    pub(crate) fn write(&self, message: &Message, out: &mut Vec<u8>) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Newline => out.push(b'\n'),
                Part::Field(field) => {
                    if !write_field(*field, message, now, out) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

fn write_field(field: char, message: &Message, now: Duration, out: &mut Vec<u8>) -> bool {
    let payload = message.payload();
    // Writing into a vector does not fail.
    let _ = match field {
        't' => out.write_all(message.topic().as_bytes()),
        'n' if payload.is_empty() => out.write_all(b"(null)"),
        'p' | 'n' => out.write_all(payload),
        'x' => payload.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
        'X' => payload.iter().try_for_each(|byte| write!(out, "{byte:02X}")),
        'l' => write!(out, "{}", payload.len()),
        'q' => write!(out, "{}", u8::from(message.qos())),
        'r' => write!(out, "{}", u8::from(message.retain())),
        'd' => write!(out, "{}", u8::from(message.dup())),
        'm' => write!(out, "{}", message.packet_id().map_or(0, mqtt_client::PacketId::get)),
        'I' => write!(out, "{}+0000", iso_time(now)),
        'U' => write!(out, "{}.{:09}", now.as_secs(), now.subsec_nanos()),
        'j' => write_json(message, now, None, out),
        'J' => match serde_json::from_slice::<&RawValue>(payload) {
            Ok(json) => write_json(message, now, Some(json), out),
            Err(_) => return false,
        },
        _ => return false,
    };
    true
}

/// The object of Mosquitto's `%j`; of `%J` if the payload is JSON itself.
fn write_json(
    message: &Message,
    now: Duration,
    payload: Option<&RawValue>,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let text = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    let (time, micros) = (iso_time(now), now.subsec_micros());
    write!(out, "{{\"tst\":\"{time}.{micros:06}Z+0000\"")?;
    write!(out, ",\"topic\":{}", text(message.topic().as_bytes()))?;
    write!(out, ",\"qos\":{}", u8::from(message.qos()))?;
    write!(out, ",\"retain\":{}", u8::from(message.retain()))?;
    write!(out, ",\"payloadlen\":{}", message.payload().len())?;
    if let Some(id) = message.packet_id() {
        write!(out, ",\"mid\":{id}")?;
    }
    match payload {
        Some(json) => write!(out, ",\"payload\":{json}}}"),
        None => write!(out, ",\"payload\":{}}}", text(message.payload())),
    }
}

/// A time since 1970 as `2026-01-31T12:00:00`, in UTC.
fn iso_time(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that leap days come last: 719,468 days to 1970.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}
