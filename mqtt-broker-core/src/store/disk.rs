use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use redb::StorageBackend;

use crate::sync::{Arc, AtomicU8, Ordering};

/// What a database is opened on: a backend that several databases may have one after the other, and
/// that remembers what went wrong, because the database says only that something did.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    backend: Arc<dyn StorageBackend>,
    fault: Arc<AtomicU8>,
}

/// What went wrong, the worse the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Fault {
    None,
    /// There is no room for what was written: nothing is lost.
    Full,
    /// Something else, of which nobody knows how much was written.
    Broken,
}

impl Disk {
    pub(super) fn new(backend: impl StorageBackend) -> Self {
        Self { backend: Arc::new(backend), fault: Arc::new(AtomicU8::new(Fault::None as u8)) }
    }

    /// The worst fault since the last call.
    pub(super) fn take_fault(&self) -> Fault {
        match self.fault.swap(Fault::None as u8, Ordering::AcqRel) {
            0 => Fault::None,
            1 => Fault::Full,
            _ => Fault::Broken,
        }
    }

    fn note<T>(
        &self,
        result: io::Result<T>,
        of_error: impl Fn(&io::Error) -> Fault,
    ) -> io::Result<T> {
        if let Err(error) = &result {
            self.fault.fetch_max(of_error(error) as u8, Ordering::AcqRel);
        }
        result
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.note(self.backend.len(), |_| Fault::Broken)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.backend.read(offset, out), |_| Fault::Broken)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(self.backend.set_len(len), of_write)
    }

    /// A failed sync is never tried again, and says nothing of what is written: the system may have
    /// let go of it, also when it says that the disk is full.
    fn sync_data(&self) -> io::Result<()> {
        self.note(self.backend.sync_data(), |_| Fault::Broken)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(self.backend.write(offset, data), of_write)
    }
}

fn of_write(error: &io::Error) -> Fault {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Fault::Full,
        _ => Fault::Broken,
    }
}

/// A file that nobody else has.
#[derive(Debug)]
pub(super) struct LockedFile(File);

impl LockedFile {
    /// Opens a file that is there. `None` when another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        Self::lock(File::options().read(true).write(true).open(path)?)
    }

    /// Opens a file or makes it, for nobody but its owner to read. `None` when another process has
    /// it.
    pub(super) fn create(path: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Self::lock(options.open(path)?)
    }

    fn lock(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl StorageBackend for LockedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, out, offset)
    }

    #[cfg(windows)]
    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.0, out, offset)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => {
                    out = out.get_mut(read..).unwrap_or_default();
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    #[cfg(unix)]
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, data, offset)
    }

    #[cfg(windows)]
    fn write(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = std::os::windows::fs::FileExt::seek_write(&self.0, data, offset)?;
            data = data.get(written..).unwrap_or_default();
            offset += written as u64;
        }
        Ok(())
    }
}

/// Makes a file durable under its name: a new name is part of its directory.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) {
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
