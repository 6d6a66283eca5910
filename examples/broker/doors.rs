//! Who is served at all: places, connection rates and memory, looked at before a byte is read.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
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
    places: Semaphore,
    limit: usize,
    rates: Option<Mutex<ConnectRates>>,
    access: Access,
    refused: Mutex<Refused>,
}

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
            places: Semaphore::new(limit),
            limit,
            rates: config
                .max_connect_rate
                .map(|rate| Mutex::new(ConnectRates::new(rate, Instant::now()))),
            access,
            refused: Mutex::default(),
        }
    }

    /// Gives a place to a connection, which [leaves](Self::leave) in the end. False when it is to be
    /// closed, which the log tells.
    pub fn admit(&self, stream: &Stream) -> bool {
        if let (Stream::Tcp(_, address), Some(rates)) = (stream, &self.rates) {
            let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = rates.admit(address.ip(), Instant::now()) {
                self.refuse(stream, &error);
                return false;
            }
        }
        if self.access.memory().is_full() {
            self.refuse(stream, &"the memory is full");
            return false;
        }
        match self.places.try_acquire() {
            Ok(place) => place.forget(),
            Err(_) => {
                self.refuse(stream, &format_args!("all {} places are taken", self.limit));
                return false;
            }
        }
        true
    }

    /// Takes a place back.
    pub fn leave(&self) {
        self.places.add_permits(1);
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
