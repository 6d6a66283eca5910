//! One transport's side of the broker: bytes in, bytes out, and deadlines.

mod acks;
mod connect;
mod open;
mod publish;
mod replies;
mod run;
mod subscribe;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use mqtt_codec::{Frame, Packet, PublishRun, decode, frame};

use crate::hooks::{Admission, Login, PeerInfo};
use crate::journal::{Recorder, Wait};
use crate::moment::Moment;
use crate::send_buffer::SendBuffer;
use crate::session::Session;
use crate::sync::Arc;
use crate::{Broker, Client, Closed, ConnectionError, Worker};
use acks::Acks;
use open::Open;
use replies::Replies;
use run::MAX_RUN;

/// A tail that grew beyond this is let go of when it is empty again: an idle connection holds no
/// buffer, and nearly every packet that is cut in two is smaller.
const KEEP_TAIL: usize = 1 << 10;

/// Bytes of answers that wait for a client before it is not read any more: more than a client with
/// the largest window of QoS 1 and 2 messages can have to wait for at once.
const MAX_REPLIES: usize = 256 << 10;

/// What is due later than this is never due. A timeout of [`Duration::MAX`] is a way to say so, and
/// no clock shows that time.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The state machine of one connection, owned by whoever owns the transport.
///
/// Push in what the transport gives ([`handle_input`](Self::handle_input)) and the time
/// ([`handle_timeout`](Self::handle_timeout)), pull out what it takes
/// ([`poll_transmit`](Self::poll_transmit)). How the input is cut into pieces changes nothing.
/// Dropping it is the end of its transport: a will is published.
///
/// After an error from any method, [`poll_transmit`](Self::poll_transmit) gives what is still to be
/// sent (a CONNACK that refuses, acknowledgements of what came before) and then says to close.
#[derive(Debug)]
pub struct Connection {
    broker: Broker,
    stage: Stage,
    /// The beginning of a packet whose end has not come, or what waits while we are held back.
    #[expect(
        clippy::box_collection,
        reason = "most connections have none: one word instead of three"
    )]
    tail: Option<Box<Vec<u8>>>,
    replies: Replies,
    /// When bytes came last.
    last_input: Moment,
    gated: Option<Box<Gated>>,
}

/// What is written when a batch of the journal is durable. Meanwhile the next is collected.
#[derive(Debug)]
struct Gated {
    buffer: Box<SendBuffer>,
    wait: Wait,
}

/// What is to be written, or the end.
type Gathered = Result<Box<SendBuffer>, Result<Closed, ConnectionError>>;

/// All but `Open` is short, and boxed: most connections are open and idle, and have no room for it.
#[derive(Debug)]
enum Stage {
    /// CONNECT is due.
    Connecting(Box<Arrival>),
    /// The decision on the login is due.
    Admitting(Box<Candidate>),
    Open(Open),
    /// What is in `replies` goes out, then the transport is closed.
    Closing(Result<Closed, ConnectionError>),
}

/// A connection without a CONNECT.
#[derive(Debug)]
struct Arrival {
    deadline: Instant,
    peer: PeerInfo,
}

/// A client that waits to be admitted.
#[derive(Debug)]
struct Candidate {
    deadline: Instant,
    login: Login,
    /// Until the driver awaits the decision.
    event: Option<Event>,
}

/// Something that a connection needs from outside: [`Connection::poll_event`].
#[non_exhaustive]
pub enum Event {
    /// Await this and hand its result to [`Connection::admit`].
    Authenticate(Pin<Box<dyn Future<Output = Admission> + Send>>),
}

/// What to do with the transport: [`Connection::poll_transmit`].
#[derive(Debug)]
pub enum Transmit {
    /// Write this, give it to [`Worker::recycle`], then ask again.
    Write(Box<SendBuffer>),
    /// Close the transport: there is nothing more to write.
    Close(Result<Closed, ConnectionError>),
}

impl Connection {
    pub(crate) fn new(broker: Broker, peer: PeerInfo, now: Instant) -> Self {
        let deadline = after(peer.opened.unwrap_or(now), broker.config().connect_timeout);
        let last_input = broker.shared().origin.moment(now);
        Self {
            broker,
            stage: Stage::Connecting(Box::new(Arrival { deadline, peer })),
            tail: None,
            replies: Replies::default(),
            last_input,
            gated: None,
        }
    }

