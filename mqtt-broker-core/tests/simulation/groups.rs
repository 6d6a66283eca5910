//! Messages of shared subscriptions. Whose turn it is, is the broker's choice: it tells which member
//! owns a message now, and one of those has to get it.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{Oracle, Received, Session};

/// They overlap with no other filter, so that their messages are nobody else's.
pub(crate) const GROUPS: [&str; 2] = ["$share/g/$g/+", "$share/h/$h/+"];

/// Whether a topic is one of a group's. Each message has its own, which is its payload as well.
pub(crate) fn is_shared(topic: &str) -> bool {
    topic.starts_with("$g/") || topic.starts_with("$h/")
}

/// The shared subscription that a topic is for.
fn group_of(topic: &str) -> &'static str {
    GROUPS[usize::from(topic.starts_with("$h/"))]
}

/// By their topics.
pub(crate) type Shared = BTreeMap<String, Handed>;

/// A message, and whose it was. Sessions are known by the connection that made them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handed {
    owner: Option<Owner>,
    owners: BTreeSet<usize>,
    received_by: BTreeSet<usize>,
    is_acknowledged: bool,
    /// One of its owners did not outlive the broker, so its PUBACK promises nothing.
    is_volatile: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    made_by: usize,
    is_kept: bool,
    /// It has not left the group since.
    is_member: bool,
}

impl Oracle {
    /// The broker says that a session owns a message.
    pub(crate) fn hand_over(&mut self, receiver: &str, topic: &str) {
        let session = &self.sessions[receiver];
        let (made_by, is_kept) = (session.made_by, session.is_kept());
        let owner = Owner { made_by, is_kept, is_member: true };
        let handed = self.shared.entry(topic.to_owned()).or_default();
        handed.owner = Some(owner);
        handed.owners.insert(owner.made_by);
        handed.is_volatile |= !owner.is_kept;
    }

    /// The broker says that no member takes a message.
    pub(crate) fn drop_shared(&mut self, topic: &str) {
        self.shared.entry(topic.to_owned()).or_default().owner = None;
    }

    pub(crate) fn acknowledge_shared(&mut self, topic: &[u8]) {
        let handed = str::from_utf8(topic).ok().and_then(|topic| self.shared.get_mut(topic));
        handed.into_iter().for_each(|handed| handed.is_acknowledged = true);
    }

    pub(crate) fn receive_shared(&mut self, client: &str, made_by: usize, received: &Received) {
        let Received { message, known, .. } = received;
        let handed = self.shared.get_mut(&message.topic);
        let handed = handed.filter(|handed| handed.owners.contains(&made_by));
        let handed = handed.unwrap_or_else(|| panic!("{client} received another's {message:?}"));
        let is_first = handed.received_by.insert(made_by);
        assert!(is_first || *known || message.qos < 2, "{client} received {message:?} twice");
    }

    /// What waits for a client that leaves a group is nobody else's from now on.
    pub(crate) fn leave_group(&mut self, client: &str, filter: &str) {
        let made_by = self.sessions[client].made_by;
        for (topic, handed) in &mut self.shared {
            let owner = handed.owner.as_mut().filter(|owner| owner.made_by == made_by);
            let owner = owner.filter(|_| group_of(topic) == filter);
            owner.into_iter().for_each(|owner| owner.is_member = false);
        }
    }

    /// A session is over: what it had as a member is another's by now.
    pub(crate) fn end_member(&mut self, session: &Session) {
        for (topic, handed) in &mut self.shared {
            if let Some(owner) = handed.owner.take_if(|owner| owner.made_by == session.made_by) {
                assert!(!owner.is_member || handed.is_received(), "{topic} ended with its member");
            }
        }
    }

    /// What is not durable never happened, but what clients know they know.
    pub(crate) fn crash_groups(&mut self) {
        let durable = self.durable.shared.clone();
        for (topic, handed) in std::mem::replace(&mut self.shared, durable) {
            match self.shared.get_mut(&topic) {
                Some(saved) => {
                    saved.received_by = handed.received_by;
                    saved.is_acknowledged = handed.is_acknowledged;
                }
                None => {
                    let is_kept = handed.owner.is_some() && !handed.is_volatile;
                    assert!(
                        !is_kept || !handed.is_acknowledged,
                        "{topic} is acknowledged and not durable"
                    );
                }
            }
        }
        for handed in self.shared.values_mut() {
            handed.owner = handed.owner.filter(|owner| owner.is_kept);
        }
    }

    pub(crate) fn conclude_groups(&self) {
        for (topic, handed) in &self.shared {
            assert!(handed.owner.is_none() || handed.is_received(), "{topic} is with {handed:?}");
        }
    }
}

impl Handed {
    fn is_received(&self) -> bool {
        !self.received_by.is_empty()
    }
}
