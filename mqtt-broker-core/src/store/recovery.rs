use std::collections::HashMap;

use foldhash::fast::FixedState;
use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};

use super::changes::Shares;
use super::row::{self, Counters, MessageRow, SessionRow};
use super::{
    COUNTERS, FORMAT, FORMAT_VERSION, MESSAGES, PROGRESS, RETAINED, SESSIONS, SUBSCRIPTIONS,
};
use crate::Message;
use crate::journal::{
    MessageId, Progress, Receiver, Recovered, RecoveredMessage, RecoveredSession, SessionId,
};

/// Messages of a session that are in memory at the start. The others are read when it comes near
/// them.
const IN_MEMORY: usize = 64;

/// All that a file holds.
pub(super) struct Contents {
    pub(super) recovered: Recovered,
    pub(super) counters: Counters,
    pub(super) shares: Shares,
    /// Bytes of all rows.
    pub(super) live: u64,
    /// Messages that nobody needs.
    pub(super) orphans: Vec<u64>,
}

/// Why it cannot be read.
pub(super) enum ReadError {
    Database(Box<redb::Error>),
    Version(u32),
    /// What of it.
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

pub(super) fn read(transaction: &ReadTransaction) -> Result<Contents, ReadError> {
    let format = transaction.open_table(FORMAT)?.get(())?.map(|version| version.value());
    match format {
        Some(FORMAT_VERSION) => {}
        Some(other) => return Err(ReadError::Version(other)),
        None => return Err(ReadError::Damaged("its format".to_owned())),
    }
    let counters = transaction.open_table(COUNTERS)?.get(())?;
    let counters = counters.and_then(|row| row::counters(row.value()));
    let mut reading = Reading {
        contents: Contents {
            recovered: Recovered::default(),
            counters: counters.ok_or_else(|| ReadError::Damaged("its counters".to_owned()))?,
            shares: Shares::default(),
            live: 0,
            orphans: Vec::new(),
        },
        places: HashMap::default(),
    };
    reading.read_sessions(transaction)?;
    reading.read_messages(transaction)?;
    reading.read_retained(transaction)?;
    let mut contents = reading.contents;
    contents.recovered.next_message = contents.counters.next_message;
    contents.recovered.next_session = SessionId::new(contents.counters.next_session);
    Ok(contents)
}

struct Reading {
    contents: Contents,
    /// Sessions by number.
    places: HashMap<u64, usize, FixedState>,
}

impl Reading {
    fn read_sessions(&mut self, transaction: &ReadTransaction) -> Result<(), ReadError> {
        let sessions = transaction.open_table(SESSIONS)?;
        let mut count = Count::new("sessions", sessions.len()?);
        for entry in sessions.iter()? {
            let (id, row) = entry?;
            let id = count.next(id.value());
            let broken = || ReadError::Damaged(format!("session {id}"));
            let SessionRow { client_id, user_name, will } =
                SessionRow::read(id, row.value()).ok_or_else(broken)?;
            self.contents.live += 8 + row.value().len() as u64;
            self.places.insert(id, self.contents.recovered.sessions.len());
            self.contents.recovered.sessions.push(RecoveredSession {
                session: SessionId::new(id),
                client_id,
                user_name,
                will,
                subscriptions: Vec::new(),
                progress: Progress::new(MessageId::FIRST),
                messages: Vec::new(),
            });
        }
        count.end()?;

        let subscriptions = transaction.open_table(SUBSCRIPTIONS)?;
        let mut count = Count::new("subscriptions", subscriptions.len()?);
        for entry in subscriptions.iter()? {
            let (key, row) = entry?;
            let (id, filter) = count.next(key.value());
            let broken = || ReadError::Damaged(format!("a subscription of session {id}"));
            let subscription = row::subscription(id, filter, row.value()).ok_or_else(broken)?;
            self.contents.live += (8 + filter.len() + row.value().len()) as u64;
            self.session(id).ok_or_else(broken)?.subscriptions.push(subscription);
        }
        count.end()?;

        let progress = transaction.open_table(PROGRESS)?;
        let mut count = Count::new("progress", progress.len()?);
        for entry in progress.iter()? {
            let (id, row) = entry?;
            let id = count.next(id.value());
            let broken = || ReadError::Damaged(format!("the progress of session {id}"));
            let progress = row::progress(id, row.value()).ok_or_else(broken)?;
            self.contents.live += 8 + row.value().len() as u64;
            self.session(id).ok_or_else(broken)?.progress = progress;
        }
        count.end()
    }

    fn read_messages(&mut self, transaction: &ReadTransaction) -> Result<(), ReadError> {
        let messages = transaction.open_table(MESSAGES)?;
        let mut count = Count::new("messages", messages.len()?);
        for entry in messages.iter()? {
            let (id, row) = entry?;
            let number = count.next(id.value());
            let broken = || ReadError::Damaged(format!("message {number}"));
            let id = MessageId::new(number).ok_or_else(broken)?;
            let mut read = MessageRow::read(number, row.value()).ok_or_else(broken)?;
            let size = read.size();
            // Made for the first who has it in memory, and shared.
            let mut whole: Option<Message> = None;
            let mut needed = 0;
            for receiver in std::mem::take(&mut read.receivers) {
                // It may be over, while others wait for the message.
                let Some(session) = self.session(receiver.session.get()) else { continue };
                if session.progress.holds(id) {
                    let Receiver { qos, retain, group, .. } = receiver;
                    let waits = id >= session.progress.queued_from && group.is_none();
                    let is_left = waits && session.messages.len() >= IN_MEMORY;
                    let message = if is_left {
                        None
                    } else {
                        if whole.is_none() {
                            whole = Some(read.message().ok_or_else(broken)?);
                        }
                        whole.as_ref().map(|whole| whole.clone().with(qos, retain))
                    };
                    session.messages.push(RecoveredMessage { id, qos, size, message, group });
                    needed += 1;
                }
            }
            match needed {
                0 => self.contents.orphans.push(number),
                1 => {}
                _ => drop(self.contents.shares.insert(id, needed)),
            }
            if needed > 0 {
                self.contents.live += 8 + row.value().len() as u64;
            }
        }
        count.end()
    }

    fn read_retained(&mut self, transaction: &ReadTransaction) -> Result<(), ReadError> {
        let retained = transaction.open_table(RETAINED)?;
        let mut count = Count::new("retained messages", retained.len()?);
        for entry in retained.iter()? {
            let (topic, row) = entry?;
            let topic = count.next(topic.value());
            let broken = || ReadError::Damaged("a retained message".to_owned());
            let message = row::retained(topic, row.value()).ok_or_else(broken)?;
            self.contents.live += (topic.len() + row.value().len()) as u64;
            self.contents.recovered.retained.push(message);
        }
        count.end()
    }

    fn session(&mut self, id: u64) -> Option<&mut RecoveredSession> {
        self.contents.recovered.sessions.get_mut(*self.places.get(&id)?)
    }
}

/// Rows have checksums, but a page that is skipped leaves no trace in them.
struct Count {
    what: &'static str,
    expected: u64,
    found: u64,
}

impl Count {
    fn new(what: &'static str, expected: u64) -> Self {
        Self { what, expected, found: 0 }
    }

    fn next<K>(&mut self, key: K) -> K {
        self.found += 1;
        key
    }

    fn end(self) -> Result<(), ReadError> {
        let Self { what, expected, found } = self;
        match expected == found {
            true => Ok(()),
            false => Err(ReadError::Damaged(format!("some of its {expected} {what}"))),
        }
    }
}
