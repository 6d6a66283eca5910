use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// As much as a journal lets wait: what was on its way when the disk was full fits in.
const RESERVE: u64 = 16 << 20;

/// The last piece is for what makes room: removing some rows takes some hundred KiB at most, which
/// are new versions of pages and the map of free ones.
const LAST: u64 = 512 << 10;

/// Of a disk that is nearly full already a store takes only so much.
const SHARE: u64 = 4;

/// Room on the disk that nobody else can have: a file beside the store's, which is cut when there is
/// no other room.
#[derive(Debug)]
pub(super) struct Reserve {
    file: File,
    len: u64,
    /// What it had at the start, and should have.
    target: u64,
}

impl Reserve {
    /// Beside the file of a store, with `.reserve` at the end of its name.
    pub(super) fn beside(path: &Path) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".reserve");
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(PathBuf::from(name))?;
        let len = file.metadata()?.len();
        let mut reserve = Self { file, len, target: RESERVE };
        if len != RESERVE && reserve.grow(0).is_err() {
            let share = reserve.len / SHARE;
            reserve.cut(share)?;
            reserve.target = share;
        }
        Ok(reserve)
    }

    /// Whether what is left is not for messages.
    pub(super) fn is_short(&self) -> bool {
        self.len < self.target
    }

    /// Gives half of it to the store. False when only the last piece is left.
    pub(super) fn give(&mut self) -> bool {
        let rest = (self.len / 2).max(LAST);
        self.len > rest && self.cut(rest).is_ok()
    }

    /// Gives the last piece.
    pub(super) fn give_last(&mut self) {
        // A file that cannot be cut has nothing to give.
        let _ = self.cut(0);
    }

    /// Takes back what was given, all of it or nothing.
    pub(super) fn refill(&mut self) -> bool {
        let before = self.len;
        if self.is_short() && self.grow(before).is_err() {
            let _ = self.cut(before);
        }
        !self.is_short()
    }

    /// Writes from `start` on: only what is written is taken.
    fn grow(&mut self, start: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(start))?;
        self.len = start;
        let zeros = [0; 64 << 10];
        while self.len < self.target {
            let piece = usize::try_from(self.target - self.len).unwrap_or(zeros.len());
            let written = self.file.write(zeros.get(..piece).unwrap_or(&zeros))?;
            self.len += written as u64;
        }
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        Ok(())
    }

    /// The file, so that somebody else can own it.
    pub(super) fn path_of(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".reserve");
        name.into()
    }
}
