//! `$SYS`: what the broker tells about itself, in Mosquitto's tree of topics.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use mqtt_broker_core::Stats;

mod load;

use load::Load;

/// The figures as they were published last. Only what has changed is published again.
pub struct Sys {
    started: Instant,
    updated: Instant,
    published: HashMap<String, String>,
    loads: Vec<(&'static str, Load)>,
    heap_maximum: u64,
}

/// What the core's figures do not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// CONNECT packets so far.
    pub connects: u64,
    /// Bytes on the heap.
    pub heap: u64,
}

impl Sys {
    /// A broker that starts now.
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            updated: now,
            published: HashMap::new(),
            loads: LOADS.iter().map(|(name, _)| (*name, Load::default())).collect(),
            heap_maximum: 0,
        }
    }

    /// The topics whose values have changed since the last time, with the new values.
    pub fn update(&mut self, stats: &Stats, extra: Extra, now: Instant) -> Vec<(String, String)> {
        let elapsed = now.saturating_duration_since(self.updated);
        self.updated = now;
        let mut values = self.values(stats, extra, now);
        self.update_loads(stats, extra, elapsed, &mut values);
        values.retain(|(topic, value)| self.published.get(topic) != Some(value));
        self.published.extend(values.iter().cloned());
        values
    }

    fn values(&mut self, stats: &Stats, extra: Extra, now: Instant) -> Vec<(String, String)> {
        let uptime = now.saturating_duration_since(self.started).as_secs();
        let absent = stats.sessions.saturating_sub(stats.clients_connected);
        self.heap_maximum = self.heap_maximum.max(extra.heap);
        vec![
            topic("version", concat!("mqtt-examples broker ", env!("CARGO_PKG_VERSION"))),
            topic("uptime", format!("{uptime} seconds")),
            topic("clients/total", stats.sessions.max(stats.clients_connected)),
            topic("clients/connected", stats.clients_connected),
            topic("clients/disconnected", absent),
            // The same under the names of Mosquitto 1.3, which dashboards still ask for.
            topic("clients/active", stats.clients_connected),
            topic("clients/inactive", absent),
            topic("clients/maximum", stats.clients_maximum),
            topic("clients/expired", stats.sessions_expired),
            topic("bytes/received", stats.bytes_received),
            topic("bytes/sent", stats.bytes_sent),
            topic("messages/received", stats.messages_received),
            topic("messages/sent", stats.messages_sent),
            topic("messages/inflight", stats.in_flight),
            topic("messages/stored", stats.retained + stats.queued),
            topic("store/messages/count", stats.retained + stats.queued),
            topic("store/messages/bytes", stats.retained_bytes + stats.queued_bytes),
            topic("retained messages/count", stats.retained),
            topic("subscriptions/count", stats.subscriptions - stats.shared_subscriptions),
            topic("shared_subscriptions/count", stats.shared_subscriptions),
            topic("publish/messages/received", stats.publish_received),
            topic("publish/messages/sent", stats.publish_sent),
            topic("publish/messages/dropped", stats.publish_dropped),
            topic("publish/bytes/received", stats.publish_bytes_received),
            topic("publish/bytes/sent", stats.publish_bytes_sent),
            topic("heap/current", extra.heap),
            topic("heap/maximum", self.heap_maximum),
        ]
    }

    fn update_loads(
        &mut self,
        stats: &Stats,
        extra: Extra,
        elapsed: Duration,
        values: &mut Vec<(String, String)>,
    ) {
        for ((name, load), (_, count)) in self.loads.iter_mut().zip(LOADS) {
            load.update(count(stats, extra), elapsed);
            for (span, average) in load.averages() {
                values.push(topic(&format!("load/{name}/{span}"), format!("{average:.2}")));
            }
        }
    }
}

type Count = fn(&Stats, Extra) -> u64;

/// What is averaged over time, and the counter that it comes from.
const LOADS: &[(&str, Count)] = &[
    ("messages/received", |stats, _| stats.messages_received),
    ("messages/sent", |stats, _| stats.messages_sent),
    ("publish/received", |stats, _| stats.publish_received),
    ("publish/sent", |stats, _| stats.publish_sent),
    ("publish/dropped", |stats, _| stats.publish_dropped),
    ("bytes/received", |stats, _| stats.bytes_received),
    ("bytes/sent", |stats, _| stats.bytes_sent),
    ("sockets", |stats, _| stats.connections),
    ("connections", |_, extra| extra.connects),
];

fn topic(name: &str, value: impl Display) -> (String, String) {
    (format!("$SYS/broker/{name}"), value.to_string())
}

/// The memory that this process has of the machine now, in bytes, where `/proc` tells.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_published_again() {
        let start = Instant::now();
        let mut sys = Sys::new(start);
        let mut stats = Stats::default();
        let first = sys.update(&stats, Extra::default(), start);
        let version = ("$SYS/broker/version".to_owned(), "mqtt-examples broker 0.1.0".to_owned());
        assert!(first.contains(&version), "{first:?}");
        assert!(sys.update(&stats, Extra::default(), start).is_empty());

        stats.bytes_sent = 600;
        let later = start + Duration::from_secs(10);
        let mut changed = sys.update(&stats, Extra::default(), later);
        changed.retain(|(topic, _)| !topic.contains("/load/"));
        let expected = [("uptime", "10 seconds"), ("bytes/sent", "600")];
        assert_eq!(changed, expected.map(|(name, value)| topic(name, value)));
    }

    #[test]
    fn the_memory_of_this_process_is_known() {
        assert!(resident().is_none_or(|bytes| bytes > 100_000));
    }
}
