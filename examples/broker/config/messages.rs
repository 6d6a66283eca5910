use std::time::Duration;

use super::error::Reason;
use super::lines::Line;

/// The largest remaining length of a packet, and so the largest limit of a size that makes sense.
const LARGEST: usize = 268_435_455;

/// Limits of messages, queues and sessions. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    /// A larger payload is acknowledged and dropped (`message_size_limit`).
    pub max_payload: Option<usize>,
    /// A larger packet closes its connection (`max_packet_size`, 2,000,000).
    pub max_packet: Option<usize>,
    /// Messages of QoS 1 and 2 on their way to a client at once (`max_inflight_messages`, 20).
    pub max_inflight: Option<usize>,
    /// Their bytes (`max_inflight_bytes`).
    pub max_inflight_bytes: Option<usize>,
    /// Messages of QoS 1 and 2 that wait for a client (`max_queued_messages`, 1000).
    pub max_queued: Option<usize>,
    /// Their bytes (`max_queued_bytes`, 16 MiB).
    pub max_queued_bytes: Option<usize>,
    /// Messages of QoS 0 wait for an absent client as well (`queue_qos0_messages`).
    pub queue_qos_0: bool,
    /// Deliveries have the QoS of the subscription (`upgrade_outgoing_qos`).
    pub upgrade_qos: bool,
    /// Retained messages are possible (`retain_available`, true).
    pub retain: bool,
    /// The right to publish is checked again before a retained message is delivered
    /// (`check_retain_source`, true).
    pub check_retain_source: bool,
    /// The longest keep alive in seconds that a client may ask for (`max_keepalive`).
    pub max_keep_alive: Option<u16>,
    /// How long an absent client's session is kept (`persistent_client_expiration`).
    pub session_expiry: Option<Duration>,
    /// Bytes on the heap from which on messages and clients are refused (`memory_limit`).
    pub max_memory: Limit,
    /// A message comes once for each subscription that matches it (`allow_duplicate_messages`).
    pub duplicates: bool,
}

/// A limit whose default depends on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nobody has said anything.
    Default,
    /// There is none.
    None,
    /// So much.
    At(usize),
}

impl Default for Messages {
    fn default() -> Self {
        // Mosquitto's defaults, but for three. One delivery for overlapping subscriptions is what
        // clients expect; and without a bound on bytes, clients that nobody knows could fill the
        // memory: packets are bounded as in Mosquitto 2.1, and a queue of 1,000 messages has room
        // for 16 KiB each.
        Self {
            max_payload: None,
            max_packet: Some(2_000_000),
            max_inflight: Some(20),
            max_inflight_bytes: None,
            max_queued: Some(1000),
            max_queued_bytes: Some(16 << 20),
            queue_qos_0: false,
            upgrade_qos: false,
            retain: true,
            check_retain_source: true,
            max_keep_alive: None,
            session_expiry: None,
            max_memory: Limit::Default,
            duplicates: false,
        }
    }
}

impl Messages {
    pub(super) fn apply(&mut self, line: &Line) -> Result<bool, Reason> {
        match line.option.as_str() {
            "message_size_limit" => self.max_payload = size(line)?,
            "max_packet_size" => {
                let size = size(line)?;
                // Mosquitto's own minimum: less would refuse a plain CONNECT.
                if size.is_some_and(|size| size < 20) {
                    return Err(line.invalid("0, or 20 bytes and more"));
                }
                self.max_packet = size;
            }
            "max_inflight_messages" => self.max_inflight = line.limit()?,
            "max_inflight_bytes" => self.max_inflight_bytes = line.limit()?,
            "max_queued_messages" => self.max_queued = line.limit()?,
            "max_queued_bytes" => self.max_queued_bytes = line.limit()?,
            "queue_qos0_messages" => self.queue_qos_0 = line.bool()?,
            "upgrade_outgoing_qos" => self.upgrade_qos = line.bool()?,
            "retain_available" => self.retain = line.bool()?,
            "check_retain_source" => self.check_retain_source = line.bool()?,
            "max_keepalive" => {
                let seconds = line.number("seconds from 0 to 65535")?;
                self.max_keep_alive = (seconds > 0).then_some(seconds);
            }
            "persistent_client_expiration" => self.session_expiry = Some(duration(line)?),
            "memory_limit" => self.max_memory = line.limit()?.map_or(Limit::None, Limit::At),
            "allow_duplicate_messages" => self.duplicates = line.bool()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn size(line: &Line) -> Result<Option<usize>, Reason> {
    let size = line.limit()?;
    match size {
        Some(size) if size > LARGEST => Err(line.invalid("at most 268435455 bytes")),
        size => Ok(size),
    }
}

/// A number and a unit: `2m` is two months.
fn duration(line: &Line) -> Result<Duration, Reason> {
    const HOUR: u64 = 3600;
    let text = line.text()?;
    let expected = "a number and one of h, d, w, m, y";
    let Some((unit, number)) = text.char_indices().next_back().map(|(at, c)| (c, &text[..at]))
    else {
        return Err(line.invalid(expected));
    };
    let unit = match unit {
        'h' => HOUR,
        'd' => 24 * HOUR,
        'w' => 7 * 24 * HOUR,
        'm' => 30 * 24 * HOUR,
        'y' => 365 * 24 * HOUR,
        _ => return Err(line.invalid(expected)),
    };
    let seconds = number.parse::<u64>().ok().filter(|n| *n > 0).and_then(|n| n.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(|| line.invalid(expected))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::time::Duration;

    #[test]
    fn durations_have_units() {
        let expiry = |value: &str| {
            let config = Config::parse(&format!("persistent_client_expiration {value}"));
            config.ok().and_then(|config| config.messages.session_expiry)
        };
        assert_eq!(expiry("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(expiry("14d"), Some(Duration::from_secs(14 * 86_400)));
        assert_eq!(expiry("1y"), Some(Duration::from_secs(365 * 86_400)));
        for wrong in ["", "1", "h", "-1h", "0d", "1x", "1ü", "99999999999999999999h"] {
            assert_eq!(expiry(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let config = Config::parse("max_queued_messages 0\nmax_inflight_messages 5");
        let messages = config.expect("a good file").messages;
        assert_eq!((messages.max_queued, messages.max_inflight), (None, Some(5)));
        assert!(Config::parse("message_size_limit 268435456").is_err());
    }
}
