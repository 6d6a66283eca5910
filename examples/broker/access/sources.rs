use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use mqtt_broker_core::Client;
use mqtt_codec::Publish;

use crate::acl::Who;

/// Who published each retained message: whether it still may is asked before the message is
/// delivered (`check_retain_source`; CVE-2018-12546 of Mosquitto).
#[derive(Default)]
pub(super) struct Sources {
    by_topic: Mutex<HashMap<String, Source>>,
}

/// A client as it was when it published.
#[derive(PartialEq, Eq)]
struct Source {
    listener: usize,
    user_name: Option<String>,
    client_id: String,
}

impl Sources {
    /// Takes down who publishes a retained message, or that nobody does any more.
    pub(super) fn note(&self, client: &Client, publish: &Publish<'_>) {
        let topic = publish.topic.as_str();
        if publish.payload.is_empty() {
            return self.forget(topic);
        }
        let mut sources = self.by_topic.lock().unwrap_or_else(PoisonError::into_inner);
        match sources.get_mut(topic) {
            Some(known) if known.is(client) => {}
            Some(known) => *known = Source::from(client),
            None => drop(sources.insert(topic.to_owned(), Source::from(client))),
        }
    }

    /// Forgets a topic of which nothing is retained.
    pub(super) fn forget(&self, topic: &str) {
        self.by_topic.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Asks about the client that published what is retained, with the number of its listener. True
    /// when nobody is known, as for what the broker itself retains.
    pub(super) fn ask(&self, topic: &str, may: impl FnOnce(usize, Who<'_>) -> bool) -> bool {
        let sources = self.by_topic.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(topic).is_none_or(|source| {
            let (user_name, client_id) = (source.user_name.as_deref(), source.client_id.as_str());
            may(source.listener, Who { user_name, client_id })
        })
    }
}

impl Source {
    fn is(&self, client: &Client) -> bool {
        self.listener == client.listener()
            && self.user_name.as_deref() == client.user_name()
            && self.client_id == client.client_id()
    }
}

impl From<&Client> for Source {
    fn from(client: &Client) -> Self {
        Self {
            listener: client.listener(),
            user_name: client.user_name().map(Into::into),
            client_id: client.client_id().into(),
        }
    }
}
