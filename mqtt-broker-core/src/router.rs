//! Who gets a message: the subscriptions of all sessions, by filter.

mod arena;
mod cache;
mod group;
mod name;
mod names;
mod subscribers;
mod trie;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use mqtt_codec::{QoS, TopicFilter, TopicFilterBuf, TopicName};

use crate::session::Session;
use crate::sync::{Arc, AtomicU64, Ordering, RwLock, RwLockWriteGuard};
pub(crate) use cache::RouteCache;
pub(crate) use group::{Group, Member};
pub use group::{SharedFilter, Sharing};
use names::{Named, Names};
pub(crate) use subscribers::{ReceiverId, Route};
use trie::{FilterId, Trie, Walk};

/// The subscriptions, behind one lock that is never held with a session's.
#[derive(Debug)]
pub(crate) struct Router {
    tables: RwLock<Tables>,
    /// Rises with each change of the tables, while their lock is held.
    generation: Arc<AtomicU64>,
    hasher: FixedState,
}

/// A subscription of a session, which keeps this and no text: 8 bytes, valid until the session is
/// unsubscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscription {
    /// To a filter.
    Alone(FilterId),
    /// As a member of a group, by its number.
    Shared(u32),
}

#[derive(Debug)]
struct Tables {
    trie: Trie,
    /// Shared subscriptions by their whole filter. In the trie a group stands where a session
    /// would.
    groups: Names<SharedSubscription>,
    groups_made: u64,
    /// Members of all groups.
    members: usize,
}

#[derive(Debug)]
struct SharedSubscription {
    group: Arc<Group>,
    /// Where it stands in the trie.
    place: FilterId,
}

impl Named for SharedSubscription {
    fn name(&self) -> &[u8] {
        self.group.filter().as_bytes()
    }
}

impl Router {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = FixedState::with_seed(hash_seed);
        let (trie, groups) = (Trie::new(&hasher), Names::new(hasher.clone()));
        let tables = Tables { trie, groups, groups_made: 0, members: 0 };
        Self { tables: RwLock::new(tables), generation: Arc::default(), hasher }
    }

    /// Adds a subscription or changes its QoS [MQTT-3.8.4-3]. Gives back a new one, for the session
    /// to keep.
    pub(crate) fn subscribe(
        &self,
        filter: TopicFilter<'_>,
        session: &Arc<Session>,
        qos: QoS,
    ) -> Option<Subscription> {
        let mut tables = self.change();
        let session = Arc::clone(session);
        let (subscription, is_new) = match Sharing::of(filter) {
            Sharing::None => {
                let (id, is_new) = tables.trie.insert(filter, Route::One { session, qos });
                (Subscription::Alone(id), is_new)
            }
            Sharing::Group(shared) => tables.join(filter, shared.filter, Member { session, qos }),
            Sharing::Invalid => return None,
        };
        is_new.then_some(subscription)
    }

    /// Removes exactly this subscription [MQTT-3.10.4-1].
    pub(crate) fn unsubscribe(&self, subscription: Subscription, session: &Session) {
        let mut tables = self.change();
        match subscription {
            Subscription::Alone(id) => tables.trie.remove(id, session.id()),
            Subscription::Shared(group) => tables.leave(group, session),
        }
    }

    /// A session's subscription to a filter, if it has one.
    pub(crate) fn find(&self, filter: TopicFilter<'_>, session: &Session) -> Option<Subscription> {
        let tables = self.tables.read();
        let subscription = match Sharing::of(filter) {
            Sharing::None => Subscription::Alone(tables.trie.id(filter)?),
            Sharing::Group(_) => Subscription::Shared(tables.groups.find(filter.as_bytes())?),
            Sharing::Invalid => return None,
        };
        tables.qos(subscription, session).map(|_| subscription)
    }

    /// The filters and QoS of a session's subscriptions.
    pub(crate) fn filters(
        &self,
        subscriptions: &[Subscription],
        session: &Session,
    ) -> Vec<(TopicFilterBuf, QoS)> {
        let tables = self.tables.read();
        subscriptions
            .iter()
            .filter_map(|&subscription| {
                Some((tables.filter(subscription)?, tables.qos(subscription, session)?))
            })
            .collect()
    }

    fn change(&self) -> RwLockWriteGuard<'_, Tables> {
        let tables = self.tables.write();
        // Whoever sees the new generation waits for the lock.
        self.generation.fetch_add(1, Ordering::Release);
        tables
    }

    /// The receivers of a topic: each session once, at the highest QoS of its filters that match, or,
    /// with `overlaps`, once for each of them [MQTT-3.3.5-1]; in the order in which the sessions were
    /// made; then the groups.
    pub(crate) fn routes(
        &self,
        topic: TopicName<'_>,
        overlaps: bool,
        cache: &mut RouteCache,
    ) -> Arc<[Route]> {
        cache.renew(&self.generation);
        let hash = self.hasher.hash_one(topic.as_bytes());
        if let Some(routes) = cache.find(hash, topic) {
            return routes;
        }
        let found = &mut cache.found;
        let lists = self.tables.read().trie.find(topic, found, &mut cache.walk);
        if lists > 1 {
            found.sort_unstable_by_key(|route| (route.id(), std::cmp::Reverse(route.qos())));
            if !overlaps {
                found.dedup_by_key(|route| route.id());
            }
        }
        let routes: Arc<[Route]> = found.drain(..).collect();
        cache.keep(hash, topic, &routes);
        routes
    }

    /// The group of a shared subscription, by its whole filter.
    pub(crate) fn group(&self, filter: TopicFilter<'_>) -> Option<Arc<Group>> {
        let tables = self.tables.read();
        let number = tables.groups.find(filter.as_bytes())?;
        tables.groups.get(number).map(|shared| Arc::clone(&shared.group))
    }

    /// Subscriptions of all sessions.
    pub(crate) fn len(&self) -> usize {
        let tables = self.tables.read();
        tables.trie.len() - tables.groups.len() + tables.members
    }

    /// Those of them that are shared with a group.
    pub(crate) fn shared(&self) -> usize {
        self.tables.read().members
    }
}

