use std::time::Instant;

use mqtt_codec::{Delivery, Packet, PacketType, Publish};

use super::Run;
use super::acks::Acks;
use super::{Held, Open, Replies, after};
use crate::broker::Shared;
use crate::journal::Recorder;
use crate::publication::{Part, Publication};
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
        part: Option<Part<'_>>,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        worker.tally.publish_received += 1;
        worker.tally.publish_bytes_received += publish.payload.len() as u64;
        let mounted;
        let mut publish = *publish;
        let mut part = part;
        if let Some(mount) = &self.client.peer.mount_point {
            mounted = mount.topic(publish.topic).ok_or(ConnectionError::TopicTooLong)?;
            publish.topic = mounted.as_topic_name();
            // It is not the packet that was read.
            part = None;
        }
        if !shared.topic_fits(publish.topic) {
            return Err(ConnectionError::TopicTooLong);
        }
        let publication = Publication::new(publish, part);
        match publish.delivery {
            Delivery::AtMostOnce => {
                shared.publish_from(&self.client, &publication, None, worker)?;
            }
            Delivery::AtLeastOnce { id, .. } => {
                let after = shared.publish_from(&self.client, &publication, None, worker)?;
                replies.push(&Packet::PubAck(id), after, worker);
            }
            Delivery::ExactlyOnce { id, .. } => {
                let Some(state) = self.lock() else { return Ok(()) };
                let seen = state.receiver.look_up(id)?;
                drop(state);
                let after = match seen {
                    Seen::First => {
                        let received = Received { session: &self.session, epoch: self.epoch, id };
                        shared.publish_from(&self.client, &publication, Some(received), worker)?
                    }
                    // What its first coming has changed may not be durable yet.
                    Seen::Again => shared.last_change(&self.session),
                };
                replies.push(&Packet::PubRec(id), after, worker);
            }
        }
        self.hold(shared, worker, now);
        Ok(())
    }

    /// Whether messages can be handled a run at a time: neither hooks that are told of each nor a mount
    /// point have to look at them.
    pub(super) fn takes_runs(&self, shared: &Shared) -> bool {
        self.client.peer.mount_point.is_none() && shared.passes_runs()
    }

    /// QoS 0 messages of one topic. Gives back how many bytes of them are handled: those behind a message
    /// for which the client is held back are not.
    pub(super) fn handle_run(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        run: Run<'_>,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<usize, ConnectionError> {
        if run.messages().all(|(publish, _)| shared.topic_fits(publish.topic))
            && shared.publish_run(&self.client, run, worker)?
        {
            return Ok(run.bytes().len());
        }
        let mut handled = 0;
        for (publish, len) in run.messages() {
            if self.held.is_some() {
                break;
            }
            worker.tally.messages_received += 1;
            self.handle_publish(shared, worker, &publish, None, replies, now)?;
            handled += len;
        }
        Ok(handled)
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
                state.has_progressed |= state.receiver.handle_pubrel(id);
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

impl Held {
    /// Whether all receivers have room again.
    pub(super) fn is_released(&self, shared: &Shared) -> bool {
        !self.receivers.iter().any(|receiver| receiver.lock().is_congested(&shared.config))
    }
}
