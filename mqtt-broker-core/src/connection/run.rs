use std::time::Instant;

use mqtt_codec::{PublishRun, QoS};

use super::open::Open;
use super::replies::Replies;
use crate::broker::Shared;
use crate::hooks::Permission;
use crate::journal::Unrecorded;
use crate::publication::Publication;
use crate::{ConnectionError, Worker};

/// Bytes of a run: few enough to be no burden for an outbox, and to be kept as one block for as long
/// as one of the messages is; and as many messages as most clients send at a time.
pub(super) const MAX_RUN: usize = 16 << 10;

impl Open {
    /// Whether messages can be handled a run at a time: neither hooks that are told of each nor a mount
    /// point nor a journal have to look at them.
    pub(super) fn takes_runs(&self, shared: &Shared) -> bool {
        self.client.mount_point().is_none() && shared.passes_runs()
    }

    /// Messages with one topic. They are routed at a time when all receivers have room for all of them;
    /// else one by one, since what is dropped and who is held back is decided for each.
    ///
    /// Gives back how many bytes are handled: those behind a message for which the client is held back
    /// are not.
    pub(super) fn handle_run(
        &mut self,
        shared: &Shared,
        worker: &mut Worker,
        run: PublishRun<'_>,
        replies: &mut Replies,
        now: Instant,
    ) -> Result<usize, ConnectionError> {
        if !self.is_new(run) || !shared.topic_fits(run.topic()) || !shared.has_room(run, worker) {
            let mut handled = 0;
            for publish in run.publishes() {
                if self.held.is_some() {
                    break;
                }
                worker.tally.messages_received += 1;
                self.handle_publish(shared, worker, &publish, replies, now)?;
                handled += publish.encoded_len();
            }
            return Ok(handled);
        }
        let mut rest = run;
        let mut permitted = 0;
        for publish in run.publishes() {
            let permission = shared.permission(&self.client, &publish);
            if permission == Permission::Allow {
                permitted += 1;
                continue;
            }
            let (before, others) = rest.split_at(std::mem::take(&mut permitted));
            self.pass(shared, worker, before, replies);
            let (this, others) = others.split_at(1);
            rest = others;
            worker.tally.count_run_received(this);
            let publication = Publication::new(publish);
            let received = self.received(publish.delivery);
            let result = shared.publish_permitted(
                &self.client,
                &publication,
                &permission,
                received,
                worker,
                Unrecorded,
            );
            // Another message in its place may be for receivers that have no room.
            self.hold(shared, worker, now);
            if result?.is_some() {
                replies.acknowledge(publish.delivery, 0, worker);
            }
            if self.held.is_some() {
                return Ok(run.bytes().len() - rest.bytes().len());
            }
        }
        self.pass(shared, worker, rest, replies);
        self.hold(shared, worker, now);
        Ok(run.bytes().len())
    }

    /// Whether none of the messages has come before, as far as QoS 2 tells: their ids rise and are free.
    fn is_new(&self, run: PublishRun<'_>) -> bool {
        if run.qos() < QoS::ExactlyOnce {
            return true;
        }
        let ids = || run.publishes().filter_map(|publish| publish.packet_id());
        let (Some(first), Some(last)) = (ids().next(), ids().last()) else { return false };
        ids().is_sorted_by(|one, next| one < next)
            && self.lock().is_some_and(|state| state.deliveries.are_new(first, last, run.len()))
    }

    /// Hands permitted messages to their receivers, and acknowledges them.
    fn pass(
        &self,
        shared: &Shared,
        worker: &mut Worker,
        run: PublishRun<'_>,
        replies: &mut Replies,
    ) {
        if run.len() == 0 {
            return;
        }
        if run.qos() == QoS::ExactlyOnce && self.lock().is_none() {
            // It was taken over while the hooks decided, and the messages may have come again.
            return;
        }
        worker.tally.count_run_received(run);
        shared.route_run(run, worker);
        if run.qos() == QoS::ExactlyOnce
            && let Some(mut state) = self.lock()
        {
            for id in run.publishes().filter_map(|publish| publish.packet_id()) {
                // Looked at before, and ids of this connection come to nobody else.
                let _ = state.deliveries.receiver.handle_publish(id);
            }
        }
        replies.acknowledge_run(run, worker);
    }
}
