//! How a message is printed: the formats of `mosquitto_sub -F`.

use std::cell::OnceCell;
use std::io::Write;

use jiff::Zoned;
use mqtt_client::Message;
use serde_json::value::RawValue;

/// A format, read once.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Field(char),
    /// A conversion of strftime(3), or `N` for the nanoseconds.
    Time(char),
}

const FIELDS: &str = "tpxXlqrmdIUjJ";

impl Format {
    /// The payload, with the topic before it if wanted.
    pub(crate) fn plain(topic: bool) -> Self {
        Self(match topic {
            true => vec![Part::Field('t'), Part::Text(b" ".to_vec()), Part::Field('n')],
            false => vec![Part::Field('p')],
        })
    }

    /// A JSON object.
    pub(crate) fn json() -> Self {
        Self(vec![Part::Field('j')])
    }

    /// The same with a line end.
    pub(crate) fn with_newline(mut self) -> Self {
        self.0.push(Part::Text(b"\n".to_vec()));
        self
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
                ('@', Some(conversion)) => {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Time(conversion));
                }
                ('@', None) => return Err("@ at the end".to_owned()),
                (char, _) => {
                    plain.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            }
            chars.next();
        }
        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }

    /// Appends the message. False if it cannot be printed so.
    pub(crate) fn write(&self, message: &Message, out: &mut Vec<u8>) -> bool {
        let now = Clock::default();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Time(conversion) => out.extend(now.formatted(*conversion).into_bytes()),
                Part::Field(field) => {
                    if !write_field(*field, message, &now, out) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

fn write_field(field: char, message: &Message, now: &Clock, out: &mut Vec<u8>) -> bool {
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
        'I' => write!(out, "{}", now.time().strftime("%Y-%m-%dT%H:%M:%S%z")),
        'U' => write!(out, "{}.{:09}", now.time().timestamp().as_second(), now.nanos()),
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
    now: &Clock,
    payload: Option<&RawValue>,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let text = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    let (time, micros) = (now.time(), now.nanos() / 1000);
    let (second, offset) = (time.strftime("%Y-%m-%dT%H:%M:%S"), time.strftime("%z"));
    write!(out, "{{\"tst\":\"{second}.{micros:06}Z{offset}\"")?;
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

/// The local time at which a message is printed, looked at only when it is wanted.
#[derive(Default)]
struct Clock(OnceCell<Zoned>);

impl Clock {
    fn time(&self) -> &Zoned {
        self.0.get_or_init(Zoned::now)
    }

    fn nanos(&self) -> i32 {
        self.time().subsec_nanosecond()
    }

    /// What strftime(3) makes of `%` and this. It prints what it does not know as it is.
    fn formatted(&self, conversion: char) -> String {
        if conversion == 'N' {
            return format!("{:09}", self.nanos());
        }
        let text = format!("%{conversion}");
        jiff::fmt::strtime::format(&text, self.time()).unwrap_or(text)
    }
}
