use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::task::Waker;

use foldhash::fast::FixedState;

use super::subscriptions::Subscriptions;
use super::{Link, Queued, Session, State, Will};
use crate::journal::{Recorder, SessionId};
use crate::moment::Moment;
use crate::router::ReceiverId;
use crate::sync::{Arc, Mutex};
use crate::{Client, Closed, Config, Stats};

/// The sessions of a broker, by client id. Its lock comes before a session's.
#[derive(Debug)]
pub(crate) struct Registry {
    sessions: Mutex<Sessions>,
}

#[derive(Debug)]
struct Sessions {
    by_client_id: HashSet<ByClientId, FixedState>,
    /// Sessions made so far.
    made: u64,
}

/// A session that a client may use from now on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: Arc<Session>,
    /// The connection's mark on the session: another one means that it was taken over.
    pub(crate) epoch: u64,
    /// Whether it continues a kept session [MQTT-3.2.2-2].
    pub(crate) present: bool,
    pub(crate) displaced: Displaced,
}

/// What a new connection or an end leaves to do when no lock is held.
#[derive(Debug, Default)]
pub(crate) struct Displaced {
    /// A session that is over.
    pub(crate) ended: Option<Ended>,
    /// A session that is without a client now.
    pub(crate) left: Option<Arc<Session>>,
    /// The will of the connection that was taken over.
    pub(crate) will: Option<Box<Will>>,
    /// Its task, and publishers that waited for it.
    pub(crate) wakes: Vec<Waker>,
}

/// A session that is over, its subscriptions, to be taken out of the router, and what other members
/// of its groups should have.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) session: Arc<Session>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) shared: Vec<Queued>,
}

/// There is no room for another session.
#[derive(Debug)]
pub(crate) struct TooManySessions;

