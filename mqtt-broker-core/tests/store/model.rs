//! What a broker would have in its store, and batches that it could write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use mqtt_broker_core::{
    Batch, CommitError, FileStore, InFlight, Message, MessageId, Progress, Receiver, Record,
    Recovered, SessionId, Store,
};
use mqtt_codec::{PacketId, QoS, TopicFilterBuf, TopicName, TopicNameBuf};

/// Enough for trees with inner pages, and few enough that a restart is quick.
const SESSIONS: usize = 6;
const QUEUED: usize = 30;

/// All that a store has to give back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    sessions: BTreeMap<u64, Session>,
    retained: BTreeMap<String, Message>,
    next_message: u64,
    next_session: u64,
    touched: BTreeSet<u64>,
    has_groups: bool,
}

#[derive(Clone, Debug)]
struct Session {
    client_id: String,
    user_name: Option<String>,
    will: Option<Message>,
    subscriptions: BTreeMap<String, (QoS, bool)>,
    queue: VecDeque<Waiting>,
    in_flight: Vec<(u16, Option<Waiting>)>,
    next_packet_id: u16,
    received: BTreeSet<u16>,
    may_be_sent: Option<MessageId>,
}

#[derive(Clone, Debug)]
struct Waiting {
    id: u64,
    message: Message,
    receiver: Receiver,
}

/// A model or what was recovered, in a form in which the two can be compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    sessions: BTreeMap<u64, SessionPicture>,
    retained: BTreeMap<String, (Vec<u8>, QoS)>,
}

/// Number, topic, payload, QoS, RETAIN and group.
type MessagePicture = (u64, String, Vec<u8>, QoS, bool, Option<String>);

#[derive(Debug, PartialEq, Eq)]
struct SessionPicture {
    client_id: String,
    user_name: Option<String>,
    will: Option<Message>,
    subscriptions: BTreeMap<String, (QoS, bool)>,
    may_be_sent: Option<MessageId>,
    next_packet_id: u16,
    in_flight: Vec<(u16, Option<u64>)>,
    received: Vec<(u16, u16)>,
    messages: Vec<MessagePicture>,
}

impl Model {
    pub(crate) fn new(has_groups: bool) -> Self {
        Self { next_message: 1, next_session: 1, has_groups, ..Self::default() }
    }

    /// Some changes that a broker could make, as one batch.
    pub(crate) fn change(&mut self, rng: &mut Rng) -> Batch {
        let mut batch = Batch::default();
        self.change_more(rng, &mut batch);
        batch
    }

    /// More of them, at the end of a batch that was refused.
    pub(crate) fn change_more(&mut self, rng: &mut Rng, batch: &mut Batch) {
        // Mostly as small as with one client, sometimes as large as with many.
        let steps = if rng.u8(..) < 200 { rng.usize(1..6) } else { rng.usize(1..80) };
        for _ in 0..steps {
            self.step(rng, batch);
        }
        for id in std::mem::take(&mut self.touched) {
            if let Some(session) = self.sessions.get(&id) {
                let progress = session.progress(self.next_message);
                batch.push(Record::Progress { session: SessionId::new(id), progress });
            }
        }
    }

    fn step(&mut self, rng: &mut Rng, batch: &mut Batch) {
        match rng.u8(0..32) {
            0 => self.begin_session(rng, batch),
            1 if rng.u8(0..4) == 0 => self.end_session(rng, batch),
            2..4 => self.subscribe(rng, batch),
            4..14 => self.publish(rng, batch),
            14..18 => self.send(rng),
            18..24 => self.acknowledge(rng, batch),
            24 => self.withdraw(rng, batch),
            25..27 => self.receive(rng),
            27..30 => self.retain(rng, batch),
            30 => self.repeat_done(rng, batch),
            _ => self.change_will(rng, batch),
        }
    }

