//! What the codec does, said slowly. Shared with the fuzz targets.

use mqtt_codec::{Frame, MAX_PACKET, decode, frame};

/// What decodes encodes to the bytes that it came from, unless its remaining length was padded.
pub(crate) fn check_canonical(bytes: &[u8]) {
    let Ok(Some((packet, length))) = decode(bytes, MAX_PACKET) else {
        return;
    };
    let mut again = Vec::new();
    packet.encode(&mut again);
    let (body, again_body) = (body_start(bytes), body_start(&again));
    assert_eq!(again[0], bytes[0]);
    assert_eq!(&again[again_body..], &bytes[body..length]);
    if bytes[body - 1] != 0 || body == 2 {
        assert_eq!(&again, &bytes[..length]);
    }
}

fn body_start(bytes: &[u8]) -> usize {
    match frame(bytes, MAX_PACKET) {
        Ok(Frame::Complete { body, .. }) => body,
        other => panic!("{other:?}"),
    }
}

/// The rules of section 4.7 and 1.5.3, said slowly.
pub(crate) fn is_name(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.is_empty() && !text.contains(['\0', '+', '#']))
}

/// As [`is_name`], for filters.
pub(crate) fn is_filter(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let levels: Vec<&str> = text.split('/').collect();
    let (last, rest) = levels.split_last().unwrap();
    let plain = |level: &str| level == "+" || !level.contains(['\0', '+', '#']);
    !text.is_empty() && rest.iter().all(|level| plain(level)) && (*last == "#" || plain(last))
}

/// Whether the levels of a filter match those of a name, without the rule for `$`.
pub(crate) fn matches(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) => true,
        ([], []) => true,
        ([level, filter @ ..], [word, name @ ..]) => {
            (*level == "+" || level == word) && matches(filter, name)
        }
        _ => false,
    }
}
