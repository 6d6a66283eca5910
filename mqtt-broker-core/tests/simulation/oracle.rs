//! What every session must and may receive, told from the order in which the broker says that
//! things happen to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use mqtt_broker_core::{
    Client, Closed, ConnectionError, DropReason, Hooks, Interests, Permission, SessionInfo,
};
use mqtt_codec::{Publish, QoS, TopicFilter, TopicName};

use crate::client::WILL;
use crate::groups::{Shared, is_shared};
use crate::restart::Durable;

/// What the broker's hooks were told.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Published {
        client: String,
        serial: usize,
        message: Message,
    },
    Dropped {
        receiver: Option<String>,
        topic: String,
        reason: DropReason,
    },
    /// Of a message that is for one member of a group.
    Delivered {
        receiver: String,
        topic: String,
    },
    Connected {
        client: String,
        serial: usize,
        present: bool,
    },
    Disconnected {
        client: String,
        serial: usize,
        reason: Result<Closed, ConnectionError>,
    },
    Subscribed {
        client: String,
        filter: String,
        qos: u8,
    },
    Unsubscribed {
        client: String,
        filter: String,
    },
    Ended {
        client: String,
    },
}

/// A message as the oracle knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// The broker's hooks: everything is allowed and written down.
#[derive(Clone, Default)]
pub(crate) struct Log {
    events: Arc<Mutex<Vec<Event>>>,
    /// The broker is to say who owns messages of groups.
    pub(crate) has_groups: bool,
}

impl Log {
    pub(crate) fn new(has_groups: bool) -> Self {
        Self { has_groups, ..Self::default() }
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

impl Hooks for Log {
    fn interests(&self) -> Interests {
        Interests { delivered: self.has_groups, ..Interests::default() }
    }

    fn authorize_publish(&self, client: &Client, publish: &Publish<'_>) -> Permission {
        let message = Message {
            topic: publish.topic.to_string(),
            payload: publish.payload.to_vec(),
            qos: publish.qos().into(),
            retain: publish.retain,
        };
        let (client, serial) = (client.client_id().to_owned(), client.listener());
        self.note(Event::Published { client, serial, message });
        Permission::Allow
    }

    fn connected(&self, client: &Client, present: bool) {
        let (client, serial) = (client.client_id().to_owned(), client.listener());
        self.note(Event::Connected { client, serial, present });
    }

    fn disconnected(&self, client: &Client, reason: &Result<Closed, ConnectionError>) {
        let (client, serial) = (client.client_id().to_owned(), client.listener());
        self.note(Event::Disconnected { client, serial, reason: *reason });
    }

    fn subscribed(&self, client: &Client, filter: TopicFilter<'_>, qos: QoS) {
        let (client, filter) = (client.client_id().to_owned(), filter.to_string());
        self.note(Event::Subscribed { client, filter, qos: qos.into() });
    }

    fn unsubscribed(&self, client: &Client, filter: TopicFilter<'_>) {
        let (client, filter) = (client.client_id().to_owned(), filter.to_string());
        self.note(Event::Unsubscribed { client, filter });
    }

    fn session_ended(&self, client_id: &str) {
        self.note(Event::Ended { client: client_id.into() });
    }

    fn delivered(&self, receiver: &str, publish: &Publish<'_>) {
        let (receiver, topic) = (receiver.into(), publish.topic.to_string());
        if is_shared(&topic) {
            self.note(Event::Delivered { receiver, topic });
        }
    }

    fn dropped(&self, receiver: Option<&str>, topic: TopicName<'_>, reason: DropReason) {
        let (receiver, topic) = (receiver.map(Into::into), topic.to_string());
        self.note(Event::Dropped { receiver, topic, reason });
    }
}

/// A PUBLISH that a client has received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    pub(crate) id: u16,
    pub(crate) dup: bool,
    /// QoS 2, and the client knows the id already.
    pub(crate) known: bool,
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) retained: BTreeMap<String, Message>,
    /// The last message, and what it replaced in the retained store.
    last: Option<Message>,
    replaced: Option<(String, Option<Message>)>,
    /// How often each QoS 1 or 2 payload was published.
    pub(crate) published: HashMap<Vec<u8>, u32>,
    /// The same in the order in which they were published.
    pub(crate) publishing: Vec<Vec<u8>>,
    /// Payloads that were acknowledged, at any time.
    pub(crate) acknowledged: HashSet<Vec<u8>>,
    pub(crate) shared: Shared,
    /// Connections: whether they asked for a clean session, their will, and whether it came.
    pub(crate) connections: BTreeMap<usize, Connection>,
    /// Which session each connection has or had, by the connection that made the session.
    sessions_of: BTreeMap<usize, usize>,
    queue_qos0: bool,
    /// What a broker that starts again has to know.
    pub(crate) durable: Durable,
    /// Sessions that are over, by the connection that made them, in case their end is not durable.
    pub(crate) ended: BTreeMap<usize, Session>,
    /// Wills that a broker that starts again has to publish.
    pub(crate) wills: Vec<Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct Session {
    pub(crate) serial: Option<usize>,
    clean: bool,
    /// The connection that made it.
    pub(crate) made_by: usize,
    pub(crate) subscriptions: BTreeMap<String, u8>,
    /// Those that were acknowledged.
    pub(crate) granted: BTreeSet<String>,
    /// QoS 1 and 2 messages in the order in which they have to arrive, and how many have.
    pub(crate) expected: Vec<Message>,
    pub(crate) arrived: usize,
    /// Which of them a QoS 1 id stood for when it was received last.
    pub(crate) seen: BTreeMap<u16, usize>,
    /// The QoS of the last message for it.
    last_qos: u8,
    /// QoS 0 messages that may still arrive, in this order.
    pub(crate) allowed: VecDeque<Message>,
    /// Retained messages that have to come with RETAIN set, and those that may.
    pub(crate) due: BTreeMap<String, Message>,
    may_be_retained: BTreeSet<(String, Vec<u8>)>,
    /// QoS 1 retained messages received with an id.
    seen_retained: BTreeMap<u16, Vec<u8>>,
}

pub(crate) struct Connection {
    clean: bool,
    pub(crate) will: Option<Vec<u8>>,
    will_came: bool,
}

impl Oracle {
    /// `queue_qos0`: whether QoS 0 messages wait for absent clients.
    pub(crate) fn new(queue_qos0: bool) -> Self {
        Self { queue_qos0, ..Self::default() }
    }

