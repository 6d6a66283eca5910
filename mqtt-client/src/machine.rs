//! The protocol as a state machine: bytes and time in, bytes, events and the next deadline out.
//!
//! It touches no socket, no clock and no waker, so that one thread with a seed can run it together
//! with a broker, and run it again, exactly.

mod input;
mod keep_alive;
mod ledger;
mod output;
mod queue;
mod replay;
mod restore;
#[cfg(test)]
mod simulation;
mod subscriptions;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mqtt_broker_core::qos::{Abandoned, Receiver, Sender};
use mqtt_codec::{
    Connect, ConnectFields, Packet, PacketId, PublishBuf, QoS, Text, TopicFilterBuf, TopicNameBuf,
    Will,
};

use self::keep_alive::{Due, KeepAlive};
use self::ledger::Ledger;
use self::queue::Queue;
pub(crate) use self::queue::{Outgoing, Pushed, Queued};
use self::replay::Replay;
use self::subscriptions::{Route, Stream, Subscriptions};
use crate::error::{ConfigError, ConnectionError, Step, Undelivered};
use crate::offline::{Limit, WhenFull};
use crate::receipt::Delivered;
use crate::stats::Counters;
use crate::status::Leftover;
use crate::store::{Change, Stage as Stored, StoredMessage};

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

/// A buffer that grew beyond this is let go of when it is empty.
const KEEP_BUFFER: usize = 1 << 10;