    /// Takes bytes from the transport and carries out the packets that are complete.
    pub fn handle_input(
        &mut self,
        worker: &mut Worker,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), ConnectionError> {
        worker.tally.bytes_received += bytes.len() as u64;
        self.last_input = self.moment(now);
        let result = self.feed(worker, bytes, now);
        self.conclude(result, worker, now)
    }

    /// Does what is due: ends a silent connection, goes on with what waited.
    pub fn handle_timeout(
        &mut self,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let result = self.expire(worker, now);
        self.conclude(result, worker, now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; in the past when it has
    /// something to do now. It may change with every other call, but ask only when a timer fires
    /// or the task is woken: deadlines only move to later while nothing happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Connecting(arrival) => Some(arrival.deadline),
            Stage::Admitting(candidate) => Some(candidate.deadline),
            Stage::Closing(_) => None,
            Stage::Open(open) => match &open.held {
                Some(held) if held.is_released(self.broker.shared()) => self.time(self.last_input),
                Some(held) => Some(held.until),
                None => self.time(open.silent_until(self.last_input)?),
            },
        }
    }

    /// What the connection needs from outside.
    pub fn poll_event(&mut self) -> Option<Event> {
        match &mut self.stage {
            Stage::Admitting(candidate) => candidate.event.take(),
            _ => None,
        }
    }

    /// Answers the login of [`Event::Authenticate`]. Without one, nothing happens.
    pub fn admit(
        &mut self,
        worker: &mut Worker,
        admission: Admission,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let result = self.decide(worker, admission, now).and_then(|()| self.feed(worker, &[], now));
        self.conclude(result, worker, now)
    }

    /// Whether to read from the transport. False while a login is undecided, while a receiver of this
    /// client's messages has no room, while the client does not take its answers, and while they wait
    /// for a journal that is behind: the
    /// transport's own flow control then holds it back. Ask again after every other call; the task is woken when it changes.
    pub fn wants_input(&self) -> bool {
        let is_choked = matches!(&self.stage, Stage::Open(open) if open.is_choked);
        let shared = self.broker.shared();
        let is_waiting =
            self.gated.as_ref().is_some_and(|gated| shared.is_journal_congested(&gated.wait));
        self.takes_packets() && !is_choked && !is_waiting && self.replies.len() < MAX_REPLIES
    }

    /// What to do with the transport. Pending leaves the task's waker where messages come in.
    pub fn poll_transmit(&mut self, worker: &mut Worker, cx: &mut Context<'_>) -> Poll<Transmit> {
        let transmit = self.collect(worker, cx);
        if let Poll::Ready(Transmit::Write(buffer)) = &transmit {
            worker.tally.bytes_sent += buffer.len() as u64;
        }
        worker.finish(&self.broker.shared().counters);
        transmit
    }

