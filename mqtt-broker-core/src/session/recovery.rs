//! What of a session survives a restart, and how it is taken up again.

use std::collections::BTreeMap;

use mqtt_codec::{QoS, TopicFilterBuf};

use super::{Queued, State};
use crate::journal::{InFlight, MessageId, Progress, RecoveredMessage};
use crate::qos::{AckedQoS, Unfinished};
use crate::router::Group;
use crate::sync::Arc;
use crate::{Config, Message};

impl State {
    /// The numbers of all messages that it has and that survive a restart.
    pub(super) fn numbers(&self) -> impl Iterator<Item = MessageId> {
        let in_flight =
            self.deliveries.sender.unfinished().filter_map(|unfinished| match unfinished {
                Unfinished::Publish { item, .. } => item.number,
                Unfinished::Release { .. } => None,
            });
        in_flight.chain(self.deliveries.queue.numbers())
    }

    /// Takes up the deliveries of an earlier life.
    pub(crate) fn restore(
        &mut self,
        progress: Progress,
        messages: Vec<RecoveredMessage>,
        group: impl Fn(&TopicFilterBuf) -> Option<Arc<Group>>,
        config: &Config,
    ) {
        let mut in_flight = BTreeMap::new();
        let mut may_be_sent = true;
        for RecoveredMessage { id, qos, size, message, group: filter } in messages {
            let group = filter.as_ref().and_then(&group);
            let queued = message.map(|message| Queued { message, group, number: Some(id) });
            if id < progress.queued_from {
                in_flight.extend(queued.map(|queued| (id, queued)));
                continue;
            }
            // What was sent at QoS 1 since the last commit is the front of what waits, up to the
            // first message of QoS 2, which is sent after a commit only. In the same order it is
            // sent again with the same packet ids.
            may_be_sent &= qos == QoS::AtLeastOnce;
            if may_be_sent && Some(id) <= progress.may_be_sent {
                self.deliveries.may_be_sent = Some(id);
            }
            match queued {
                Some(queued) => self.deliveries.queue.push(queued, config),
                None => self.deliveries.queue.push_stored(id, size),
            }
        }
        for InFlight { packet_id, message } in progress.in_flight {
            match message {
                None => drop(self.deliveries.sender.restore(packet_id, None)),
                Some(id) => {
                    // It is not there if it never became durable.
                    let Some(queued) = in_flight.remove(&id) else { continue };
                    let Some(qos) = AckedQoS::new(queued.message.qos()) else { continue };
                    self.deliveries.in_flight_bytes += queued.message.size();
                    self.deliveries.sender.restore(packet_id, Some((qos, queued)));
                }
            }
        }
        self.deliveries.sender.restore_next(progress.next_packet_id);
        self.deliveries.receiver.restore(&progress.received);
        self.deliveries.settle();
    }

    /// Messages that the client will soon have to get from the store, to be asked for once.
    pub(crate) fn load(&mut self) -> Option<Vec<MessageId>> {
        if self.deliveries.queue.is_empty() || !self.is_connected() {
            return None;
        }
        self.deliveries.queue.load()
    }

    /// Messages that were asked for have been read.
    pub(crate) fn fill(&mut self, loaded: Vec<(MessageId, Message)>) {
        self.deliveries.queue.fill(loaded);
    }

    /// Whether a message waits and is the next to be read from the store.
    pub(crate) fn waits_for(&self, number: MessageId) -> bool {
        self.deliveries.queue.next_stored() == Some(number)
    }

    /// How far the deliveries are, when the next message will be `next`. `None` when the session is
    /// over.
    pub(crate) fn progress(&mut self, next: MessageId) -> Option<Progress> {
        self.is_touched = false;
        self.has_progressed = false;
        if self.is_ended() {
            return None;
        }
        let in_flight = self.deliveries.sender.unfinished().map(|unfinished| match unfinished {
            Unfinished::Publish { id, item, .. } => InFlight::new(id, item.number),
            Unfinished::Release { id } => InFlight::new(id, None),
        });
        Some(Progress {
            may_be_sent: if self.is_connected() {
                Some(MessageId::LAST)
            } else {
                self.deliveries.may_be_sent
            },
            next_packet_id: self.deliveries.next_id(),
            queued_from: self.deliveries.queue.first_number().unwrap_or(next),
            in_flight: in_flight.collect(),
            received: self.deliveries.receiver.ranges().collect(),
        })
    }
}
