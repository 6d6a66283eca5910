//! The protocol as a state machine: bytes and time in, bytes, events and the next deadline out.
//!
//! It touches no socket, no clock and no waker, so that one thread with a seed can run it together
//! with a broker, and run it again, exactly.

mod input;
mod keep_alive;
mod ledger;
mod queue;
#[cfg(test)]
mod simulation;
mod subscriptions;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_broker_core::qos::{Abandoned, AckedQoS, Receiver, Sender, Unfinished};
use mqtt_codec::{
    Ack, Connect, ConnectFields, Delivery, Packet, PacketId, PublishBuf, QoS, Text, TopicFilterBuf,
    TopicNameBuf, Will,
};

use self::keep_alive::{Due, KeepAlive};
use self::ledger::Ledger;
use self::queue::Queue;
pub(crate) use self::queue::{Outgoing, Pushed, Queued};
use self::subscriptions::{Route, Stream, Subscriptions};
use crate::error::{ConfigError, ConnectionError, Step, Undelivered};
use crate::offline::{Limit, WhenFull};
use crate::receipt::Delivered;
use crate::send_buffer::SendBuffer;
use crate::stats::Counters;
use crate::status::Leftover;
use crate::store::{Change, Snapshot, Stage as Stored, StoredMessage};

/// Names an accepted message for whoever waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token {
    /// Where its receipt looks for the outcome.
    pub(crate) slot: usize,
    /// Its number in the store; 0 if it is not stored.
    pub(crate) stored: u64,
}

/// Names a stream of received messages.
pub(crate) type StreamId = usize;

/// Bytes collected for one write. More than a socket takes at a time is only memory.
const WRITE_SIZE: usize = 128 << 10;

/// A buffer that grew beyond this is let go of when it is empty.
const KEEP_BUFFER: usize = 1 << 10;

/// What the machine needs to know of the options.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) client_id: String,
    pub(crate) clean_session: bool,
    pub(crate) keep_alive: Duration,
    pub(crate) answer_within: Duration,
    /// For CONNACK, SUBACK and UNSUBACK.
    pub(crate) reply_within: Duration,
    /// For the acknowledgements of messages.
    pub(crate) ack_within: Option<Duration>,
    pub(crate) will: Option<PublishBuf>,
    pub(crate) limit: Limit,
    pub(crate) window: u16,
    pub(crate) max_incoming: usize,
    /// Send QoS 2 messages again although the broker forgot whether it has them.
    pub(crate) resend_lost: bool,
    /// Bytes received and not taken by the application, over which nothing is read.
    pub(crate) max_unread: usize,
}

/// The client's side of the protocol, over all its connections.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) config: Config,
    stage: Stage,
    /// The beginning of a packet whose end has not come.
    tail: Vec<u8>,
    /// Everything but PUBLISH that waits to be written: it goes first.
    control: Vec<u8>,
    queue: Queue,
    sender: Sender<Outgoing>,
    /// Tokens of the messages between PUBREC and PUBCOMP.
    released: VecDeque<(PacketId, Token)>,
    /// What the store is to be told; `None` without one.
    journal: Option<Vec<Change>>,
    /// Number of the next message, and of the next sending, in the store.
    next_stored: u64,
    next_sending: u64,
    /// Exchanges of an earlier connection that are to be taken up again.
    resend: VecDeque<PacketId>,
    /// QoS 0 messages in the transport's hands, each with the place of its end in the stream.
    writing: VecDeque<(u64, Queued)>,
    /// Bytes of this connection: handed out, and written.
    handed_out: u64,
    written: u64,
    receiver: Receiver,
    ledger: Ledger,
    subscriptions: Subscriptions,
    keep_alive: KeepAlive,
    events: VecDeque<Event>,
    /// Whether the session of the broker is one that this machine knows.
    knows_session: bool,
    /// When a message was acknowledged last, or the first of those in flight was sent.
    last_ack: Option<Instant>,
    is_restored: bool,
    shutting_down: bool,
    /// Bytes that the application has not taken.
    pub(crate) unread: usize,
    route: Route,
    pub(crate) counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no transport.
    Disconnected,
    /// CONNECT is sent; CONNACK is due by then.
    Connecting {
        deadline: Instant,
    },
    Connected {
        session_present: bool,
    },
    /// DISCONNECT is sent: nothing follows it [MQTT-3.14.4-2].
    Closing,
}

