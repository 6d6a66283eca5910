use std::cell::OnceCell;

use mqtt_codec::{Delivery, Publish};

use crate::Message;
use crate::send_buffer::{SHARE_FROM, SendBuffer};

/// A PUBLISH on its way to its receivers: borrowed as it was read, and made a [`Message`] once, when
/// the first receiver has to keep it.
pub(crate) struct Publication<'a> {
    publish: Publish<'a>,
    message: OnceCell<Message>,
}

impl<'a> Publication<'a> {
    pub(crate) fn new(publish: Publish<'a>) -> Self {
        Self { publish, message: OnceCell::new() }
    }

    pub(crate) fn publish(&self) -> &Publish<'a> {
        &self.publish
    }

    /// The message as the publisher sent it, RETAIN flag included.
    #[expect(clippy::expect_used, reason = "it came in a packet that was no larger")]
    pub(crate) fn message(&self) -> &Message {
        self.message.get_or_init(|| {
            Message::from_publish(&self.publish).expect("what was decoded fits into a packet")
        })
    }

    /// Appends it, as a QoS 0 message to an established subscription, to what goes to a client.
    pub(crate) fn write_qos0(&self, out: &mut SendBuffer) {
        if self.publish.payload.len() < SHARE_FROM {
            let publish = Publish { delivery: Delivery::AtMostOnce, retain: false, ..self.publish };
            out.append(|own| publish.encode(own));
        } else {
            let message = self.message().with(mqtt_codec::QoS::AtMostOnce, false);
            message.write(Delivery::AtMostOnce, out);
        }
    }
}

impl<'a> From<&'a Message> for Publication<'a> {
    fn from(message: &'a Message) -> Self {
        Self { publish: message.publish(), message: OnceCell::from(message.clone()) }
    }
}
