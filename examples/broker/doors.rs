//! Who is served at all: places, connection rates and memory, looked at before a byte is read.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::access::Access;
use crate::config::Config;
use crate::connect_rate::ConnectRates;
use crate::listener::Stream;

/// The log tells this often that connections are refused, and how many: a flood shall not become
/// one there.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What all listeners have in common before they serve a connection.
pub struct Doors {
    places: Arc<Semaphore>,
    limit: usize,
    rates: Option<Mutex<ConnectRates>>,
    access: Access,
    refused: Mutex<Refused>,
}

/// A connection's place, from its accept on: a handshake of TLS or WebSocket takes one as well.
pub type Place = OwnedSemaphorePermit;

#[derive(Default)]
struct Refused {
    count: u64,
    told: Option<Instant>,
}

impl Doors {
    /// Doors with places for `limit` connections.
    pub fn new(config: &Config, limit: usize, access: Access) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(limit)),
            limit,
            rates: config
                .max_connect_rate
                .map(|rate| Mutex::new(ConnectRates::new(rate, Instant::now()))),
            access,
            refused: Mutex::default(),
        }
    }

    /// A place for a connection. `None` when it is to be closed, which the log tells.
    pub fn admit(&self, stream: &Stream) -> Option<Place> {
        if let (Stream::Tcp(_, address), Some(rates)) = (stream, &self.rates) {
            let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = rates.admit(address.ip(), Instant::now()) {
                self.refuse(stream, &error);
                return None;
            }
        }
        if self.access.memory().is_full() {
            self.refuse(stream, &"the memory is full");
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        if place.is_err() {
            self.refuse(stream, &format_args!("all {} places are taken", self.limit));
        }
        place.ok()
    }

    fn refuse(&self, stream: &Stream, reason: &dyn Display) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.count += 1;
        let now = Instant::now();
        if refused.told.is_none_or(|told| now - told >= TELL_EVERY) {
            let from = stream.peer();
            warn!("{} connections refused, the last from {from}: {reason}", refused.count);
            *refused = Refused { count: 0, told: Some(now) };
        }
    }
}