/// Bytes of acknowledgements that are due, above which nothing is read. A broker that keeps to the
/// standard has fewer messages open than there are packet ids: it never comes to this.
const MAX_ANSWERS: usize = 1 << 20;

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
    /// Messages a second while there are some that waited for the connection.
    pub(crate) replay_rate: Option<u32>,
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
    /// Until nothing waits, what waited for the connection and what is behind it leaves at a pace.
    replay: Option<Replay>,
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
            replay: None,
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
        self.replay = None;
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
        let has_room =
            |machine: &Self| machine.has_room(&queued.message.topic, bytes, queued.replaceable);
        if !has_room(self) {
            match self.queue.when_full() {
                WhenFull::DropNewest => {
                    return self.end(queued.message.token, Err(Undelivered::Dropped));
                }
                _ => {
                    while !has_room(self) {
                        let Some(oldest) = self.queue.pop() else { break };
                        self.end(oldest.message.token, Err(Undelivered::Dropped));
                    }
                }
            }
        }
        if self.queue.is_empty() {
            self.replay = None;
        }
        if let Pushed::Replaced(token) = self.queue.push(queued) {
            self.end(token, Ok(Delivered::Superseded));
        }
    }

    /// Whether a message of so many bytes can be taken without another being dropped.
    pub(crate) fn has_room(&self, topic: &TopicNameBuf, bytes: usize, replaceable: bool) -> bool {
        self.queue.has_room(bytes) || (replaceable && self.queue.replaces(topic, bytes))
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
        if let Some(id) = self.ledger.take(number) {
            self.note_received(id);
        }
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

    /// Whether to read from the transport: false while the application leaves too much untaken.
    pub(crate) fn wants_input(&self) -> bool {
        // The answer to CONNECT is no message.
        matches!(self.stage, Stage::Connecting { .. }) || self.unread < self.config.max_unread
    }

    /// Whether the broker asks for more answers than it takes. It is not read until it takes some,
    /// and counts as dead when it does not.
    pub(crate) fn owes_too_much(&self) -> bool {
        self.control.len() + 4 * self.ledger.len() > MAX_ANSWERS
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
                let replay = self.replay.as_ref().and_then(Replay::deadline);
                [request, ack, alive, replay].into_iter().flatten().min()
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
        if let Some(replay) = &mut self.replay {
            replay.allows(now);
        }
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
        if self.is_connected() && !self.wants_input() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send_buffer::SendBuffer;
    use crate::store::Snapshot;

    fn config() -> Config {
        Config {
            client_id: "c".into(),
            clean_session: true,
            keep_alive: Duration::from_secs(60),
            answer_within: Duration::from_secs(10),
            reply_within: Duration::from_secs(10),
            ack_within: None,
            will: None,
            limit: Limit { messages: 1 << 20, ..Limit::default() },
            window: u16::MAX,
            replay_rate: None,
            max_incoming: 1 << 20,
            resend_lost: false,
            max_unread: 1,
        }
    }

    /// Writes all that is due, to nobody.
    fn write(machine: &mut Machine, now: Instant) {
        for _ in 0..100 {
            let mut out = SendBuffer::default();
            machine.poll_transmit(&mut out, now);
            machine.handle_written(out.len(), now);
        }
    }

    fn connected(now: Instant) -> Machine {
        let mut machine = Machine::new(config(), now);
        machine.handle_open(&None, now).unwrap();
        write(&mut machine, now);
        machine.handle_input(b"\x20\x02\0\0", now).unwrap();
        machine
    }

    fn filter() -> TopicFilterBuf {
        TopicFilterBuf::new("a").unwrap()
    }

    #[test]
    fn a_filter_that_is_given_up_before_it_is_asked_for_holds_nothing_back() {
        let now = Instant::now();
        let mut machine = Machine::new(config(), now);
        machine.subscribe(filter(), QoS::AtMostOnce, 0, true);
        machine.handle_open(&None, now).unwrap();
        machine.handle_input(b"\x20\x02\0\0", now).unwrap();
        machine.unsubscribe(&filter(), 0, true);
        write(&mut machine, now);
        assert!(machine.is_restored());
    }

    #[test]
    fn an_unsubscribe_that_was_not_answered_is_sent_again_also_if_the_filter_came_and_went() {
        let now = Instant::now();
        let mut machine = connected(now);
        machine.subscribe(filter(), QoS::AtMostOnce, 0, true);
        write(&mut machine, now);
        machine.handle_input(b"\x90\x03\0\x01\0", now).unwrap();
        machine.unsubscribe(&filter(), 0, true);
        write(&mut machine, now);
        machine.subscribe(filter(), QoS::AtMostOnce, 1, true);
        machine.handle_close();
        machine.unsubscribe(&filter(), 1, true);
        assert!(!machine.is_unsubscribed(&filter()));
    }

    // MQTT-4.3.3-2
    #[test]
    fn a_message_that_was_taken_is_stored_as_received_whether_or_not_its_pubrec_leaves() {
        let publish = |id| [b"\x34\x05\0\x01a\0", &[id][..]].concat();
        let now = Instant::now();
        let mut machine = connected(now);
        machine.restore(Snapshot::default(), || 0, |_| None);
        machine.subscribe(filter(), QoS::ExactlyOnce, 0, true);
        machine.handle_input(&[publish(1), publish(2), publish(3)].concat(), now).unwrap();
        let numbers: Vec<_> = std::iter::from_fn(|| machine.poll_event())
            .filter_map(|event| match event {
                Event::Deliver { number, .. } => number,
                _ => None,
            })
            .collect();
        let received = |machine: &mut Machine| {
            let changes = machine.take_journal().into_iter().filter_map(|change| match change {
                Change::Received(id) => Some(id.get()),
                _ => None,
            });
            changes.collect::<Vec<_>>()
        };
        machine.acknowledge(numbers[1]);
        assert_eq!(received(&mut machine), [2]);
        machine.handle_close();
        machine.acknowledge(numbers[0]);
        assert_eq!(received(&mut machine), [1], "after its connection");
        machine.acknowledge(numbers[1]);
        // A broker that ends what is not acknowledged: the id means another message next.
        machine.handle_open(&None, now).unwrap();
        machine.config.clean_session = false;
        machine.handle_input(b"\x20\x02\x01\0\x62\x02\0\x03", now).unwrap();
        machine.acknowledge(numbers[2]);
        assert_eq!(received(&mut machine), [0; 0]);
    }

    #[test]
    fn a_disconnect_that_nobody_takes_has_a_limit_also_while_nothing_is_read() {
        let now = Instant::now();
        let mut machine = connected(now);
        machine.unread = 1;
        machine.shut_down();
        machine.poll_transmit(&mut SendBuffer::default(), now);
        assert!(machine.is_closing());
        let due = machine.poll_timeout().unwrap();
        let end = machine.handle_timeout(due);
        assert!(matches!(end, Err(ConnectionError::Timeout(Step::Write))), "{end:?}");
    }

    #[test]
    fn a_request_waits_for_a_packet_id_without_asking_for_its_turn() {
        let now = Instant::now();
        let mut machine = connected(now);
        for _ in 0..u16::MAX {
            let (topic, token) = (TopicNameBuf::new("t").unwrap(), Token { slot: 0, stored: 0 });
            let payload = Bytes::new();
            let message = Outgoing { topic, payload, retain: false, token, order: 0 };
            let (qos, fails_offline) = (QoS::AtLeastOnce, false);
            let queued = Queued { message, qos, expires: None, replaceable: false, fails_offline };
            machine.publish(queued, 0);
        }
        write(&mut machine, now);
        assert_eq!(machine.in_flight(), usize::from(u16::MAX));
        machine.subscribe(filter(), QoS::AtMostOnce, 0, true);
        write(&mut machine, now);
        assert!(!machine.wants_transmit());
        machine.handle_input(b"\x40\x02\0\x01", now).unwrap();
        assert!(machine.wants_transmit());
    }
}
