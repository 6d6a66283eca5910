//! Readings that wait for a connection, where every one counts.

use std::io;
use std::path::{Path, PathBuf};

use mqtt_client::{Builder, FileStore, Limit, Offline, WhenFull};

/// Readings that wait at most. One a second for eleven days; beyond, the oldest go.
const LONGEST: usize = 1_000_000;

/// Their bytes: what a small computer can spare.
const LARGEST: usize = 64 << 20;

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct StoreError {
    path: PathBuf,
    error: io::Error,
}

/// Lets a client keep every reading of QoS 1 that it accepts, in order; in a folder, where they
/// outlive the program, or in memory.
///
/// # Errors
/// If the folder cannot be used, or another program has the store of this id.
pub fn keep_every_reading(
    builder: Builder,
    folder: Option<&Path>,
    id: &str,
) -> Result<Builder, StoreError> {
    let limit = Limit { messages: LONGEST, bytes: LARGEST, when_full: WhenFull::DropOldest };
    let builder = builder
        .offline(Offline::Queue)
        .queue_limit(limit)
        // One at a time: what is sent again after a cut is then never behind something newer.
        .inflight(1);
    let Some(folder) = folder else { return Ok(builder) };
    // An id may have slashes, a file name may not.
    let path = folder.join(format!("{}.redb", id.replace('%', "%25").replace('/', "%2F")));
    let store = std::fs::create_dir_all(folder).and_then(|()| FileStore::open(&path));
    match store {
        Ok(store) => Ok(builder.store(store)),
        Err(error) => Err(StoreError { path, error }),
    }
}
