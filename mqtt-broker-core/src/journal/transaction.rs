use std::task::Waker;

use mqtt_codec::{QoS, TopicNameBuf};

use super::{Load, Log, MessageId, Pending, Receiver, Record};
use crate::Message;
use crate::publication::Publication;
use crate::router::Group;
use crate::session::{Session, State};
use crate::sync::{Arc, MutexGuard};

/// What a change of sessions and messages is told to, so that it survives a restart: a
/// [`Transaction`], or nobody.
///
/// The way of a message from its publisher to its receivers is compiled for each, so that a broker
/// without a journal does not even ask whether there is one: asking took 3 % of a message's
/// instructions at QoS 1 and 2.
pub(crate) trait Recorder {
    /// Takes the journal's lock, if there is a journal. No other lock may be held.
    fn open(&mut self) {}

    /// What an answer that depends on the change has to wait for; 0 for nothing.
    fn after(&self) -> u64 {
        0
    }

    /// The batch that the change will be part of; 0 without a journal.
    fn number_of_batch(&self) -> u64 {
        0
    }

    /// Records a change.
    fn record(&mut self, record: Record) {
        let _ = record;
    }

    /// Sees to it that the batch says how far a session is, if that has changed, and that it gets
    /// what it needs from the store.
    fn touch(&mut self, session: &Arc<Session>, state: &mut State) {
        let _ = (session, state);
    }

    /// The number of the message at hand for a receiver that has to keep it: `None` when it need
    /// not survive a restart.
    fn number(&mut self, session: &Session, qos: QoS) -> Option<MessageId> {
        let _ = (session, qos);
        None
    }

    /// A session owns the message at hand.
    fn add_receiver(
        &mut self,
        session: &Session,
        qos: QoS,
        retain: bool,
        group: Option<&Arc<Group>>,
    ) {
        let _ = (session, qos, retain, group);
    }

    /// Records the message at hand, if somebody keeps it. The next one is another.
    fn end_message(&mut self, publication: &Publication<'_>) {
        let _ = publication;
    }

    /// Records a message as the retained one of its topic, or that there is none.
    fn retain(&mut self, publication: &Publication<'_>) {
        let _ = publication;
    }

    /// Records that a session needs a message no more.
    fn done(&mut self, id: Option<MessageId>) {
        if let Some(id) = id {
            self.record(Record::Done { id });
        }
    }
}

/// Nobody: the broker has no journal.
pub(crate) struct Unrecorded;

impl Recorder for Unrecorded {}

/// One change of what has to survive a restart, recorded as a whole.
///
/// It is opened before the first lock of the change is taken and holds the journal's own lock until
/// it is dropped, so that the order of the records is the order of what happened. One that is not
/// open records nothing.
pub(crate) struct Transaction<'a> {
    log: Option<&'a Log>,
    open: Option<Open<'a>>,
}

/// One that holds the journal's lock.
struct Open<'a> {
    log: &'a Log,
    pending: MutexGuard<'a, Pending>,
    /// The batch that holds what was recorded; 0 while there is nothing.
    after: u64,
    /// Where the receivers of the message at hand begin, once it has one.
    message: Option<(MessageId, usize)>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(log: Option<&'a Log>) -> Self {
        Self { log, open: None }
    }

    /// The batch that holds what was recorded last, by whomever; 0 without a journal.
    pub(crate) fn last(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.pending.last())
    }

    /// The batch that holds the last end of a session, of whichever client.
    pub(crate) fn last_end(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.pending.last_end)
    }
}

impl Recorder for Transaction<'_> {
    fn open(&mut self) {
        if let Some(log) = self.log
            && self.open.is_none()
        {
            self.open = Some(Open { log, pending: log.pending.lock(), after: 0, message: None });
        }
    }

    fn after(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.after)
    }

    fn number_of_batch(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.pending.batch.number)
    }

    fn record(&mut self, record: Record) {
        if let Some(open) = &mut self.open {
            open.record(record);
        }
    }

    fn touch(&mut self, session: &Arc<Session>, state: &mut State) {
        if let Some(open) = &mut self.open {
            open.touch(session, state);
        }
    }

    fn number(&mut self, session: &Session, qos: QoS) -> Option<MessageId> {
        let open = self.open.as_mut()?;
        (session.is_kept() && qos > QoS::AtMostOnce).then(|| open.number())
    }

    fn add_receiver(
        &mut self,
        session: &Session,
        qos: QoS,
        retain: bool,
        group: Option<&Arc<Group>>,
    ) {
        if let Some(open) = &mut self.open {
            let group = group.map(|group| group.filter().clone());
            open.add_receiver(Receiver { session: session.id().into(), qos, retain, group });
        }
    }

    fn end_message(&mut self, publication: &Publication<'_>) {
        if let Some(open) = &mut self.open {
            open.end_message(publication);
        }
    }

    fn retain(&mut self, publication: &Publication<'_>) {
        if let Some(open) = &mut self.open {
            open.retain(publication.message());
        }
    }
}

impl Open<'_> {
    fn record(&mut self, record: Record) {
        let pending = &mut *self.pending;
        if matches!(record, Record::SessionEnd { .. }) {
            pending.last_end = pending.batch.number;
        }
        self.log.add_to_backlog(record.size());
        pending.batch.push(record);
        self.after = pending.batch.number;
    }

    fn touch(&mut self, session: &Arc<Session>, state: &mut State) {
        if !session.is_kept() {
            return;
        }
        let pending = &mut *self.pending;
        if state.has_progressed {
            self.after = pending.batch.number;
            if !std::mem::replace(&mut state.is_touched, true) {
                pending.touched.push(Arc::clone(session));
            }
        }
        if let Some(ids) = state.load() {
            let (session, after) = (Arc::clone(session), pending.batch.number);
            pending.loads.push(Load { session, ids, after });
        }
    }

    fn number(&mut self) -> MessageId {
        let pending = &mut *self.pending;
        let (id, _) = *self.message.get_or_insert_with(|| {
            let id = pending.next_message;
            pending.next_message = id.next();
            (id, pending.batch.receivers.len())
        });
        id
    }

    fn add_receiver(&mut self, receiver: Receiver) {
        self.pending.batch.receivers.push(receiver);
        self.after = self.pending.batch.number;
    }

    fn end_message(&mut self, publication: &Publication<'_>) {
        let Some((id, first)) = self.message.take() else { return };
        let receivers = first..self.pending.batch.receivers.len();
        if !receivers.is_empty() {
            let message = publication.message().clone();
            self.record(Record::Message { id, message, receivers });
        }
    }

    fn retain(&mut self, message: &Message) {
        // What the broker says of itself would be of an earlier life.
        if message.topic().as_bytes().starts_with(b"$SYS/") {
            return;
        }
        self.record(if message.payload().is_empty() {
            Record::Unretain { topic: TopicNameBuf::from(message.topic()) }
        } else {
            Record::Retain { message: message.clone() }
        });
    }

    /// Lets go of the lock, and tells the committer when there is something to do.
    fn close(mut self) {
        let is_idle = self.pending.is_idle();
        let committer = if is_idle { None } else { self.pending.committer.take() };
        drop(self);
        committer.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            open.close();
        }
    }
}
