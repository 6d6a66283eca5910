use core::fmt;

use crate::encode::check_len;
use crate::parse::next_field;
use crate::{EncodeError, PacketId, TopicFilter};

/// A client wants no more messages of one or more topic filters (section 3.10).
#[derive(Clone, Copy)]
pub struct Unsubscribe<'a> {
    id: PacketId,
    filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// The packet of these filters.
    ///
    /// # Errors
    /// If there is no filter (`[MQTT-3.10.3-2]`), or if the packet is longer than MQTT allows.
    pub fn new(id: PacketId, filters: &'a [TopicFilter<'a>]) -> Result<Self, EncodeError> {
        if filters.is_empty() {
            return Err(EncodeError::EmptyList);
        }
        let unsubscribe = Self { id, filters: UnsubscribeFilters(Form::Fields(filters)) };
        check_len(unsubscribe.remaining_len())?;
        Ok(unsubscribe)
    }

    /// `list` is what follows the packet id: `count` valid filters.
    pub(crate) const fn from_valid(id: PacketId, list: &'a [u8], count: u32) -> Self {
        Self { id, filters: UnsubscribeFilters(Form::Wire { list, count }) }
    }

    /// Names the request until its UNSUBACK.
    pub const fn packet_id(&self) -> PacketId {
        self.id
    }

    /// The filters in their order.
    pub const fn filters(&self) -> UnsubscribeFilters<'a> {
        self.filters
    }

    pub(crate) fn remaining_len(&self) -> usize {
        2 + match self.filters.0 {
            Form::Wire { list, .. } => list.len(),
            Form::Fields(filters) => filters.iter().map(|filter| 2 + filter.as_bytes().len()).sum(),
        }
    }
}

impl PartialEq for Unsubscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.filters.eq(other.filters)
    }
}

impl Eq for Unsubscribe<'_> {}

impl fmt::Debug for Unsubscribe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsubscribe").field("id", &self.id).field("filters", &self.filters).finish()
    }
}

/// The filters of an [`Unsubscribe`], read from the wire form while iterating.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a>(pub(crate) Form<'a>);

#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    Wire { list: &'a [u8], count: u32 },
    Fields(&'a [TopicFilter<'a>]),
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = TopicFilter<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Form::Wire { list, count } => {
                *count = count.checked_sub(1)?;
                Some(TopicFilter::from_valid(next_field(list)))
            }
            Form::Fields(filters) => {
                let (first, rest) = filters.split_first()?;
                *filters = rest;
                Some(*first)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self.0 {
            Form::Wire { count, .. } => count as usize,
            Form::Fields(filters) => filters.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for UnsubscribeFilters<'_> {}

impl core::iter::FusedIterator for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
