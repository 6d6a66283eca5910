use std::time::Instant;

use mqtt_codec::{Delivery, Packet, PacketType, Publish};

use super::acks::Acks;
use super::after;
use super::open::{Held, Open};
use super::replies::Replies;
use crate::broker::Shared;
use crate::journal::Recorder;
use crate::publication::Publication;
use crate::qos::Seen;
use crate::session::Received;
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
        if let Some(mount) = self.client.mount_point() {
            mounted = mount.topic(publish.topic).ok_or(ConnectionError::TopicTooLong)?;
            publish.topic = mounted.as_topic_name();
        }
        if !shared.topic_fits(publish.topic) {
            return Err(ConnectionError::TopicTooLong);
        }
        let received = self.received(publish.delivery);
        if let Some(Received { id, .. }) = received {
            let Some(state) = self.lock() else { return Ok(()) };
            if state.deliveries.look_up(id)? == Seen::Again {
                drop(state);
                // What its first coming has changed may not be durable yet.
                replies.acknowledge(publish.delivery, shared.last_change(&self.session), worker);
                return Ok(());
            }
        }
        let publication = Publication::new(publish);
        let taken = shared.publish_from(&self.client, &publication, received, worker)?;
        let Some(after) = taken else { return Ok(()) };
        replies.acknowledge(publish.delivery, after, worker);
        if shared.is_journal_behind(after) {
            replies.wait_for(after, worker);
        }
        self.hold(shared, worker, now);
        Ok(())
    }

    /// What the session has to remember of a message.
    pub(super) fn received(&self, delivery: Delivery) -> Option<Received<'_>> {
        match delivery {
            Delivery::ExactlyOnce { id, .. } => {
                Some(Received { session: &self.session, epoch: self.epoch, id })
            }
            _ => None,
        }
    }

    /// PUBREL: the ids of QoS 2 messages are free.
    pub(super) fn handle_pubrels(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        acks: Acks<'_>,
        replies: &mut Replies,
    ) {
        let mut tx = shared.transaction_for(&self.session);
        if let Some(mut state) = self.lock() {
            for id in acks.ids() {
                state.has_progressed |= state.deliveries.receiver.handle_pubrel(id);
            }
            tx.touch(&self.session, &mut state);
        }
        for id in acks.ids() {
            // If it were forgotten, the next message with the id would be taken for this one.
            replies.push(&Packet::PubComp(id), tx.last(), worker);
        }
    }

    /// Acknowledgements of what was sent to the client: the window moves on.
    pub(super) fn handle_acks(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        kind: PacketType,
        acks: Acks<'_>,
        replies: &mut Replies,
    ) -> Result<(), ConnectionError> {
        let mut tx = shared.transaction_for(&self.session);
        let mut good = acks.len();
        let mut result = Ok(());
        if let Some(mut state) = self.lock() {
            for (n, id) in acks.ids().enumerate() {
                match state.acknowledge(kind, id) {
                    Ok(number) => tx.done(number),
                    Err(wrong) => {
                        // Those before it have their effect.
                        good = n;
                        result = Err(wrong.into());
                        break;
                    }
                }
            }
            state.has_progressed |= good > 0;
            state.pump(&shared.config, worker, &mut tx);
            tx.touch(&self.session, &mut state);
            state.release(&shared.config, &mut worker.wakes);
        }
        if kind == PacketType::PubRec {
            for id in acks.ids().take(good) {
                // If it were forgotten, the message would be sent once more.
                replies.push(&Packet::PubRel(id), tx.last(), worker);
            }
        }
        result
    }

    /// Holds the client back while receivers of its message have no room.
    pub(super) fn hold(&mut self, shared: &Shared, worker: &mut Worker, now: Instant) {
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
        let until = after(now, shared.config.congestion_timeout);
        self.held = Some(Box::new(Held { receivers, until }));
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