    /// Ready when the connection has to end although its transport takes nothing: it was taken
    /// over, or the client does not read. Ask while a buffer is not written.
    pub fn poll_abort(
        &mut self,
        worker: &mut Worker,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Closed, ConnectionError>> {
        let open = match &mut self.stage {
            Stage::Open(open) => open,
            Stage::Closing(result) => return Poll::Ready(*result),
            Stage::Connecting(_) | Stage::Admitting(_) => return Poll::Pending,
        };
        let mut state = open.session.lock();
        let Some(ending) = open.ending(&state) else {
            state.register(cx.waker(), true);
            drop(state);
            open.wait(self.broker.shared(), cx);
            return Poll::Pending;
        };
        drop(state);
        self.close(ending, worker, self.last_input);
        worker.finish(&self.broker.shared().counters);
        Poll::Ready(ending)
    }

    /// Tells that the transport has ended, without DISCONNECT or with.
    pub fn handle_end_of_stream(&mut self, worker: &mut Worker, now: Instant) {
        if !matches!(self.stage, Stage::Closing(_)) {
            self.close(Ok(Closed::EndOfStream), worker, self.moment(now));
        }
        self.replies = Replies::default();
        self.gated = None;
        worker.finish(&self.broker.shared().counters);
    }

    /// The session of a client of which nothing is due but a sign of life, by the given time: its waker
    /// is the one of this connection's task.
    #[cfg(feature = "tokio")]
    pub(crate) fn quiet_session(&self) -> Option<(&Arc<Session>, Option<Moment>)> {
        match &self.stage {
            Stage::Open(open) if open.held.is_none() => {
                Some((&open.session, open.silent_until(self.last_input)))
            }
            _ => None,
        }
    }

    /// Whether the client has done something that it waits for an answer to.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_answers(&self) -> bool {
        !self.replies.is_empty()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The client, once its CONNECT was accepted.
    pub fn client(&self) -> Option<&Client> {
        match &self.stage {
            Stage::Open(open) => Some(&open.client),
            _ => None,
        }
    }

    /// Carries out the packets of `bytes` and what waited before them.
    fn feed(
        &mut self,
        worker: &mut Worker,
        mut bytes: &[u8],
        now: Instant,
    ) -> Result<(), ConnectionError> {
        if let Stage::Open(open) = &self.stage {
            // What a connection still has to say when it was taken over comes too late.
            let ending = open.ending(&open.session.lock());
            if let Some(ending) = ending {
                self.close(ending, worker, self.moment(now));
            }
        }
        while self.takes_packets()
            && let Some(mut tail) = self.tail.take_if(|tail| !tail.is_empty())
        {
            // Complete the packet at the front of the tail, and no more than that: what follows is
            // decoded where it lies.
            let needed = match frame(&tail, self.max_packet()) {
                Ok(Frame::Complete { end, .. }) => end,
                Ok(Frame::Incomplete { needed }) => needed,
                Err(error) => return Err(self.refuse_malformed(error, worker)),
            };
            let missing = needed.saturating_sub(tail.len());
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            tail.extend_from_slice(part);
            bytes = rest;
            if part.len() < missing {
                self.tail = Some(tail);
                return Ok(());
            }
            let used = self.carry_out(worker, &tail, now)?;
            tail.drain(..used);
            if !tail.is_empty() || tail.capacity() <= KEEP_TAIL {
                self.tail = Some(tail);
            }
        }
        if self.takes_packets() {
            let used = self.carry_out(worker, bytes, now)?;
            bytes = bytes.get(used..).unwrap_or_default();
        }
        if !bytes.is_empty() && !matches!(self.stage, Stage::Closing(_)) {
            self.tail.get_or_insert_default().extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Carries out the complete packets at the front of `bytes`. Gives back their length.
    fn carry_out(
        &mut self,
        worker: &mut Worker,
        bytes: &[u8],
        now: Instant,
    ) -> Result<usize, ConnectionError> {
        let mut at = 0;
        while self.takes_packets() {
            let rest = bytes.get(at..).unwrap_or_default();
            let max_packet = self.max_packet();
            let (packet, len) = match decode(rest, max_packet) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => break,
                Err(error) => return Err(self.refuse_malformed(error, worker)),
            };
            if let (Packet::Publish(publish), Stage::Open(open)) = (&packet, &mut self.stage)
                && !publish.retain
                && let Some(run) = PublishRun::at_front(publish, rest, max_packet, MAX_RUN)
                && open.takes_runs(self.broker.shared())
            {
                let shared = self.broker.shared();
                at += open.handle_run(shared, worker, run, &mut self.replies, now)?;
                continue;
            }
            let acks = Acks::at_front(&packet, rest);
            at += len.max(acks.encoded_len());
            worker.tally.messages_received += acks.len().max(1) as u64;
            self.handle_packet(worker, &packet, acks, now)?;
        }
        Ok(at)
    }

    /// Carries out one packet, or the acknowledgements of the same kind that follow it as well.
    fn handle_packet(
        &mut self,
        worker: &mut Worker,
        packet: &Packet<'_>,
        acks: Acks<'_>,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let Stage::Open(open) = &mut self.stage else {
            return match packet {
                Packet::Connect(connect) => self.handle_connect(worker, connect, now),
                other => Err(ConnectionError::FirstPacket(other.packet_type())),
            };
        };
        let shared = self.broker.shared();
        match packet {
            Packet::Publish(publish) => {
                open.handle_publish(shared, worker, publish, &mut self.replies, now)
            }
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) => {
                open.handle_acks(shared, worker, packet.packet_type(), acks, &mut self.replies)
            }
            Packet::PubRel(_) => {
                open.handle_pubrels(shared, worker, acks, &mut self.replies);
                Ok(())
            }
            Packet::Subscribe(subscribe) => {
                open.handle_subscribe(shared, worker, subscribe);
                Ok(())
            }
            Packet::Unsubscribe(unsubscribe) => {
                let after = open.handle_unsubscribe(shared, unsubscribe);
                self.replies.push(&Packet::UnsubAck(unsubscribe.packet_id()), after, worker);
                Ok(())
            }
            Packet::PingReq => {
                // It has had nothing else to say for a while.
                if let Some(mut state) = open.lock() {
                    state.deliveries.settle();
                }
                self.replies.push(&Packet::PingResp, 0, worker);
                Ok(())
            }
            Packet::Disconnect => {
                self.close(Ok(Closed::Disconnect), worker, self.moment(now));
                Ok(())
            }
            Packet::Connect(_) => Err(ConnectionError::SecondConnect),
            other => Err(ConnectionError::ServerPacket(other.packet_type())),
        }
    }