    fn begin_session(&mut self, rng: &mut Rng, batch: &mut Batch) {
        if self.sessions.len() == SESSIONS {
            return;
        }
        let id = self.next_session + rng.u64(0..3);
        self.next_session = id + 1;
        let session = Session {
            client_id: format!("client-{id}"),
            user_name: rng.bool().then(|| text(rng, 12)),
            will: rng.bool().then(|| message(rng).retained()),
            subscriptions: BTreeMap::new(),
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            next_packet_id: 1,
            received: BTreeSet::new(),
            may_be_sent: None,
        };
        batch.push(session.record(id));
        self.sessions.insert(id, session);
    }

    fn change_will(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let Some(id) = self.any_session(rng) else { return };
        let session = self.session(id);
        session.will = rng.bool().then(|| message(rng));
        session.user_name = rng.bool().then(|| text(rng, 3));
        batch.push(session.record(id));
    }

    fn end_session(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let Some(id) = self.any_session(rng) else { return };
        let session = self.sessions.remove(&id).unwrap();
        let in_flight = session.in_flight.into_iter().filter_map(|(_, waiting)| waiting);
        for waiting in in_flight.chain(session.queue) {
            batch.push(Record::Done { id: number(waiting.id) });
        }
        batch.push(Record::SessionEnd { session: SessionId::new(id) });
    }

    fn subscribe(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let Some(id) = self.any_session(rng) else { return };
        let session = SessionId::new(id);
        let name = format!("{}/#", rng.u8(0..8));
        let filter = TopicFilterBuf::new(name.as_str()).unwrap();
        let subscriptions = &mut self.session(id).subscriptions;
        match rng.u8(0..3) {
            0 => {
                let qos = qos(rng);
                subscriptions.insert(name, (qos, false));
                batch.push(Record::Subscribe { session, filter, qos });
            }
            1 => {
                subscriptions.remove(&name);
                batch.push(Record::Unsubscribe { session, filter });
            }
            _ => {
                if let Some((_, is_replayed)) = subscriptions.get_mut(&name) {
                    *is_replayed = true;
                }
                batch.push(Record::Replayed { session, filter });
            }
        }
    }

