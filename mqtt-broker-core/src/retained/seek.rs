use mqtt_codec::TopicFilter;

/// What a topic says about a walk over all topics in the order of their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It matches.
    Match,
    /// It does not, and neither does anything between it and the bound.
    Seek,
    /// It does not, and neither does anything behind it.
    End,
}

/// The byte behind the separator of levels: all topics below `a` come before `a0`.
const BEHIND_SEPARATOR: u8 = b'/' + 1;

/// Looks at one topic, and sets `bound` for [`Step::Seek`].
///
/// The topics below one level lie together, but not next to the level itself: `a!` and what is below
/// it come between `a` and `a/b`.
#[expect(clippy::indexing_slicing, reason = "the ends of levels are within their topic")]
pub(super) fn step(filter: TopicFilter<'_>, topic: &[u8], bound: &mut Vec<u8>) -> Step {
    let mut seek = |parts: [&[u8]; 3]| {
        bound.clear();
        parts.iter().for_each(|part| bound.extend_from_slice(part));
        Step::Seek
    };
    // A wildcard in the first level does not match a topic that begins with `$` [MQTT-4.7.2-1].
    let is_open = matches!(filter.as_bytes(), [b'+' | b'#', ..]);
    if is_open && topic.first() == Some(&b'$') {
        return seek([&[b'$' + 1], b"", b""]);
    }
    // The levels that match so far; what is left of the topic, if there is a level to come; and the
    // levels up to the last one that `+` took.
    let (mut matched, mut rest, mut sibling) = (&b""[..], Some(topic), None);
    let mut is_literal = false;
    for level in filter.levels() {
        let here = match rest {
            _ if level == b"#" => return Step::Match,
            // Too short.
            None if is_literal => return seek([topic, b"/", b""]),
            None => return seek([topic, b"\0", b""]),
            Some(here) => here,
        };
        let before = &topic[..topic.len() - here.len()];
        let end = here.iter().position(|&byte| byte == b'/').unwrap_or(here.len());
        is_literal = level != b"+";
        if is_literal && here[..end] != *level {
            return match here.strip_prefix(level) {
                // Still to come, with nothing behind it or below it.
                _ if here < level => seek([before, level, b""]),
                Some([next, ..]) if *next < b'/' => seek([before, level, b"/"]),
                _ => match sibling {
                    Some(sibling) => seek([sibling, &[BEHIND_SEPARATOR], b""]),
                    None => Step::End,
                },
            };
        }
        matched = &topic[..before.len() + end];
        if !is_literal {
            sibling = Some(matched);
        }
        rest = here.get(end + 1..);
    }
    match rest {
        None => Step::Match,
        // Too long.
        Some(_) => seek([matched, &[BEHIND_SEPARATOR], b""]),
    }
}
