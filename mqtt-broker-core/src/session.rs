//! A session: what the broker knows of one client id, connected or not.

mod deliveries;
mod queue;
mod recovery;
mod registry;
mod subscriptions;

use std::task::Waker;

use mqtt_codec::{
    ConnAck, Delivery, Packet, PacketId, PacketType, PublishRun, QoS, TopicFilterBuf, TopicName,
    TopicNameBuf,
};

use crate::config::Config;
use crate::hooks::DropReason;
use crate::journal::{MessageId, Record, Recorder, Unrecorded};
use crate::moment::Moment;
use crate::publication::Publication;
use crate::qos::{AckedQoS, Unfinished, WrongAck};
use crate::router::{Group, ReceiverId, Router};
use crate::send_buffer::SendBuffer;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::{Client, Closed, ConnectionError, Message, MountPoint, Worker};
use deliveries::Deliveries;
use queue::Queue;
pub(crate) use registry::{Displaced, Ended, Registry};
use subscriptions::Subscriptions;

/// What there is to know of a session: [`Broker::sessions`](crate::Broker::sessions).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its client id.
    pub client_id: String,
    /// Who is or was connected last. `None` for a subscription of the broker's own program.
    pub client: Option<Arc<Client>>,
    /// Whether its client is connected.
    pub is_connected: bool,
    /// Whether it ends with its connection.
    pub is_clean: bool,
    /// Filters and the QoS granted, in the order in which they were made.
    pub subscriptions: Vec<(TopicFilterBuf, QoS)>,
    /// Messages that wait behind the window or for the client.
    pub queued: usize,
    /// Their topics and payloads in bytes.
    pub queued_bytes: usize,
    /// QoS 1 and 2 messages that are sent and not through.
    pub in_flight: usize,
    /// QoS 2 messages of the client that are received and not released.
    pub unreleased: usize,
    /// Bytes that the client's transport has not taken from the broker.
    pub unsent_bytes: usize,
}

/// One client id and its state, behind one lock.
#[derive(Debug)]
pub(crate) struct Session {
    id: ReceiverId,
    /// Who made it. Whoever came later has the same client id, which is stored with the client.
    founder: Arc<Client>,
    /// Ends with its connection [MQTT-3.1.2-6].
    is_clean: bool,
    subscribing: Mutex<()>,
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    /// Rises with each connection, so that one that was taken over finds out.
    pub(crate) epoch: u64,
    pub(crate) link: Link,
    /// Bytes for the client that its transport has not taken yet.
    outbox: Option<Box<SendBuffer>>,
    /// Of the task that takes them.
    waker: Option<Waker>,
    /// The transport takes nothing: the task is woken to end, and not for more bytes.
    is_stalled: bool,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) deliveries: Deliveries,
    pub(crate) will: Option<Box<Will>>,
    /// Who is or was connected last.
    pub(crate) owner: Option<Arc<Client>>,
    /// The session's own connection is held back for others: it reads no acknowledgements, so nobody
    /// may wait for its queue.
    pub(crate) is_held: bool,
    /// A connection has the session and is about to begin: its client is not away.
    pub(crate) is_awaited: bool,
    /// Deliveries have come further than the journal knows.
    pub(crate) has_progressed: bool,
    /// The next batch of the journal will say how far they are.
    pub(crate) is_touched: bool,
}

/// How messages leave a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The client is away, since then.
    Absent(Moment),
    /// A connection takes bytes.
    Connected,
    /// The same, and it has to end.
    Closing(Result<Closed, ConnectionError>),
    /// The broker's own program takes messages.
    Local,
    /// The session is over; its handle is held by somebody who does not know yet.
    Ended,
}

/// A message that a session keeps until it is delivered.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    /// The group whose turn it was: another member gets it when this one is gone.
    pub(crate) group: Option<Arc<Group>>,
    /// In the journal, if it survives a restart.
    pub(crate) number: Option<MessageId>,
}

/// How a session gets a message.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The lower one of the message's QoS and the subscription's [MQTT-3.8.4-6].
    pub(crate) qos: QoS,
    pub(crate) group: Option<&'a Arc<Group>>,
    pub(crate) number: Option<MessageId>,
}

/// What is published when a connection ends without DISCONNECT [MQTT-3.1.2-8].
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: Message,
    /// Whose it is: the right to publish is asked for when it is published.
    pub(crate) client: Arc<Client>,
}

/// How far the retained messages of a new subscription are sent. They are sent as the client takes
/// them, so that a filter over a million topics needs no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilterBuf,
    pub(crate) qos: QoS,
    pub(crate) after: Option<TopicNameBuf>,
}

/// What became of a message at one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session owns it.
    Accepted,
    /// The session owns it and wants no more for now: hold the publisher back.
    Congested,
    /// QoS 0 and the client is away, or the session is over.
    NotMeant,
    Dropped(DropReason),
}