    fn publish(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let id = self.next_message + rng.u64(0..2);
        let message = message(rng);
        let mut receivers = Vec::new();
        for (session, state) in &mut self.sessions {
            if rng.u8(0..3) == 0 || state.queue.len() >= QUEUED {
                continue;
            }
            let qos = if rng.bool() { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let mut receiver = Receiver::new(SessionId::new(*session), qos, rng.bool());
            receiver.group = (self.has_groups && rng.u8(0..4) == 0)
                .then(|| TopicFilterBuf::new("$share/group/a/#").unwrap());
            receivers.push(receiver.clone());
            state.queue.push_back(Waiting { id, message: message.clone(), receiver });
            self.touched.insert(*session);
        }
        if !receivers.is_empty() {
            self.next_message = id + 1;
            batch.push_message(number(id), message, receivers);
        }
    }

    fn send(&mut self, rng: &mut Rng) {
        let Some(id) = self.any_session(rng) else { return };
        let next = number(self.next_message);
        let session = self.session(id);
        session.may_be_sent =
            rng.choice(&[None, Some(MessageId::LAST), Some(next)]).copied().flatten();
        for _ in 0..rng.u8(1..6) {
            let Some(waiting) = session.queue.pop_front() else { break };
            session.in_flight.push((session.next_packet_id, Some(waiting)));
            session.next_packet_id = session.next_packet_id.checked_add(1).unwrap_or(1);
        }
        self.touched.insert(id);
    }

    fn acknowledge(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let Some(id) = self.any_session(rng) else { return };
        let session = self.session(id);
        for _ in 0..rng.u8(1..6) {
            if session.in_flight.is_empty() {
                break;
            }
            let place = rng.usize(..session.in_flight.len());
            let (packet_id, waiting) = session.in_flight.remove(place);
            if let Some(waiting) = waiting {
                batch.push(Record::Done { id: number(waiting.id) });
                if waiting.receiver.qos == QoS::ExactlyOnce {
                    session.in_flight.insert(place, (packet_id, None));
                }
            }
        }
        self.touched.insert(id);
    }

    fn withdraw(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let Some(id) = self.any_session(rng) else { return };
        let session = self.session(id);
        if session.queue.is_empty() {
            return;
        }
        let place = rng.usize(..session.queue.len());
        let waiting = session.queue.remove(place).unwrap();
        batch.push(Record::Withdraw { id: number(waiting.id), session: SessionId::new(id) });
        self.touched.insert(id);
    }

    fn receive(&mut self, rng: &mut Rng) {
        let Some(id) = self.any_session(rng) else { return };
        let packet_id = rng.u16(1..20);
        let received = &mut self.session(id).received;
        if !received.remove(&packet_id) {
            received.insert(packet_id);
        }
        self.touched.insert(id);
    }

    fn retain(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let message = message(rng).retained();
        let topic = message.topic().as_str().to_owned();
        if rng.bool() {
            batch.push(Record::Retain { message: message.clone() });
            self.retained.insert(topic, message);
        } else {
            batch.push(Record::Unretain { topic: TopicNameBuf::from(message.topic()) });
            self.retained.remove(&topic);
        }
    }

    /// What is done may be said again of a message that nobody has.
    fn repeat_done(&mut self, rng: &mut Rng, batch: &mut Batch) {
        let id = rng.u64(1..=self.next_message);
        let has = |session: &Session| session.waiting().any(|waiting| waiting.id == id);
        if id < self.next_message && !self.sessions.values().any(has) {
            batch.push(Record::Done { id: number(id) });
        }
    }

    fn any_session(&self, rng: &mut Rng) -> Option<u64> {
        rng.choice(self.sessions.keys()).copied()
    }

    fn session(&mut self, id: u64) -> &mut Session {
        self.sessions.get_mut(&id).unwrap()
    }

    /// The broker goes on with the numbers that the store gives it.
    pub(crate) fn restart(&mut self, recovered: &Recovered) {
        let (message, session) = (recovered.next_message.get(), recovered.next_session.get());
        assert!(message >= self.next_message, "message {message} would be given again");
        assert!(session >= self.next_session, "session {session} would be given again");
        (self.next_message, self.next_session) = (message, session);
    }

    /// What is there when a batch found no room but to let go of what is done: deliveries are as far
    /// as the last of `refused` says, and everything else is as it was.
    pub(crate) fn picture_without(&self, refused: &[Self]) -> Picture {
        let mut picture = self.picture();
        let Some(last) = refused.last() else { return picture };
        picture.sessions.retain(|id, _| last.sessions.contains_key(id));
        for (id, session) in &mut picture.sessions {
            let later = &last.sessions[id];
            let progress = later.progress(u64::MAX);
            session.may_be_sent = later.may_be_sent;
            session.next_packet_id = later.next_packet_id;
            session.in_flight = later.picture().in_flight;
            session.messages.retain(|(id, ..)| progress.holds(number(*id)));
        }
        picture
    }

    pub(crate) fn picture(&self) -> Picture {
        let sessions = self.sessions.iter().map(|(id, session)| (*id, session.picture())).collect();
        let retained = self.retained.values().map(retained).collect();
        Picture { sessions, retained }
    }
}

impl Session {
    fn record(&self, id: u64) -> Record {
        Record::Session {
            session: SessionId::new(id),
            client_id: self.client_id.as_str().into(),
            user_name: self.user_name.clone(),
            will: self.will.clone(),
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        let in_flight = self.in_flight.iter().filter_map(|(_, waiting)| waiting.as_ref());
        in_flight.chain(&self.queue)
    }

    fn progress(&self, next_message: u64) -> Progress {
        let queued_from = self.queue.front().map_or(next_message, |waiting| waiting.id);
        let mut progress = Progress::new(number(queued_from));
        progress.may_be_sent = self.may_be_sent;
        progress.next_packet_id = packet_id(self.next_packet_id);
        progress.in_flight = self
            .in_flight
            .iter()
            .map(|(id, waiting)| {
                InFlight::new(packet_id(*id), waiting.as_ref().map(|waiting| number(waiting.id)))
            })
            .collect();
        let ranges = ranges(&self.received).into_iter();
        progress.received =
            ranges.map(|(first, last)| (packet_id(first), packet_id(last))).collect();
        progress
    }

    fn picture(&self) -> SessionPicture {
        SessionPicture {
            client_id: self.client_id.clone(),
            user_name: self.user_name.clone(),
            will: self.will.clone(),
            subscriptions: self.subscriptions.clone(),
            may_be_sent: self.may_be_sent,
            next_packet_id: self.next_packet_id,
            in_flight: self
                .in_flight
                .iter()
                .map(|(id, waiting)| (*id, waiting.as_ref().map(|waiting| waiting.id)))
                .collect(),
            received: ranges(&self.received),
            messages: self
                .waiting()
                .map(|Waiting { id, message, receiver }| {
                    let group = receiver.group.as_ref().map(|group| group.as_str().to_owned());
                    let topic = message.topic().as_str().to_owned();
                    let payload = message.payload().to_vec();
                    (*id, topic, payload, receiver.qos, receiver.retain, group)
                })
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
        }
    }
}

/// Reads the messages too that a start leaves in the store.
pub(crate) fn whole(
    (mut store, mut recovered): (FileStore, Recovered),
) -> Result<(FileStore, Recovered), CommitError> {
    for session in &mut recovered.sessions {
        let left = session.messages.iter().filter(|one| one.message.is_none());
        let ids: Vec<_> = left.map(|one| one.id).collect();
        let mut loaded = store.load(session.session, &ids)?.into_iter();
        for one in session.messages.iter_mut().filter(|one| one.message.is_none()) {
            one.message = loaded.next().map(|(_, message)| message);
        }
    }
    Ok((store, recovered))
}

impl From<&Recovered> for Picture {
    fn from(recovered: &Recovered) -> Self {
        let session = |session: &mqtt_broker_core::RecoveredSession| SessionPicture {
            client_id: session.client_id.to_string(),
            user_name: session.user_name.clone(),
            will: session.will.clone(),
            subscriptions: session
                .subscriptions
                .iter()
                .map(|one| (one.filter.as_str().to_owned(), (one.qos, one.is_replayed)))
                .collect(),
            may_be_sent: session.progress.may_be_sent,
            next_packet_id: session.progress.next_packet_id.get(),
            in_flight: session
                .progress
                .in_flight
                .iter()
                .map(|one| (one.packet_id.get(), one.message.map(MessageId::get)))
                .collect(),
            received: session
                .progress
                .received
                .iter()
                .map(|(first, last)| (first.get(), last.get()))
                .collect(),
            messages: session
                .messages
                .iter()
                .map(|one| {
                    let message = one.message.as_ref().expect("it is whole");
                    let group = one.group.as_ref().map(|group| group.as_str().to_owned());
                    let topic = message.topic().as_str().to_owned();
                    let payload = message.payload().to_vec();
                    (one.id.get(), topic, payload, message.qos(), message.retain(), group)
                })
                .collect(),
        };
        let sessions = &recovered.sessions;
        Self {
            sessions: sessions.iter().map(|one| (one.session.get(), session(one))).collect(),
            retained: recovered.retained.iter().map(retained).collect(),
        }
    }
}

fn retained(message: &Message) -> (String, (Vec<u8>, QoS)) {
    (message.topic().as_str().to_owned(), (message.payload().to_vec(), message.qos()))
}

fn ranges(ids: &BTreeSet<u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    ranges
}

fn message(rng: &mut Rng) -> Message {
    let topic = format!("{}/{}", rng.u8(0..8), rng.u8(0..4));
    let len = if rng.u8(..) < 250 { rng.usize(1..600) } else { rng.usize(1..20_000) };
    let payload: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    Message::new(TopicName::new(&topic).unwrap(), &payload, qos(rng)).unwrap()
}

fn text(rng: &mut Rng, len: usize) -> String {
    (0..len).map(|_| rng.alphanumeric()).collect()
}

fn qos(rng: &mut Rng) -> QoS {
    QoS::try_from(rng.u8(0..3)).unwrap()
}

fn number(id: u64) -> MessageId {
    MessageId::new(id).unwrap()
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}
