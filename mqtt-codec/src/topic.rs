#[cfg(feature = "alloc")]
pub(crate) mod owned;
pub(crate) mod scan;
pub(crate) mod text;

use core::fmt;

use crate::{Text, TextError, TopicError};

/// The name of a topic: at least one character, no wildcards (section 4.7).
///
/// Compared, ordered and hashed by its bytes (`[MQTT-4.7.3-4]`).
///
/// ```
/// use mqtt_codec::{TopicError, TopicName};
///
/// let topic = TopicName::new("house/kitchen")?;
/// assert_eq!(topic.levels().collect::<Vec<_>>(), [&b"house"[..], b"kitchen"]);
/// assert_eq!(TopicName::new("house/+"), Err(TopicError::WildcardInTopicName));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(Text<'a>);

impl<'a> TopicName<'a> {
    /// A topic name with this text.
    ///
    /// # Errors
    /// If the text is empty, too long, or contains `+`, `#` or U+0000.
    pub fn new(name: &'a str) -> Result<Self, TopicError> {
        name.as_bytes().try_into()
    }
}

impl<'a> TryFrom<&'a [u8]> for TopicName<'a> {
    type Error = TopicError;

    fn try_from(name: &'a [u8]) -> Result<Self, TopicError> {
        if name.len() > usize::from(u16::MAX) {
            return Err(TextError::TooLong.into());
        }
        scan::check_name(name)?;
        Ok(Self::from_valid(name))
    }
}

/// What a client subscribes to: a topic name that may have wildcards (section 4.7.1).
///
/// ```
/// use mqtt_codec::{TopicError, TopicFilter, TopicName};
///
/// let filter = TopicFilter::new("house/+/temperature")?;
/// assert!(filter.matches(TopicName::new("house/kitchen/temperature")?));
/// assert_eq!(TopicFilter::new("house#"), Err(TopicError::MultiLevelWildcard));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(Text<'a>);

impl<'a> TopicFilter<'a> {
    /// A topic filter with this text.
    ///
    /// # Errors
    /// If the text is empty, too long, contains U+0000 or a wildcard in the wrong place
    /// (`[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`).
    pub fn new(filter: &'a str) -> Result<Self, TopicError> {
        filter.as_bytes().try_into()
    }

    /// Whether messages of this topic match: level by level, where a wildcard in the first level
    /// does not match a topic that starts with `$` (`[MQTT-4.7.2-1]`).
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        if topic.as_bytes().starts_with(b"$")
            && matches!(self.as_bytes().first(), Some(b'+' | b'#'))
        {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            // `#` stands for the parent level too: `a/#` matches `a`.
            if level == b"#" {
                return true;
            }
            match names.next() {
                Some(name) if level == b"+" || level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// Whether a level is `+` or `#`.
    pub fn has_wildcard(&self) -> bool {
        self.as_bytes().iter().any(|&byte| matches!(byte, b'+' | b'#'))
    }
}

impl<'a> TryFrom<&'a [u8]> for TopicFilter<'a> {
    type Error = TopicError;

    fn try_from(filter: &'a [u8]) -> Result<Self, TopicError> {
        if filter.len() > usize::from(u16::MAX) {
            return Err(TextError::TooLong.into());
        }
        scan::check_filter(filter)?;
        Ok(Self::from_valid(filter))
    }
}

/// Each topic name is a filter that matches itself.
impl<'a> From<TopicName<'a>> for TopicFilter<'a> {
    fn from(name: TopicName<'a>) -> Self {
        Self(name.0)
    }
}

/// The levels of a topic name or filter, as bytes; an empty level is a level (section 4.7.1.1).
#[derive(Clone, Debug)]
pub struct Levels<'a>(Option<&'a [u8]>);

impl<'a> Levels<'a> {
    pub(crate) const fn new(topic: &'a [u8]) -> Self {
        Self(Some(topic))
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let topic = self.0?;
        let end = topic.iter().position(|&byte| byte == b'/').unwrap_or(topic.len());
        let (level, rest) = topic.split_at_checked(end)?;
        self.0 = rest.split_first().map(|(_, rest)| rest);
        Some(level)
    }
}

impl core::iter::FusedIterator for Levels<'_> {}

macro_rules! topic_text {
    ($topic:ident) => {
        impl<'a> $topic<'a> {
            /// For bytes that were checked before.
            #[inline]
            pub(crate) const fn from_valid(bytes: &'a [u8]) -> Self {
                Self(Text::from_valid(bytes))
            }

            /// The bytes, as they are on the wire.
            #[inline]
            pub const fn as_bytes(self) -> &'a [u8] {
                self.0.as_bytes()
            }

            /// The text. Checks UTF-8 once more: where bytes do, [`Self::as_bytes`] costs nothing.
            pub fn as_str(self) -> &'a str {
                self.0.as_str()
            }

            /// The same as a plain string.
            pub const fn as_text(self) -> Text<'a> {
                self.0
            }

            /// The levels between the `/`.
            pub const fn levels(self) -> Levels<'a> {
                Levels::new(self.0.as_bytes())
            }
        }

        impl<'a> TryFrom<&'a str> for $topic<'a> {
            type Error = TopicError;

            fn try_from(text: &'a str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl AsRef<[u8]> for $topic<'_> {
            fn as_ref(&self) -> &[u8] {
                self.as_bytes()
            }
        }

        impl PartialEq<str> for $topic<'_> {
            fn eq(&self, other: &str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl PartialEq<&str> for $topic<'_> {
            fn eq(&self, other: &&str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl fmt::Display for $topic<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $topic<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

topic_text!(TopicName);
topic_text!(TopicFilter);

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::new(filter).unwrap().matches(TopicName::new(topic).unwrap())
    }

    // MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-4
    #[test]
    fn filters_match_as_in_section_4_7() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "sport"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("a//b", "a//b"),
            ("a/+/b", "a//b"),
            ("+", "a"),
            ("/", "/"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("sport/tennis", "sport/tennis/"),
            ("sport/tennis/", "sport/tennis"),
            ("ACCOUNTS", "Accounts"),
            ("a//b", "a/b"),
            ("+", "a/b"),
            ("a/#", "ab"),
            ("a/b/#", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    // MQTT-4.7.2-1
    #[test]
    fn a_leading_wildcard_does_not_match_a_topic_that_starts_with_a_dollar_sign() {
        assert!(!matches("#", "$SYS/uptime"));
        assert!(!matches("+/uptime", "$SYS/uptime"));
        assert!(!matches("+", "$SYS"));
        assert!(matches("$SYS/#", "$SYS/uptime"));
        assert!(matches("$SYS/+", "$SYS/uptime"));
        assert!(matches("a/#", "a/$SYS"));
        assert!(matches("+/x", "a$/x"));
    }

    #[test]
    fn levels_include_the_empty_ones() {
        let topic = TopicName::new("/a//b/").unwrap();
        assert_eq!(topic.levels().collect::<Vec<_>>(), [&b""[..], b"a", b"", b"b", b""]);
    }

    #[test]
    fn has_wildcard_tells_plain_filters_apart() {
        assert!(!TopicFilter::new("a/b").unwrap().has_wildcard());
        assert!(TopicFilter::new("a/+").unwrap().has_wildcard());
        assert!(TopicFilter::new("#").unwrap().has_wildcard());
    }
}
