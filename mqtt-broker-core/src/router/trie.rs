use std::collections::HashMap;

use foldhash::fast::FixedState;
use mqtt_codec::{TopicFilter, TopicName};

use super::subscribers::{ReceiverId, Route, Subscribers};

/// All filters of a broker. Filters without wildcards lie in one hash table, the others in a trie
/// whose levels are interned: about 100 bytes a filter, and a topic that no wildcard can match
/// costs one look-up.
#[derive(Debug)]
pub(crate) struct Trie {
    exact: HashMap<Box<[u8]>, Subscribers, FixedState>,
    wild: Wild,
    len: usize,
}

impl Trie {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = FixedState::with_seed(hash_seed);
        Self { wild: Wild::new(&hasher), exact: HashMap::with_hasher(hasher), len: 0 }
    }

    /// Subscriptions: pairs of filter and session.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, filter: TopicFilter<'_>, route: Route) {
        let new = if filter.has_wildcard() {
            self.wild.subscribers(filter).insert(route)
        } else if let Some(subscribers) = self.exact.get_mut(filter.as_bytes()) {
            subscribers.insert(route)
        } else {
            self.exact.insert(filter.as_bytes().into(), Subscribers::One(route));
            true
        };
        self.len += usize::from(new);
    }

    pub(crate) fn remove(&mut self, filter: TopicFilter<'_>, receiver: ReceiverId) {
        let found = if filter.has_wildcard() {
            self.wild.remove(filter, receiver)
        } else {
            let Some(subscribers) = self.exact.get_mut(filter.as_bytes()) else { return };
            let found = subscribers.remove(receiver);
            if subscribers.is_empty() {
                self.exact.remove(filter.as_bytes());
            }
            found
        };
        self.len -= usize::from(found);
    }

    /// Appends the subscribers of every matching filter, and tells how many filters matched: with
    /// one, no session is in there twice.
    pub(crate) fn find(
        &self,
        topic: TopicName<'_>,
        routes: &mut Vec<Route>,
        walk: &mut Walk,
    ) -> usize {
        let mut lists = 0;
        if let Some(subscribers) = self.exact.get(topic.as_bytes()) {
            routes.extend_from_slice(subscribers.as_slice());
            lists = 1;
        }
        if !self.wild.is_empty() {
            lists += self.wild.find(topic, routes, walk);
        }
        lists
    }
}

/// The nodes whose path matches the levels of a topic so far, level by level: space that is used
/// again for the next topic.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    reached: Vec<NodeId>,
    next: Vec<NodeId>,
}

/// A level of a filter, as a number. `+` has one of its own; `#` is no node but a list at its
/// parent.
type LevelId = u32;
const PLUS: LevelId = 0;

/// Index of a node in the arena.
type NodeId = u32;
const ROOT: NodeId = 0;

/// The filters with wildcards, as a trie. Nothing in here recurses: a topic may have 65,536 levels.
#[derive(Debug)]
struct Wild {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    edges: HashMap<(NodeId, LevelId), NodeId, FixedState>,
    levels: Levels,
}

#[derive(Debug, Default)]
struct Node {
    /// Subscribers of the filter that ends here.
    here: Subscribers,
    /// Subscribers of the filter that ends in `#` below here: they match here and everywhere below.
    below: Subscribers,
    parent: NodeId,
    level: LevelId,
    children: u32,
}

