use mqtt_codec::QoS;

use crate::session::{Session, SessionId};
use crate::sync::Arc;

/// One receiver of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) session: Arc<Session>,
    /// The QoS granted.
    pub(crate) qos: QoS,
}

/// The subscribers of one filter, ordered by session. Most filters have one, which then needs no
/// allocation of its own.
#[derive(Debug, Default)]
pub(crate) enum Subscribers {
    #[default]
    None,
    One(Route),
    Many(Vec<Route>),
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

    /// Adds a subscriber or replaces its QoS. True when it is new.
    pub(crate) fn insert(&mut self, route: Route) -> bool {
        match std::mem::take(self) {
            Self::None => {
                *self = Self::One(route);
                true
            }
            Self::One(only) if only.session.id() == route.session.id() => {
                *self = Self::One(route);
                false
            }
            Self::One(only) => {
                let mut both = vec![only, route];
                both.sort_unstable_by_key(|route| route.session.id());
                *self = Self::Many(both);
                true
            }
            Self::Many(mut routes) => {
                let place = routes.binary_search_by_key(&route.session.id(), |r| r.session.id());
                match place {
                    Ok(at) => routes[at] = route,
                    Err(at) => routes.insert(at, route),
                }
                *self = Self::Many(routes);
                place.is_err()
            }
        }
    }

    /// Removes a subscriber. True when it was there.
    pub(crate) fn remove(&mut self, session: SessionId) -> bool {
        match self {
            Self::None => false,
            Self::One(only) => {
                let found = only.session.id() == session;
                if found {
                    *self = Self::None;
                }
                found
            }
            Self::Many(routes) => {
                let Ok(at) = routes.binary_search_by_key(&session, |r| r.session.id()) else {
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