/// A QoS 2 message that has come to a session from the connection of `epoch`.
pub(crate) struct Received<'a> {
    pub(crate) session: &'a Arc<Session>,
    pub(crate) epoch: u64,
    pub(crate) id: PacketId,
}

impl Received<'_> {
    /// Whether the session is still the connection's. With a journal nobody takes it over before the
    /// transaction ends.
    pub(crate) fn counts(&self, tx: &mut impl Recorder) -> bool {
        if self.session.is_kept() {
            tx.open();
        }
        self.session.lock_for(self.epoch).is_some()
    }

    /// Remembers its id, in the transaction that hands it to its receivers.
    pub(crate) fn note(self, tx: &mut impl Recorder) {
        let Some(mut state) = self.session.lock_for(self.epoch) else { return };
        // It was looked up before, and ids of this connection come to nobody else.
        let _ = state.deliveries.receiver.handle_publish(self.id);
        state.has_progressed = true;
        tx.touch(self.session, &mut state);
    }
}

impl Queued {
    /// Whether it belongs to this group, or to any.
    fn is_of(&self, group: Option<&Group>) -> bool {
        self.group.as_ref().is_some_and(|own| group.is_none_or(|group| group.id() == own.id()))
    }
}

impl Session {
    pub(crate) fn new(id: ReceiverId, founder: Arc<Client>, is_clean: bool, state: State) -> Self {
        Self { id, founder, is_clean, subscribing: Mutex::default(), state: Mutex::new(state) }
    }

    pub(crate) fn id(&self) -> ReceiverId {
        self.id
    }

    pub(crate) fn client_id(&self) -> &str {
        self.founder.client_id()
    }

    /// Whether it outlives its connections.
    pub(crate) fn is_kept(&self) -> bool {
        !self.is_clean
    }

    /// What the journal is told of its client and will.
    pub(crate) fn record(&self, state: &State) -> Record {
        Record::Session {
            session: self.id.into(),
            client_id: self.client_id().into(),
            user_name: state.owner.as_ref().and_then(|owner| owner.user_name()).map(Into::into),
            will: state.will.as_ref().map(|will| will.message.clone()),
        }
    }

    /// To be held while a subscription changes in the session and then in the router, so that the
    /// two agree whoever takes the session over in between. It comes before their locks.
    pub(crate) fn lock_subscriptions(&self) -> MutexGuard<'_, ()> {
        self.subscribing.lock()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The same for a connection, if the session is still its own: another thread may have taken it
    /// over since the last packet.
    pub(crate) fn lock_for(&self, epoch: u64) -> Option<MutexGuard<'_, State>> {
        let state = self.lock();
        (state.epoch == epoch && !state.is_ended()).then_some(state)
    }

    /// What there is to know of it. `None` when it is over.
    pub(crate) fn info(&self, router: &Router) -> Option<SessionInfo> {
        let _unchanged = self.lock_subscriptions();
        let (info, subscriptions) = {
            let state = self.lock();
            if state.is_ended() {
                return None;
            }
            let info = SessionInfo {
                client_id: self.client_id().to_owned(),
                client: state.owner.clone(),
                is_connected: matches!(state.link, Link::Connected | Link::Closing(_)),
                is_clean: self.is_clean,
                subscriptions: Vec::new(),
                queued: state.deliveries.queue.len(),
                queued_bytes: state.deliveries.queue.bytes(),
                in_flight: state.deliveries.sender.in_flight(),
                unreleased: state.deliveries.receiver.open(),
                unsent_bytes: state.unsent(),
            };
            (info, state.subscriptions.clone())
        };
        Some(SessionInfo { subscriptions: router.filters(subscriptions.as_slice(), self), ..info })
    }
}

impl State {
    pub(crate) fn new(link: Link, config: &Config) -> Self {
        Self {
            epoch: 0,
            link,
            outbox: None,
            waker: None,
            is_stalled: false,
            subscriptions: Subscriptions::default(),
            deliveries: Deliveries::new(config),
            will: None,
            owner: None,
            is_held: false,
            is_awaited: false,
            has_progressed: false,
            is_touched: false,
        }
    }

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

    /// Leaves the waker that is to be called when the connection has to end, or, unless the
    /// transport is stalled, when there is something to take.
    pub(crate) fn register(&mut self, waker: &Waker, is_stalled: bool) {
        self.is_stalled = is_stalled;
        match &mut self.waker {
            Some(old) if old.will_wake(waker) => {}
            old => *old = Some(waker.clone()),
        }
    }

    /// Leaves the waker of a publisher that waits for the queue.
    pub(crate) fn hold_back(&mut self, waker: &Waker) {
        if !self.deliveries.held_back.iter().any(|held| held.will_wake(waker)) {
            self.deliveries.held_back.push(waker.clone());
        }
    }

