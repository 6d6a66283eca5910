//! What the oracle knows to be durable, and what it expects of a broker that starts again.

use std::collections::BTreeMap;

use crate::groups::Shared;
use crate::oracle::{Message, Oracle, Session};

/// What is durable when a batch is that was taken at the time.
#[derive(Default)]
pub(crate) struct Durable {
    sessions: BTreeMap<String, Saved>,
    retained: BTreeMap<String, Message>,
    pub(crate) shared: Shared,
    /// How many messages of QoS 1 and 2 were published.
    published: usize,
}

struct Saved {
    made_by: usize,
    subscriptions: BTreeMap<String, u8>,
    expected: usize,
    due: BTreeMap<String, Message>,
    will: Option<Vec<u8>>,
}

impl Oracle {
    pub(crate) fn snapshot(&self) -> Durable {
        let kept = self.sessions.iter().filter(|(_, session)| session.is_kept());
        let sessions = kept.map(|(name, session)| {
            let connection = session.serial.and_then(|serial| self.connections.get(&serial));
            let saved = Saved {
                made_by: session.made_by,
                subscriptions: session.subscriptions.clone(),
                expected: session.expected.len(),
                due: session.due.clone(),
                will: connection.and_then(|connection| connection.will.clone()),
            };
            (name.clone(), saved)
        });
        Durable {
            sessions: sessions.collect(),
            retained: self.retained.clone(),
            shared: self.shared.clone(),
            published: self.publishing.len(),
        }
    }

    /// The broker ends without a word, and what is not durable never happened. Nothing of that may
    /// have been acknowledged.
    pub(crate) fn crash(&mut self) {
        self.crash_groups();
        for payload in self.publishing.drain(self.durable.published..) {
            *self.published.get_mut(&payload).expect("it was published") -= 1;
        }
        self.published.retain(|_, times| *times > 0);

        for (name, session) in std::mem::take(&mut self.sessions) {
            if !session.is_kept() {
                continue;
            }
            let saved = self.durable.sessions.get(&name);
            let saved = saved.filter(|saved| saved.made_by == session.made_by);
            for filter in &session.granted {
                let is_kept = saved.is_some_and(|saved| saved.subscriptions.contains_key(filter));
                assert!(is_kept, "{name} was granted {filter}, which is not durable");
            }
            for lost in session.expected.iter().skip(saved.map_or(0, |saved| saved.expected)) {
                let is_acknowledged = self.acknowledged.contains(&lost.payload);
                assert!(!is_acknowledged, "{lost:?} for {name} is acknowledged and not durable");
            }
            self.ended.insert(session.made_by, session);
        }
        for (name, saved) in &self.durable.sessions {
            let session = self.ended.remove(&saved.made_by).expect("it was there");
            self.sessions.insert(name.clone(), saved.restore(session));
        }
        for (topic, message) in &self.retained {
            let is_kept = self.durable.retained.get(topic) == Some(message);
            let is_acknowledged = self.acknowledged.contains(&message.payload);
            assert!(is_kept || !is_acknowledged, "{message:?} is acknowledged and not retained");
        }
        self.retained.clone_from(&self.durable.retained);
        self.connections.clear();
        let saved = self.durable.sessions.values();
        self.wills = saved.filter_map(|saved| saved.will.clone()).collect();
    }

    /// The broker is there again.
    pub(crate) fn restarted(&self) {
        assert!(self.wills.is_empty(), "wills {:?} did not come after the restart", self.wills);
    }
}

impl Saved {
    /// A session as it was, but that its client knows what has come to it since.
    fn restore(&self, mut session: Session) -> Session {
        session.expected.truncate(self.expected);
        session.arrived = session.arrived.min(self.expected);
        session.seen.retain(|_, index| *index < self.expected);
        session.allowed.clear();
        session.serial = None;
        session.subscriptions.clone_from(&self.subscriptions);
        session.granted.retain(|filter| self.subscriptions.contains_key(filter));
        // What has arrived since may come again, and need not.
        let due = std::mem::take(&mut session.due);
        session.due.clone_from(&self.due);
        session.due.retain(|topic, message| message.qos > 0 && due.contains_key(topic));
        session
    }
}
