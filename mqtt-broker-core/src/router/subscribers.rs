use mqtt_codec::QoS;

use super::Group;
use crate::session::Session;
use crate::sync::Arc;

/// A session, or a group of sessions that share a subscription: receivers have an order, so that
/// nothing depends on a hash table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReceiverId(u64);

impl ReceiverId {
    /// The `n`th session of a broker.
    pub(crate) fn session(n: u64) -> Self {
        Self(n)
    }

    /// Its number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The `n`th group: behind all sessions.
    pub(super) fn group(n: u64) -> Self {
        Self(n | 1 << 63)
    }
}

/// One receiver of a topic.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// A session, with the QoS that it was granted.
    One { session: Arc<Session>, qos: QoS },
    /// One of a group.
    Group(Arc<Group>),
}

impl Route {
    /// Whether its messages may have to survive a restart.
    pub(crate) fn may_be_kept(&self) -> bool {
        match self {
            Self::One { session, .. } => session.is_kept(),
            Self::Group(_) => true,
        }
    }

    pub(super) fn id(&self) -> ReceiverId {
        match self {
            Self::One { session, .. } => session.id(),
            Self::Group(group) => group.id(),
        }
    }

    /// A group's members have their own.
    pub(crate) fn qos(&self) -> QoS {
        match self {
            Self::One { qos, .. } => *qos,
            Self::Group(_) => QoS::ExactlyOnce,
        }
    }
}

/// The subscribers of one filter, ordered by session. Most filters have one, which then needs no
/// allocation of its own.
#[derive(Debug, Default)]
pub(crate) enum Subscribers {
    #[default]
    None,
    One(Route),
    #[expect(clippy::box_collection, reason = "16 bytes instead of 24, in each filter there is")]
    Many(Box<Vec<Route>>),
}

impl Subscribers {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn as_slice(&self) -> &[Route] {
        match self {
            Self::None => &[],
            Self::One(route) => std::slice::from_ref(route),
            Self::Many(routes) => routes,
        }
    }

    /// How a session or a group is subscribed, if it is.
    pub(crate) fn get(&self, receiver: ReceiverId) -> Option<&Route> {
        let routes = self.as_slice();
        routes.get(routes.binary_search_by_key(&receiver, Route::id).ok()?)
    }

    /// Adds a subscriber or replaces its QoS. True when it is new.
    pub(crate) fn insert(&mut self, route: Route) -> bool {
        match std::mem::take(self) {
            Self::None => {
                *self = Self::One(route);
                true
            }
            Self::One(only) if only.id() == route.id() => {
                *self = Self::One(route);
                false
            }
            Self::One(only) => {
                let mut both = vec![only, route];
                both.sort_unstable_by_key(Route::id);
                *self = Self::Many(Box::new(both));
                true
            }
            Self::Many(mut routes) => {
                let place = routes.binary_search_by_key(&route.id(), Route::id);
                match place {
                    #[expect(clippy::indexing_slicing, reason = "found there")]
                    Ok(at) => routes[at] = route,
                    Err(at) => routes.insert(at, route),
                }
                *self = Self::Many(routes);
                place.is_err()
            }
        }
    }

    /// Removes a subscriber. True when it was there.
    pub(crate) fn remove(&mut self, receiver: ReceiverId) -> bool {
        match self {
            Self::None => false,
            Self::One(only) => {
                let found = only.id() == receiver;
                if found {
                    *self = Self::None;
                }
                found
            }
            Self::Many(routes) => {
                let Ok(at) = routes.binary_search_by_key(&receiver, Route::id) else {
                    return false;
                };
                routes.remove(at);
                if routes.len() == 1 {
                    *self = routes.pop().map_or(Self::None, Self::One);
                } else if routes.len() < routes.capacity() / 4 {
                    routes.shrink_to(routes.len() * 2);
                }
                true
            }
        }
    }
}
