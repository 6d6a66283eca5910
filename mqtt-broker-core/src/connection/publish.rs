use std::time::Instant;

use mqtt_codec::{Delivery, Packet, PacketId, PacketType, Publish};

use super::{Held, Open, Replies, after};
use crate::broker::Shared;
use crate::publication::Publication;
use crate::qos::Seen;
use crate::sync::Arc;
use crate::{ConnectionError, Worker};

impl Open {
    /// Takes a message over and acknowledges it: the answer is written when every receiver's session
    /// owns the message [MQTT-4.3.2-2], [MQTT-4.3.3-2].
    pub(super) fn handle_publish(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        publish: &Publish<'_>,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        worker.tally.publish_received += 1;
        worker.tally.publish_bytes_received += publish.payload.len() as u64;
        let mounted;
        let mut publish = *publish;
        if let Some(mount) = &self.client.peer.mount_point {
            mounted = mount.topic(publish.topic).ok_or(ConnectionError::TopicTooLong)?;
            publish.topic = mounted.as_topic_name();
        }
        if !shared.topic_fits(publish.topic) {
            return Err(ConnectionError::TopicTooLong);
        }
        let (is_new, answer) = match publish.delivery {
            Delivery::AtMostOnce => (true, None),
            Delivery::AtLeastOnce { id, .. } => (true, Some(Packet::PubAck(id))),
            Delivery::ExactlyOnce { id, .. } => {
                let Some(mut state) = self.lock() else { return Ok(()) };
                let seen = state.receiver.handle_publish(id)?;
                (seen == Seen::First, Some(Packet::PubRec(id)))
            }
        };
        if is_new {
            shared.publish_from(&self.client, &Publication::new(publish), worker)?;
            self.hold(shared, worker, now);
        }
        if let Some(answer) = answer {
            replies.push(&answer, worker);
        }
        Ok(())
    }

    /// An acknowledgement of what was sent to the client: the window moves on.
    pub(super) fn handle_ack(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        kind: PacketType,
        id: PacketId,
    ) -> Result<(), ConnectionError> {
        let Some(mut state) = self.lock() else { return Ok(()) };
        let acknowledged = match kind {
            PacketType::PubAck => state.sender.handle_puback(id)?,
            PacketType::PubRec => state.sender.handle_pubrec(id)?,
            _ => {
                state.sender.handle_pubcomp(id)?;
                None
            }
        };
        if let Some(queued) = acknowledged {
            state.let_go(&queued);
        }
        state.pump(&shared.config, worker);
        state.release(&shared.config, &mut worker.wakes);
        Ok(())
    }

    /// Holds the client back while receivers of its message have no room.
    fn hold(&mut self, shared: &Shared, worker: &mut Worker, now: Instant) {
        if worker.congested.is_empty() {
            return;
        }
        let mut receivers = std::mem::take(&mut worker.congested);
        // It would wait for acknowledgements that are not read because it waits.
        receivers.retain(|receiver| !Arc::ptr_eq(receiver, &self.session));
        if receivers.is_empty() {
            return;
        }
        if let Some(mut state) = self.lock() {
            // For the same reason nobody may wait for a client that is held back.
            state.is_held = true;
            state.release(&shared.config, &mut worker.wakes);
        }
        self.held = Some(Held { receivers, until: after(now, shared.config.congestion_timeout) });
    }

    /// Reads the client again. Receivers that had their time and still have no room are
    /// disconnected.
    pub(super) fn release(&mut self, shared: &Shared, worker: &mut Worker, is_over: bool) {
        let Some(held) = self.held.take() else { return };
        if let Some(mut state) = self.lock() {
            state.is_held = false;
        }
        if is_over {
            for receiver in held.receivers {
                let mut state = receiver.lock();
                if state.is_connected() && state.is_congested(&shared.config) {
                    state.close(Err(ConnectionError::SlowReceiver), &mut worker.wakes);
                }
            }
        }
    }
}

impl Held {
    /// Whether all receivers have room again.
    pub(super) fn is_released(&self, shared: &Shared) -> bool {
        !self.receivers.iter().any(|receiver| receiver.lock().is_congested(&shared.config))
    }
}
