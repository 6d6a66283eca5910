use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use mqtt_codec::{TopicFilter, TopicFilterBuf, TopicName};

use super::arena::Arena;
use super::name::Name;
use super::names::{Named, Names};
use super::subscribers::{ReceiverId, Route, Subscribers};

/// All filters of a broker. Filters without wildcards lie in one hash table, the others in a trie
/// whose levels are interned: about 100 bytes a filter, and a topic that no wildcard can match
/// costs one look-up.
#[derive(Debug)]
pub(crate) struct Trie {
    exact: Names<Exact>,
    wild: Wild,
    len: usize,
}

/// The place of a filter, for as long as somebody is subscribed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterId {
    /// One without wildcards.
    Exact(u32),
    /// One that ends at a node.
    Here(NodeId),
    /// One that ends in `#` below a node.
    Below(NodeId),
}

/// A filter without wildcards.
#[derive(Debug)]
struct Exact {
    filter: Name,
    subscribers: Subscribers,
}

impl Named for Exact {
    fn name(&self) -> &[u8] {
        self.filter.as_bytes()
    }
}

impl Trie {
    pub(crate) fn new(hasher: &FixedState) -> Self {
        Self { exact: Names::new(hasher.clone()), wild: Wild::new(hasher), len: 0 }
    }

    /// Subscriptions: pairs of filter and receiver.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a subscription or replaces its QoS. True when it is new.
    pub(crate) fn insert(&mut self, filter: TopicFilter<'_>, route: Route) -> (FilterId, bool) {
        let (id, is_new) = if filter.has_wildcard() {
            let id = self.wild.find_or_insert(filter);
            let is_new = self.wild.subscribers_mut(id).is_some_and(|list| list.insert(route));
            (id, is_new)
        } else if let Some(number) = self.exact.find(filter.as_bytes()) {
            let exact = self.exact.get_mut(number);
            let is_new = exact.is_some_and(|exact| exact.subscribers.insert(route));
            (FilterId::Exact(number), is_new)
        } else {
            let subscribers = Subscribers::One(route);
            let exact = Exact { filter: filter.as_bytes().into(), subscribers };
            (FilterId::Exact(self.exact.insert(exact)), true)
        };
        self.len += usize::from(is_new);
        (id, is_new)
    }

    pub(crate) fn remove(&mut self, id: FilterId, receiver: ReceiverId) {
        let found = match id {
            FilterId::Exact(number) => {
                let Some(exact) = self.exact.get_mut(number) else { return };
                let found = exact.subscribers.remove(receiver);
                if exact.subscribers.is_empty() {
                    self.exact.remove(number);
                }
                found
            }
            FilterId::Here(node) | FilterId::Below(node) => {
                let list = self.wild.subscribers_mut(id);
                let found = list.is_some_and(|list| list.remove(receiver));
                if found {
                    self.wild.prune(node);
                }
                found
            }
        };
        self.len -= usize::from(found);
    }

    /// The place of a filter that somebody is subscribed to.
    pub(crate) fn id(&self, filter: TopicFilter<'_>) -> Option<FilterId> {
        if filter.has_wildcard() {
            self.wild.id(filter)
        } else {
            self.exact.find(filter.as_bytes()).map(FilterId::Exact)
        }
    }

    /// The text of a filter.
    pub(crate) fn filter(&self, id: FilterId) -> Option<TopicFilterBuf> {
        let filter = match id {
            FilterId::Exact(number) => self.exact.get(number)?.name().to_vec(),
            FilterId::Here(node) => self.wild.path(node),
            FilterId::Below(ROOT) => b"#".to_vec(),
            FilterId::Below(node) => [&self.wild.path(node)[..], b"/#"].concat(),
        };
        TopicFilter::try_from(&filter[..]).ok().map(TopicFilterBuf::from)
    }