#[expect(
    clippy::indexing_slicing,
    reason = "an id is the place of a node, and no edge outlives its node"
)]
impl Wild {
    fn new(hasher: &FixedState) -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            edges: HashMap::with_hasher(hasher.clone()),
            levels: Levels::new(hasher),
        }
    }

    fn is_empty(&self) -> bool {
        self.edges.is_empty() && self.nodes.first().is_none_or(|root| root.below.is_empty())
    }

    /// The list of a filter, whose nodes are made as needed.
    fn subscribers(&mut self, filter: TopicFilter<'_>) -> &mut Subscribers {
        let mut node = ROOT;
        for level in filter.levels() {
            match level {
                b"#" => return &mut self.nodes[node as usize].below,
                b"+" => node = self.child_or_new(node, PLUS),
                name => {
                    let level = self.levels.intern(name);
                    node = self.child_or_new(node, level);
                }
            }
        }
        &mut self.nodes[node as usize].here
    }

    fn child_or_new(&mut self, parent: NodeId, level: LevelId) -> NodeId {
        if let Some(&child) = self.edges.get(&(parent, level)) {
            return child;
        }
        let node = Node { parent, level, ..Node::default() };
        let child = if let Some(free) = self.free.pop() {
            self.nodes[free as usize] = node;
            free
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as NodeId
        };
        self.edges.insert((parent, level), child);
        self.nodes[parent as usize].children += 1;
        self.levels.hold(level);
        child
    }

    fn remove(&mut self, filter: TopicFilter<'_>, receiver: ReceiverId) -> bool {
        let mut node = ROOT;
        let mut multi = false;
        for level in filter.levels() {
            let level = match level {
                b"#" => {
                    multi = true;
                    break;
                }
                b"+" => Some(PLUS),
                name => self.levels.id(name),
            };
            let child = level.and_then(|level| self.edges.get(&(node, level)));
            let Some(&child) = child else { return false };
            node = child;
        }
        let place = &mut self.nodes[node as usize];
        let list = if multi { &mut place.below } else { &mut place.here };
        let found = list.remove(receiver);
        self.prune(node);
        found
    }

    /// Takes out nodes that hold nothing any more, from `node` upwards.
    fn prune(&mut self, mut node: NodeId) {
        while node != ROOT {
            let Node { parent, level, .. } = {
                let place = &mut self.nodes[node as usize];
                if place.children > 0 || !place.here.is_empty() || !place.below.is_empty() {
                    return;
                }
                std::mem::take(place)
            };
            self.edges.remove(&(parent, level));
            self.levels.let_go(level);
            self.free.push(node);
            self.nodes[parent as usize].children -= 1;
            node = parent;
        }
    }

    fn find(&self, topic: TopicName<'_>, routes: &mut Vec<Route>, walk: &mut Walk) -> usize {
        let mut lists = 0;
        let mut add = |list: &Subscribers| {
            routes.extend_from_slice(list.as_slice());
            lists += usize::from(!list.is_empty());
        };
        // A wildcard in the first level does not match a topic that begins with `$` [MQTT-4.7.2-1].
        let reserved = topic.as_bytes().first() == Some(&b'$');

        let Walk { reached, next } = walk;
        reached.clear();
        reached.push(ROOT);
        for (depth, name) in topic.levels().enumerate() {
            let level = self.levels.id(name);
            for &node in &*reached {
                let place = &self.nodes[node as usize];
                let root_of_reserved = reserved && depth == 0;
                if !root_of_reserved {
                    add(&place.below);
                }
                if place.children == 0 {
                    continue;
                }
                if let Some(&child) = level.and_then(|level| self.edges.get(&(node, level))) {
                    next.push(child);
                }
                if !root_of_reserved {
                    next.extend(self.edges.get(&(node, PLUS)));
                }
            }
            reached.clear();
            std::mem::swap(reached, next);
            if reached.is_empty() {
                return lists;
            }
        }
        for &node in &*reached {
            // `sport/#` matches `sport` as well (4.7.1.2).
            add(&self.nodes[node as usize].here);
            add(&self.nodes[node as usize].below);
        }
        lists
    }
}

/// Names of levels as numbers, kept for as long as an edge uses them.
#[derive(Debug)]
struct Levels {
    ids: HashMap<Box<[u8]>, LevelId, FixedState>,
    /// Name and uses of each id; id 0 is [`PLUS`] and has no name.
    names: Vec<(Box<[u8]>, u32)>,
    free: Vec<LevelId>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "an id is the place of a name, and no edge outlives its level"
)]
impl Levels {
    fn new(hasher: &FixedState) -> Self {
        let plus = (Box::default(), 1);
        Self { ids: HashMap::with_hasher(hasher.clone()), names: vec![plus], free: Vec::new() }
    }

    fn id(&self, name: &[u8]) -> Option<LevelId> {
        self.ids.get(name).copied()
    }

    /// The number of a name; a new one is unused until [`hold`](Self::hold).
    fn intern(&mut self, name: &[u8]) -> LevelId {
        if let Some(id) = self.id(name) {
            return id;
        }
        let id = if let Some(free) = self.free.pop() {
            self.names[free as usize] = (name.into(), 0);
            free
        } else {
            self.names.push((name.into(), 0));
            (self.names.len() - 1) as LevelId
        };
        self.ids.insert(name.into(), id);
        id
    }

    fn hold(&mut self, id: LevelId) {
        self.names[id as usize].1 += 1;
    }

    fn let_go(&mut self, id: LevelId) {
        let (name, uses) = &mut self.names[id as usize];
        *uses -= 1;
        if *uses == 0 && id != PLUS {
            self.ids.remove(&std::mem::take(name));
            self.free.push(id);
        }
    }
}

#[cfg(test)]
impl Trie {
    /// Whether nothing is left: no filter, no node but the root, no edge and no name of a level.
    pub(super) fn is_bare(&self) -> bool {
        let Wild { nodes, free, edges, levels } = &self.wild;
        let has_nodes = nodes.len() - free.len() > 1;
        let has_levels = !levels.ids.is_empty() || levels.names.len() - levels.free.len() > 1;
        let root = &nodes[ROOT as usize];
        self.len == 0
            && self.exact.is_empty()
            && self.wild.is_empty()
            && root.children == 0
            && !(has_nodes || !edges.is_empty() || has_levels)
    }
}
