use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use redb::{ReadableTable as _, WriteTransaction};

use super::row::{Counters, MessageRow, Writer};
use super::{MESSAGES, PROGRESS, RETAINED, SESSIONS, SUBSCRIPTIONS};
use crate::Message;
use crate::journal::{Batch, MessageId, Progress, Receiver, Record, SessionId};

/// How many receivers still need a message, for those with more than one: the others have one.
pub(super) type Shares = std::collections::HashMap<MessageId, u32, FixedState>;

/// The counters are written once for so many numbers, which a restart leaves out: 64 bits last for
/// that, and a table less in nearly every commit.
const MESSAGES_AHEAD: u64 = 1 << 20;
const SESSIONS_AHEAD: u64 = 1 << 10;

/// What a batch comes to: what is made and over within it needs no row.
#[derive(Default)]
pub(super) struct Changes<'a> {
    /// Rising.
    new: Vec<New<'a>>,
    /// By how many receivers older messages are needed no more.
    done: BTreeMap<MessageId, u32>,
    withdrawn: Vec<(MessageId, SessionId)>,
    retained: BTreeMap<&'a [u8], Option<&'a Message>>,
    /// Records of sessions.
    others: Vec<&'a Record>,
    /// Other records of the batch are left for later.
    is_part: bool,
    /// A number behind all that the batch knows.
    next_message: Option<MessageId>,
}

struct New<'a> {
    id: MessageId,
    message: &'a Message,
    receivers: &'a [Receiver],
    withdrawn: Vec<SessionId>,
    /// Receivers that still need it.
    left: u32,
}

/// What is to be known of a transaction once it is committed.
#[derive(Default)]
pub(super) struct Effects {
    /// Messages of more than one receiver, with how many need them now.
    pub(super) shares: Vec<(MessageId, u32)>,
    /// Bytes of rows that came and went.
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl<'a> Changes<'a> {
    /// Of `batch`, whose first `done_ahead` records have [made room](Self::that_make_room) before.
    pub(super) fn of(batch: &'a Batch, done_ahead: usize) -> Self {
        let mut changes = Self::default();
        for (place, record) in batch.records().iter().enumerate() {
            match record {
                Record::Message { id, message, receivers } => {
                    let receivers = batch.receivers(receivers);
                    let left = receivers.len() as u32;
                    let withdrawn = Vec::new();
                    changes.new.push(New { id: *id, message, receivers, withdrawn, left });
                }
                Record::Done { id } => match changes.new_message(*id) {
                    Some(new) => new.left = new.left.saturating_sub(1),
                    None if place < done_ahead => {}
                    None => *changes.done.entry(*id).or_default() += 1,
                },
                Record::Withdraw { id, session } => match changes.new_message(*id) {
                    Some(new) => {
                        new.left = new.left.saturating_sub(1);
                        new.withdrawn.push(*session);
                    }
                    None => {
                        *changes.done.entry(*id).or_default() += 1;
                        changes.withdrawn.push((*id, *session));
                    }
                },
                Record::Retain { message } => {
                    changes.retained.insert(message.topic().as_bytes(), Some(message));
                }
                Record::Unretain { topic } => drop(changes.retained.insert(topic.as_bytes(), None)),
                Record::Session { .. }
                | Record::SessionEnd { .. }
                | Record::Subscribe { .. }
                | Record::Replayed { .. }
                | Record::Unsubscribe { .. }
                | Record::Progress { .. } => changes.others.push(record),
            }
        }
        changes
    }

    /// What makes room of a batch, from record `start` on: up to `count` messages that are done, and,
    /// if `is_first`, how far its sessions are and which are over. Gives back the record behind the
    /// last.
    ///
    /// What is new in the batch is left out, and may never become durable. So messages of clients
    /// count as not received, as before: they are sent again. And it may not be what goes on with a
    /// message that is done: see [`hands_on`](Self::hands_on).
    pub(super) fn that_make_room(
        batch: &'a Batch,
        start: usize,
        count: usize,
        is_first: bool,
    ) -> (Self, usize) {
        let mut changes = Self { is_part: true, ..Self::default() };
        let mut first_new = None;
        let mut end = batch.records().len();
        for (place, record) in batch.records().iter().enumerate() {
            match record {
                Record::Message { id, .. } => {
                    first_new = first_new.or(Some(*id));
                    changes.next_message = changes.next_message.max(Some(id.next()));
                }
                Record::Done { id }
                    if (start..end).contains(&place)
                        && first_new.is_none_or(|first| *id < first) =>
                {
                    *changes.done.entry(*id).or_default() += 1;
                    if changes.done.len() == count {
                        end = place + 1;
                    }
                }
                Record::Progress { progress, .. } => {
                    changes.next_message = changes.next_message.max(Some(progress.queued_from));
                    if is_first {
                        changes.others.push(record);
                    }
                }
                Record::SessionEnd { .. } if is_first => changes.others.push(record),
                _ => {}
            }
        }
        (changes, end)
    }

    /// Whether messages of shared subscriptions may go from one session to another in a batch: one
    /// that is done then is there again under a new number.
    pub(super) fn hands_on(batch: &Batch) -> bool {
        batch.receivers.iter().any(|receiver| receiver.group.is_some())
    }

    fn new_message(&mut self, id: MessageId) -> Option<&mut New<'a>> {
        let place = self.new.binary_search_by_key(&id, |new| new.id).ok()?;
        self.new.get_mut(place)
    }

