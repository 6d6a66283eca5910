use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::arena::Arena;

/// Something with a name that never changes.
pub(super) trait Named {
    fn name(&self) -> &[u8];
}

/// Values that are found by their name, and then known by a number.
///
/// The table holds numbers only: a hash map with the names as its keys has them twice, and room for
/// as many again that may come. With 100,000 filters that is 30 bytes a filter.
#[derive(Debug)]
pub(super) struct Names<T> {
    values: Arena<T>,
    table: HashTable<u32>,
    hasher: FixedState,
}

#[expect(clippy::indexing_slicing, reason = "the table has the numbers of values that are here")]
impl<T: Named> Names<T> {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self { values: Arena::new(), table: HashTable::new(), hasher }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        let is_it = |&number: &u32| self.values[number].name() == name;
        self.table.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// Adds a value whose name is not here.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let Self { values, table, hasher } = self;
        let hash = hasher.hash_one(value.name());
        let number = values.insert(value);
        table.insert_unique(hash, number, |&other| hasher.hash_one(values[other].name()));
        number
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.values.remove(number)?;
        let hash = self.hasher.hash_one(value.name());
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        Some(value)
    }

    /// Values that are here.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number)
    }

    /// For anything but the name.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.values.get_mut(number)
    }
}
