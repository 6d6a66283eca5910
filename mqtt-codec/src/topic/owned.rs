use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;

use bytes::Bytes;

use crate::{TopicError, TopicFilter, TopicName};

/// An owned [`TopicName`]. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNameBuf(Bytes);

/// An owned [`TopicFilter`]. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilterBuf(Bytes);

impl TopicNameBuf {
    /// The borrowed form.
    #[inline]
    pub fn as_topic_name(&self) -> TopicName<'_> {
        TopicName::from_valid(&self.0)
    }

    /// The filter that matches this topic and no other. Shares the bytes.
    pub fn to_filter(&self) -> TopicFilterBuf {
        TopicFilterBuf(self.0.clone())
    }
}

impl TopicFilterBuf {
    /// The borrowed form.
    #[inline]
    pub fn as_topic_filter(&self) -> TopicFilter<'_> {
        TopicFilter::from_valid(&self.0)
    }
}

impl From<TopicNameBuf> for TopicFilterBuf {
    fn from(name: TopicNameBuf) -> Self {
        Self(name.0)
    }
}

macro_rules! owned_topic {
    ($owned:ident, $borrowed:ident, $as_borrowed:ident) => {
        impl $owned {
            /// A copy of this text.
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($borrowed), "::new`].")]
            pub fn new(text: &str) -> Result<Self, TopicError> {
                $borrowed::new(text).map(Self::from)
            }

            /// The bytes, as they are on the wire.
            #[inline]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The text. Checks UTF-8 once more: where bytes do, [`Self::as_bytes`] costs nothing.
            pub fn as_str(&self) -> &str {
                self.$as_borrowed().as_str()
            }
        }

        impl From<$borrowed<'_>> for $owned {
            fn from(topic: $borrowed<'_>) -> Self {
                Self(Bytes::copy_from_slice(topic.as_bytes()))
            }
        }

        impl<'a> From<&'a $owned> for $borrowed<'a> {
            fn from(topic: &'a $owned) -> Self {
                topic.$as_borrowed()
            }
        }

        impl FromStr for $owned {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $owned {
            type Error = TopicError;

            fn try_from(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        /// Keeps the memory of the string.
        impl TryFrom<String> for $owned {
            type Error = TopicError;

            fn try_from(text: String) -> Result<Self, TopicError> {
                $borrowed::new(&text)?;
                Ok(Self(text.into()))
            }
        }

        /// So that a map can be asked with the bytes of a received topic.
        impl Borrow<[u8]> for $owned {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $owned {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl PartialEq<str> for $owned {
            fn eq(&self, other: &str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl PartialEq<&str> for $owned {
            fn eq(&self, other: &&str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl fmt::Display for $owned {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.$as_borrowed(), f)
            }
        }

        impl fmt::Debug for $owned {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.$as_borrowed(), f)
            }
        }
    };
}

owned_topic!(TopicNameBuf, TopicName, as_topic_name);
owned_topic!(TopicFilterBuf, TopicFilter, as_topic_filter);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_map_of_topics_is_asked_with_bytes() {
        let topic = TopicNameBuf::new("a/b").unwrap();
        let map = HashMap::from([(topic.clone(), 1)]);
        assert_eq!(map.get(&b"a/b"[..]), Some(&1));
        assert_eq!(map.get(topic.as_topic_name().as_bytes()), Some(&1));
        assert_eq!(topic.to_filter().to_string(), "a/b");
    }

    #[test]
    fn a_string_is_checked_before_it_is_kept() {
        assert!(TopicNameBuf::try_from("a/#".to_string()).is_err());
        assert_eq!(TopicFilterBuf::try_from("a/#".to_string()).unwrap(), "a/#");
    }
}