impl Tables {
    fn join(
        &mut self,
        name: TopicFilter<'_>,
        filter: TopicFilter<'_>,
        member: Member,
    ) -> (Subscription, bool) {
        let known = self.groups.find(name.as_bytes());
        let known = known.and_then(|number| Some((number, self.groups.get(number)?)));
        let (number, is_new) = if let Some((number, shared)) = known {
            (number, shared.group.insert(member))
        } else {
            self.groups_made += 1;
            let group = Arc::new(Group::new(ReceiverId::group(self.groups_made), name.into()));
            group.insert(member);
            let (place, _) = self.trie.insert(filter, Route::Group(Arc::clone(&group)));
            (self.groups.insert(SharedSubscription { group, place }), true)
        };
        self.members += usize::from(is_new);
        (Subscription::Shared(number), is_new)
    }

    fn leave(&mut self, number: u32, session: &Session) {
        let Some(SharedSubscription { group, place }) = self.groups.get(number) else { return };
        let (was_member, has_others) = group.remove(session);
        self.members -= usize::from(was_member);
        if !has_others {
            self.trie.remove(*place, group.id());
            self.groups.remove(number);
        }
    }

    /// The QoS that a session was granted.
    fn qos(&self, subscription: Subscription, session: &Session) -> Option<QoS> {
        match subscription {
            Subscription::Alone(id) => self.trie.route(id, session.id()).map(Route::qos),
            Subscription::Shared(number) => self.groups.get(number)?.group.qos(session),
        }
    }

