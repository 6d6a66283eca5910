use core::fmt;

use super::scan;
use crate::TextError;

/// A string of a packet: UTF-8 of at most 65,535 bytes without U+0000 (section 1.5.3).
///
/// Holds bytes that were checked once. Compared, ordered and hashed by them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// A string with this text.
    ///
    /// # Errors
    /// If it is too long or contains U+0000.
    pub fn new(text: &'a str) -> Result<Self, TextError> {
        text.as_bytes().try_into()
    }

    /// For bytes that were checked before.
    #[inline]
    pub(crate) const fn from_valid(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, as they are on the wire.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text. Checks UTF-8 once more: where bytes do, [`Text::as_bytes`] costs nothing.
    pub fn as_str(self) -> &'a str {
        core::str::from_utf8(self.0).expect("a Text is UTF-8 by construction")
    }
}

impl<'a> TryFrom<&'a [u8]> for Text<'a> {
    type Error = TextError;

    fn try_from(bytes: &'a [u8]) -> Result<Self, TextError> {
        if bytes.len() > usize::from(u16::MAX) {
            return Err(TextError::TooLong);
        }
        scan::check_text(bytes)?;
        Ok(Self(bytes))
    }
}

impl<'a> TryFrom<&'a str> for Text<'a> {
    type Error = TextError;

    fn try_from(text: &'a str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
