//! A [`Store`] in one file, and who commits to it.

mod changes;
mod committer;
mod disk;
mod recovery;
mod row;

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase as _, StorageBackend, TableDefinition};
use thiserror::Error;

use crate::Message;
use crate::journal::{Batch, CommitError, MessageId, Receiver, Recovered, SessionId, Store};
use changes::{Changes, Effects, Shares};
pub use committer::{StoreState, serve_journal};
use disk::{Disk, Fault, LockedFile, sync_directory_of};
use row::{Counters, MessageRow, Writer};

type ById = TableDefinition<'static, u64, &'static [u8]>;

/// Topic, payload and receivers of a message, by its number: once, whoever waits for it.
const MESSAGES: ById = TableDefinition::new("messages");
/// Client id, user name and will, by the session's number.
const SESSIONS: ById = TableDefinition::new("sessions");
/// How far the deliveries of a session are, by its number.
const PROGRESS: ById = TableDefinition::new("progress");
/// QoS, by the session's number and the filter.
const SUBSCRIPTIONS: TableDefinition<'static, (u64, &'static [u8]), &'static [u8]> =
    TableDefinition::new("subscriptions");
/// QoS and payload, by the topic.
const RETAINED: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("retained");
const COUNTERS: TableDefinition<'static, (), &'static [u8]> = TableDefinition::new("counters");
const FORMAT: TableDefinition<'static, (), u32> =
    TableDefinition::new("format of mqtt-broker-core");

/// Of tables and rows.
const FORMAT_VERSION: u32 = 1;

/// Memory for pages of the file: the inner ones of trees with millions of rows, and what a batch of
/// 16 MiB writes.
const CACHE: usize = 64 << 20;

/// Files are not compacted below this.
const SMALL: u64 = 8 << 20;

/// A file is compacted when what lives in it has less than a sixth of its size: pages are two thirds
/// full, so three quarters of them are free then.
const COMPACT_BELOW: u64 = 6;

/// A [`Store`] in one file, by the embedded database redb.
///
/// What is committed survives a kill of the process and, as far as the disk keeps what it was told
/// to sync, a loss of power. Only one process can have the file.
///
/// ```no_run
/// use mqtt_broker_core::{Broker, Config, FileStore, serve_journal};
///
/// let (mut store, recovered) = FileStore::open("broker.db")?;
/// let now = std::time::Instant::now();
/// let (broker, mut journal) = Broker::restore(Config::default(), (), recovered, now);
/// std::thread::spawn(move || {
///     serve_journal(&mut journal, &mut store, |state| eprintln!("the store: {state}"))
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileStore {
    disk: Disk,
    /// `None` when it could not be opened again after the disk was full.
    database: Option<Database>,
    counters: Counters,
    shares: Shares,
    /// Bytes of all rows.
    live: u64,
    /// Nothing is committed any more.
    has_failed: bool,
    writer: Writer,
}

