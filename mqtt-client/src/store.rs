//! Where accepted messages outlive the program.

#[cfg(feature = "file-store")]
mod file;
mod writer;

use std::io;

use bytes::Bytes;
use mqtt_codec::{PacketId, QoS, TopicNameBuf};

#[cfg(feature = "file-store")]
pub use file::FileStore;
pub(crate) use writer::Writer;

/// Keeps the messages of QoS 1 and 2 that a client accepted, and how far their deliveries are.
///
/// [`Builder::store`](crate::Builder::store) takes one; without, messages are in memory only. It
/// runs on a thread of its own. Messages of QoS 0 are never stored.
pub trait Store: Send + 'static {
    /// What is kept, when a client of this id starts.
    ///
    /// # Errors
    /// Of the storage; also if it is another client's.
    fn load(&mut self, client_id: &str) -> io::Result<Snapshot>;

    /// Carries out changes, in order and all or none. When it returns they outlive the program,
    /// and, as far as the store promises, the machine: nothing that relies on them is sent before.
    ///
    /// # Errors
    /// Of the storage. The client ends, and what it had accepted before stays.
    fn write(&mut self, changes: &[Change]) -> io::Result<()>;
}

/// What a store keeps.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The messages, each with its number.
    pub messages: Vec<(u64, StoredMessage)>,
    /// Packet ids of QoS 2 messages that were received and acknowledged by PUBREC.
    pub received: Vec<PacketId>,
}

/// A message in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Where it goes.
    pub topic: TopicNameBuf,
    /// What it says.
    pub payload: Bytes,
    /// 1 or 2.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Whether a newer one of its topic takes its place while it waits.
    pub replaceable: bool,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// How far it is.
    pub stage: Stage,
}

/// How far the delivery of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not sent.
    Queued,
    /// Sent with this packet id, as the so-manieth.
    Sent(PacketId, u64),
    /// QoS 2: PUBREC came; PUBCOMP is due.
    Released(PacketId, u64),
}

/// One change of what a store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A message was accepted, with a number that none had before.
    Put(u64, StoredMessage),
    /// A message is at another stage.
    Stage(u64, Stage),
    /// A message has come to its end.
    Remove(u64),
    /// A QoS 2 message with this packet id was received.
    Received(PacketId),
    /// That packet id is free again.
    Forgotten(PacketId),
    /// The broker forgot the session: all received packet ids are free.
    ForgotAll,
}