    /// A client sends CONNECT.
    pub(crate) fn connecting(&mut self, serial: usize, clean: bool, will: Option<Vec<u8>>) {
        self.connections.insert(serial, Connection { clean, will, will_came: false });
    }

    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Published { client, serial, message } => self.publish(&client, serial, &message),
            Event::Delivered { receiver, topic } => self.hand_over(&receiver, &topic),
            Event::Dropped { topic, .. } if is_shared(&topic) => self.drop_shared(&topic),
            Event::Dropped { receiver, topic, reason } => {
                self.drop_last(receiver.as_deref(), &topic, reason);
            }
            Event::Connected { client, serial, present } => self.connect(&client, serial, present),
            Event::Disconnected { client, serial, reason } => {
                self.disconnect(&client, serial, reason);
            }
            Event::Subscribed { client, filter, qos } => self.subscribe(&client, filter, qos),
            Event::Unsubscribed { client, filter } => {
                let session = self.session(&client);
                session.subscriptions.remove(&filter);
                session.granted.remove(&filter);
                session.due.retain(|topic, _| !matches(&filter, topic));
                self.leave_group(&client, &filter);
            }
            Event::Ended { client } => {
                let session = self.sessions.remove(&client).expect("a session ended twice");
                assert!(session.serial.is_none(), "the session of a connected client ended");
                self.end_member(&session);
                self.ended.insert(session.made_by, session);
            }
        }
    }

    /// The broker's own program publishes, or a client does, by the broker's word.
    pub(crate) fn publish(&mut self, client: &str, serial: usize, message: &Message) {
        if let Some(connection) = self.connections.get_mut(&serial)
            && connection.will.as_deref() == Some(&message.payload)
        {
            assert!(!connection.will_came, "the will of {client} came twice");
            connection.will_came = true;
        } else if let Some(at) = self.wills.iter().position(|will| *will == message.payload) {
            self.wills.remove(at);
        } else {
            let is_will = message.payload.starts_with(WILL.as_bytes());
            assert!(!is_will, "{message:?} of {client} is not due");
            if message.qos > 0 {
                let times = self.published.entry(message.payload.clone()).or_default();
                *times += 1;
                self.publishing.push(message.payload.clone());
                assert!(message.qos < 2 || *times == 1, "{message:?} of {client} came twice");
            }
        }
        self.replaced = None;
        self.last = Some(message.clone());
        if message.retain {
            let topic = message.topic.clone();
            let before = match message.payload.is_empty() {
                true => self.retained.remove(&topic),
                false => self.retained.insert(topic.clone(), message.clone()),
            };
            self.replaced = Some((topic.clone(), before));
            for session in self.sessions.values_mut() {
                session.due.remove(&topic);
                session.may_be_retained.insert((topic.clone(), message.payload.clone()));
            }
        }
        for session in self.sessions.values_mut() {
            let granted = session
                .subscriptions
                .iter()
                .filter(|(filter, _)| matches(filter, &message.topic))
                .map(|(_, qos)| *qos)
                .max();
            let Some(granted) = granted else { continue };
            let qos = granted.min(message.qos);
            let message = Message { qos, retain: false, ..message.clone() };
            session.last_qos = qos;
            if qos > 0 {
                session.expected.push(message);
            } else if session.serial.is_some() || self.queue_qos0 {
                session.allowed.push_back(message);
            }
        }
    }

    /// What the broker drops it says, right behind the message.
    fn drop_last(&mut self, receiver: Option<&str>, topic: &str, reason: DropReason) {
        if reason == DropReason::RetainedFull {
            let (replaced, before) = self.replaced.take().expect("nothing was to be retained");
            assert_eq!(replaced, topic);
            self.retained.remove(&replaced);
            self.retained.extend(before.map(|message| (replaced, message)));
            return;
        }
        let dropped = self.last.clone().expect("a message was dropped that was not sent");
        let session = self.session(receiver.expect("all messages are allowed"));
        let same = |message: &Message| message.payload == dropped.payload;
        let last = match session.last_qos {
            0 => session.allowed.pop_back(),
            _ => session.expected.pop(),
        };
        assert!(last.as_ref().is_some_and(same), "dropped {dropped:?}, sent {last:?}");
        assert_eq!(dropped.topic, topic);
        assert!(session.arrived <= session.expected.len(), "dropped after it had arrived");
    }

    fn connect(&mut self, client: &str, serial: usize, present: bool) {
        let clean = self.connections[&serial].clean;
        let kept = self.sessions.get(client).is_some_and(|session| !session.clean);
        assert_eq!(present, kept && !clean, "session present of {client}");
        if !present {
            let session = Session { clean, made_by: serial, ..Session::default() };
            let before = self.sessions.insert(client.into(), session);
            before.iter().for_each(|before| self.end_member(before));
            self.ended.extend(before.map(|before| (before.made_by, before)));
        }
        let session = self.session(client);
        session.serial = Some(serial);
        let made_by = session.made_by;
        self.sessions_of.insert(serial, made_by);
        let session = self.session(client);
        session.cut();
    }

    fn disconnect(&mut self, client: &str, serial: usize, reason: Result<Closed, ConnectionError>) {
        let connection = self.connections.remove(&serial).expect("disconnected twice");
        let goodbye = matches!(reason, Ok(Closed::Disconnect | Closed::ShutDown));
        let due = connection.will.is_some() && !goodbye;
        assert_eq!(connection.will_came, due, "the will of {client} after {reason:?}");
        if let Some(session) = self.sessions.get_mut(client)
            && session.serial == Some(serial)
        {
            session.serial = None;
            session.cut();
            if session.clean {
                let session = self.sessions.remove(client);
                session.iter().for_each(|session| self.end_member(session));
            }
        }
    }

    /// The broker's own program subscribes: a client that is always there.
    pub(crate) fn subscribe_locally(&mut self, name: &str, filter: &str, qos: u8) {
        self.sessions.insert(name.into(), Session { serial: Some(0), ..Session::default() });
        self.sessions_of.insert(0, 0);
        self.subscribe(name, filter.into(), qos);
    }

    fn subscribe(&mut self, client: &str, filter: String, qos: u8) {
        let retained = std::mem::take(&mut self.retained);
        let session = self.session(client);
        for (topic, message) in &retained {
            if matches(&filter, topic) {
                let qos = message.qos.min(qos);
                session.due.insert(topic.clone(), Message { qos, ..message.clone() });
                session.may_be_retained.insert((topic.clone(), message.payload.clone()));
            }
        }
        session.subscriptions.insert(filter, qos);
        self.retained = retained;
    }

    fn session(&mut self, client: &str) -> &mut Session {
        self.sessions.get_mut(client).unwrap_or_else(|| panic!("{client} has no session"))
    }

    /// A client receives a message on a connection. When the connection's session is over, it is the
    /// rest of an old stream.
    pub(crate) fn received(&mut self, client: &str, serial: usize, received: &Received) {
        let Some(made_by) = self.session_of(serial) else { return };
        let session = self.sessions.get_mut(client).filter(|session| session.made_by == made_by);
        // One that is over is there again if that was not durable.
        let Some(session) = session.or_else(|| self.ended.get_mut(&made_by)) else { return };
        let Received { message, id, dup, known } = received;
        if is_shared(&message.topic) {
            return self.receive_shared(client, made_by, received);
        }
        if message.retain {
            session.receive_retained(client, received);
            return;
        }
        if message.qos == 0 {
            while let Some(allowed) = session.allowed.pop_front() {
                if allowed == *message {
                    return;
                }
            }
            panic!("{client} received {message:?} which it may not, or out of order");
        }
        let seen = session.seen.get(id).map(|&index| &session.expected[index]);
        // Of QoS 2, what comes again is known by its id, or it came twice.
        if *known || message.qos == 1 && *dup && seen == Some(message) {
            assert!(*dup, "{client} received {message:?} again without DUP");
            assert_eq!(seen, Some(message), "{client}: id {id} is another message now");
            return;
        }
        let next = session.expected.get(session.arrived);
        assert_eq!(
            next,
            Some(message),
            "{client} is due the left side and received the right one as id {id}, DUP {dup}, {seen:?}"
        );
        session.seen.insert(*id, session.arrived);
        session.arrived += 1;
    }

    /// Which connection made the session of this one. A real client cannot know when it was one whose
    /// CONNACK got lost, and may then deliver a QoS 2 message twice: a gap of the protocol.
    pub(crate) fn session_of(&self, serial: usize) -> Option<usize> {
        self.sessions_of.get(&serial).copied()
    }

    /// A client's message is acknowledged: the broker said before that it was published.
    pub(crate) fn acknowledge(&mut self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        assert!(self.published.contains_key(payload), "{text} is acknowledged and not published");
        self.acknowledged.insert(payload.into());
        self.acknowledge_shared(payload);
    }

    /// A client's subscriptions are acknowledged.
    pub(crate) fn grant(&mut self, client: &str, serial: usize, filters: Vec<String>) {
        let made_by = self.session_of(serial);
        let session = self.sessions.get_mut(client);
        if let Some(session) = session.filter(|session| Some(session.made_by) == made_by) {
            let are_there = |filter: &String| session.subscriptions.contains_key(filter);
            session.granted.extend(filters.into_iter().filter(are_there));
        }
    }

    /// What the broker tells of itself is the same.
    pub(crate) fn compare(&self, sessions: &[SessionInfo], retained: &[Message]) {
        let names: Vec<_> = self.sessions.keys().filter(|name| !name.is_empty()).collect();
        let mut told: Vec<_> = sessions.iter().map(|session| &session.client_id).collect();
        told.sort_unstable();
        assert_eq!(names, told, "sessions");
        for told in sessions {
            let session = &self.sessions[&told.client_id];
            let subscriptions: BTreeMap<_, _> = told
                .subscriptions
                .iter()
                .map(|(filter, qos)| (filter.to_string(), u8::from(*qos)))
                .collect();
            assert_eq!(session.subscriptions, subscriptions, "of {}", told.client_id);
            assert_eq!(session.serial.is_some(), told.is_connected, "of {}", told.client_id);
            assert_eq!(session.clean, told.is_clean, "of {}", told.client_id);
        }
        assert!(self.retained.values().eq(retained), "retained");
    }

    /// Everything is delivered: nothing that a session still holds is missing.
    pub(crate) fn conclude(&self) {
        self.conclude_groups();
        for (client, session) in &self.sessions {
            let missing = &session.expected[session.arrived..];
            assert!(missing.is_empty(), "{client} has not received {missing:?}");
            assert!(session.due.is_empty(), "{client} has not received retained {:?}", session.due);
        }
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.sessions.values().map(|session| session.subscriptions.len()).sum()
    }
}