/// How much of a store's file is in use: [`FileStore::usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes of what it holds.
    pub live: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// Why a store cannot be opened. The file is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system says no.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Another process has it, which is most likely a broker that still runs.
    #[error("{}: another process has this file open", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// It is something else, perhaps the file of another broker.
    #[error(
        "{}: this file is not a store of this broker; \
         move it away, or choose another place for the store",
        file.display()
    )]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// A later version of this crate has written it.
    #[error("{}: this store has format {found}, and this program knows {FORMAT_VERSION}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It cannot be read in full, so nothing is read.
    #[error(
        "{}: this store is damaged ({reason}); put a copy of it in its place, \
         or move it away to start without its sessions and messages",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl FileStore {
    /// Opens a file or makes it, and reads what it holds.
    ///
    /// A new file is made under a temporary name, with `.new` at the end, and is for its owner only
    /// to read and write.
    ///
    /// # Errors
    /// When the file cannot be used. It is never begun anew then: move it away to do so.
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Recovered), OpenError> {
        let path = path.as_ref();
        let failed = |error| OpenError::Io { file: path.to_owned(), error };
        let disk = match LockedFile::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(path).map_err(failed)?,
            other => other.map_err(failed)?.map(Disk::new),
        };
        let disk = disk.ok_or_else(|| OpenError::InUse { file: path.to_owned() })?;
        Self::open_disk(path.to_owned(), disk)
    }

    /// The same on something else than a file. What is empty is begun anew.
    ///
    /// # Errors
    /// When there is something that is not such a store.
    pub fn open_with_backend(backend: impl StorageBackend) -> Result<(Self, Recovered), OpenError> {
        let disk = Disk::new(backend);
        let name = PathBuf::from("the store");
        let len = disk.len().map_err(|error| OpenError::Io { file: name.clone(), error })?;
        if len == 0 {
            let failed = |error: redb::Error| OpenError::Io {
                file: name.clone(),
                error: io::Error::other(error),
            };
            begin(disk.clone()).map_err(failed)?;
        }
        Self::open_disk(name, disk)
    }

    /// What it holds beside the size of the file.
    pub fn usage(&self) -> Usage {
        Usage { live: self.live, total: self.disk.len().unwrap_or_default() }
    }

    fn open_disk(name: PathBuf, disk: Disk) -> Result<(Self, Recovered), OpenError> {
        // The database trusts what it wrote itself, up to a panic: nobody checks every page of a
        // file at each start.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::read(&name, disk)));
        let panicked = |_| OpenError::Damaged {
            file: name.clone(),
            reason: "its structure cannot be followed".to_owned(),
        };
        let (mut store, recovered) = opened.map_err(panicked)??;
        if store.is_mostly_free() {
            let failed = |error| OpenError::Io { file: name, error };
            store.compact().map_err(failed)?;
        }
        Ok((store, recovered))
    }

    fn read(name: &Path, disk: Disk) -> Result<(Self, Recovered), OpenError> {
        let file = || name.to_owned();
        let damaged = |reason: String| OpenError::Damaged { file: file(), reason };
        let failed = |error: redb::Error| match error {
            redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                OpenError::Foreign { file: file() }
            }
            redb::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                OpenError::Damaged { file: file(), reason: "its end is missing".to_owned() }
            }
            redb::Error::Io(error) => OpenError::Io { file: file(), error },
            redb::Error::TableDoesNotExist(_) | redb::Error::UpgradeRequired(_) => {
                OpenError::Foreign { file: file() }
            }
            other => OpenError::Damaged { file: file(), reason: other.to_string() },
        };
        let mut magic = [0; MAGIC.len()];
        match disk.read(0, &mut magic) {
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
                return Err(OpenError::Io { file: file(), error });
            }
            Ok(()) if magic == MAGIC => {}
            _ => return Err(OpenError::Foreign { file: file() }),
        }
        disk.take_fault();
        let database = database(disk.clone()).map_err(failed)?;
        let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
        let contents = recovery::read(&transaction).map_err(|error| match error {
            recovery::ReadError::Database(error) => failed(*error),
            recovery::ReadError::Version(found) => OpenError::Version { file: file(), found },
            recovery::ReadError::Damaged(what) => damaged(format!("{what} cannot be read")),
        })?;
        drop(transaction);
        let store = Self {
            disk,
            database: Some(database),
            counters: contents.counters,
            shares: contents.shares,
            live: contents.live,
            has_failed: false,
            writer: Writer::default(),
        };
        store.remove(&contents.orphans).map_err(failed)?;
        Ok((store, contents.recovered))
    }

    /// Removes messages that nobody waits for any more.
    fn remove(&self, orphans: &[u64]) -> Result<(), redb::Error> {
        let Some(database) = self.database.as_ref().filter(|_| !orphans.is_empty()) else {
            return Ok(());
        };
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut messages = transaction.open_table(MESSAGES)?;
            for id in orphans {
                messages.remove(id)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn write(
        database: &Database,
        changes: &Changes<'_>,
        counters: Counters,
        shares: &Shares,
        writer: &mut Writer,
    ) -> Result<Effects, redb::Error> {
        let mut transaction = database.begin_write()?;
        // A restart after a kill takes milliseconds, and not a walk through the file.
        transaction.set_quick_repair(true);
        let effects = changes.write(&transaction, counters, shares, writer)?;
        transaction.commit()?;
        Ok(effects)
    }

    fn try_commit(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        let changes = Changes::of(batch);
        let counters = changes.count(self.counters);
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(database(self.disk.clone())?),
        };
        let effects = Self::write(database, &changes, counters, &self.shares, &mut self.writer)?;
        self.counters = counters;
        self.live = (self.live + effects.added).saturating_sub(effects.removed);
        for (id, left) in effects.shares {
            match left {
                // One that nobody shares.
                0 | 1 => drop(self.shares.remove(&id)),
                left => drop(self.shares.insert(id, left)),
            }
        }
        Ok(())
    }

    fn try_load(
        &mut self,
        session: SessionId,
        ids: &[MessageId],
    ) -> Result<Vec<(MessageId, Message)>, redb::Error> {
        let messages = self.database()?.begin_read()?.open_table(MESSAGES)?;
        let mut loaded = Vec::with_capacity(ids.len());
        for &id in ids {
            let Some(row) = messages.get(id.get())? else { continue };
            let broken = || redb::Error::Corrupted(format!("message {}", id.get()));
            let row = MessageRow::read(id.get(), row.value()).ok_or_else(broken)?;
            let mut receivers = row.receivers.iter();
            let receiver = receivers.find(|receiver| receiver.session == session);
            let Receiver { qos, retain, .. } = receiver.ok_or_else(broken)?;
            loaded.push((id, row.message.with(*qos, *retain)));
        }
        Ok(loaded)
    }

    /// The database, opened again if that is due after the disk was full.
    fn database(&mut self) -> Result<&Database, redb::Error> {
        Ok(match &mut self.database {
            Some(database) => database,
            none => none.insert(database(self.disk.clone())?),
        })
    }

    fn is_mostly_free(&self) -> bool {
        let Usage { live, total } = self.usage();
        total > SMALL && live.saturating_mul(COMPACT_BELOW) < total
    }

    /// Gives back to the file system what is free in the file. It takes about a second for each
    /// 100 MB that live in it. Nothing is lost when it fails.
    ///
    /// # Errors
    /// When the file cannot be written. The next commit is tried all the same.
    pub fn compact(&mut self) -> io::Result<()> {
        self.disk.take_fault();
        let Err(error) = self.try_compact() else { return Ok(()) };
        self.database = None;
        // As with a commit: where the fault is not a full disk, nobody knows what is written.
        self.has_failed |= self.disk.take_fault() != Fault::Full;
        Err(io::Error::other(error))
    }

    fn try_compact(&mut self) -> Result<(), redb::Error> {
        if let Some(database) = &mut self.database {
            database.compact()?;
        }
        Ok(())
    }
}