/// What the outside has to hear of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Connected, and every subscription is answered.
    Restored { session_present: bool },
    /// A message for a stream. With a number, [`Machine::acknowledge`] is to be called with it.
    Deliver { stream: StreamId, message: PublishBuf, number: Option<u64> },
    /// An accepted message has come to its end.
    Ended { token: Token, outcome: Result<Delivered, Undelivered> },
    /// The broker granted a filter.
    Granted { stream: StreamId, filter: TopicFilterBuf, qos: QoS },
    /// The broker refused a filter.
    SubscriptionRefused { stream: StreamId, filter: TopicFilterBuf },
    /// Fewer filters are waiting for their UNSUBACK.
    Unsubscribed,
}

/// Name and password for one connection.
pub(crate) type Credentials = Option<(String, Option<Bytes>)>;

impl Machine {
    pub(crate) fn new(config: Config, now: Instant) -> Self {
        Self {
            stage: Stage::Disconnected,
            tail: Vec::new(),
            control: Vec::new(),
            queue: Queue::new(config.limit),
            sender: Sender::new(config.window),
            released: VecDeque::new(),
            journal: None,
            next_stored: 1,
            next_sending: 1,
            resend: VecDeque::new(),
            writing: VecDeque::new(),
            handed_out: 0,
            written: 0,
            receiver: Receiver::new(usize::from(u16::MAX)),
            ledger: Ledger::default(),
            subscriptions: Subscriptions::default(),
            keep_alive: KeepAlive::new(config.keep_alive, config.answer_within, now),
            events: VecDeque::new(),
            knows_session: false,
            last_ack: None,
            is_restored: false,
            shutting_down: false,
            unread: 0,
            route: Route::default(),
            counters: Counters::default(),
            config,
        }
    }

    /// Replaces the options. Only before the first connection, and before anything is published.
    pub(crate) fn configure(&mut self, config: Config) {
        self.queue = Queue::new(config.limit);
        self.sender = Sender::new(config.window);
        self.config = config;
    }

    /// Takes up what a store kept, and tells it of every change from now on. The tokens are for
    /// those messages, in their order.
    pub(crate) fn restore(
        &mut self,
        snapshot: Snapshot,
        mut slot: impl FnMut() -> usize,
        expires: impl Fn(u64) -> Option<Instant>,
    ) {
        self.journal = Some(Vec::new());
        let mut sent = Vec::new();
        let mut messages = snapshot.messages;
        messages.sort_by_key(|(number, _)| *number);
        for (number, stored) in messages {
            self.next_stored = self.next_stored.max(number + 1);
            self.counters.published += 1;
            let token = Token { slot: slot(), stored: number };
            let StoredMessage { topic, payload, qos, retain, replaceable, .. } = stored;
            let order = match stored.stage {
                Stored::Queued => 0,
                Stored::Sent(_, order) | Stored::Released(_, order) => order,
            };
            let message = Outgoing { topic, payload, retain, token, order };
            match stored.stage {
                Stored::Queued => {
                    let expires = expires(stored.expires);
                    let queued =
                        Queued { message, qos, expires, replaceable, fails_offline: false };
                    if let Pushed::Replaced(older) = self.queue.push(queued) {
                        self.end(older, Ok(Delivered::Superseded));
                    }
                }
                Stored::Sent(id, _) => sent.push((order, id, AckedQoS::new(qos), message)),
                Stored::Released(id, _) => sent.push((order, id, None, message)),
            }
        }
        sent.sort_by_key(|(order, ..)| *order);
        for (order, id, qos, message) in sent {
            self.next_sending = self.next_sending.max(order + 1);
            let token = message.token;
            match qos {
                Some(qos) => drop(self.sender.restore(id, Some((qos, message)))),
                None => {
                    self.sender.restore(id, None);
                    self.released.push_back((id, token));
                }
            }
        }
        for id in snapshot.received {
            // Every id may be open.
            let _ = self.receiver.handle_publish(id);
        }
    }

