use std::cell::{Cell, OnceCell};

use mqtt_codec::{Delivery, Publish, QoS};

use crate::Message;
use crate::send_buffer::{SHARE_FROM, SendBuffer};

/// A PUBLISH on its way to its receivers: borrowed as it was read, and made a [`Message`] once, when
/// the first receiver has to keep it.
pub(crate) struct Publication<'a> {
    publish: Publish<'a>,
    message: OnceCell<Message>,
    /// Nobody but one receiver asks for the message.
    is_for_one: Cell<bool>,
}

impl<'a> Publication<'a> {
    pub(crate) fn new(publish: Publish<'a>) -> Self {
        Self { publish, message: OnceCell::new(), is_for_one: Cell::new(false) }
    }

    pub(crate) fn publish(&self) -> &Publish<'a> {
        &self.publish
    }

    /// Bytes of topic and payload.
    pub(crate) fn size(&self) -> usize {
        self.publish.topic.as_bytes().len() + self.publish.payload.len()
    }

    /// The message as the publisher sent it, RETAIN flag included.
    #[expect(clippy::expect_used, reason = "it came in a packet that was no larger")]
    pub(crate) fn message(&self) -> &Message {
        self.message.get_or_init(|| {
            Message::from_publish(&self.publish).expect("what was decoded fits into a packet")
        })
    }

    /// Says that only one receiver will ask for the message.
    pub(crate) fn set_for_one(&self) {
        self.is_for_one.set(true);
    }

    /// The message at another QoS, for a receiver that keeps it. One that is the only one gets it for
    /// itself: a second handle would be another allocation, 6 % of a message at QoS 1.
    pub(crate) fn message_for(&self, qos: QoS) -> Message {
        let sole = if self.is_for_one.get() && self.message.get().is_none() {
            Message::from_publish(&self.publish).ok()
        } else {
            None
        };
        sole.unwrap_or_else(|| self.message().clone()).with(qos, false)
    }

    /// Appends it, as a message of QoS 0, to what goes to a client.
    pub(crate) fn write_qos0(&self, retain: bool, out: &mut SendBuffer) {
        if self.publish.payload.len() < SHARE_FROM {
            let publish = Publish { delivery: Delivery::AtMostOnce, retain, ..self.publish };
            out.append(|own| publish.encode(own));
        } else {
            let message = self.message().clone().with(QoS::AtMostOnce, retain);
            message.write(Delivery::AtMostOnce, out);
        }
    }
}

impl<'a> From<&'a Message> for Publication<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            publish: message.publish(),
            message: OnceCell::from(message.clone()),
            is_for_one: Cell::new(false),
        }
    }
}
