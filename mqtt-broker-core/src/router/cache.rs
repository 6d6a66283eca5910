use mqtt_codec::TopicName;

use super::{Route, Walk};
use crate::sync::{Arc, AtomicU64, Ordering};

/// The receivers of topics that were looked up, for as long as no subscription changes.
///
/// To find them anew takes the router's lock, at least two look-ups, and a count up and down for
/// each receiver: 40 ns of 150 a message with one receiver, twice that behind a wildcard.
///
/// Topics share a fixed number of places by their hash, and the last one has it: a flood of topics
/// costs neither memory nor a clean-up. What is kept of ended sessions goes with the next message
/// that is routed.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    /// Empty until the first message.
    places: Vec<Option<Entry>>,
    /// Of the router that was asked last; what is kept is its.
    source: Option<Arc<AtomicU64>>,
    generation: u64,
    /// Space for finding routes.
    pub(super) found: Vec<Route>,
    pub(super) walk: Walk,
}

#[derive(Debug)]
struct Entry {
    topic: Box<[u8]>,
    routes: Arc<[Route]>,
}

/// Topics that are kept: more than most publishers have, and 128 KiB a worker.
const PLACES: usize = 4096;

impl RouteCache {
    /// Forgets everything if subscriptions have changed. To be called before anything is looked up:
    /// what a change in between brings is forgotten the next time.
    pub(super) fn renew(&mut self, source: &Arc<AtomicU64>) {
        let generation = source.load(Ordering::Acquire);
        let is_same = self.source.as_ref().is_some_and(|own| Arc::ptr_eq(own, source));
        if !is_same || generation != self.generation {
            self.places.clear();
            self.source = Some(Arc::clone(source));
            self.generation = generation;
        }
    }

    pub(super) fn find(&self, hash: u64, topic: TopicName<'_>) -> Option<Arc<[Route]>> {
        let entry = self.places.get(hash as usize % PLACES)?.as_ref()?;
        (*entry.topic == *topic.as_bytes()).then(|| Arc::clone(&entry.routes))
    }

    pub(super) fn keep(&mut self, hash: u64, topic: TopicName<'_>, routes: Arc<[Route]>) {
        self.places.resize_with(PLACES, || None);
        if let Some(place) = self.places.get_mut(hash as usize % PLACES) {
            *place = Some(Entry { topic: topic.as_bytes().into(), routes });
        }
    }
}