    /// Whether publishers should wait: from a full queue until it is half empty.
    pub(crate) fn is_congested(&self, config: &Config) -> bool {
        let waits = self.has_taker() && !self.is_held;
        waits && self.deliveries.queue.is_over_half(config)
    }

    /// Collects who has to be woken, to be called when no lock is held: the task that takes the
    /// messages, and publishers that waited for room.
    pub(crate) fn wake(&mut self, config: &Config, wakes: &mut Vec<Waker>) {
        wakes.extend(self.take_waker());
        self.release(config, wakes);
    }

    /// Asks the connection to end, and collects who has to be woken for it.
    pub(crate) fn close(
        &mut self,
        reason: Result<Closed, ConnectionError>,
        wakes: &mut Vec<Waker>,
    ) {
        self.link = Link::Closing(reason);
        wakes.extend(self.waker.take());
        self.deliveries.let_publishers_go(wakes);
    }

    /// Takes the connection's hold off the session, and collects who has to be woken for it.
    pub(crate) fn detach(&mut self, link: Link, wakes: &mut Vec<Waker>) {
        self.link = link;
        self.has_progressed = true;
        // Bytes that nobody takes are let go of. What was sent and not acknowledged stays.
        self.outbox = None;
        self.is_held = false;
        self.is_awaited = false;
        wakes.extend(self.waker.take());
        self.deliveries.let_publishers_go(wakes);
        self.deliveries.settle();
    }

    /// Collects the publishers that waited for room, if there is some.
    pub(crate) fn release(&mut self, config: &Config, wakes: &mut Vec<Waker>) {
        if !self.deliveries.held_back.is_empty() && !self.is_congested(config) {
            self.deliveries.let_publishers_go(wakes);
        }
    }

    /// The groups that unfinished messages of the session belong to, each once.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        let in_flight =
            self.deliveries.sender.unfinished().filter_map(|unfinished| match unfinished {
                Unfinished::Publish { item, .. } => item.group.as_ref(),
                Unfinished::Release { .. } => None,
            });
        let mut groups: Vec<_> = self.deliveries.queue.groups().chain(in_flight).cloned().collect();
        groups.sort_unstable_by_key(|group| group.id());
        groups.dedup_by_key(|group| group.id());
        groups
    }

    /// Takes out the messages of a group, or of all groups, that another member may have: not QoS 2
    /// messages on the way to a client that may come back, since it may have them.
    pub(crate) fn take_shared(&mut self, group: Option<&Group>, comes_back: bool) -> Vec<Queued> {
        self.has_progressed = true;
        let mut taken = self.deliveries.withdraw(|qos, queued| {
            queued.is_of(group) && !(comes_back && qos == AckedQoS::ExactlyOnce)
        });
        if !self.deliveries.queue.is_empty() {
            taken.append(&mut self.deliveries.queue.take_shared(group));
        }
        taken
    }

    /// The same for a client that may come back, unless it has.
    pub(crate) fn take_shared_if_absent(&mut self, group: &Group) -> Vec<Queued> {
        match self.link {
            Link::Absent(_) => self.take_shared(Some(group), true),
            _ => Vec::new(),
        }
    }

    /// Whether a message would be sent at once, or nearly.
    pub(crate) fn is_ready(&self, config: &Config) -> bool {
        self.has_taker() && !self.deliveries.queue.is_over(0, config, 1)
    }

    /// The session is over. What it held is let go of at once.
    pub(crate) fn end(
        &mut self,
        session: &Arc<Session>,
        wakes: &mut Vec<Waker>,
        tx: &mut impl Recorder,
    ) -> Ended {
        self.detach(Link::Ended, wakes);
        if session.is_kept() {
            self.numbers().for_each(|number| tx.record(Record::Done { id: number }));
            tx.record(Record::SessionEnd { session: session.id().into() });
        }
        let shared = self.take_shared(None, false);
        self.deliveries.clear();
        let subscriptions = std::mem::take(&mut self.subscriptions);
        Ended { session: Arc::clone(session), subscriptions, shared }
    }

    /// The waker of the task that takes messages: there are some.
    pub(crate) fn take_waker(&mut self) -> Option<Waker> {
        if self.is_stalled { None } else { self.waker.take() }
    }

    /// Takes the waker of the connection's task, to have it look at the time.
    #[cfg(feature = "tokio")]
    pub(crate) fn ring(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Whether somebody is there to take messages, or nearly.
    fn has_taker(&self) -> bool {
        matches!(self.link, Link::Connected | Link::Local) || self.is_awaited
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Connected)
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.link, Link::Ended)
    }

    /// Whether retained messages may be added now: they wait for the client before anything is
    /// queued for them.
    pub(crate) fn has_room_for_replay(&self, config: &Config) -> bool {
        self.unsent() < config.max_outbox_bytes / 2 && self.deliveries.queue.is_empty()
    }

    /// Bytes that the transport has not taken.
    fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
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