    fn filter(&self, subscription: Subscription) -> Option<TopicFilterBuf> {
        match subscription {
            Subscription::Alone(id) => self.trie.filter(id),
            Subscription::Shared(number) => Some(self.groups.get(number)?.group.filter().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::Config;
    use crate::session::{Link, State};

    const SESSIONS: usize = 5;
    const LEVELS: [&str; 4] = ["", "a", "b", "$"];

    fn id(session: usize) -> ReceiverId {
        ReceiverId::session(session as u64)
    }

    fn topic() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(select(&LEVELS[..]), 1..5);
        levels.prop_map(|levels| levels.join("/")).prop_filter("empty", |topic| !topic.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![2 => select(&LEVELS[..]), 1 => Just("+")];
        let group = prop_oneof![5 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/h/")];
        (group, prop::collection::vec(level, 0..5), any::<bool>())
            .prop_map(|(group, mut levels, is_open)| {
                levels.extend(is_open.then_some("#"));
                (group, levels.join("/"))
            })
            .prop_filter("empty", |(_, filter)| !filter.is_empty())
            .prop_map(|(group, filter)| format!("{group}{filter}"))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(Index, usize, u8),
        Unsubscribe(Index, usize),
        Find(String),
    }

    fn step() -> impl Strategy<Value = Step> {
        let session = 0..SESSIONS;
        prop_oneof![
            3 => (any::<Index>(), session.clone(), 0u8..3)
                .prop_map(|(filter, session, qos)| Step::Subscribe(filter, session, qos)),
            2 => (any::<Index>(), session)
                .prop_map(|(filter, session)| Step::Unsubscribe(filter, session)),
            2 => topic().prop_map(Step::Find),
        ]
    }

    /// Every subscription with its QoS: a list to look through.
    type Model<'a> = BTreeMap<(TopicFilter<'a>, usize), QoS>;

    /// What a topic matches, as `routes` has to tell it: sessions, then members by group.
    type Found = (Members, BTreeMap<String, Members>);
    type Members = BTreeMap<ReceiverId, QoS>;

    fn naive(model: &Model<'_>, topic: TopicName<'_>) -> Found {
        let mut found = Found::default();
        for ((filter, session), qos) in model {
            let session = id(*session);
            match Sharing::of(*filter) {
                Sharing::None if filter.matches(topic) => {
                    let highest = found.0.entry(session).or_insert(*qos);
                    *highest = (*highest).max(*qos);
                }
                Sharing::Group(shared) if shared.filter.matches(topic) => {
                    found.1.entry(filter.to_string()).or_default().insert(session, *qos);
                }
                _ => {}
            }
        }
        found
    }

    proptest! {
        // MQTT-3.3.5-1, MQTT-3.8.4-3, MQTT-3.10.4-1, MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.2-1
        #[test]
        fn routes_are_what_a_look_through_all_subscriptions_finds(
            filters in prop::collection::vec(filter(), 1..12),
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let config = Config::default();
            let session = |n| {
                let state = State::new(Link::Local, &config);
                Arc::new(Session::new(id(n), Arc::new(crate::Client::nobody()), true, state))
            };
            let sessions: Vec<_> = (0..SESSIONS).map(session).collect();
            let router = Router::new(7);
            let filters: Vec<_> = filters.iter().map(|f| TopicFilter::new(f).unwrap()).collect();
            let mut model = Model::new();
            let mut ids = BTreeMap::new();
            let mut cache = RouteCache::default();
            for step in steps {
                match step {
                    Step::Subscribe(filter, session, qos) => {
                        let filter = *filter.get(&filters);
                        let qos = QoS::try_from(qos).unwrap();
                        let new = router.subscribe(filter, &sessions[session], qos);
                        let was_known = model.insert((filter, session), qos).is_some();
                        let is_valid = Sharing::of(filter) != Sharing::Invalid;
                        prop_assert_eq!(new.is_some(), is_valid && !was_known);
                        ids.extend(new.map(|id| ((filter, session), id)));
                    }
                    Step::Unsubscribe(filter, session) => {
                        let filter = *filter.get(&filters);
                        let known = router.find(filter, &sessions[session]);
                        prop_assert_eq!(known, ids.remove(&(filter, session)));
                        known.into_iter().for_each(|id| router.unsubscribe(id, &sessions[session]));
                        model.remove(&(filter, session));
                    }
                    Step::Find(topic) => {
                        let topic = TopicName::new(&topic).unwrap();
                        // Found, found and kept, and as it was kept.
                        let mut look = || router.routes(topic, false, &mut cache);
                        let [routes, again, kept] = [look(), look(), look()];
                        let is_kept = Arc::ptr_eq(&again, &kept);
                        prop_assert!(is_kept, "{} is not kept", topic);
                        prop_assert_eq!(format!("{routes:?}"), format!("{kept:?}"));
                        prop_assert!(routes.is_sorted_by_key(Route::id));
                        let (alone, groups) = naive(&model, topic);
                        let (mut found, mut found_groups) = (Vec::new(), Vec::new());
                        for route in routes.iter() {
                            match route {
                                Route::One { session, qos } => found.push((session.id(), *qos)),
                                Route::Group(group) => {
                                    let members = group.turn().into_iter();
                                    let members = members.map(|m| (m.session.id(), m.qos));
                                    found_groups.push(members.collect::<Members>());
                                }
                            }
                        }
                        prop_assert_eq!(found, alone.into_iter().collect::<Vec<_>>(), "{}", topic);
                        let mut groups: Vec<_> = groups.into_values().collect();
                        groups.sort_unstable();
                        found_groups.sort_unstable();
                        prop_assert_eq!(found_groups, groups, "{}", topic);
                    }
                }
                prop_assert_eq!(router.len(), model.len());
            }
            for ((filter, session), qos) in model {
                let (id, session) = (ids[&(filter, session)], &sessions[session]);
                prop_assert_eq!(router.filters(&[id], session), [(filter.into(), qos)]);
                router.unsubscribe(id, session);
            }
            let tables = router.tables.read();
            prop_assert!(tables.trie.is_bare(), "something is left behind: {:?}", tables);
            prop_assert_eq!(tables.groups.len(), 0);
            prop_assert_eq!(tables.members, 0);
        }
    }

    #[test]
    fn what_is_remembered_of_one_broker_is_not_told_of_another() {
        let state = State::new(Link::Local, &Config::default());
        let client = Arc::new(crate::Client::nobody());
        let session = Arc::new(Session::new(id(1), client, true, state));
        let routers = [Router::new(7), Router::new(7)];
        for (router, filter) in routers.iter().zip(["a", "b"]) {
            router.subscribe(TopicFilter::new(filter).unwrap(), &session, QoS::AtMostOnce);
        }
        let (mut cache, topic) = (RouteCache::default(), TopicName::new("a").unwrap());
        for _ in 0..3 {
            assert_eq!(routers[0].routes(topic, false, &mut cache).len(), 1);
        }
        assert_eq!(routers[1].routes(topic, false, &mut cache).len(), 0);
    }
}
