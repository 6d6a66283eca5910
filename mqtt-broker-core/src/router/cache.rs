use mqtt_codec::TopicName;

use super::{Route, Walk};
use crate::sync::{Arc, AtomicU64, Ordering};

/// The receivers of topics that were looked up, for as long as no subscription changes.
///
/// To find them anew takes the router's lock, at least two look-ups, and a count up and down for
/// each receiver: 40 ns of 150 a message with one receiver, twice that behind a wildcard.
///
/// Topics share a fixed number of places by their hash. A topic gets its place when it comes for the
/// second time with no other in between that wants it: a flood of topics that come once costs neither
/// memory nor what is kept of others. What is kept of ended sessions goes with the next message that
/// is routed.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    /// Of each place, apart from what is kept there: a topic that is not kept touches this and no
    /// more, which stays near the processor. With 100,000 topics in no order that saves one of the
    /// six times that a message waits for memory. Empty until the first message.
    marks: Vec<Marks>,
    places: Vec<Option<Entry>>,
    /// Places where something is kept, so that to forget it costs what was kept and no more: a walk
    /// over all places was three quarters of what a SUBSCRIBE and a message after it cost.
    taken: Vec<usize>,
    /// Of the router that was asked last; what is kept is its.
    source: Option<Arc<AtomicU64>>,
    generation: u64,
    /// Space for finding routes.
    pub(super) found: Vec<Route>,
    pub(super) walk: Walk,
}

/// What tells topics with the same place apart, nearly always.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    /// Of the topic that is kept.
    kept: u16,
    /// Of the last one that was not.
    missed: u16,
}

#[derive(Debug)]
struct Entry {
    topic: Box<[u8]>,
    routes: Arc<[Route]>,
}

/// Topics that are kept: more than most publishers have, and 144 KiB a worker.
const PLACES: usize = 4096;

/// What of a hash has no part in the choice of the place.
fn mark(hash: u64) -> u16 {
    (hash >> 48) as u16
}

impl RouteCache {
    /// Forgets everything if subscriptions have changed. To be called before anything is looked up:
    /// what a change in between brings is forgotten the next time.
    pub(super) fn renew(&mut self, source: &Arc<AtomicU64>) {
        let generation = source.load(Ordering::Acquire);
        let is_same = self.source.as_ref().is_some_and(|own| Arc::ptr_eq(own, source));
        if !is_same || generation != self.generation {
            for place in self.taken.drain(..) {
                self.places.get_mut(place).and_then(Option::take);
            }
            self.source = Some(Arc::clone(source));
            self.generation = generation;
        }
    }

    pub(super) fn find(&self, hash: u64, topic: TopicName<'_>) -> Option<Arc<[Route]>> {
        let number = hash as usize % PLACES;
        self.marks.get(number).filter(|marks| marks.kept == mark(hash))?;
        let entry = self.places.get(number)?.as_ref()?;
        (*entry.topic == *topic.as_bytes()).then(|| Arc::clone(&entry.routes))
    }

    /// Notes a topic that was not found, and keeps its receivers if it was the one before as well.
    pub(super) fn keep(&mut self, hash: u64, topic: TopicName<'_>, routes: &Arc<[Route]>) {
        self.marks.resize(PLACES, Marks::default());
        let number = hash as usize % PLACES;
        let Some(marks) = self.marks.get_mut(number) else { return };
        if marks.missed != mark(hash) {
            marks.missed = mark(hash);
            return;
        }
        marks.kept = mark(hash);
        self.places.resize_with(PLACES, || None);
        let entry = Entry { topic: topic.as_bytes().into(), routes: Arc::clone(routes) };
        if let Some(place) = self.places.get_mut(number)
            && place.replace(entry).is_none()
        {
            self.taken.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_whose_hashes_are_alike_are_told_apart() {
        let mut cache = RouteCache::default();
        let [a, b] = ["a", "b"].map(|topic| TopicName::new(topic).unwrap());
        let (hash, routes) = (u64::MAX, Arc::default());
        cache.keep(hash, a, &routes);
        assert!(cache.find(hash, a).is_none(), "it came once");
        cache.keep(hash, a, &routes);
        assert!(cache.find(hash, a).is_some());
        assert!(cache.find(hash, b).is_none());
    }
}