impl Session {
    /// Whether it outlives its connections and the broker.
    pub(crate) fn is_kept(&self) -> bool {
        !self.clean && self.serial != Some(0)
    }

    /// The connection is gone, or a new one is there: QoS 0 messages may be lost on the way.
    fn cut(&mut self) {
        self.due.retain(|_, message| message.qos > 0);
    }

    fn receive_retained(&mut self, client: &str, received: &Received) {
        let Received { message, id, dup, known } = received;
        let key = (message.topic.clone(), message.payload.clone());
        assert!(self.may_be_retained.contains(&key), "{client} received {message:?} for nothing");
        let seen = self.seen_retained.get(id).is_some_and(|payload| *payload == message.payload);
        assert!(!known || *dup && seen, "{client}: id {id} is another message now");
        if message.qos > 0 {
            self.seen_retained.insert(*id, message.payload.clone());
        }
        if self.due.get(&message.topic).is_some_and(|due| due.payload == message.payload) {
            self.due.remove(&message.topic);
        }
    }
}

/// Section 4.7 as slowly as it is written.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([same, filter @ ..], [name, topic @ ..]) => same == name && levels(filter, topic),
            _ => false,
        }
    }
    let filter: Vec<_> = filter.split('/').collect();
    let topic: Vec<_> = topic.split('/').collect();
    let wild = matches!(filter[0], "+" | "#");
    !(wild && topic[0].starts_with('$')) && levels(&filter, &topic)
}
