use mqtt_codec::{QoS, TopicFilter, TopicFilterBuf};

use super::ReceiverId;
use crate::session::Session;
use crate::sync::{Arc, Mutex};

/// The filter of a shared subscription, `$share/GROUP/FILTER`: each message goes to one member of
/// the group. Brokers serve it to MQTT 3.1.1 clients although the standard does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The name of the group: any text without `/`, `+` and `#`.
    pub group: &'a str,
    /// What its members subscribe to.
    pub filter: TopicFilter<'a>,
}

/// Who gets the messages that match a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing<'a> {
    /// Each client that subscribes to it.
    None,
    /// One member of a group at a time.
    Group(SharedFilter<'a>),
    /// Nobody: it begins with `$share/`, and a group or a filter is missing.
    Invalid,
}

impl<'a> Sharing<'a> {
    /// Takes a filter apart.
    pub fn of(filter: TopicFilter<'a>) -> Self {
        const PREFIX: &str = "$share/";
        if !filter.as_bytes().starts_with(PREFIX.as_bytes()) {
            // A text costs a look at each byte.
            return Self::None;
        }
        let rest = filter.as_str().strip_prefix(PREFIX).unwrap_or_default();
        match rest.split_once('/').map(|(group, filter)| (group, TopicFilter::new(filter))) {
            Some((group, Ok(filter))) if !group.is_empty() && !group.contains(['+', '#']) => {
                Self::Group(SharedFilter { group, filter })
            }
            _ => Self::Invalid,
        }
    }
}

/// The members of one shared subscription. Its lock is never held together with another.
#[derive(Debug)]
pub(crate) struct Group {
    id: ReceiverId,
    /// `$share/GROUP/FILTER`.
    filter: TopicFilterBuf,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Member>,
    /// Whose turn it is.
    next: usize,
}

/// A session in a group, and the QoS that it was granted.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) session: Arc<Session>,
    pub(crate) qos: QoS,
}

impl Group {
    pub(crate) fn new(id: ReceiverId, filter: TopicFilterBuf) -> Self {
        Self { id, filter, members: Mutex::default() }
    }

    pub(crate) fn filter(&self) -> &TopicFilterBuf {
        &self.filter
    }

    pub(crate) fn id(&self) -> ReceiverId {
        self.id
    }

    /// The members in the order in which they are to be asked for the next message.
    pub(crate) fn turn(&self) -> Vec<Member> {
        let mut members = self.members.lock();
        let len = members.list.len();
        let start = members.next.checked_rem(len).unwrap_or(0);
        members.next = start + 1;
        members.list.iter().cycle().skip(start).take(len).cloned().collect()
    }

    /// Adds a member or changes its QoS. True when it is new.
    pub(super) fn insert(&self, member: Member) -> bool {
        let mut members = self.members.lock();
        let known = members.list.iter_mut().find(|known| known.is(&member.session));
        match known {
            Some(known) => {
                known.qos = member.qos;
                false
            }
            None => {
                members.list.push(member);
                true
            }
        }
    }

    /// The QoS that a session was granted, if it is a member.
    pub(super) fn qos(&self, session: &Session) -> Option<QoS> {
        let members = self.members.lock();
        members.list.iter().find(|member| member.is(session)).map(|member| member.qos)
    }

    /// True when it was a member, and whether others are left.
    pub(super) fn remove(&self, session: &Session) -> (bool, bool) {
        let mut members = self.members.lock();
        let before = members.list.len();
        members.list.retain(|member| !member.is(session));
        (members.list.len() < before, !members.list.is_empty())
    }
}

impl Member {
    pub(crate) fn is(&self, session: &Session) -> bool {
        self.session.id() == session.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_filters_have_a_group_and_a_filter() {
        let sharing = |filter| Sharing::of(TopicFilter::new(filter).unwrap());
        for (shared, group, filter) in [("$share/g/a/+/#", "g", "a/+/#"), ("$share/g//", "g", "/")]
        {
            let filter = TopicFilter::new(filter).unwrap();
            assert_eq!(sharing(shared), Sharing::Group(SharedFilter { group, filter }));
        }
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#"] {
            assert_eq!(sharing(bad), Sharing::Invalid, "{bad}");
        }
        for other in ["a", "$share", "$shared/g/a", "+/g/a"] {
            assert_eq!(sharing(other), Sharing::None, "{other}");
        }
    }
}