    fn expire(&mut self, worker: &mut Worker, now: Instant) -> Result<(), ConnectionError> {
        let Stage::Open(open) = &mut self.stage else {
            let due = self.poll_timeout().is_some_and(|deadline| deadline <= now);
            return if due { Err(ConnectionError::ConnectTimeout) } else { Ok(()) };
        };
        if let Some(held) = &open.held {
            let shared = self.broker.shared();
            let is_over = held.until <= now;
            if !is_over && !held.is_released(shared) {
                return Ok(());
            }
            open.release(shared, worker, is_over);
            // While the client was not read, its silence was ours.
            self.last_input = shared.origin.moment(now);
            return self.feed(worker, &[], now);
        }
        match open.silent_until(self.last_input) {
            Some(end) if end <= self.broker.shared().origin.moment(now) => {
                Err(ConnectionError::KeepAliveTimeout)
            }
            _ => Ok(()),
        }
    }

    /// What is to be written, once everything that it says is durable.
    fn collect(&mut self, worker: &mut Worker, cx: &mut Context<'_>) -> Poll<Transmit> {
        let mut gated = match self.gated.take() {
            Some(gated) => gated,
            None => match ready!(self.gather(worker, cx)) {
                Ok(mut buffer) => {
                    let wait = buffer.take_wait();
                    if wait.is_none() {
                        return Poll::Ready(Transmit::Write(buffer));
                    }
                    Box::new(Gated { buffer, wait })
                }
                Err(result) => return Poll::Ready(Transmit::Close(result)),
            },
        };
        if self.broker.shared().poll_durable(&mut gated.wait, cx).is_ready() {
            if gated.buffer.is_empty() {
                // There was something to wait for and nothing to say.
                worker.recycle(gated.buffer);
                return self.collect(worker, cx);
            }
            return Poll::Ready(Transmit::Write(gated.buffer));
        }
        if self.broker.shared().has_store_failed() {
            // What it says will never be true.
            self.close(Err(ConnectionError::StoreFailed), worker, self.last_input);
            self.replies = Replies::default();
            return Poll::Ready(Transmit::Close(Err(ConnectionError::StoreFailed)));
        }
        self.gated = Some(gated);
        if let Stage::Open(open) = &self.stage {
            let mut state = open.session.lock();
            match open.ending(&state) {
                None => state.register(cx.waker(), true),
                Some(ending) => {
                    drop(state);
                    self.close(ending, worker, self.last_input);
                }
            }
        }
        Poll::Pending
    }