impl Store for FileStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if self.has_failed {
            return Err(CommitError::Failed("it has failed before".into()));
        }
        self.disk.take_fault();
        let Err(error) = self.try_commit(batch) else { return Ok(()) };
        // It takes no more orders after an error, and lets go of what it has not committed.
        self.database = None;
        if self.disk.take_fault() == Fault::Full {
            return Err(CommitError::Full(error.into()));
        }
        self.has_failed = true;
        Err(CommitError::Failed(error.into()))
    }

    fn load(
        &mut self,
        session: SessionId,
        ids: &[MessageId],
    ) -> Result<Vec<(MessageId, Message)>, CommitError> {
        self.try_load(session, ids).map_err(|error| {
            self.has_failed = true;
            CommitError::Failed(error.into())
        })
    }
}

/// What a file of the database begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Makes a new file, whole or not at all. `None` when another process has it.
fn create(path: &Path) -> io::Result<Option<Disk>> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let Some(file) = LockedFile::create(temporary.as_ref())? else { return Ok(None) };
    if path.exists() {
        // Another process was faster.
        return Ok(LockedFile::open(path)?.map(Disk::new));
    }
    // What a start that was cut short has left.
    file.set_len(0)?;
    let disk = Disk::new(file);
    begin(disk.clone()).map_err(io::Error::other)?;
    disk.sync_data()?;
    std::fs::rename(&temporary, path)?;
    sync_directory_of(path)?;
    Ok(Some(disk))
}

fn begin(disk: Disk) -> Result<(), redb::Error> {
    let database = database(disk)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(MESSAGES)?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(PROGRESS)?;
    transaction.open_table(SUBSCRIPTIONS)?;
    transaction.open_table(RETAINED)?;
    let Recovered { next_message, next_session, .. } = Recovered::default();
    let counters = Counters { commits: 0, next_message, next_session: next_session.get() };
    let mut writer = Writer::default();
    transaction.open_table(COUNTERS)?.insert((), writer.counters(counters))?;
    transaction.open_table(FORMAT)?.insert((), FORMAT_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn database(disk: Disk) -> Result<Database, redb::Error> {
    Ok(Builder::new().set_cache_size(CACHE).create_with_backend(disk)?)
}
