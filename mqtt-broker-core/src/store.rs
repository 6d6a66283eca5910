//! A [`Store`] in one file, and who commits to it.

mod changes;
mod committer;
mod disk;
mod recovery;
mod reserve;
mod row;

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Builder, Database, ReadableDatabase as _, StorageBackend, TableDefinition};
use thiserror::Error;

use crate::Message;
use crate::journal::{Batch, CommitError, MessageId, Receiver, Recovered, SessionId, Store};
use changes::{Changes, Shares};
pub use committer::{StoreState, serve_journal};
use disk::{Disk, Fault, LockedFile, sync_directory_of};
use reserve::Reserve;
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

/// While the broker works it waits for no compaction that copies more than this: it takes some
/// tenths of a second.
const COMPACT_AT_WORK: u64 = 32 << 20;

/// Rows that one transaction removes on a full disk: it has to do with the last piece of the reserve.
const REMOVED_AT_ONCE: usize = 256;

/// Between two attempts to fill the reserve again.
const REFILL: Duration = Duration::from_secs(1);

/// A [`Store`] in one file, by the embedded database redb.
///
/// What is committed survives a kill of the process and, as far as the disk keeps what it was told
/// to sync, a loss of power. Only one process can have the file.
///
/// Beside it stands a file of up to 16 MiB with `.reserve` at the end of its name, which is cut when
/// the disk is full: so what makes room again can still be written.
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
    /// Room that nobody else has, with when it was filled last. `None` for what is not a file.
    reserve: Option<(Reserve, Instant)>,
    /// Of a batch that was refused: so many of its records have made room already.
    done_ahead: usize,
    /// Nothing is committed any more.
    has_failed: bool,
    /// Nothing was committed since [`mark`](Self::mark).
    is_marked: bool,
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
        let (mut store, recovered) = Self::open_disk(path.to_owned(), disk)?;
        store.reserve = Some((Reserve::beside(path).map_err(failed)?, Instant::now()));
        Ok((store, recovered))
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

    /// All files of a store at `path`, for who has to give them to another user.
    pub fn files(path: impl AsRef<Path>) -> [PathBuf; 2] {
        let path = path.as_ref();
        [path.to_owned(), Reserve::path_of(path)]
    }

    /// What it holds beside the size of the file.
    pub fn usage(&self) -> Usage {
        Usage { live: self.live, total: self.disk.len().unwrap_or_default() }
    }

    /// Gives back to the file system what is free in the file. It takes about a second for each
    /// 100 MB that live in it. Nothing is lost when it fails.
    ///
    /// # Errors
    /// When the file cannot be written. After [`CommitError::Full`] the store goes on as before.
    pub fn compact(&mut self) -> Result<(), CommitError> {
        self.disk.take_fault();
        let result = self.database().map(drop).and_then(|()| match &mut self.database {
            Some(database) => database.compact().map(|_| ()).map_err(redb::Error::from),
            None => Ok(()),
        });
        result.map_err(|error| self.classify(error))
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
            let failed = |error| OpenError::Io { file: name, error: io::Error::other(error) };
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
            reserve: None,
            done_ahead: 0,
            has_failed: false,
            is_marked: false,
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
        let transaction = database.begin_write()?;
        {
            let mut messages = transaction.open_table(MESSAGES)?;
            for id in orphans {
                messages.remove(id)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Commits changes. When that fails for want of room they may be there all the same; then to
    /// write them again changes nothing.
    ///
    /// A commit is one sync: what is torn has a wrong checksum, and a start after a kill follows them
    /// from the root. Two syncs (quick repair) would save that walk, which is about as long as reading
    /// the messages is, and double the time of a commit.
    fn write(&mut self, changes: &Changes<'_>) -> Result<(), redb::Error> {
        let counters = changes.count(self.counters);
        self.database()?;
        let Self { database: Some(database), shares, writer, .. } = self else { return Ok(()) };
        let transaction = database.begin_write()?;
        if counters != self.counters {
            transaction.open_table(COUNTERS)?.insert((), writer.counters(counters))?;
        }
        let effects = changes.write(&transaction, shares, writer)?;
        transaction.commit()?;
        self.counters = counters;
        self.is_marked = false;
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

    /// Leaves a mark that spares the next start the walk through the file.
    fn mark(&mut self) -> Result<(), redb::Error> {
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.commit()?;
        self.is_marked = true;
        Ok(())
    }

    /// Commits a batch, as far as it takes from the reserve. Tells whether there was room.
    fn commit_with_reserve(&mut self, batch: &Batch) -> Result<(), CommitError> {
        loop {
            let Err(error) = self.write(&Changes::of(batch, self.done_ahead)) else {
                self.done_ahead = 0;
                return Ok(());
            };
            let error = self.classify(error);
            let is_full = matches!(error, CommitError::Full(_));
            let given = self.reserve.as_mut().is_some_and(|(reserve, _)| reserve.give());
            if !is_full || !given {
                return Err(error);
            }
        }
    }

    /// Writes of a batch that there is no room for what makes room: messages that nobody waits for
    /// any more go, and how far their deliveries are has to be known before.
    fn make_room(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if Changes::hands_on(batch) {
            return Ok(());
        }
        if let Some((reserve, _)) = &mut self.reserve {
            reserve.give_last();
        }
        let mut is_first = true;
        while self.done_ahead < batch.records().len() {
            let (changes, end) =
                Changes::that_make_room(batch, self.done_ahead, REMOVED_AT_ONCE, is_first);
            self.write(&changes).map_err(|error| self.classify(error))?;
            self.done_ahead = end;
            is_first = false;
        }
        Ok(())
    }

    /// What an error means, and what follows from it.
    fn classify(&mut self, error: redb::Error) -> CommitError {
        // The database takes no more orders after an error, and lets go of what it has not committed.
        self.database = None;
        if self.disk.take_fault() == Fault::Full {
            return CommitError::Full(error.into());
        }
        self.has_failed = true;
        CommitError::Failed(error.into())
    }

    /// Takes back the room that was given, now and then.
    fn refill(&mut self) {
        if let Some((reserve, last)) = &mut self.reserve
            && reserve.is_short()
            && last.elapsed() >= REFILL
        {
            reserve.refill();
            *last = Instant::now();
        }
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
            let message = row.message().ok_or_else(broken)?;
            loaded.push((id, message.with(*qos, *retain)));
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
}

impl Store for FileStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if self.has_failed {
            return Err(CommitError::Failed("it has failed before".into()));
        }
        self.disk.take_fault();
        let mut result = self.commit_with_reserve(batch);
        if let Err(CommitError::Full(_)) = result {
            self.make_room(batch)?;
            result = self.commit_with_reserve(batch);
        }
        self.refill();
        result
    }

    fn load(
        &mut self,
        session: SessionId,
        ids: &[MessageId],
    ) -> Result<Vec<(MessageId, Message)>, CommitError> {
        self.disk.take_fault();
        self.try_load(session, ids).map_err(|error| self.classify(error))
    }

    fn tidy(&mut self) -> Result<(), CommitError> {
        if self.has_failed {
            return Ok(());
        }
        if self.is_mostly_free() && self.live <= COMPACT_AT_WORK {
            match self.compact() {
                // It is for another time.
                Ok(()) | Err(CommitError::Full(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.refill();
        if !self.is_marked && !self.is_short_of_room() {
            self.disk.take_fault();
            match self.mark().map_err(|error| self.classify(error)) {
                Ok(()) | Err(CommitError::Full(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_short_of_room(&self) -> bool {
        self.done_ahead > 0 || self.reserve.as_ref().is_some_and(|(reserve, _)| reserve.is_short())
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
    let transaction = database.begin_write()?;
    transaction.open_table(MESSAGES)?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(PROGRESS)?;
    transaction.open_table(SUBSCRIPTIONS)?;
    transaction.open_table(RETAINED)?;
    let Recovered { next_message, next_session, .. } = Recovered::default();
    let counters = Counters { next_message, next_session: next_session.get() };
    let mut writer = Writer::default();
    transaction.open_table(COUNTERS)?.insert((), writer.counters(counters))?;
    transaction.open_table(FORMAT)?.insert((), FORMAT_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn database(disk: Disk) -> Result<Database, redb::Error> {
    Ok(Builder::new().set_cache_size(CACHE).create_with_backend(disk)?)
}
