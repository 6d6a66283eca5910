//! The way of messages through a session: in from publishers, out to its client.

use mqtt_codec::{ConnAck, Delivery, Packet, PacketId, PacketType, PublishRun, QoS, TopicName};

use super::{Link, Outcome, Queued, State, Terms};
use crate::hooks::DropReason;
use crate::journal::{MessageId, Recorder, Unrecorded};
use crate::publication::Publication;
use crate::qos::{AckedQoS, Unfinished, WrongAck};
use crate::send_buffer::SendBuffer;
use crate::sync::Arc;
use crate::{Client, Config, Message, MountPoint, Worker};

impl State {
    /// Delivers a published message: RETAIN is 0 for an established subscription [MQTT-3.3.1-9],
    /// and DUP is not passed on [MQTT-3.3.1-3].
    pub(crate) fn deliver(
        &mut self,
        publication: &Publication<'_>,
        terms: Terms<'_>,
        config: &Config,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Outcome {
        if self.is_elsewhere(publication.publish().topic) {
            return Outcome::NotMeant;
        }
        let Terms { qos, group, number } = terms;
        if qos == QoS::AtMostOnce && self.is_connected() && !self.deliveries.queue.holds_qos0() {
            if !self.outbox_takes(publication.size(), config) {
                return Outcome::Dropped(DropReason::OutboxFull);
            }
            self.write_qos0(publication, false, worker);
            return Outcome::Accepted;
        }
        if qos == QoS::AtMostOnce && !self.queues_qos0(config) {
            return Outcome::NotMeant;
        }
        let message = publication.message_for(qos);
        self.accept(Queued { message, group: group.cloned(), number }, config, worker, tx)
    }

    /// Whether all messages of a run can be taken at this QoS, so that none is dropped and nobody held
    /// back.
    pub(crate) fn takes_run(&self, run: PublishRun<'_>, qos: QoS, config: &Config) -> bool {
        let is_mounted = mount_point(&self.owner).is_some();
        if is_mounted || matches!(self.link, Link::Closing(_) | Link::Ended) {
            return false;
        }
        if qos > QoS::AtMostOnce {
            return self.deliveries.queue.has_room(run.len(), size(run), config);
        }
        self.is_connected()
            && !self.deliveries.queue.holds_qos0()
            && self.unsent() + run.bytes().len() <= config.max_outbox_bytes
    }

    /// Whether a run of QoS 1 or 2, for which there was room a moment ago, is taken without: other
    /// threads have brought theirs since, one each at most, and a client that is there loses nothing.
    pub(crate) fn bears_run(&self, qos: QoS) -> bool {
        qos > QoS::AtMostOnce && self.has_taker() && mount_point(&self.owner).is_none()
    }

    /// Delivers a run that can be taken. `kept` are its messages, if the QoS is 1 or 2.
    pub(crate) fn deliver_run(
        &mut self,
        run: PublishRun<'_>,
        qos: QoS,
        kept: &[Message],
        config: &Config,
        worker: &mut Worker,
    ) {
        let acked = AckedQoS::new(qos);
        let queued = kept.iter().map(|message| {
            let message = message.clone().with(qos, false);
            Queued { message, group: None, number: None }
        });
        if acked.is_some() && !self.may_send_run(run, config) {
            let mut sends = self.deliveries.queue.is_empty();
            for queued in queued {
                sends = sends && self.may_send(&queued.message, config);
                if sends {
                    self.send(queued, worker, &mut Unrecorded);
                } else {
                    self.deliveries.queue.push(queued, config);
                }
            }
            return;
        }
        let out = self.outbox.get_or_insert_with(|| worker.buffer());
        out.append(|own| run.encode_to_vec(qos, self.deliveries.next_id(), own));
        worker.tally.count_run_sent(run);
        if let Some(acked) = acked {
            self.deliveries.in_flight_bytes += size(run);
            self.deliveries.sender.begin_all(acked, queued);
        }
    }

    /// Whether the client is there, nothing waits, and the window and the outbox have room for all
    /// messages of a run.
    fn may_send_run(&self, run: PublishRun<'_>, config: &Config) -> bool {
        self.is_connected()
            && self.deliveries.queue.is_empty()
            && self.deliveries.room() >= run.len()
            && self.deliveries.in_flight_bytes.saturating_add(size(run))
                <= config.max_inflight_bytes
            && self.unsent() + run.bytes().len() <= config.max_outbox_bytes
    }

    /// Takes a message that is to be kept until it is delivered: sends it when nothing waits before
    /// it and the window has room, else queues it.
    fn accept(
        &mut self,
        queued: Queued,
        config: &Config,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Outcome {
        if self.is_ended() {
            return Outcome::NotMeant;
        }
        if self.deliveries.queue.is_empty() && self.may_send(&queued.message, config) {
            self.send(queued, worker, tx);
            return Outcome::Accepted;
        }
        // A connected receiver gets twice its limit: its publishers are held back from the limit
        // on, and each of them may be in the middle of a message.
        let patience = if self.has_taker() { 2 } else { 1 };
        if self.deliveries.queue.is_over(queued.message.size(), config, patience) {
            return Outcome::Dropped(DropReason::QueueFull);
        }
        self.deliveries.queue.push(queued, config);
        let is_full = self.deliveries.queue.is_over(0, config, 1);
        if patience == 2 && is_full && !self.is_held {
            Outcome::Congested
        } else {
            Outcome::Accepted
        }
    }

    /// Takes a retained message for a new subscription, past the limits of the queue. There has to be
    /// a reason why they are few.
    pub(crate) fn replay(
        &mut self,
        publication: &Publication<'_>,
        qos: QoS,
        number: Option<MessageId>,
        config: &Config,
        worker: &mut Worker,
    ) {
        let publish = publication.publish();
        let is_first = self.deliveries.queue.is_empty() && self.is_connected();
        if qos == QoS::AtMostOnce
            && is_first
            && self.outbox_takes(publication.size(), config)
            && !self.is_elsewhere(publish.topic)
        {
            self.write_qos0(publication, true, worker);
        } else {
            publication.set_for_one();
            let message = publication.message_for(qos).with(qos, true);
            self.deliveries.queue.push(Queued { message, group: None, number }, config);
        }
    }

    fn write_qos0(&mut self, publication: &Publication<'_>, retain: bool, worker: &mut Worker) {
        let publish = publication.publish();
        let out = self.outbox.get_or_insert_with(|| worker.buffer());
        match mount_point(&self.owner) {
            None => publication.write_qos0(retain, out),
            Some(mount) => mount.write(publish, Delivery::AtMostOnce, retain, out),
        }
        worker.tally.count_publish_sent(publish.payload);
    }

    /// Sends what the window and the outbox have room for.
    pub(crate) fn pump(&mut self, config: &Config, worker: &mut Worker, tx: &mut impl Recorder) {
        while let Some(next) = self.deliveries.queue.front()
            && self.may_send(&next.message, config)
            && let Some(queued) = self.deliveries.queue.pop()
        {
            self.send(queued, worker, tx);
        }
    }

    /// Whether the client is there, and the window and the outbox have room.
    fn may_send(&self, message: &Message, config: &Config) -> bool {
        self.is_connected()
            && (message.qos() == QoS::AtMostOnce || self.window_takes(message, config))
            && self.outbox_takes(message.size(), config)
    }

    /// Whether the window has room for a message of QoS 1 or 2.
    fn window_takes(&self, message: &Message, config: &Config) -> bool {
        let bytes = self.deliveries.in_flight_bytes;
        self.deliveries.room() > 0
            && (bytes == 0 || bytes.saturating_add(message.size()) <= config.max_inflight_bytes)
    }

    fn send(&mut self, queued: Queued, worker: &mut Worker, tx: &mut impl Recorder) {
        let message = &queued.message;
        let mount = mount_point(&self.owner);
        if mount.is_some() && self.is_elsewhere(message.topic()) {
            // It was queued when the client was with another mount point.
            tx.done(queued.number);
            return;
        }
        worker.tally.count_publish_sent(message.payload());
        let out = self.outbox.get_or_insert_with(|| worker.buffer());
        let Some(acked) = AckedQoS::new(message.qos()) else {
            return message.write_below(mount, Delivery::AtMostOnce, out);
        };
        let underway = &mut *self.deliveries;
        let dup = queued.number.is_some() && queued.number <= underway.may_be_sent;
        message.write_below(mount, acked.delivery(underway.sender.next_id(), dup), out);
        if acked == AckedQoS::ExactlyOnce && queued.number.is_some() {
            // After a restart it has to go out under the same id. One of QoS 1 does so in any case:
            // what was sent is the front of what is not done.
            self.has_progressed = true;
            out.wait_for(tx.number_of_batch());
        }
        underway.in_flight_bytes += queued.message.size();
        let begun = underway.sender.begin(acked, queued);
        debug_assert!(begun.is_ok(), "the caller has looked for room");
    }

    /// An acknowledgement of a message that was sent. Gives back its number in the journal when it
    /// need not be kept any more.
    pub(crate) fn acknowledge(
        &mut self,
        kind: PacketType,
        id: PacketId,
    ) -> Result<Option<MessageId>, WrongAck> {
        let underway = &mut *self.deliveries;
        let acknowledged = match kind {
            PacketType::PubAck => underway.sender.handle_puback(id)?,
            PacketType::PubRec => underway.sender.handle_pubrec(id)?,
            _ => {
                underway.sender.handle_pubcomp(id)?;
                None
            }
        };
        Ok(acknowledged.and_then(|queued| {
            underway.in_flight_bytes -= queued.message.size();
            queued.number
        }))
    }

    /// Whether a topic is not below the client's mount point.
    fn is_elsewhere(&self, topic: TopicName<'_>) -> bool {
        mount_point(&self.owner).is_some_and(|mount| mount.inside(topic).is_none())
    }

    /// Begins a connection: CONNACK, which waits for batch `after` of the journal, is first
    /// [MQTT-3.2.0-1], then what is unfinished goes out again,
    /// in order [MQTT-4.4.0-1], then what waited.
    pub(crate) fn attach(
        &mut self,
        connack: ConnAck,
        after: u64,
        config: &Config,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) {
        self.link = Link::Connected;
        self.is_awaited = false;
        self.has_progressed = true;
        self.write(&Packet::ConnAck(connack), after, worker);
        let mount = mount_point(&self.owner);
        if let Some(mount) = mount {
            let elsewhere = |queued: &Queued| mount.inside(queued.message.topic()).is_none();
            let withdrawn = self.deliveries.withdraw(|_, queued| elsewhere(queued));
            self.has_progressed |= !withdrawn.is_empty();
            withdrawn.iter().for_each(|queued| tx.done(queued.number));
        }
        let out = self.outbox.get_or_insert_with(|| worker.buffer());
        for unfinished in self.deliveries.sender.unfinished() {
            match unfinished {
                Unfinished::Publish { id, qos, item } => {
                    item.message.write_below(mount, qos.delivery(id, true), out);
                    worker.tally.count_publish_sent(item.message.payload());
                }
                Unfinished::Release { id } => {
                    out.append(|own| Packet::PubRel(id).encode(own));
                    worker.tally.messages_sent += 1;
                }
            }
        }
        self.pump(config, worker, tx);
    }

    /// Appends a packet that leaves when batch `after` of the journal is durable.
    pub(crate) fn write(&mut self, packet: &Packet<'_>, after: u64, worker: &mut Worker) {
        worker.tally.messages_sent += 1;
        let out = self.outbox.get_or_insert_with(|| worker.buffer());
        out.wait_for(after);
        out.append(|own| packet.encode(own));
    }

    /// Takes what goes to the client, and makes room for more.
    pub(crate) fn take_outbox(
        &mut self,
        config: &Config,
        worker: &mut Worker,
        tx: &mut impl Recorder,
    ) -> Option<Box<SendBuffer>> {
        if self.outbox.is_none() {
            // Messages that were read from the store may be there.
            self.pump(config, worker, tx);
        }
        let outbox = self.outbox.take().filter(|outbox| !outbox.is_empty())?;
        self.pump(config, worker, tx);
        Some(outbox)
    }

    /// Takes what goes to a client that said goodbye: nothing follows.
    pub(crate) fn give_outbox(&mut self) -> Option<Box<SendBuffer>> {
        self.outbox.take().filter(|outbox| !outbox.is_empty())
    }

    /// Takes the next message of a local subscription, and makes room for more.
    pub(crate) fn take_message(&mut self) -> Option<Message> {
        if self.deliveries.queue.is_empty() {
            return None;
        }
        self.deliveries.queue.pop().map(|queued| queued.message)
    }

    /// Whether retained messages may be added now: they wait for the client before anything is
    /// queued for them.
    pub(crate) fn has_room_for_replay(&self, config: &Config) -> bool {
        self.unsent() < config.max_outbox_bytes / 2 && self.deliveries.queue.is_empty()
    }

    /// Whether the outbox has room for a message of `size` bytes of topic and payload. An empty one
    /// takes a message of any size.
    fn outbox_takes(&self, size: usize, config: &Config) -> bool {
        /// Fixed header, length of the topic and packet id, at most.
        const OVERHEAD: usize = 9;
        self.outbox.as_ref().is_none_or(|outbox| {
            outbox.is_empty() || outbox.len() + OVERHEAD + size <= config.max_outbox_bytes
        })
    }

    /// Whether more should wait until the client has taken what there is.
    pub(crate) fn outbox_is_full(&self, config: &Config) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.len() >= config.max_outbox_bytes)
    }

    /// Whether QoS 0 messages may wait at all.
    fn queues_qos0(&self, config: &Config) -> bool {
        match self.link {
            Link::Local => true,
            Link::Connected => true,
            Link::Absent(_) => config.queue_qos0,
            Link::Closing(_) | Link::Ended => false,
        }
    }
}

/// Where a session's client has its topics.
fn mount_point(owner: &Option<Arc<Client>>) -> Option<&MountPoint> {
    owner.as_ref()?.mount_point()
}

/// Topics and payloads of a run in bytes.
fn size(run: PublishRun<'_>) -> usize {
    run.len() * run.topic().as_bytes().len() + run.payload_bytes()
}
