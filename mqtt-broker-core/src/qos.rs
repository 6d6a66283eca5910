//! The two halves of QoS 1 and 2 delivery, as both ends of a connection need them.
//!
//! [`Sender`] keeps what was sent and is not yet acknowledged, [`Receiver`] the packet ids of
//! QoS 2 messages between PUBREC and PUBCOMP. Both are pure: no lock, no time, no bytes. A broker
//! holds one of each per session, a client one of each per connection to its broker, and both
//! survive the connection when the session does.
//!
//! ```
//! use mqtt_broker_core::qos::{AckedQoS, Sender, Unfinished};
//!
//! let mut sender = Sender::new(20);
//! let id = sender.begin(AckedQoS::AtLeastOnce, "hello").unwrap();
//!
//! // The connection is cut before the PUBACK: the same id, again, with DUP set.
//! let again: Vec<_> = sender.unfinished().collect();
//! assert_eq!(again, [Unfinished::Publish { id, qos: AckedQoS::AtLeastOnce, item: &"hello" }]);
//!
//! assert_eq!(sender.handle_puback(id), Ok(Some("hello")));
//! assert!(sender.is_empty());
//! ```

mod receiver;
mod sender;

pub use receiver::{Receiver, Seen, TooManyOpen};
pub use sender::{Abandoned, Sender, Unfinished, WrongAck};

use mqtt_codec::{Delivery, PacketId, QoS};

/// The two levels of service that are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckedQoS {
    /// QoS 1: PUBLISH, PUBACK.
    AtLeastOnce,
    /// QoS 2: PUBLISH, PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce,
}

impl AckedQoS {
    /// The same level among all three; `None` for QoS 0, which nobody acknowledges.
    pub fn new(qos: QoS) -> Option<Self> {
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Self::AtLeastOnce),
            QoS::ExactlyOnce => Some(Self::ExactlyOnce),
        }
    }

    /// What a PUBLISH at this level carries in its header.
    pub fn delivery(self, id: PacketId, dup: bool) -> Delivery {
        match self {
            Self::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
            Self::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
        }
    }
}

impl From<AckedQoS> for QoS {
    fn from(qos: AckedQoS) -> Self {
        match qos {
            AckedQoS::AtLeastOnce => Self::AtLeastOnce,
            AckedQoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}
