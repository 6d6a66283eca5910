use std::io;
use std::path::Path;

use mqtt_codec::{PacketId, QoS, TopicNameBuf};
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use super::{Change, Snapshot, Stage, Store, StoredMessage};

const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
const STAGES: TableDefinition<'_, u64, (u8, u16, u64)> = TableDefinition::new("stages");
const RECEIVED: TableDefinition<'_, u16, ()> = TableDefinition::new("received");
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// Version of the layout.
const VERSION: &str = "1";

/// A [`Store`] in one file, by the embedded database redb.
///
/// What was accepted survives a kill of the program and, as far as the disk keeps what it was told
/// to sync, a loss of power. Two clients cannot open one file at a time.
#[derive(Debug)]
pub struct FileStore {
    database: Database,
}

impl FileStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If the file cannot be opened, is in use, or is not such a store.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { database: Database::create(path).map_err(io::Error::other)? })
    }

    fn read(&self, client_id: &str) -> Result<Snapshot, redb::Error> {
        let transaction = self.database.begin_write()?;
        let snapshot = read(&transaction, client_id)?;
        transaction.commit()?;
        Ok(snapshot)
    }

    fn change(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut messages = transaction.open_table(MESSAGES)?;
            let mut stages = transaction.open_table(STAGES)?;
            let mut received = transaction.open_table(RECEIVED)?;
            for change in changes {
                match change {
                    Change::Put(number, message) => {
                        messages.insert(number, encoded(message).as_slice())?;
                    }
                    Change::Stage(number, Stage::Queued) => drop(stages.remove(number)?),
                    Change::Stage(number, Stage::Sent(id, order)) => {
                        stages.insert(number, (0, id.get(), *order))?;
                    }
                    Change::Stage(number, Stage::Released(id, order)) => {
                        stages.insert(number, (1, id.get(), *order))?;
                    }
                    Change::Remove(number) => {
                        messages.remove(number)?;
                        stages.remove(number)?;
                    }
                    Change::Received(id) => drop(received.insert(id.get(), ())?),
                    Change::Forgotten(id) => drop(received.remove(id.get())?),
                    Change::ForgotAll => received.retain(|_, ()| false)?,
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Store for FileStore {
    fn load(&mut self, client_id: &str) -> io::Result<Snapshot> {
        self.read(client_id).map_err(io::Error::other)
    }

    fn write(&mut self, changes: &[Change]) -> io::Result<()> {
        self.change(changes).map_err(io::Error::other)
    }
}

fn read(transaction: &WriteTransaction, client_id: &str) -> Result<Snapshot, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    for (key, expected) in [("version", VERSION), ("client id", client_id)] {
        let found = meta.get(key)?.map(|value| value.value().to_owned());
        match found {
            None => drop(meta.insert(key, expected)?),
            Some(found) if found == expected => {}
            Some(found) => {
                let reason = format!("the store has {key} {found:?}, not {expected:?}");
                return Err(redb::Error::Corrupted(reason));
            }
        }
    }
    let stages = transaction.open_table(STAGES)?;
    let mut snapshot = Snapshot::default();
    for entry in transaction.open_table(MESSAGES)?.iter()? {
        let (number, bytes) = entry?;
        let number = number.value();
        let stage = stages.get(number)?.map(|stage| stage.value());
        let message = decoded(bytes.value()).zip(Some(stage)).and_then(|(message, stage)| {
            let stage = match stage {
                None => Stage::Queued,
                Some((0, id, order)) => Stage::Sent(PacketId::new(id)?, order),
                Some((_, id, order)) => Stage::Released(PacketId::new(id)?, order),
            };
            Some(StoredMessage { stage, ..message })
        });
        let broken = || redb::Error::Corrupted(format!("message {number} cannot be read"));
        snapshot.messages.push((number, message.ok_or_else(broken)?));
    }
    for entry in transaction.open_table(RECEIVED)?.iter()? {
        snapshot.received.extend(PacketId::new(entry?.0.value()));
    }
    Ok(snapshot)
}

/// Flags, time of expiry, length of the topic, topic, payload.
fn encoded(message: &StoredMessage) -> Vec<u8> {
    let topic = message.topic.as_bytes();
    let mut bytes = Vec::with_capacity(11 + topic.len() + message.payload.len());
    let flags =
        u8::from(message.qos) | u8::from(message.retain) << 2 | u8::from(message.replaceable) << 3;
    bytes.push(flags);
    bytes.extend(message.expires.to_be_bytes());
    bytes.extend((topic.len() as u16).to_be_bytes());
    bytes.extend(topic);
    bytes.extend(&message.payload);
    bytes
}

fn decoded(bytes: &[u8]) -> Option<StoredMessage> {
    let (&flags, bytes) = bytes.split_first()?;
    let (expires, bytes) = bytes.split_first_chunk()?;
    let (len, bytes) = bytes.split_first_chunk()?;
    let (topic, payload) = bytes.split_at_checked(u16::from_be_bytes(*len).into())?;
    Some(StoredMessage {
        topic: TopicNameBuf::new(std::str::from_utf8(topic).ok()?).ok()?,
        payload: payload.to_vec().into(),
        qos: QoS::try_from(flags & 3).ok()?,
        retain: flags & 4 != 0,
        replaceable: flags & 8 != 0,
        expires: u64::from_be_bytes(*expires),
        stage: Stage::Queued,
    })
}
