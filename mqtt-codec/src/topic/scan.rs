//! The checks of strings, topic names and topic filters.
//!
//! Almost every topic is ASCII without wildcards. One pass over 8-byte words finds out, and only
//! the other topics pay for a look at each character.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use crate::{TextError, TopicError};

/// U+0000, ill-formed UTF-8.
#[inline]
pub(crate) fn check_text(bytes: &[u8]) -> Result<(), TextError> {
    if is_ascii_text(bytes) { Ok(()) } else { check_characters(bytes) }
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
    check_text(bytes)?;
    if bytes.iter().any(|byte| matches!(byte, b'+' | b'#')) {
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
    check_text(bytes)?;
    if let Some(last) = bytes.last_chunk() {
        for (at, word) in bytes.as_chunks().0.iter().enumerate() {
            check_wildcards(bytes, at.wrapping_mul(8), *word)?;
        }
        // Once more over bytes of the word before, which does no harm.
        check_wildcards(bytes, bytes.len().wrapping_sub(8), *last)
    } else {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        check_wildcards(bytes, 0, word)
    }
}

/// The wildcards among the 8 bytes that start at `start`.
#[inline(always)]
fn check_wildcards(filter: &[u8], start: usize, word: [u8; 8]) -> Result<(), TopicError> {
    let mut found = wildcards(u64::from_le_bytes(word));
    while found != 0 {
        let at = start.wrapping_add(found.trailing_zeros() as usize / 8);
        check_wildcard(filter, at)?;
        found &= found.wrapping_sub(1);
    }
    Ok(())
}

/// The wildcard at `at` is alone in its level, and `#` is the last one.
#[inline(always)]
fn check_wildcard(filter: &[u8], at: usize) -> Result<(), TopicError> {
    let (before, wildcard) = filter.split_at_checked(at).unwrap_or_default();
    let first_in_level = matches!(before, [] | [.., b'/']);
    match wildcard {
        [b'+'] | [b'+', b'/', ..] | [b'#'] if first_in_level => Ok(()),
        [b'#', ..] => Err(TopicError::MultiLevelWildcard),
        _ => Err(TopicError::SingleLevelWildcard),
    }
}

/// Whether all bytes are ASCII and none of them is U+0000, `+` or `#`.
#[inline(always)]
fn is_plain(bytes: &[u8]) -> bool {
    none(bytes, |word| not_ascii_text(word) | any_wildcard(word))
}

/// Whether all bytes are ASCII and none of them is U+0000.
#[inline(always)]
fn is_ascii_text(bytes: &[u8]) -> bool {
    none(bytes, not_ascii_text)
}

/// Whether `test` sets no high bit for any word of `bytes`.
///
/// Looks at whole blocks, and at a last one that overlaps the one before instead of a loop over the
/// rest. Two words at once become one vector.
#[inline(always)]
fn none(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let seen = if let Some(last) = bytes.last_chunk() {
        let [mut even, mut odd] = halves(last).map(&test);
        for block in bytes.as_chunks().0 {
            let [next_even, next_odd] = halves(block).map(&test);
            even |= next_even;
            odd |= next_odd;
        }
        even | odd
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        test(u64::from_ne_bytes(*first)) | test(u64::from_ne_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
        test(u64::from(first) << 32 | u64::from(last))
    } else {
        test(bytes.iter().fold(ONES, |word, &byte| word << 8 | u64::from(byte)))
    };
    seen & HIGH_BITS == 0
}

#[inline(always)]
const fn halves(block: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *block;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

/// 1 in each byte of a word.
const ONES: u64 = u64::MAX / 0xFF;
const HIGH_BITS: u64 = ONES * 0x80;

/// A high bit is set if a byte of the word is 0 or not ASCII.
///
/// A byte minus 1 has the high bit only if it was 0 (or not ASCII); a borrow can only raise a false
/// alarm above a true one, so "any?" is exact.
#[inline(always)]
const fn not_ascii_text(word: u64) -> u64 {
    word | word.wrapping_sub(ONES)
}

/// A high bit is set if a byte of the word is `+` or `#` (or not ASCII), exact in the same way.
#[inline(always)]
const fn any_wildcard(word: u64) -> u64 {
    zero_at_wildcards(word).wrapping_sub(ONES)
}

/// The high bit of each byte that is `+` or `#`, exactly, and no other bits.
#[inline(always)]
const fn wildcards(word: u64) -> u64 {
    let bytes = zero_at_wildcards(word);
    // No carry from byte to byte: at most 0x7F + 0x7F.
    let not_zero = (bytes & !HIGH_BITS).wrapping_add(!HIGH_BITS) | bytes;
    !not_zero & HIGH_BITS
}

/// `+` and `#` differ in bit 3 only, and both become 0.
#[inline(always)]
const fn zero_at_wildcards(word: u64) -> u64 {
    const BIT_3: u64 = ONES * 0x08;
    const PLUS: u64 = ONES * 0x2B;
    (word | BIT_3) ^ PLUS
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// Each byte at each place of each length that the three branches of `is_plain` see.
    #[test]
    fn one_unusual_byte_is_seen_at_every_place() {
        // miri takes a minute for all of them.
        let bytes: Vec<u8> =
            if cfg!(miri) { b"\0\x01#+\x7F\x80\xFF".to_vec() } else { (0..=255).collect() };
        for length in 1..34 {
            for place in 0..length {
                for &byte in &bytes {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let plain = byte != 0 && byte < 0x80 && byte != b'+' && byte != b'#';
                    assert_eq!(is_plain(&text), plain, "{byte:#04x} at {place} of {length}");
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
