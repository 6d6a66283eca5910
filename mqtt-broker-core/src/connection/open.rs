use std::task::Context;
use std::time::{Duration, Instant};

use mqtt_codec::ConnAck;

use crate::broker::Shared;
use crate::moment::Moment;
use crate::session::{Link, Session, State};
use crate::sync::{Arc, MutexGuard};
use crate::{Client, Closed, ConnectionError};

/// A connection whose CONNACK said yes.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: Arc<Session>,
    /// Our mark on the session.
    pub(super) epoch: u64,
    pub(super) client: Arc<Client>,
    /// Until it is on its way to the transport.
    pub(super) connack: Option<ConnAck>,
    /// In seconds; 0 for none.
    pub(super) keep_alive: u16,
    pub(super) held: Option<Box<Held>>,
    /// Subscriptions have retained messages to come.
    pub(super) is_replaying: bool,
    /// SUBACKs wait in an outbox that is full.
    pub(super) is_choked: bool,
}

/// The client publishes faster than a receiver takes: it is not read until the receiver has room, or
/// time is up.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) receivers: Vec<Arc<Session>>,
    pub(super) until: Instant,
}

impl Open {
    /// The session, if it is still this connection's.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, State>> {
        self.session.lock_for(self.epoch)
    }

    /// Why the connection has to end, if it has to.
    pub(super) fn ending(&self, state: &State) -> Option<Result<Closed, ConnectionError>> {
        match state.link {
            _ if state.epoch != self.epoch => Some(Ok(Closed::TakenOver)),
            Link::Ended => Some(Ok(Closed::TakenOver)),
            Link::Closing(reason) => Some(reason),
            _ => None,
        }
    }

    /// When the client has been silent for too long, one and a half keep alives; `None` for never.
    pub(super) fn silent_until(&self, last_input: Moment) -> Option<Moment> {
        let silence = Duration::from_millis(u64::from(self.keep_alive) * 1500);
        last_input.after(silence).filter(|_| self.keep_alive > 0)
    }

    /// Leaves the task's waker with the receivers that hold the client back.
    pub(super) fn wait(&self, shared: &Shared, cx: &Context<'_>) {
        let Some(held) = &self.held else { return };
        let mut is_released = true;
        for receiver in &held.receivers {
            let mut state = receiver.lock();
            if state.is_congested(&shared.config) {
                state.hold_back(cx.waker());
                is_released = false;
            }
        }
        // It may have been released since the deadline was asked for.
        if is_released {
            cx.waker().wake_by_ref();
        }
    }
}

impl Held {
    /// Whether all receivers have room again.
    pub(super) fn is_released(&self, shared: &Shared) -> bool {
        !self.receivers.iter().any(|receiver| receiver.lock().is_congested(&shared.config))
    }
}
