//! Who gets a message: the subscriptions of all sessions, by filter.

mod subscribers;
mod trie;

use mqtt_codec::{QoS, TopicFilter, TopicName};

use crate::session::Session;
use crate::sync::{Arc, RwLock};
pub(crate) use subscribers::Route;
use trie::Trie;

/// The subscriptions, behind one lock that is never held with a session's.
#[derive(Debug)]
pub(crate) struct Router {
    trie: RwLock<Trie>,
}

impl Router {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Self { trie: RwLock::new(Trie::new(hash_seed)) }
    }

    /// Adds a subscription or changes its QoS [MQTT-3.8.4-3].
    pub(crate) fn subscribe(&self, filter: TopicFilter<'_>, session: &Arc<Session>, qos: QoS) {
        self.trie.write().insert(filter, Route { session: Arc::clone(session), qos });
    }

    /// Removes exactly this subscription [MQTT-3.10.4-1].
    pub(crate) fn unsubscribe(&self, filter: TopicFilter<'_>, session: &Session) {
        self.trie.write().remove(filter, session.id());
    }

    /// Appends the receivers of a topic to `routes`: each session once, at the highest QoS of its
    /// filters that match [MQTT-3.3.5-1], in the order in which the sessions were made.
    pub(crate) fn routes(&self, topic: TopicName<'_>, routes: &mut Vec<Route>) {
        let lists = self.trie.read().find(topic, routes);
        if lists > 1 {
            routes.sort_unstable_by_key(|route| (route.session.id(), std::cmp::Reverse(route.qos)));
            routes.dedup_by_key(|route| route.session.id());
        }
    }

    /// Subscriptions of all sessions.
    pub(crate) fn len(&self) -> usize {
        self.trie.read().len()
    }
}
