/// What happens to messages that cannot be sent at once: there is no connection, the in-flight window
/// is full, or they are published faster than the client's task takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offline {
    /// Without a connection, publishing fails with
    /// [`PublishError::NotConnected`](crate::PublishError::NotConnected), and what has not been
    /// written when a connection ends fails too. With one, as [`Offline::Queue`].
    Fail,
    /// Keep all, in order, up to [`Limit`]. The default.
    Queue,
    /// Keep one message for each topic: the newest, at its place in time. Receipts of those it
    /// replaces say [`Delivered::Superseded`](crate::Delivered::Superseded). A message that is on
    /// its way is not replaced.
    Latest,
}

/// The bounds of the queue of messages that wait to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Messages. Default 1,000: a batch that fills a write, and minutes of a busy sensor.
    pub messages: usize,
    /// Bytes of topic and payload. Default 16 MiB. One message is accepted whatever its size when
    /// nothing waits.
    pub bytes: usize,
    /// What happens over a bound.
    pub when_full: WhenFull,
}

impl Default for Limit {
    fn default() -> Self {
        Self { messages: 1000, bytes: 16 << 20, when_full: WhenFull::Wait }
    }
}

/// What happens when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// `publish` waits for room, `try_publish` fails.
    #[default]
    Wait,
    /// Both fail.
    Reject,
    /// The oldest messages that wait are dropped; their receipts say so.
    DropOldest,
    /// The new message is accepted and dropped at once; its receipt says so.
    DropNewest,
}