    /// What is to be written next, or why nothing more comes.
    fn gather(&mut self, worker: &mut Worker, cx: &mut Context<'_>) -> Poll<Gathered> {
        if let Stage::Open(open) = &mut self.stage {
            let shared = self.broker.shared();
            if open.is_replaying {
                shared.replay(&open.session, worker);
            }
            let mut tx = shared.transaction_for(&open.session);
            let mut state = open.session.lock();
            open.is_replaying = !state.deliveries.replays.is_empty();
            if let Some(ending) = open.ending(&state) {
                drop(state);
                drop(tx);
                self.close(ending, worker, self.last_input);
            } else if let Some(mut outbox) = state.take_outbox(&shared.config, worker, &mut tx) {
                tx.touch(&open.session, &mut state);
                state.release(&shared.config, &mut worker.wakes);
                open.is_choked = false;
                open.connack = None;
                if let Some(mut replies) = self.replies.buffer.take() {
                    outbox.append_all(&mut replies);
                    worker.recycle(replies);
                }
                return Poll::Ready(Ok(outbox));
            } else if self.replies.is_empty() {
                state.register(cx.waker(), false);
                drop(state);
                drop(tx);
                open.wait(shared, cx);
                return Poll::Pending;
            }
        }
        match (self.replies.buffer.take(), &self.stage) {
            (Some(replies), _) => Poll::Ready(Ok(replies)),
            (None, Stage::Closing(result)) => Poll::Ready(Err(*result)),
            (None, _) => Poll::Pending,
        }
    }

    /// The end of the connection, for whatever reason. The session is left or ended, and the will
    /// goes out unless the client said goodbye [MQTT-3.14.4-3].
    fn close(&mut self, result: Result<Closed, ConnectionError>, worker: &mut Worker, now: Moment) {
        let stage = std::mem::replace(&mut self.stage, Stage::Closing(result));
        self.tail = None;
        let Stage::Open(mut open) = stage else { return };
        let shared = self.broker.shared();
        let others = self.replies.buffer.take();
        // A client that has said all may still read all: CONNACK and SUBACKs are in its outbox.
        let outbox = match result {
            Ok(Closed::Disconnect) => open.lock().and_then(|mut state| state.give_outbox()),
            _ => None,
        };
        if outbox.is_some() {
            self.replies.buffer = outbox;
        } else if let Some(connack) = open.connack {
            // It is lost with the session's outbox, and is first whatever follows [MQTT-3.2.0-1].
            self.replies.push(&connack.into(), 0, worker);
        }
        if let Some(mut others) = others {
            self.replies.buffer.get_or_insert_with(|| worker.buffer()).append_all(&mut others);
            worker.recycle(others);
        }
        shared.count_disconnected();
        open.release(shared, worker, false);
        let mut tx = shared.transaction_for(&open.session);
        let displaced = shared.registry.close(&open.session, open.epoch, now, &mut tx);
        if let Some(mut displaced) = displaced {
            if matches!(result, Ok(Closed::Disconnect | Closed::ShutDown)) {
                displaced.will = None;
            }
            shared.settle([displaced], tx, worker);
        }
        shared.hooks.disconnected(&open.client, &result);
    }

    /// Ends a call: an error ends the connection.
    fn conclude(
        &mut self,
        result: Result<(), ConnectionError>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        if let Err(error) = result {
            self.close(Err(error), worker, self.moment(now));
        }
        worker.finish(&self.broker.shared().counters);
        result
    }

    fn moment(&self, time: Instant) -> Moment {
        self.broker.shared().origin.moment(time)
    }

    fn time(&self, moment: Moment) -> Option<Instant> {
        self.broker.shared().origin.time(moment)
    }

    fn takes_packets(&self) -> bool {
        match &self.stage {
            Stage::Connecting(_) => true,
            Stage::Open(open) => open.held.is_none(),
            Stage::Admitting(_) | Stage::Closing(_) => false,
        }
    }

    fn max_packet(&self) -> usize {
        match &self.stage {
            Stage::Connecting(_) => self.broker.config().max_connect_packet,
            _ => self.broker.config().max_packet,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Open(_)) {
            let broker = self.broker.clone();
            // A hook that panics may be the reason why we are here, and must not do it again: a panic
            // in a panic would end the process.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                broker.with_worker(|worker| {
                    self.close(Ok(Closed::EndOfStream), worker, self.last_input);
                });
            }));
        }
        self.broker.shared().count_closed();
    }
}

/// The time after `now` by a time of the configuration, however long.
fn after(now: Instant, time: Duration) -> Instant {
    now + time.min(NEVER)
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticate(_) => f.write_str("Authenticate"),
        }
    }
}
