use crate::error::Undelivered;
use crate::receipt::Delivered;

/// Counters since the client was made, and gauges: [`Client::stats`](crate::Client::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The counters.
    pub counters: Counters,
    /// Messages that wait to be sent.
    pub queued: usize,
    /// Their topics and payloads, in bytes.
    pub queued_bytes: usize,
    /// Messages sent and not acknowledged to the end.
    pub in_flight: usize,
    /// Messages received and not acknowledged: the application has not taken them, or an older one.
    pub unacknowledged: usize,
    /// Bytes received that the application has not taken.
    pub unread_bytes: usize,
}

/// Counters since the client was made.
///
/// Every message in [`published`](Self::published) ends in exactly one of the outcomes or is still
/// queued, in flight, or being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that the broker accepted.
    pub connections: u64,
    /// Accepted connections that ended.
    pub disconnections: u64,
    /// Of these: closed by the broker without a word. When it does so again and again, another
    /// client with the same id is the usual reason.
    pub closed_by_broker: u64,
    /// Messages accepted for publishing.
    pub published: u64,
    /// Of these: QoS 0, given to the transport.
    pub written: u64,
    /// Of these: QoS 1, acknowledged.
    pub acknowledged: u64,
    /// Of these: QoS 2, complete.
    pub completed: u64,
    /// Of these: replaced by a newer one of the topic.
    pub superseded: u64,
    /// Of these: expired before they were sent.
    pub expired: u64,
    /// Of these: dropped because the queue was full.
    pub dropped: u64,
    /// Of these: QoS 2, in flight when the broker forgot the session.
    pub session_lost: u64,
    /// Of these: failed because the connection ended.
    pub failed: u64,
    /// Of these: left at the end.
    pub left: u64,
    /// PUBLISH packets sent again with DUP.
    pub resent: u64,
    /// PUBLISH packets received.
    pub received: u64,
    /// QoS 2 packets received again and not delivered again.
    pub duplicates: u64,
    /// Messages received that no subscription wants.
    pub unrouted: u64,
    /// QoS 0 messages that a stream dropped because the application did not take them.
    pub missed: u64,
    /// Messages that the application dropped without [`Message::ack`](crate::Message::ack) under
    /// [`AckMode::Manual`](crate::AckMode::Manual). Each stays in the broker's window until the
    /// connection ends.
    pub never_acknowledged: u64,
    /// Acknowledgements that belong to nothing.
    pub unknown_acks: u64,
    /// PINGREQ packets sent.
    pub pings: u64,
    /// Bytes given to the transport.
    pub bytes_sent: u64,
    /// Bytes from the transport.
    pub bytes_received: u64,
}

impl Counters {
    pub(crate) fn count_end(&mut self, outcome: Result<Delivered, Undelivered>) {
        *match outcome {
            Ok(Delivered::Written) => &mut self.written,
            Ok(Delivered::Acknowledged) => &mut self.acknowledged,
            Ok(Delivered::Completed) => &mut self.completed,
            Ok(Delivered::Superseded) => &mut self.superseded,
            Err(Undelivered::Expired) => &mut self.expired,
            Err(Undelivered::Dropped) => &mut self.dropped,
            Err(Undelivered::SessionLost) => &mut self.session_lost,
            Err(Undelivered::NotConnected) => &mut self.failed,
            Err(Undelivered::Closed) => &mut self.left,
        } += 1;
    }

    /// Accepted messages that have come to their end.
    pub fn ended(&self) -> u64 {
        self.written
            + self.acknowledged
            + self.completed
            + self.superseded
            + self.expired
            + self.dropped
            + self.session_lost
            + self.failed
            + self.left
    }
}
