//! The figures of `$SYS` for Prometheus: `GET /metrics` on a listener of its own.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mqtt_broker_core::{Broker, Stats};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tracing::debug;

use crate::access::Access;
use crate::sys::{self, Extra};
use crate::websocket::{Wanted, read_request};

/// Time for a request to come: meanwhile nobody else is answered.
const REQUEST_TIME: Duration = Duration::from_secs(2);

/// Answers to requests for figures, one at a time: whoever scrapes comes every few seconds.
pub struct Metrics {
    listener: TcpListener,
    broker: Broker,
    access: Access,
}

impl Metrics {
    /// Listens on a port of this machine, or of another address that is given.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn bind(
        address: Option<IpAddr>,
        port: u16,
        broker: Broker,
        access: Access,
    ) -> std::io::Result<Self> {
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let listener = TcpListener::bind(SocketAddr::new(address, port)).await?;
        Ok(Self { listener, broker, access })
    }

    /// Serves for ever.
    pub async fn serve(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = self.answer(stream).await {
                        debug!("a request for metrics failed: {error}");
                    }
                }
                Err(error) => {
                    debug!("metrics: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (status, body) = match read_request(&mut stream, Instant::now() + REQUEST_TIME).await? {
            Ok(Wanted::File { path, .. }) if path == "/metrics" => {
                ("200 OK", render(&self.broker.stats(), self.access.extra()))
            }
            Ok(_) => ("404 Not Found", String::new()),
            Err(status) => (status, String::new()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// The figures in the text format of Prometheus.
fn render(stats: &Stats, extra: Extra) -> String {
    let counters = [
        ("bytes_received", "Bytes received.", stats.bytes_received),
        ("bytes_sent", "Bytes sent.", stats.bytes_sent),
        ("packets_received", "Packets of all types received.", stats.messages_received),
        ("packets_sent", "Packets of all types sent.", stats.messages_sent),
        ("publish_received", "PUBLISH packets received.", stats.publish_received),
        ("publish_sent", "PUBLISH packets sent.", stats.publish_sent),
        ("publish_dropped", "Messages dropped for a receiver or for all.", stats.publish_dropped),
        ("publish_bytes_received", "Payload bytes received.", stats.publish_bytes_received),
        ("publish_bytes_sent", "Payload bytes sent.", stats.publish_bytes_sent),
        ("sockets", "Connections opened.", stats.connections),
        ("connects", "CONNECT packets received.", extra.connects),
        ("sessions_expired", "Sessions whose clients stayed away.", stats.sessions_expired),
    ];
    let gauges = [
        ("clients_connected", "Clients connected now.", stats.clients_connected),
        ("clients_maximum", "The most clients at a time.", stats.clients_maximum),
        ("sessions", "Sessions of connected and absent clients.", stats.sessions),
        ("queued_messages", "Messages that wait for clients.", stats.queued),
        ("queued_bytes", "Their topics and payloads.", stats.queued_bytes),
        ("in_flight", "Messages of QoS 1 and 2 on their way to clients.", stats.in_flight),
        ("subscriptions", "Subscriptions of all sessions.", stats.subscriptions),
        ("shared_subscriptions", "Those of them that are shared.", stats.shared_subscriptions),
        ("retained_messages", "Retained messages.", stats.retained),
        ("retained_bytes", "Topics and payloads of retained messages.", stats.retained_bytes),
    ];
    let mut text = String::new();
    for (name, help, value) in counters {
        push(&mut text, &format!("{name}_total"), help, "counter", value);
    }
    for (name, help, value) in gauges {
        push(&mut text, name, help, "gauge", value);
    }
    push(&mut text, "heap_bytes", "Memory in use.", "gauge", extra.heap);
    if let Some(memory) = sys::resident() {
        push(&mut text, "resident_memory_bytes", "Memory of the process.", "gauge", memory);
    }
    text
}

fn push(text: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    // Writing to a string does not fail.
    let _ =
        write!(text, "# HELP mqtt_{name} {help}\n# TYPE mqtt_{name} {kind}\nmqtt_{name} {value}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_help_and_type() {
        let mut stats = Stats::default();
        stats.bytes_sent = 42;
        let text = render(&stats, Extra::default());
        assert!(text.contains("# TYPE mqtt_bytes_sent_total counter\nmqtt_bytes_sent_total 42\n"));
        let values = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(text.lines().count(), values * 3);
    }
}
