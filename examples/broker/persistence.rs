//! What survives the end of the process: a store in one file, and the thread that commits to it.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_broker_core::{
    Broker, Config, FileStore, Hooks, OpenError, StoreState, Usage, serve_journal,
};
use tracing::{error, info, warn};

use crate::log::NOTICE;
use crate::process;

/// How long the end waits for the disk. Nothing that was acknowledged depends on it.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// A broker's store, with a thread that commits to it.
pub struct Persistence {
    file: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PersistenceError {
    /// The file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The user that the broker is to become cannot have the file.
    #[error("{}: cannot be given to user {user}: {error}", file.display())]
    Owner {
        /// The file.
        file: PathBuf,
        /// The user.
        user: String,
        /// Why.
        error: io::Error,
    },
    /// There is no thread to be had.
    #[error("no thread for the store: {0}")]
    Thread(io::Error),
}

impl Persistence {
    /// A broker that goes on with what the file holds. `user` is whom the process will become.
    ///
    /// # Errors
    /// When the file cannot be used. It is never begun anew then.
    pub fn restore(
        file: &Path,
        user: Option<&str>,
        config: Config,
        hooks: impl Hooks,
    ) -> Result<(Broker, Self), PersistenceError> {
        let start = Instant::now();
        let (mut store, recovered) = FileStore::open(file)?;
        if let Some(user) = user {
            for file in FileStore::files(file) {
                process::give_file(&file, user).map_err(|error| PersistenceError::Owner {
                    file,
                    user: user.to_owned(),
                    error,
                })?;
            }
        }
        let Usage { total, .. } = store.usage();
        let (broker, mut journal) = Broker::restore(config, hooks, recovered, start);
        let stats = broker.stats();
        info!(
            target: NOTICE,
            "{} holds {} sessions, {} retained messages and {} that wait, in {} KiB; read in {} ms",
            file.display(), stats.sessions, stats.retained, stats.queued, total >> 10,
            start.elapsed().as_millis()
        );
        let name = file.display().to_string();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                // What is wrong has been logged by then.
                let _ = serve_journal(&mut journal, &mut store, |state| log(&name, state));
            })
            .map_err(PersistenceError::Thread)?;
        Ok((broker, Self { file: file.to_owned() }))
    }

    /// Waits until everything is on the disk.
    pub async fn save(&self, broker: &Broker) {
        let file = self.file.display();
        match tokio::time::timeout(LAST_COMMIT, broker.flush()).await {
            Ok(()) => info!(target: NOTICE, "everything is saved in {file}"),
            Err(_) => warn!("{file}: what was not acknowledged is not saved"),
        }
    }
}

fn log(file: &str, state: &StoreState) {
    match state {
        StoreState::Recovered => info!(target: NOTICE, "{file}: {state}"),
        StoreState::Short | StoreState::Full(_) => warn!("{file}: {state}"),
        _ => error!("{file}: {state}"),
    }
}
