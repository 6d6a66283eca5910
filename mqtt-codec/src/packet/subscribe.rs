use core::fmt;

use crate::encode::check_len;
use crate::parse::{next_byte, next_field};
use crate::{EncodeError, PacketId, QoS, TopicFilter};

/// A client asks for the messages of one or more topic filters (section 3.8).
#[derive(Clone, Copy)]
pub struct Subscribe<'a> {
    id: PacketId,
    filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    /// The packet of these filters.
    ///
    /// # Errors
    /// If there is no filter (`[MQTT-3.8.3-3]`), or if the packet is longer than MQTT allows.
    pub fn new(id: PacketId, filters: &'a [(TopicFilter<'a>, QoS)]) -> Result<Self, EncodeError> {
        if filters.is_empty() {
            return Err(EncodeError::EmptyList);
        }
        let subscribe = Self { id, filters: Filters(Form::Fields(filters)) };
        check_len(subscribe.remaining_len())?;
        Ok(subscribe)
    }

    /// `list` is what follows the packet id: `count` valid filters.
    pub(crate) const fn from_valid(id: PacketId, list: &'a [u8], count: u32) -> Self {
        Self { id, filters: Filters(Form::Wire { list, count }) }
    }

    /// Names the request until its SUBACK.
    pub const fn packet_id(&self) -> PacketId {
        self.id
    }

    /// The filters with the highest QoS that the client wants for each, in their order.
    pub const fn filters(&self) -> Filters<'a> {
        self.filters
    }

    pub(crate) fn remaining_len(&self) -> usize {
        2 + match self.filters.0 {
            Form::Wire { list, .. } => list.len(),
            Form::Fields(filters) => {
                filters.iter().map(|(filter, _)| 2 + filter.as_bytes().len() + 1).sum()
            }
        }
    }
}

impl PartialEq for Subscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.filters.eq(other.filters)
    }
}

impl Eq for Subscribe<'_> {}

impl fmt::Debug for Subscribe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe").field("id", &self.id).field("filters", &self.filters).finish()
    }
}

/// The filters of a [`Subscribe`], read from the wire form while iterating.
#[derive(Clone, Copy)]
pub struct Filters<'a>(pub(crate) Form<'a>);

#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    Wire { list: &'a [u8], count: u32 },
    Fields(&'a [(TopicFilter<'a>, QoS)]),
}

impl<'a> Iterator for Filters<'a> {
    type Item = (TopicFilter<'a>, QoS);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Form::Wire { list, count } => {
                *count = count.checked_sub(1)?;
                let filter = TopicFilter::from_valid(next_field(list));
                Some((filter, QoS::try_from(next_byte(list)).unwrap_or_default()))
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

impl ExactSizeIterator for Filters<'_> {}

impl core::iter::FusedIterator for Filters<'_> {}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
