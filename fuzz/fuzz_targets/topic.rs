#![no_main]
//! Topic names and filters are accepted, and match, as the slow rules say. The two are the lines of
//! the input.

use libfuzzer_sys::fuzz_target;
use mqtt_codec::{Text, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

#[path = "../../mqtt-codec/tests/model/model.rs"]
#[allow(dead_code, reason = "other targets use the rest")]
mod model;

fuzz_target!(|input: &[u8]| {
    let (filter, name) = match input.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, input),
    };
    for bytes in [filter, name] {
        let fits = bytes.len() <= 65_535;
        assert_eq!(TopicName::try_from(bytes).is_ok(), fits && model::is_name(bytes));
        assert_eq!(TopicFilter::try_from(bytes).is_ok(), fits && model::is_filter(bytes));
        let text = std::str::from_utf8(bytes);
        let sound = fits && text.is_ok_and(|text| !text.contains('\0'));
        assert_eq!(Text::try_from(bytes).is_ok(), sound);
        if let Ok(text) = text {
            assert_eq!(TopicNameBuf::new(text).is_ok(), TopicName::new(text).is_ok());
            assert_eq!(TopicFilterBuf::new(text).is_ok(), TopicFilter::new(text).is_ok());
        }
    }
    let (Ok(filter), Ok(name)) = (TopicFilter::try_from(filter), TopicName::try_from(name)) else {
        return;
    };
    let hidden = name.as_str().starts_with('$') && filter.as_str().starts_with(['+', '#']);
    let filter_levels: Vec<&str> = filter.as_str().split('/').collect();
    let name_levels: Vec<&str> = name.as_str().split('/').collect();
    let expected = !hidden && model::matches(&filter_levels, &name_levels);
    assert_eq!(filter.matches(name), expected, "{filter} {name}");
    assert_eq!(filter.has_wildcard(), filter.as_str().contains(['+', '#']));
    assert!(TopicFilter::from(name).matches(name));
});
