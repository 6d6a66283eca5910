use mqtt_codec::{Ack, Delivery, Packet, PublishRun, QoS};

use crate::Worker;
use crate::send_buffer::SendBuffer;

/// Acknowledgements and other answers, written with the next batch.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) buffer: Option<Box<SendBuffer>>,
}

impl Replies {
    /// Appends a packet that leaves when batch `after` of the journal is durable.
    pub(super) fn push(&mut self, packet: &Packet<'_>, after: u64, worker: &mut Worker) {
        worker.tally.messages_sent += 1;
        let buffer = self.buffer.get_or_insert_with(|| worker.buffer());
        if after > 0 {
            buffer.wait_for(after);
            buffer.acknowledges |= matches!(packet, Packet::PubAck(_) | Packet::PubRec(_));
        }
        buffer.append(|own| packet.encode(own));
    }

    /// Answers a message that every receiver's session owns [MQTT-4.3.2-2], [MQTT-4.3.3-2].
    pub(super) fn acknowledge(&mut self, delivery: Delivery, after: u64, worker: &mut Worker) {
        if let Some(ack) = acknowledgement(delivery) {
            self.push(&ack.into(), after, worker);
        }
    }

    /// The same for messages of a broker without a journal: there is nothing to wait for.
    pub(super) fn acknowledge_run(&mut self, run: PublishRun<'_>, worker: &mut Worker) {
        let acks = run.publishes().filter_map(|publish| acknowledgement(publish.delivery));
        if run.qos() > QoS::AtMostOnce {
            worker.tally.messages_sent += run.len() as u64;
            let buffer = self.buffer.get_or_insert_with(|| worker.buffer());
            buffer.append(|own| acks.for_each(|ack| own.extend_from_slice(&ack.to_bytes())));
        }
    }

    /// Has the client wait for batch `after` of the journal, and be read no more if that takes long,
    /// whether or not it gets an answer.
    pub(super) fn wait_for(&mut self, after: u64, worker: &mut Worker) {
        self.buffer.get_or_insert_with(|| worker.buffer()).wait_for(after);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }
}

/// The first answer to a message.
#[inline]
fn acknowledgement(delivery: Delivery) -> Option<Ack> {
    match delivery {
        Delivery::AtMostOnce => None,
        Delivery::AtLeastOnce { id, .. } => Some(Ack::PubAck(id)),
        Delivery::ExactlyOnce { id, .. } => Some(Ack::PubRec(id)),
    }
}