#[expect(clippy::mutable_key_type, reason = "the key is the client id, which never changes")]
impl Registry {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let by_client_id = HashSet::with_hasher(FixedState::with_seed(hash_seed));
        Self { sessions: Mutex::new(Sessions { by_client_id, made: 0 }) }
    }

    /// Continues the session of a client id or makes one [MQTT-3.1.2-4], [MQTT-3.1.2-6]. An older
    /// connection with the id loses it at once [MQTT-3.1.4-2]. The session is absent until the new
    /// connection attaches itself, so that nothing can get in before its CONNACK.
    pub(crate) fn open(
        &self,
        client: &Arc<Client>,
        clean: bool,
        config: &Config,
        now: Moment,
        tx: &mut impl Recorder,
    ) -> Result<Opened, TooManySessions> {
        let client_id = client.client_id();
        let mut sessions = self.sessions.lock();
        let mut displaced = Displaced::default();
        if let Some(ByClientId(session)) = sessions.by_client_id.get(client_id) {
            let session = Arc::clone(session);
            let mut state = session.lock();
            displaced.will = state.will.take();
            if !clean && session.is_kept() {
                state.detach(Link::Absent(now), &mut displaced.wakes);
                state.is_awaited = true;
                state.epoch += 1;
                let epoch = state.epoch;
                drop(state);
                return Ok(Opened { session, epoch, present: true, displaced });
            }
            displaced.ended = Some(state.end(&session, &mut displaced.wakes, tx));
            drop(state);
            sessions.by_client_id.remove(client_id);
        } else if sessions.by_client_id.len() >= config.max_sessions {
            return Err(TooManySessions);
        }
        let session =
            sessions.add(Arc::clone(client), clean, State::new(Link::Absent(now), config));
        Ok(Opened { session, epoch: 0, present: false, displaced })
    }

    /// Numbers that an earlier life has used are not used again.
    pub(crate) fn restore_numbers(&self, next: SessionId) {
        self.sessions.lock().made = next.get().saturating_sub(1);
    }

    /// A kept session of an earlier life.
    pub(crate) fn restore(&self, id: SessionId, client: Arc<Client>, state: State) -> Arc<Session> {
        let mut sessions = self.sessions.lock();
        let session = Session::new(ReceiverId::session(id.get()), client, false, state);
        sessions.insert(session)
    }

    /// A session of the broker's own program, which no client can take over: it has no client id.
    pub(crate) fn local(&self, config: &Config) -> Arc<Session> {
        let mut sessions = self.sessions.lock();
        let id = sessions.next_id();
        let nobody = Arc::new(Client::nobody());
        Arc::new(Session::new(id, nobody, true, State::new(Link::Local, config)))
    }

    /// Ends the connection of `epoch` to a session: the session goes with it when it is clean, or
    /// stays without a client. `None` when another connection has it by now. The will is given back
    /// in any case.
    pub(crate) fn close(
        &self,
        session: &Arc<Session>,
        epoch: u64,
        now: Moment,
        tx: &mut impl Recorder,
    ) -> Option<Displaced> {
        let mut sessions = self.sessions.lock();
        let mut state = session.lock();
        if state.epoch != epoch || state.link == Link::Ended {
            return None;
        }
        let mut displaced = Displaced { will: state.will.take(), ..Displaced::default() };
        if !session.is_kept() {
            displaced.ended = Some(state.end(session, &mut displaced.wakes, tx));
            drop(state);
            sessions.by_client_id.remove(session.client_id());
        } else {
            if displaced.will.is_some() {
                tx.record(session.record(&state));
            }
            state.detach(Link::Absent(now), &mut displaced.wakes);
            tx.touch(session, &mut state);
            displaced.left = Some(Arc::clone(session));
        }
        Some(displaced)
    }

    /// Ends sessions whose clients stay away longer than the configuration allows. Gives back what
    /// is left to do for each, and when the next one may be due.
    pub(crate) fn expire(
        &self,
        config: &Config,
        now: Moment,
        tx: &mut impl Recorder,
    ) -> (Vec<Displaced>, Option<Moment>) {
        let Some(expiry) = config.session_expiry else { return (Vec::new(), None) };
        let mut sessions = self.sessions.lock();
        let mut expired = Vec::new();
        let mut next: Option<Moment> = None;
        sessions.by_client_id.retain(|ByClientId(session)| {
            let mut state = session.lock();
            let Link::Absent(since) = state.link else { return true };
            let Some(due) = since.after(expiry) else { return true };
            if due <= now {
                let mut displaced = Displaced::default();
                displaced.ended = Some(state.end(session, &mut displaced.wakes, tx));
                expired.push((session.id(), displaced));
                return false;
            }
            next = Some(next.map_or(due, |next| next.min(due)));
            true
        });
        expired.sort_unstable_by_key(|(id, _)| *id);
        (expired.into_iter().map(|(_, displaced)| displaced).collect(), next)
    }

    /// Ends the session of an absent client. `None` when there is none.
    pub(crate) fn delete(&self, client_id: &str, tx: &mut impl Recorder) -> Option<Displaced> {
        let mut sessions = self.sessions.lock();
        let ByClientId(session) = sessions.by_client_id.get(client_id)?;
        let session = Arc::clone(session);
        let mut displaced = Displaced::default();
        {
            let mut state = session.lock();
            if !matches!(state.link, Link::Absent(_)) {
                return None;
            }
            displaced.ended = Some(state.end(&session, &mut displaced.wakes, tx));
        }
        sessions.by_client_id.remove(client_id);
        Some(displaced)
    }

    /// The sessions in the order in which they were made.
    pub(crate) fn list(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().in_order().into_iter().cloned().collect()
    }

    /// Asks the connection of one client id, or all connections, to end.
    pub(crate) fn close_connections(&self, only: Option<&str>, reason: Closed) -> Vec<Waker> {
        let sessions = self.sessions.lock();
        let mut wakes = Vec::new();
        for session in sessions.in_order() {
            if only.is_some_and(|client_id| client_id != session.client_id()) {
                continue;
            }
            let mut state = session.lock();
            if state.is_connected() {
                state.close(Ok(reason), &mut wakes);
            }
        }
        wakes
    }

    /// Adds up what the sessions hold.
    pub(crate) fn count(&self, mut stats: Stats) -> Stats {
        for ByClientId(session) in &self.sessions.lock().by_client_id {
            let state = session.lock();
            stats.sessions += 1;
            stats.queued += state.deliveries.queue.len() as u64;
            stats.queued_bytes += state.deliveries.queue.bytes() as u64;
            stats.in_flight += state.deliveries.sender.in_flight() as u64;
        }
        stats
    }
}

impl Sessions {
    fn next_id(&mut self) -> ReceiverId {
        self.made += 1;
        ReceiverId::session(self.made)
    }

    fn add(&mut self, client: Arc<Client>, clean: bool, state: State) -> Arc<Session> {
        let session = Session::new(self.next_id(), client, clean, state);
        self.insert(session)
    }

    fn insert(&mut self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        self.by_client_id.insert(ByClientId(Arc::clone(&session)));
        session
    }

    /// The order of the hash table must not show anywhere.
    fn in_order(&self) -> Vec<&Arc<Session>> {
        let mut sessions: Vec<_> = self.by_client_id.iter().map(|ByClientId(s)| s).collect();
        sessions.sort_unstable_by_key(|session| session.id());
        sessions
    }
}

/// A session that is found by its client id, so that the id is stored once.
#[derive(Debug)]
struct ByClientId(Arc<Session>);

impl Borrow<str> for ByClientId {
    fn borrow(&self) -> &str {
        self.0.client_id()
    }
}

impl Hash for ByClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.client_id().hash(state);
    }
}

impl PartialEq for ByClientId {
    fn eq(&self, other: &Self) -> bool {
        self.0.client_id() == other.0.client_id()
    }
}

impl Eq for ByClientId {}
