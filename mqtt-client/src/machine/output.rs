//! What goes to the broker.

use std::time::Instant;

use mqtt_broker_core::qos::{AckedQoS, Unfinished};
use mqtt_codec::{Ack, Delivery, Packet, QoS};

use super::{KEEP_BUFFER, Machine, Outgoing, Replay, Stage};
use crate::receipt::Delivered;
use crate::send_buffer::SendBuffer;
use crate::store::Stage as Stored;

/// Bytes collected for one write. More than a socket takes at a time is only memory.
const WRITE_SIZE: usize = 128 << 10;

impl Machine {
    /// Whether [`poll_transmit`](Self::poll_transmit) has something to give.
    pub(crate) fn wants_transmit(&self) -> bool {
        match self.stage {
            Stage::Disconnected => false,
            Stage::Connecting { .. } | Stage::Closing => !self.control.is_empty(),
            Stage::Connected { .. } => {
                !self.control.is_empty()
                    || self.ledger.is_ready()
                    || (self.subscriptions.has_changes() && self.sender.has_id())
                    || !self.resend.is_empty()
                    || self.wants_queued()
                    || (self.shutting_down && self.is_drained())
            }
        }
    }

    fn wants_queued(&self) -> bool {
        let is_early = self.replay.as_ref().is_some_and(Replay::is_early);
        !is_early && self.queue.front().is_some_and(|next| self.can_send(next.qos))
    }

    fn can_send(&self, qos: QoS) -> bool {
        qos == QoS::AtMostOnce || self.sender.has_room()
    }

    /// Appends what is due to `out`, up to what one write takes.
    pub(crate) fn poll_transmit(&mut self, out: &mut SendBuffer, now: Instant) {
        let before = out.len();
        if self.is_connected() {
            self.write_answers();
            self.subscriptions.request(&mut self.sender, &mut self.control, now);
            // A filter that is gone before it was asked for gets no answer.
            self.note_restored();
        }
        if !self.control.is_empty() {
            out.append(|bytes| bytes.extend_from_slice(&self.control));
            self.control.clear();
            if self.control.capacity() > KEEP_BUFFER {
                self.control = Vec::new();
            }
        }
        if self.is_connected() {
            self.write_unfinished(out, before);
            self.write_queued(out, before, now);
            if self.shutting_down && self.is_drained() {
                out.append(|bytes| Packet::Disconnect.encode(bytes));
                self.stage = Stage::Closing;
            }
        }
        let added = out.len() - before;
        self.handed_out += added as u64;
        if added > 0 {
            self.keep_alive.handle_pending(now);
        }
    }

    /// Acknowledgements, in the order of the messages.
    fn write_answers(&mut self) {
        while let Some((qos, id)) = self.ledger.pop_ready() {
            let ack = match qos {
                AckedQoS::AtLeastOnce => Ack::PubAck(id),
                AckedQoS::ExactlyOnce => Ack::PubRec(id),
            };
            self.control.extend_from_slice(&ack.to_bytes());
        }
    }

    /// Takes up what an earlier connection left, in the order of the first sending
    /// [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    fn write_unfinished(&mut self, out: &mut SendBuffer, before: usize) {
        while out.len() - before < WRITE_SIZE
            && let Some(id) = self.resend.pop_front()
        {
            match self.sender.unfinished_at(id) {
                Some(Unfinished::Publish { id, qos, item }) => {
                    write_publish(out, item, qos.delivery(id, true));
                    self.counters.resent += 1;
                }
                Some(Unfinished::Release { id }) => {
                    out.append(|bytes| bytes.extend_from_slice(&Ack::PubRel(id).to_bytes()));
                }
                None => {}
            }
        }
    }

    fn write_queued(&mut self, out: &mut SendBuffer, before: usize, now: Instant) {
        if !self.resend.is_empty() {
            return;
        }
        self.expire(now);
        while out.len() - before < WRITE_SIZE
            && let Some(next) = self.queue.front()
            && self.can_send(next.qos)
            && self.replay.as_mut().is_none_or(|replay| replay.allows(now))
            && let Some(mut queued) = self.queue.pop()
        {
            if let Some(replay) = &mut self.replay {
                replay.count(now);
            }
            match AckedQoS::new(queued.qos) {
                None => {
                    write_publish(out, &queued.message, Delivery::AtMostOnce);
                    let end = self.handed_out + (out.len() - before) as u64;
                    self.writing.push_back((end, queued));
                }
                Some(qos) => {
                    let id = self.sender.next_id();
                    self.note_stage(queued.message.token, Stored::Sent(id, self.next_sending));
                    queued.message.order = self.next_sending;
                    self.next_sending += 1;
                    write_publish(out, &queued.message, qos.delivery(id, false));
                    if self.sender.in_flight() == 0 {
                        self.last_ack = Some(now);
                    }
                    let begun = self.sender.begin(qos, queued.message);
                    debug_assert_eq!(begun.ok(), Some(id), "there is room, and the id is the next");
                }
            }
        }
    }

    /// The transport has taken `written` more bytes.
    pub(crate) fn handle_written(&mut self, written: usize, now: Instant) {
        self.written += written as u64;
        self.counters.bytes_sent += written as u64;
        let more = self.written < self.handed_out || !self.control.is_empty();
        self.keep_alive.handle_sent(now, more);
        while let Some((end, _)) = self.writing.front()
            && *end <= self.written
            && let Some((_, queued)) = self.writing.pop_front()
        {
            self.end(queued.message.token, Ok(Delivered::Written));
        }
    }
}

fn write_publish(out: &mut SendBuffer, message: &Outgoing, delivery: Delivery) {
    let publish = mqtt_codec::Publish {
        topic: message.topic.as_topic_name(),
        payload: &message.payload,
        delivery,
        retain: message.retain,
    };
    out.append(|bytes| publish.encode_head(bytes));
    out.append_payload(&message.payload);
}
