//! A store that keeps what it is told, as plainly as it can be written.

use std::collections::BTreeMap;

use mqtt_broker_core::{
    Batch, CommitError, Message, MessageId, Progress, Receiver, Record, Recovered,
    RecoveredMessage, RecoveredSession, RecoveredSubscription, SessionId, Store,
};

#[derive(Default)]
pub(crate) struct Disk {
    sessions: BTreeMap<SessionId, RecoveredSession>,
    messages: BTreeMap<MessageId, Kept>,
    retained: BTreeMap<String, Message>,
    last_message: u64,
    last_session: u64,
    pub(crate) is_full: bool,
    pub(crate) is_short: bool,
    /// It would have to be opened anew to be read, and there is no room for that.
    pub(crate) is_closed: bool,
}

struct Kept {
    message: Message,
    receivers: Vec<Receiver>,
    /// Receivers that still need it.
    needed: usize,
}

impl Store for Disk {
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if self.is_full {
            return Err(CommitError::Full("the simulated disk is full".into()));
        }
        batch.records().iter().for_each(|record| self.apply(batch, record));
        Ok(())
    }

    fn load(
        &mut self,
        session: SessionId,
        ids: &[MessageId],
    ) -> Result<Vec<(MessageId, Message)>, CommitError> {
        if self.is_closed {
            return Err(CommitError::Full("the simulated disk cannot be opened".into()));
        }
        let load = |id: &MessageId| {
            let kept = self.messages.get(id)?;
            let receiver = kept.receivers.iter().find(|receiver| receiver.session == session);
            let receiver = receiver.expect("a session loads what waits for it");
            Some((*id, kept.message.clone().with(receiver.qos, receiver.retain)))
        };
        Ok(ids.iter().filter_map(load).collect())
    }

    fn is_short_of_room(&self) -> bool {
        self.is_short
    }
}

impl Disk {
    pub(crate) fn give_room(&mut self) {
        (self.is_full, self.is_short, self.is_closed) = (false, false, false);
    }

    fn apply(&mut self, batch: &Batch, record: &Record) {
        match record.clone() {
            Record::Session { session, client_id, user_name, will } => {
                self.last_session = self.last_session.max(session.get());
                let known = self.sessions.entry(session).or_insert_with(|| RecoveredSession {
                    session,
                    client_id,
                    user_name: None,
                    will: None,
                    subscriptions: Vec::new(),
                    progress: Progress::new(MessageId::FIRST),
                    messages: Vec::new(),
                });
                known.user_name = user_name;
                known.will = will;
            }
            Record::SessionEnd { session } => {
                self.sessions.remove(&session).expect("a session ends that never began");
            }
            Record::Subscribe { session, filter, qos } => {
                let subscriptions = &mut self.session(session).subscriptions;
                subscriptions.retain(|known| known.filter != filter);
                subscriptions.push(RecoveredSubscription { filter, qos, is_replayed: false });
            }
            Record::Unsubscribe { session, filter } => {
                self.session(session).subscriptions.retain(|known| known.filter != filter);
            }
            Record::Replayed { session, filter } => {
                for known in &mut self.session(session).subscriptions {
                    known.is_replayed |= known.filter == filter;
                }
            }
            Record::Message { id, message, receivers } => {
                assert!(id.get() > self.last_message, "numbers rise");
                self.last_message = id.get();
                let receivers = batch.receivers(&receivers).to_vec();
                let needed = receivers.len();
                self.messages.insert(id, Kept { message, receivers, needed });
            }
            Record::Done { id } => self.let_go(id),
            Record::Withdraw { id, session } => {
                let kept = self.messages.get_mut(&id).expect("a message was withdrawn twice");
                kept.receivers.retain(|receiver| receiver.session != session);
                self.let_go(id);
            }
            Record::Progress { session, progress } => self.session(session).progress = progress,
            Record::Retain { message } => {
                self.retained.insert(message.topic().to_string(), message);
            }
            Record::Unretain { topic } => drop(self.retained.remove(topic.as_str())),
            other => panic!("{other:?} is new"),
        }
    }

    fn session(&mut self, session: SessionId) -> &mut RecoveredSession {
        self.sessions.get_mut(&session).expect("a session that has begun and not ended")
    }

    fn let_go(&mut self, id: MessageId) {
        let kept = self.messages.get_mut(&id).expect("a message was done more than once");
        kept.needed -= 1;
        if kept.needed == 0 {
            self.messages.remove(&id);
        }
    }

    /// What a broker finds that starts again.
    pub(crate) fn recover(&mut self) -> Recovered {
        for session in self.sessions.values_mut() {
            session.messages.clear();
        }
        for (&id, kept) in &self.messages {
            let mut needed = 0;
            for Receiver { session, qos, retain, group, .. } in &kept.receivers {
                let Some(session) = self.sessions.get_mut(session) else { continue };
                if !session.progress.holds(id) {
                    continue;
                }
                needed += 1;
                let size = kept.message.topic().as_bytes().len() + kept.message.payload().len();
                // Every other one of those that wait is left to be loaded.
                let waits = id >= session.progress.queued_from && group.is_none();
                let is_left_out = waits && id.get() % 2 == 0;
                let message = (!is_left_out).then(|| kept.message.clone().with(*qos, *retain));
                let group = group.clone();
                session.messages.push(RecoveredMessage { id, qos: *qos, size, message, group });
            }
            assert_eq!(needed, kept.needed, "{id:?} is needed by as many as hold it");
        }
        Recovered {
            sessions: self.sessions.values().cloned().collect(),
            retained: self.retained.values().cloned().collect(),
            next_message: MessageId::new(self.last_message + 1).unwrap(),
            next_session: SessionId::new(self.last_session + 1),
        }
    }

    /// Nothing is left of messages that are delivered.
    pub(crate) fn assert_empty(&self) {
        let left: Vec<_> = self.messages.keys().collect();
        assert!(left.is_empty(), "{left:?} are kept for nobody");
    }
}
