use mqtt_codec::PublishRun;

use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of the broker's counters and gauges, as `$SYS` shows them.
        ///
        /// Counters rise from the broker's start and are added once a batch of packets, so that a
        /// snapshot may trail by one batch a connection.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Clients connected now.
            pub clients_connected: u64,
            /// The most clients that were connected at a time.
            pub clients_maximum: u64,
            /// Sessions, of connected and absent clients.
            pub sessions: u64,
            /// Messages that wait behind windows or for absent clients.
            pub queued: u64,
            /// Their topics and payloads in bytes.
            pub queued_bytes: u64,
            /// QoS 1 and 2 messages that are sent and not through.
            pub in_flight: u64,
            /// Subscriptions of all sessions.
            pub subscriptions: u64,
            /// Those of them that are shared with a group.
            pub shared_subscriptions: u64,
            /// Retained messages.
            pub retained: u64,
            /// Bytes of the retained messages' topics and payloads.
            pub retained_bytes: u64,
        }

        /// The counters that connections share.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($name: AtomicU64,)*
        }

        /// What one batch adds to the [`Counters`]: plain numbers, so that a message costs no
        /// atomic operation.
        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: u64,)*
        }

        impl Counters {
            /// Adds a batch and sets it to zero.
            pub(crate) fn add(&self, tally: &mut Tally) {
                $(if tally.$name != 0 {
                    self.$name.fetch_add(tally.$name, Ordering::Relaxed);
                    tally.$name = 0;
                })*
            }

            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    ..Stats::default()
                }
            }
        }
    };
}

counters! {
    /// Bytes received.
    bytes_received,
    /// Bytes handed to transports.
    bytes_sent,
    /// Packets of all types received.
    messages_received,
    /// Packets of all types sent.
    messages_sent,
    /// PUBLISH packets received.
    publish_received,
    /// PUBLISH packets sent.
    publish_sent,
    /// Messages dropped on the way to one receiver, or as a whole: full queues and outboxes, denied
    /// topics, retained messages over the limit.
    publish_dropped,
    /// Payload bytes of PUBLISH packets received.
    publish_bytes_received,
    /// Payload bytes of PUBLISH packets sent.
    publish_bytes_sent,
    /// Connections accepted by [`Broker::connection`](crate::Broker::connection).
    connections,
    /// Sessions that ended because their client stayed away too long.
    sessions_expired,
}

impl Tally {
    /// Counts several PUBLISH packets of a client.
    pub(crate) fn count_run_received(&mut self, run: PublishRun<'_>) {
        self.messages_received += run.len() as u64;
        self.publish_received += run.len() as u64;
        self.publish_bytes_received += run.payload_bytes() as u64;
    }

    /// Counts several PUBLISH packets on their way to a client.
    pub(crate) fn count_run_sent(&mut self, run: PublishRun<'_>) {
        self.messages_sent += run.len() as u64;
        self.publish_sent += run.len() as u64;
        self.publish_bytes_sent += run.payload_bytes() as u64;
    }

    /// Counts a PUBLISH on its way to a client.
    pub(crate) fn count_publish_sent(&mut self, payload: &[u8]) {
        self.messages_sent += 1;
        self.publish_sent += 1;
        self.publish_bytes_sent += payload.len() as u64;
    }
}
