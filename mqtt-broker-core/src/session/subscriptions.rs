use crate::router::Subscription;

/// The subscriptions of a session, in the order in which they were made.
///
/// Most clients have one, which needs no block of its own: 16 bytes in place of 56.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subscriptions {
    #[default]
    None,
    One(Subscription),
    #[expect(clippy::box_collection, reason = "16 bytes instead of 24, in each session there is")]
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn as_slice(&self) -> &[Subscription] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(all) => all,
        }
    }

    /// Adds one that is new.
    pub(crate) fn push(&mut self, subscription: Subscription) {
        match self {
            Self::None => *self = Self::One(subscription),
            Self::One(only) => *self = Self::Many(Box::new(vec![*only, subscription])),
            Self::Many(all) => all.push(subscription),
        }
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(&mut self, subscription: Subscription) {
        match self {
            Self::One(only) if *only == subscription => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(all) => {
                all.retain(|own| *own != subscription);
                if let [only] = all[..] {
                    *self = Self::One(only);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_list_whose_first_needs_no_room(
            steps in prop::collection::vec((any::<bool>(), 0u32..6), 0..60),
        ) {
            let mut subscriptions = Subscriptions::default();
            let mut list = Vec::new();
            for (is_made, number) in steps {
                let subscription = Subscription::Shared(number);
                if !is_made {
                    subscriptions.remove(subscription);
                    list.retain(|own| *own != subscription);
                } else if !list.contains(&subscription) {
                    subscriptions.push(subscription);
                    list.push(subscription);
                }
                prop_assert_eq!(subscriptions.as_slice(), &list[..]);
                prop_assert_eq!(subscriptions.len(), list.len());
                prop_assert_eq!(matches!(subscriptions, Subscriptions::Many(_)), list.len() > 1);
            }
        }
    }
}
