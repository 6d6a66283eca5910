//! The checks of strings, topic names and topic filters.
//!
//! Almost every topic is ASCII without wildcards. One pass over 8-byte words finds out, and only
//! the other topics pay for a look at each character.

use crate::{TextError, TopicError};

/// U+0000, ill-formed UTF-8.
#[inline]
pub(crate) fn check_text(bytes: &[u8]) -> Result<(), TextError> {
    if is_plain(bytes) { Ok(()) } else { check_characters(bytes) }
}

/// As a string; in addition empty, or with a wildcard. The length is the caller's.
#[inline]
pub(crate) fn check_name(bytes: &[u8]) -> Result<(), TopicError> {
    if is_plain_name(bytes) { Ok(()) } else { check_unusual_name(bytes) }
}

/// A legal topic name, as most are; says no to some that are legal too.
#[inline(always)]
pub(crate) fn is_plain_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && is_plain(bytes)
}

/// As a string; in addition empty, or with a wildcard in the wrong place.
#[inline]
pub(crate) fn check_filter(bytes: &[u8]) -> Result<(), TopicError> {
    if is_plain_name(bytes) { Ok(()) } else { check_unusual_filter(bytes) }
}

#[cold]
fn check_characters(bytes: &[u8]) -> Result<(), TextError> {
    if core::str::from_utf8(bytes).is_err() {
        Err(TextError::InvalidUtf8)
    } else if bytes.contains(&0) {
        Err(TextError::NulCharacter)
    } else {
        Ok(())
    }
}

#[cold]
fn check_unusual_name(bytes: &[u8]) -> Result<(), TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    check_characters(bytes)?;
    if bytes.iter().any(|&byte| is_wildcard(byte)) {
        return Err(TopicError::WildcardInTopicName);
    }
    Ok(())
}

/// Not `#[cold]`: filters with wildcards are as usual as those without.
#[inline(never)]
fn check_unusual_filter(bytes: &[u8]) -> Result<(), TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    check_characters(bytes)?;
    let mut rest = bytes;
    let mut before = b'/';
    while let Some(at) = rest.iter().position(|&byte| is_wildcard(byte)) {
        let (head, tail) = rest.split_at(at);
        before = head.last().copied().unwrap_or(before);
        let after = tail.get(1).copied();
        if tail.first() == Some(&b'#') {
            if before != b'/' || after.is_some() {
                return Err(TopicError::MultiLevelWildcard);
            }
        } else if before != b'/' || !matches!(after, None | Some(b'/')) {
            return Err(TopicError::SingleLevelWildcard);
        }
        before = b'+';
        rest = tail.get(1..).unwrap_or_default();
    }
    Ok(())
}

const fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'+' | b'#')
}

/// Whether all bytes are ASCII and none of them is U+0000, `+` or `#`.
///
/// Whole blocks, and a last one that overlaps the one before instead of a loop over the rest.
#[inline(always)]
fn is_plain(bytes: &[u8]) -> bool {
    let seen = if let Some(last) = bytes.last_chunk() {
        let [mut even, mut odd] = block(last);
        for [next_even, next_odd] in bytes.as_chunks().0.iter().map(block) {
            even |= next_even;
            odd |= next_odd;
        }
        even | odd
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        unusual(u64::from_ne_bytes(*first)) | unusual(u64::from_ne_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
        unusual(u64::from(first) << 32 | u64::from(last))
    } else {
        let word = bytes.iter().fold(u64::MAX / 0xFF, |word, &byte| word << 8 | u64::from(byte));
        unusual(word)
    };
    seen & HIGH_BITS == 0
}

/// Two words at once, which compilers turn into one vector.
#[inline(always)]
const fn block(bytes: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
    [
        unusual(u64::from_ne_bytes([a, b, c, d, e, f, g, h])),
        unusual(u64::from_ne_bytes([i, j, k, l, m, n, o, p])),
    ]
}

const HIGH_BITS: u64 = u64::MAX / 0xFF * 0x80;

/// A high bit of the result is set if a byte of the word is 0, not ASCII, `+` or `#`.
///
/// A byte minus 1 has the high bit only if it was 0 (or not ASCII); a borrow can only raise a false
/// alarm above a true one, so "any?" is exact. `+` and `#` differ in bit 3 only, and both become 0.
#[inline(always)]
const fn unusual(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    let wildcard = (word | (ONES * 0x08)) ^ (ONES * b'+' as u64);
    word | word.wrapping_sub(ONES) | wildcard.wrapping_sub(ONES)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    /// Each byte at each place of each length that the three branches of `is_plain` see.
    #[test]
    fn one_unusual_byte_is_seen_at_every_place() {
        let lengths = if cfg!(miri) { 17 } else { 34 };
        for length in 1..lengths {
            for place in 0..length {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let plain = byte != 0 && byte < 0x80 && byte != b'+' && byte != b'#';
                    assert_eq!(is_plain(&bytes), plain, "{byte:#04x} at {place} of {length}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    // MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1
    #[test]
    fn wildcards_of_a_filter_stand_alone_in_their_level() {
        for filter in
            ["#", "+", "/", "//", "/#", "a/#", "+/#", "+/+", "/+", "+/", "a/+/b", "\u{feff}/+"]
        {
            assert_eq!(check_filter(filter.as_bytes()), Ok(()), "{filter}");
        }
        for filter in ["##", "a#", "#a", "#/", "a/#/b", "/#/", "+#", "+/a#", "é#"] {
            let error = check_filter(filter.as_bytes());
            assert!(
                matches!(
                    error,
                    Err(TopicError::MultiLevelWildcard | TopicError::SingleLevelWildcard)
                ),
                "{filter}"
            );
        }
        for filter in ["a+", "+a", "++", "a/+b", "a/b+/c", "+é"] {
            assert_eq!(
                check_filter(filter.as_bytes()),
                Err(TopicError::SingleLevelWildcard),
                "{filter}"
            );
        }
        assert_eq!(check_filter(b""), Err(TopicError::Empty));
    }
}