    /// The counters for when this is durable: also numbers of messages that are over already are not
    /// given again.
    pub(super) fn count(&self, counters: Counters) -> Counters {
        let mut next_message = self.new.last().map(|new| new.id.next()).max(self.next_message);
        let mut next_session = 0;
        for record in &self.others {
            match record {
                Record::Session { session, .. } => {
                    next_session = next_session.max(session.get() + 1);
                }
                Record::Progress { progress, .. } => {
                    next_message = next_message.max(Some(progress.queued_from));
                }
                _ => {}
            }
        }
        let mut ahead = counters;
        if next_message > Some(counters.next_message) {
            let next = next_message.map_or(0, MessageId::get).saturating_add(MESSAGES_AHEAD);
            ahead.next_message = MessageId::new(next).unwrap_or(MessageId::LAST);
        }
        if next_session > counters.next_session {
            ahead.next_session = next_session + SESSIONS_AHEAD;
        }
        ahead
    }

    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        shares: &Shares,
        writer: &mut Writer,
    ) -> Result<Effects, redb::Error> {
        let mut effects = Effects::default();
        self.write_messages(transaction, shares, writer, &mut effects)?;
        self.write_sessions(transaction, writer, &mut effects)?;
        if !self.retained.is_empty() {
            let mut retained = transaction.open_table(RETAINED)?;
            for (topic, message) in &self.retained {
                let old = match message {
                    Some(message) => {
                        let row = writer.retained(message);
                        effects.add(topic.len(), row);
                        retained.insert(*topic, row)?
                    }
                    None => retained.remove(*topic)?,
                };
                effects.remove(topic.len(), old.map(|old| old.value().len()));
            }
        }
        Ok(effects)
    }

    fn write_messages(
        &self,
        transaction: &WriteTransaction,
        shares: &Shares,
        writer: &mut Writer,
        effects: &mut Effects,
    ) -> Result<(), redb::Error> {
        if self.done.is_empty() && self.new.iter().all(|new| new.left == 0) {
            return Ok(());
        }
        let mut messages = transaction.open_table(MESSAGES)?;
        for (id, done) in &self.done {
            let needed = shares.get(id).copied().unwrap_or(1);
            let left = needed.saturating_sub(*done);
            if left == 0 {
                let old = messages.remove(id.get())?;
                effects.remove(8, old.map(|old| old.value().len()));
            }
            if needed > 1 {
                effects.shares.push((*id, left));
            }
        }
        for (id, session) in &self.withdrawn {
            // Gone, if it was the last receiver's.
            let Some(old) = messages.get(id.get())?.map(|row| row.value().to_vec()) else {
                continue;
            };
            let broken = || redb::StorageError::Corrupted(format!("message {}", id.get()));
            let row = MessageRow::read(id.get(), &old).ok_or_else(broken)?;
            let message = row.message().ok_or_else(broken)?;
            let mut receivers = row.receivers;
            if let Some(place) = receivers.iter().position(|other| other.session == *session) {
                receivers.remove(place);
            }
            let row = writer.message(*id, &message, receivers.iter());
            effects.add(8, row);
            effects.remove(8, Some(old.len()));
            messages.insert(id.get(), row)?;
        }
        for new in self.new.iter().filter(|new| new.left > 0) {
            let row = match new.withdrawn.as_slice() {
                [] => writer.message(new.id, new.message, new.receivers.iter()),
                withdrawn => {
                    let is_left = |to: &&Receiver| !withdrawn.contains(&to.session);
                    let receivers: Vec<_> = new.receivers.iter().filter(is_left).collect();
                    writer.message(new.id, new.message, receivers.into_iter())
                }
            };
            effects.add(8, row);
            messages.insert(new.id.get(), row)?;
            if new.left > 1 {
                effects.shares.push((new.id, new.left));
            }
        }
        Ok(())
    }

    fn write_sessions(
        &self,
        transaction: &WriteTransaction,
        writer: &mut Writer,
        effects: &mut Effects,
    ) -> Result<(), redb::Error> {
        let mut tables =
            Tables { transaction, sessions: None, subscriptions: None, progress: None };
        for record in &self.others {
            match record {
                Record::Session { session, client_id, user_name, will } => {
                    let row =
                        writer.session(*session, client_id, user_name.as_deref(), will.as_ref());
                    effects.add(8, row);
                    let old = tables.sessions()?.insert(session.get(), row)?;
                    effects.remove(8, old.map(|old| old.value().len()));
                }
                Record::SessionEnd { session } => {
                    let id = session.get();
                    let old = tables.sessions()?.remove(id)?;
                    effects.remove(8, old.map(|old| old.value().len()));
                    let old = tables.progress()?.remove(id)?;
                    effects.remove(8, old.map(|old| old.value().len()));
                    // Filters are not empty.
                    let all = (id, [].as_slice())..(id + 1, [].as_slice());
                    tables.subscriptions()?.retain_in(all, |(_, filter), row| {
                        effects.remove(8 + filter.len(), Some(row.len()));
                        false
                    })?;
                }
                Record::Subscribe { session, filter, qos } => {
                    let filter = filter.as_bytes();
                    let row = writer.subscription(*session, filter, *qos, false);
                    effects.add(8 + filter.len(), row);
                    let old = tables.subscriptions()?.insert((session.get(), filter), row)?;
                    effects.remove(8 + filter.len(), old.map(|old| old.value().len()));
                }
                Record::Replayed { session, filter } => {
                    tables.set_replayed(*session, filter.as_bytes(), writer)?;
                }
                Record::Unsubscribe { session, filter } => {
                    let filter = filter.as_bytes();
                    let old = tables.subscriptions()?.remove((session.get(), filter))?;
                    effects.remove(8 + filter.len(), old.map(|old| old.value().len()));
                }
                Record::Progress { session, progress } if self.is_part => {
                    tables.set_deliveries(*session, progress, writer, effects)?;
                }
                Record::Progress { session, progress } => {
                    let row = writer.progress(*session, progress);
                    effects.add(8, row);
                    let old = tables.progress()?.insert(session.get(), row)?;
                    effects.remove(8, old.map(|old| old.value().len()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

type ById<'a> = redb::Table<'a, u64, &'static [u8]>;
type ByFilter<'a> = redb::Table<'a, (u64, &'static [u8]), &'static [u8]>;

/// The tables of sessions, opened by the first who needs them.
struct Tables<'a> {
    transaction: &'a WriteTransaction,
    sessions: Option<ById<'a>>,
    subscriptions: Option<ByFilter<'a>>,
    progress: Option<ById<'a>>,
}

impl<'a> Tables<'a> {
    fn sessions(&mut self) -> Result<&mut ById<'a>, redb::Error> {
        match &mut self.sessions {
            Some(table) => Ok(table),
            none => Ok(none.insert(self.transaction.open_table(SESSIONS)?)),
        }
    }

    fn subscriptions(&mut self) -> Result<&mut ByFilter<'a>, redb::Error> {
        match &mut self.subscriptions {
            Some(table) => Ok(table),
            none => Ok(none.insert(self.transaction.open_table(SUBSCRIPTIONS)?)),
        }
    }

    fn progress(&mut self) -> Result<&mut ById<'a>, redb::Error> {
        match &mut self.progress {
            Some(table) => Ok(table),
            none => Ok(none.insert(self.transaction.open_table(PROGRESS)?)),
        }
    }

    /// How far deliveries to a session are, if it is there. What its client has sent stays as it was.
    fn set_deliveries(
        &mut self,
        session: SessionId,
        progress: &Progress,
        writer: &mut Writer,
        effects: &mut Effects,
    ) -> Result<(), redb::Error> {
        let id = session.get();
        if self.sessions()?.get(id)?.is_none() {
            return Ok(());
        }
        let table = self.progress()?;
        let old = table.get(id)?.map(|row| row.value().to_vec());
        let broken = || redb::StorageError::Corrupted(format!("the progress of session {id}"));
        let received = match &old {
            None => Vec::new(),
            Some(row) => super::row::progress(id, row).ok_or_else(broken)?.received,
        };
        let row = writer.progress(session, &Progress { received, ..progress.clone() });
        effects.add(8, row);
        effects.remove(8, old.map(|old| old.len()));
        table.insert(id, row)?;
        Ok(())
    }

    /// As long as the subscription is there.
    fn set_replayed(
        &mut self,
        session: SessionId,
        filter: &[u8],
        writer: &mut Writer,
    ) -> Result<(), redb::Error> {
        let table = self.subscriptions()?;
        let key = (session.get(), filter);
        let Some(old) = table.get(key)?.map(|row| row.value().to_vec()) else { return Ok(()) };
        let broken =
            || redb::StorageError::Corrupted(format!("a subscription of session {}", key.0));
        let old = super::row::subscription(key.0, filter, &old).ok_or_else(broken)?;
        table.insert(key, writer.subscription(session, filter, old.qos, true))?;
        Ok(())
    }
}

impl Effects {
    fn add(&mut self, key: usize, row: &[u8]) {
        self.added += (key + row.len()) as u64;
    }

    fn remove(&mut self, key: usize, row: Option<usize>) {
        self.removed += row.map_or(0, |row| (key + row) as u64);
    }
}
