//! Who gets a message: the subscriptions of all sessions, by filter.

mod group;
mod subscribers;
mod trie;

use std::collections::HashMap;

use foldhash::fast::FixedState;
use mqtt_codec::{QoS, TopicFilter, TopicFilterBuf, TopicName};

use crate::session::Session;
use crate::sync::{Arc, RwLock};
pub use group::SharedFilter;
pub(crate) use group::{Group, Member};
pub(crate) use subscribers::{ReceiverId, Route};
use trie::Trie;
pub(crate) use trie::Walk;

/// The subscriptions, behind one lock that is never held with a session's.
#[derive(Debug)]
pub(crate) struct Router {
    tables: RwLock<Tables>,
}

#[derive(Debug)]
struct Tables {
    trie: Trie,
    /// Shared subscriptions by their whole filter. In the trie a group stands where a session
    /// would.
    groups: HashMap<TopicFilterBuf, Arc<Group>, FixedState>,
    groups_made: u64,
    /// Members of all groups.
    members: usize,
}

impl Router {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let groups = HashMap::with_hasher(FixedState::with_seed(hash_seed));
        let trie = Trie::new(hash_seed);
        Self { tables: RwLock::new(Tables { trie, groups, groups_made: 0, members: 0 }) }
    }

    /// Adds a subscription or changes its QoS [MQTT-3.8.4-3].
    pub(crate) fn subscribe(&self, filter: TopicFilter<'_>, session: &Arc<Session>, qos: QoS) {
        let mut tables = self.tables.write();
        let session = Arc::clone(session);
        match SharedFilter::parse(filter).flatten() {
            None => tables.trie.insert(filter, Route::One { session, qos }),
            Some(shared) => tables.join(filter, shared.filter, Member { session, qos }),
        }
    }

    /// Removes exactly this subscription [MQTT-3.10.4-1].
    pub(crate) fn unsubscribe(&self, filter: TopicFilter<'_>, session: &Session) {
        let mut tables = self.tables.write();
        match SharedFilter::parse(filter).flatten() {
            None => tables.trie.remove(filter, session.id()),
            Some(shared) => tables.leave(filter, shared.filter, session),
        }
    }

    /// Appends the receivers of a topic to `routes`: each session once, at the highest QoS of its
    /// filters that match [MQTT-3.3.5-1], in the order in which the sessions were made; then the
    /// groups.
    pub(crate) fn routes(&self, topic: TopicName<'_>, routes: &mut Vec<Route>, walk: &mut Walk) {
        let lists = self.tables.read().trie.find(topic, routes, walk);
        if lists > 1 {
            routes.sort_unstable_by_key(|route| (route.id(), std::cmp::Reverse(route.qos())));
            routes.dedup_by_key(|route| route.id());
        }
    }

    /// Subscriptions of all sessions.
    pub(crate) fn len(&self) -> usize {
        let tables = self.tables.read();
        tables.trie.len() - tables.groups.len() + tables.members
    }
}

impl Tables {
    fn join(&mut self, name: TopicFilter<'_>, filter: TopicFilter<'_>, member: Member) {
        let name = TopicFilterBuf::from(name);
        let is_new = if let Some(group) = self.groups.get(&name) {
            group.insert(member)
        } else {
            self.groups_made += 1;
            let group = Arc::new(Group::new(ReceiverId::group(self.groups_made)));
            group.insert(member);
            self.trie.insert(filter, Route::Group(Arc::clone(&group)));
            self.groups.insert(name, group);
            true
        };
        self.members += usize::from(is_new);
    }

    fn leave(&mut self, name: TopicFilter<'_>, filter: TopicFilter<'_>, session: &Session) {
        let Some(group) = self.groups.get(name.as_bytes()) else { return };
        let (was_member, has_others) = group.remove(session);
        self.members -= usize::from(was_member);
        if !has_others {
            self.trie.remove(filter, group.id());
            self.groups.remove(name.as_bytes());
        }
    }
}