    /// What the store is to be told.
    pub(crate) fn take_journal(&mut self) -> Vec<Change> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change());
        }
    }

    fn note_stage(&mut self, token: Token, stage: Stored) {
        if token.stored != 0 {
            self.note(|| Change::Stage(token.stored, stage));
        }
    }

    /// There is a transport: CONNECT is the first packet on it [MQTT-3.1.0-1].
    pub(crate) fn handle_open(
        &mut self,
        credentials: &Credentials,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let config = &self.config;
        let text = |what, text| Text::new(text).map_err(|error| ConfigError::Text(what, error));
        let will = config.will.as_ref().map(PublishBuf::publish);
        let user_name =
            credentials.as_ref().map(|(name, _)| text("user name", name)).transpose()?;
        let fields = ConnectFields {
            clean_session: config.clean_session,
            // Whole seconds; less than one would be no keep alive at all.
            keep_alive: config.keep_alive.as_secs().min(u16::MAX.into()) as u16,
            will: will.as_ref().map(|will| Will {
                topic: will.topic,
                message: will.payload,
                qos: will.qos(),
                retain: will.retain,
            }),
            user_name,
            password: credentials.as_ref().and_then(|(_, password)| password.as_deref()),
            ..ConnectFields::new(text("client id", &config.client_id)?)
        };
        let connect = Connect::new(&fields).map_err(ConfigError::Connect)?;
        self.control.clear();
        Packet::Connect(connect).encode(&mut self.control);
        self.tail = Vec::new();
        (self.handed_out, self.written) = (0, 0);
        self.keep_alive = KeepAlive::new(config.keep_alive, config.answer_within, now);
        self.stage = Stage::Connecting { deadline: now + config.reply_within };
        self.is_restored = false;
        Ok(())
    }

    /// The transport is gone. What was sent and not acknowledged is kept for the next one, and so is
    /// what was not written.
    pub(crate) fn handle_close(&mut self) {
        if matches!(self.stage, Stage::Connected { .. }) {
            self.counters.disconnections += 1;
        }
        if matches!(self.stage, Stage::Connecting { .. }) {
            // The CONNACK that was lost may have said that the session was too, and what the next
            // one says of is then a new one.
            self.knows_session = false;
        }
        self.stage = Stage::Disconnected;
        self.is_restored = false;
        self.tail = Vec::new();
        self.control = Vec::new();
        self.resend.clear();
        self.ledger.end_connection();
        self.subscriptions.end_connection(&mut self.sender);
        // Those whose last byte was not written have not been received by anybody.
        while let Some((_, queued)) = self.writing.pop_back() {
            self.queue.push_front(queued);
        }
        while let Some(failed) = self.queue.pop_failing() {
            self.end(failed.message.token, Err(Undelivered::NotConnected));
        }
    }

    /// Takes a message, if there is room: ask [`has_room`](Self::has_room) first if it may wait.
    /// `expires` is for the store, in milliseconds since 1970.
    pub(crate) fn publish(&mut self, mut queued: Queued, expires: u64) {
        self.counters.published += 1;
        if self.journal.is_some() && queued.qos != QoS::AtMostOnce {
            queued.message.token.stored = self.next_stored;
            self.next_stored += 1;
            let Queued { message, qos, replaceable, .. } = &queued;
            let stored = StoredMessage {
                topic: message.topic.clone(),
                payload: message.payload.clone(),
                qos: *qos,
                retain: message.retain,
                replaceable: *replaceable,
                expires,
                stage: Stored::Queued,
            };
            let number = message.token.stored;
            self.note(|| Change::Put(number, stored));
        }
        let bytes = queued.message.topic.as_bytes().len() + queued.message.payload.len();
        if !self.has_room(&queued.message.topic, bytes, queued.replaceable) {
            match self.queue.when_full() {
                WhenFull::DropNewest => {
                    return self.end(queued.message.token, Err(Undelivered::Dropped));
                }
                _ => {
                    while !self.queue.has_room(bytes) {
                        let Some(oldest) = self.queue.pop() else { break };
                        self.end(oldest.message.token, Err(Undelivered::Dropped));
                    }
                }
            }
        }
        if let Pushed::Replaced(token) = self.queue.push(queued) {
            self.end(token, Ok(Delivered::Superseded));
        }
    }

    /// Whether a message of so many bytes can be taken without another being dropped.
    pub(crate) fn has_room(&self, topic: &TopicNameBuf, bytes: usize, replaceable: bool) -> bool {
        self.queue.has_room(bytes) || (replaceable && self.queue.replaces(topic))
    }

    /// Whether a small message can be taken.
    pub(crate) fn has_queue_room(&self) -> bool {
        self.queue.has_room(0)
    }

    /// What happens when there is no room.
    pub(crate) fn when_full(&self) -> WhenFull {
        self.queue.when_full()
    }

    pub(crate) fn subscribe(
        &mut self,
        filter: TopicFilterBuf,
        qos: QoS,
        stream: StreamId,
        takes: bool,
    ) {
        self.subscriptions.add(filter, qos, Stream { id: stream, takes });
    }

    /// Ends a stream. A kept session outlives the program, and so do its subscriptions unless
    /// `tell`.
    pub(crate) fn unsubscribe(&mut self, filter: &TopicFilterBuf, stream: StreamId, tell: bool) {
        self.subscriptions.remove(filter, stream, tell);
    }

    /// Tells the broker to end a subscription of an earlier life of this session.
    pub(crate) fn unsubscribe_stale(&mut self, filter: TopicFilterBuf) {
        self.subscriptions.remove_stale(filter);
    }

    pub(crate) fn is_unsubscribed(&self, filter: &TopicFilterBuf) -> bool {
        self.subscriptions.is_unsubscribed(filter)
    }

    /// One stream is done with a message of [`Event::Deliver`].
    pub(crate) fn acknowledge(&mut self, number: u64) {
        self.ledger.take(number);
    }

    /// The application dropped a message without acknowledging it. True if that keeps the broker
    /// waiting: it does not when the connection has ended since.
    pub(crate) fn note_never_acknowledged(&mut self, number: u64) -> bool {
        let is_awaited = self.ledger.is_awaited(number);
        self.counters.never_acknowledged += u64::from(is_awaited);
        is_awaited
    }

    /// Finishes what is accepted, then sends DISCONNECT.
    pub(crate) fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Sends DISCONNECT now, whatever is unfinished.
    pub(crate) fn disconnect_now(&mut self) {
        if matches!(self.stage, Stage::Connected { .. }) {
            Packet::Disconnect.encode(&mut self.control);
            self.stage = Stage::Closing;
        }
    }

    /// Ends every message that is not through.
    pub(crate) fn give_up(&mut self) -> Leftover {
        let mut leftover = Leftover::default();
        while let Some((_, queued)) = self.writing.pop_front() {
            leftover.queued += 1;
            self.end(queued.message.token, Err(Undelivered::Closed));
        }
        let released = std::mem::take(&mut self.released).into_iter().map(|(_, token)| token);
        let abandoned = self.sender.abandon().filter_map(|abandoned| match abandoned {
            Abandoned::Publish(_, message) => Some(message.token),
            Abandoned::Released => None,
        });
        for token in released.chain(abandoned) {
            leftover.unacknowledged += 1;
            self.end(token, Err(Undelivered::Closed));
        }
        while let Some(queued) = self.queue.pop() {
            leftover.queued += 1;
            self.end(queued.message.token, Err(Undelivered::Closed));
        }
        leftover
    }

    /// Whether every accepted message has come to its end.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty()
            && self.writing.is_empty()
            && self.sender.in_flight() == 0
            && !self.ledger.is_ready()
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Connected { .. })
    }

    /// Whether the broker has answered CONNECT and the subscriptions.
    pub(crate) fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Whether DISCONNECT was handed out, so that the transport is to be closed when it is written.
    pub(crate) fn is_closing(&self) -> bool {
        self.stage == Stage::Closing && self.control.is_empty()
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something to give.
    pub(crate) fn wants_transmit(&self) -> bool {
        match self.stage {
            Stage::Disconnected => false,
            Stage::Connecting { .. } | Stage::Closing => !self.control.is_empty(),
            Stage::Connected { .. } => {
                !self.control.is_empty()
                    || self.ledger.is_ready()
                    || self.subscriptions.has_changes()
                    || !self.resend.is_empty()
                    || self.queue.front().is_some_and(|next| self.can_send(next.qos))
                    || (self.shutting_down && self.is_drained())
            }
        }
    }

    fn can_send(&self, qos: QoS) -> bool {
        qos == QoS::AtMostOnce || self.sender.has_room()
    }

    /// Whether to read from the transport: false while the application leaves too much untaken.
    pub(crate) fn wants_input(&self) -> bool {
        self.unread < self.config.max_unread
    }

    /// Appends what is due to `out`, up to what one write takes.
    pub(crate) fn poll_transmit(&mut self, out: &mut SendBuffer, now: Instant) {
        let before = out.len();
        if self.is_connected() {
            self.write_answers();
            self.subscriptions.request(&mut self.sender, &mut self.control, now);
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
                AckedQoS::ExactlyOnce => {
                    self.note(|| Change::Received(id));
                    Ack::PubRec(id)
                }
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
            && let Some(mut queued) = self.queue.pop()
        {
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
                    self.last_ack.get_or_insert(now);
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
        self.keep_alive.handle_sent(now, self.written < self.handed_out);
        while let Some((end, _)) = self.writing.front()
            && *end <= self.written
            && let Some((_, queued)) = self.writing.pop_front()
        {
            self.end(queued.message.token, Ok(Delivered::Written));
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Lets go of memory that an idle client does not need.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink();
        if self.writing.is_empty() {
            self.writing = VecDeque::new();
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let connection = match self.stage {
            Stage::Disconnected => None,
            Stage::Connecting { deadline } => Some(deadline),
            Stage::Closing => self.keep_alive.deadline(),
            Stage::Connected { .. } => {
                let request = self.subscriptions.oldest_request();
                let request = request.map(|(sent, _)| sent + self.config.reply_within);
                let ack = self.ack_deadline();
                // While we do not read, an answer cannot be seen.
                let alive = self.wants_input().then(|| self.keep_alive.deadline()).flatten();
                [request, ack, alive].into_iter().flatten().min()
            }
        };
        [connection, self.queue.next_expiry()].into_iter().flatten().min()
    }

    fn ack_deadline(&self) -> Option<Instant> {
        match self.sender.in_flight() {
            0 => None,
            _ => Some(self.last_ack? + self.config.ack_within?),
        }
    }

    /// Does what is due. An error is the end of the connection.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.expire(now);
        match self.stage {
            Stage::Disconnected => return Ok(()),
            Stage::Connecting { deadline } if deadline <= now => {
                return Err(ConnectionError::Timeout(Step::Connack));
            }
            Stage::Connecting { .. } => return Ok(()),
            Stage::Closing | Stage::Connected { .. } => {}
        }
        if let Some((sent, subscribe)) = self.subscriptions.oldest_request()
            && sent + self.config.reply_within <= now
        {
            let step = if subscribe { Step::Suback } else { Step::Unsuback };
            return Err(ConnectionError::Timeout(step));
        }
        if self.ack_deadline().is_some_and(|deadline| deadline <= now) {
            return Err(ConnectionError::Timeout(Step::Ack));
        }
        if !self.wants_input() {
            return Ok(());
        }
        match self.keep_alive.handle_timeout(now) {
            Due::Dead(step) => Err(ConnectionError::Timeout(step)),
            Due::Ping if self.is_connected() => {
                self.counters.pings += 1;
                Packet::PingReq.encode(&mut self.control);
                Ok(())
            }
            Due::Ping | Due::Nothing => Ok(()),
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(expired) = self.queue.pop_expired(now) {
            self.end(expired.message.token, Err(Undelivered::Expired));
        }
    }

    fn end(&mut self, token: Token, outcome: Result<Delivered, Undelivered>) {
        self.counters.count_end(outcome);
        // What is left at the end is for the next run.
        if token.stored != 0 && outcome != Err(Undelivered::Closed) {
            self.note(|| Change::Remove(token.stored));
        }
        self.events.push_back(Event::Ended { token, outcome });
    }

    /// Messages that wait to be sent, in messages and in bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue.bytes())
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.sender.in_flight()
    }

    pub(crate) fn unacknowledged_received(&self) -> usize {
        self.ledger.len()
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