    /// How a receiver is subscribed to a filter, if it is.
    pub(crate) fn route(&self, id: FilterId, receiver: ReceiverId) -> Option<&Route> {
        let list = match id {
            FilterId::Exact(number) => &self.exact.get(number)?.subscribers,
            FilterId::Here(node) => &self.wild.nodes.get(node)?.here,
            FilterId::Below(node) => &self.wild.nodes.get(node)?.below,
        };
        list.get(receiver)
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
        let exact = self.exact.find(topic.as_bytes());
        if let Some(exact) = exact.and_then(|number| self.exact.get(number)) {
            routes.extend_from_slice(exact.subscribers.as_slice());
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

/// A level of a filter that is no wildcard, as a number.
type LevelId = u32;
/// The level of a node that stands for `+`, and of the root.
const NO_NAME: LevelId = LevelId::MAX;

/// Index of a node in the arena.
type NodeId = u32;
/// Nobody's child, so that it stands for "none" as well.
const ROOT: NodeId = 0;

/// The filters with wildcards, as a trie. Nothing in here recurses: a topic may have 65,536 levels.
#[derive(Debug)]
struct Wild {
    nodes: Arena<Node>,
    /// The nodes that have a name, by their parent and that.
    edges: HashTable<NodeId>,
    levels: Names<Level>,
    hasher: FixedState,
}

/// 48 bytes.
#[derive(Debug)]
struct Node {
    /// Subscribers of the filter that ends here.
    here: Subscribers,
    /// Subscribers of the filter that ends in `#` below here: they match here and everywhere below.
    below: Subscribers,
    parent: NodeId,
    level: LevelId,
    /// Children with a name.
    children: u32,
    /// The child for `+`: most nodes have none, and a look-up to find that out costs more than all
    /// others do here.
    plus: NodeId,
}

impl Node {
    fn new(parent: NodeId, level: LevelId) -> Self {
        let (here, below) = (Subscribers::None, Subscribers::None);
        Self { here, below, parent, level, children: 0, plus: ROOT }
    }

    fn is_bare(&self) -> bool {
        let has_children = self.children > 0 || self.plus != ROOT;
        !has_children && self.here.is_empty() && self.below.is_empty()
    }
}

/// The name of a level, for as long as a node has it.
#[derive(Debug)]
struct Level {
    name: Name,
    nodes: u32,
}

impl Named for Level {
    fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

#[expect(clippy::indexing_slicing, reason = "who has the number of a node, has it in the trie")]
impl Wild {
    fn new(hasher: &FixedState) -> Self {
        let mut nodes = Arena::new();
        nodes.insert(Node::new(ROOT, NO_NAME));
        let (levels, hasher) = (Names::new(hasher.clone()), hasher.clone());
        Self { nodes, edges: HashTable::new(), levels, hasher }
    }

    fn is_empty(&self) -> bool {
        self.nodes[ROOT].is_bare()
    }

    fn subscribers_mut(&mut self, id: FilterId) -> Option<&mut Subscribers> {
        match id {
            FilterId::Exact(_) => None,
            FilterId::Here(node) => Some(&mut self.nodes.get_mut(node)?.here),
            FilterId::Below(node) => Some(&mut self.nodes.get_mut(node)?.below),
        }
    }

    /// The place of a filter, whose nodes are made as needed.
    fn find_or_insert(&mut self, filter: TopicFilter<'_>) -> FilterId {
        let mut node = ROOT;
        for level in filter.levels() {
            node = match level {
                b"#" => return FilterId::Below(node),
                b"+" if self.nodes[node].plus != ROOT => self.nodes[node].plus,
                b"+" => {
                    let plus = self.nodes.insert(Node::new(node, NO_NAME));
                    self.nodes[node].plus = plus;
                    plus
                }
                name => self.child_or_new(node, name),
            };
        }
        FilterId::Here(node)
    }

    fn id(&self, filter: TopicFilter<'_>) -> Option<FilterId> {
        let mut node = ROOT;
        for level in filter.levels() {
            node = match level {
                b"#" => return Some(FilterId::Below(node)),
                b"+" => Some(self.nodes[node].plus).filter(|&plus| plus != ROOT)?,
                name => self.child(node, self.levels.find(name)?)?,
            };
        }
        Some(FilterId::Here(node))
    }

    fn child(&self, parent: NodeId, level: LevelId) -> Option<NodeId> {
        let is_it = |&node: &NodeId| {
            let node = &self.nodes[node];
            (node.parent, node.level) == (parent, level)
        };
        self.edges.find(self.hasher.hash_one((parent, level)), is_it).copied()
    }

    fn child_or_new(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        let known = self.levels.find(name);
        if let Some(child) = known.and_then(|level| self.child(parent, level)) {
            return child;
        }
        let level =
            known.unwrap_or_else(|| self.levels.insert(Level { name: name.into(), nodes: 0 }));
        if let Some(level) = self.levels.get_mut(level) {
            level.nodes += 1;
        }
        let Self { nodes, edges, hasher, .. } = self;
        let child = nodes.insert(Node::new(parent, level));
        nodes[parent].children += 1;
        edges.insert_unique(hasher.hash_one((parent, level)), child, |&other| {
            let other = &nodes[other];
            hasher.hash_one((other.parent, other.level))
        });
        child
    }

    /// Takes out nodes that hold nothing any more, from `node` upwards.
    fn prune(&mut self, mut node: NodeId) {
        while node != ROOT && self.nodes[node].is_bare() {
            let Some(Node { parent, level, .. }) = self.nodes.remove(node) else { return };
            if level == NO_NAME {
                self.nodes[parent].plus = ROOT;
            } else {
                let hash = self.hasher.hash_one((parent, level));
                if let Ok(edge) = self.edges.find_entry(hash, |&other| other == node) {
                    edge.remove();
                }
                self.nodes[parent].children -= 1;
                self.let_go(level);
            }
            node = parent;
        }
    }

    fn let_go(&mut self, id: LevelId) {
        if let Some(level) = self.levels.get_mut(id) {
            level.nodes -= 1;
            if level.nodes == 0 {
                self.levels.remove(id);
            }
        }
    }

    /// The filter that ends at a node.
    fn path(&self, mut node: NodeId) -> Vec<u8> {
        let mut levels = Vec::new();
        while node != ROOT {
            let Node { parent, level, .. } = self.nodes[node];
            levels.push(self.levels.get(level).map_or(&b"+"[..], Named::name));
            node = parent;
        }
        levels.reverse();
        levels.join(&b'/')
    }

    fn find(&self, topic: TopicName<'_>, routes: &mut Vec<Route>, walk: &mut Walk) -> usize {
        let mut lists = 0;
        let mut add = |list: &Subscribers| {
            if !list.is_empty() {
                routes.extend_from_slice(list.as_slice());
                lists += 1;
            }
        };
        // A wildcard in the first level does not match a topic that begins with `$` [MQTT-4.7.2-1].
        let reserved = topic.as_bytes().first() == Some(&b'$');

        let Walk { reached, next } = walk;
        reached.clear();
        reached.push(ROOT);
        for (depth, name) in topic.levels().enumerate() {
            let mut level = None;
            for &node in &*reached {
                let place = &self.nodes[node];
                let root_of_reserved = reserved && depth == 0;
                if !root_of_reserved {
                    add(&place.below);
                    if place.plus != ROOT {
                        next.push(place.plus);
                    }
                }
                if place.children > 0
                    && let Some(level) = *level.get_or_insert_with(|| self.levels.find(name))
                    && let Some(child) = self.child(node, level)
                {
                    next.push(child);
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
            add(&self.nodes[node].here);
            add(&self.nodes[node].below);
        }
        lists
    }
}

#[cfg(test)]
impl Trie {
    /// Whether nothing is left: no filter, no node but the root, no edge and no name of a level.
    pub(super) fn is_bare(&self) -> bool {
        let Wild { nodes, edges, levels, .. } = &self.wild;
        (self.len, self.exact.len(), nodes.len(), edges.len(), levels.len()) == (0, 0, 1, 0, 0)
            && self.wild.is_empty()
    }
}
