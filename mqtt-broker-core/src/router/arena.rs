use std::ops::{Index, IndexMut};

/// Values by a number that is theirs for as long as they are here, and then another one's.
#[derive(Debug)]
pub(super) struct Arena<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Arena<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Values that are here.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop().and_then(|free| Some((free, self.places.get_mut(free as usize)?))) {
            Some((free, place)) => {
                *place = Some(value);
                free
            }
            None => {
                self.places.push(Some(value));
                // Memory ends before the numbers do.
                (self.places.len() - 1) as u32
            }
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }
}

/// For numbers of values that are here.
#[expect(clippy::expect_used, reason = "who asks has made sure")]
impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.get(number).expect("a number of a value")
    }
}

#[expect(clippy::expect_used, reason = "who asks has made sure")]
impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.get_mut(number).expect("a number of a value")
    }
}
