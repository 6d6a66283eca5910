use std::task::Waker;

use mqtt_codec::{QoS, TopicNameBuf};

use super::{Load, Log, MessageId, Pending, Receiver, Record};
use crate::Message;
use crate::publication::Publication;
use crate::router::Group;
use crate::session::{Session, State};
use crate::sync::{Arc, MutexGuard};

/// One change of what has to survive a restart, recorded as a whole.
///
/// It is opened before the first lock of the change is taken and holds the journal's own lock until it is dropped, so that the
/// order of the records is the order of what happened. Without a journal it does nothing at all.
pub(crate) struct Transaction<'a> {
    log: Option<&'a Log>,
    pending: Option<MutexGuard<'a, Pending>>,
    /// The batch that holds what was recorded; 0 while there is nothing.
    after: u64,
    /// Where the receivers of the message at hand begin, once it has one.
    message: Option<(MessageId, usize)>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(log: Option<&'a Log>) -> Self {
        Self { log, pending: None, after: 0, message: None }
    }

    /// Takes the journal's lock, if there is a journal. No other lock may be held.
    pub(crate) fn open(&mut self) {
        if let Some(log) = self.log
            && self.pending.is_none()
        {
            self.pending = Some(log.pending.lock());
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pending.is_some()
    }

    /// What an answer that depends on the change has to wait for; 0 for nothing.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }

    /// The batch that the change will be part of; 0 without a journal.
    pub(crate) fn number_of_batch(&self) -> u64 {
        self.pending.as_ref().map_or(0, |pending| pending.batch.number)
    }

    /// The batch that holds what was recorded last, by whomever; 0 without a journal.
    pub(crate) fn last(&self) -> u64 {
        self.pending.as_ref().map_or(0, |pending| pending.last())
    }

    /// The batch that holds the last end of a session, of whichever client.
    pub(crate) fn last_end(&self) -> u64 {
        self.pending.as_ref().map_or(0, |pending| pending.last_end)
    }

    pub(crate) fn record(&mut self, record: Record) {
        if let Some(pending) = &mut self.pending {
            if matches!(record, Record::SessionEnd { .. }) {
                pending.last_end = pending.batch.number;
            }
            pending.batch.records.push(record);
            self.after = pending.batch.number;
        }
    }

    /// Sees to it that the batch says how far a session is, if that has changed, and that it gets
    /// what it needs from the store.
    pub(crate) fn touch(&mut self, session: &Arc<Session>, state: &mut State) {
        if let Some(pending) = &mut self.pending
            && session.is_kept()
        {
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
    }

    /// The number of the message at hand for a receiver that has to keep it: `None` when it need
    /// not survive a restart.
    pub(crate) fn number(&mut self, session: &Session, qos: QoS) -> Option<MessageId> {
        let pending = self.pending.as_mut()?;
        if !session.is_kept() || qos == QoS::AtMostOnce {
            return None;
        }
        let (id, _) = *self.message.get_or_insert_with(|| {
            let id = pending.next_message;
            pending.next_message = id.next();
            (id, pending.batch.receivers.len())
        });
        Some(id)
    }

    /// A session owns the message at hand.
    pub(crate) fn add_receiver(
        &mut self,
        session: &Session,
        qos: QoS,
        retain: bool,
        group: Option<&Arc<Group>>,
    ) {
        if let Some(pending) = &mut self.pending {
            pending.batch.receivers.push(Receiver {
                session: session.id().into(),
                qos,
                retain,
                group: group.map(|group| group.filter().clone()),
            });
            self.after = pending.batch.number;
        }
    }

    /// Records the message at hand, if somebody keeps it. The next one is another.
    pub(crate) fn end_message(&mut self, publication: &Publication<'_>) {
        let (Some(pending), Some((id, first))) = (&mut self.pending, self.message.take()) else {
            return;
        };
        let receivers = first..pending.batch.receivers.len();
        if !receivers.is_empty() {
            let message = publication.message().clone();
            pending.batch.bytes += message.size();
            self.log.iter().for_each(|log| log.add_to_backlog(message.size()));
            pending.batch.records.push(Record::Message { id, message, receivers });
        }
    }

    /// Records that a session needs a message no more.
    pub(crate) fn done(&mut self, id: Option<MessageId>) {
        if let Some(id) = id {
            self.record(Record::Done { id });
        }
    }

    /// Records a message as the retained one of its topic, or that there is none.
    pub(crate) fn retain(&mut self, message: &Message) {
        // What the broker says of itself would be of an earlier life.
        if !self.is_open() || message.topic().as_bytes().starts_with(b"$SYS/") {
            return;
        }
        if message.payload().is_empty() {
            self.record(Record::Unretain { topic: TopicNameBuf::from(message.topic()) });
        } else {
            self.record(Record::Retain { message: message.clone() });
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let Some(mut pending) = self.pending.take() else { return };
        let committer = if pending.is_idle() { None } else { pending.committer.take() };
        drop(pending);
        committer.into_iter().for_each(Waker::wake);
    }
}
