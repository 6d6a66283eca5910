#![no_main]
//! However a stream is cut, the same packets and the same error come out.

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtt_codec::{DecodeError, Decoder, MAX_PACKET, PacketBuf, decode};

/// Small enough that the limit is met, too.
const LIMIT: usize = 300;

fuzz_target!(|input: (u8, bool, Vec<u8>, &[u8])| {
    let (first_cut, limited, cuts, stream) = input;
    let limit = if limited { LIMIT } else { MAX_PACKET };

    let mut expected = Vec::new();
    let mut rest = stream;
    let end: Option<DecodeError> = loop {
        match decode(rest, limit) {
            Ok(Some((_, length))) => {
                expected.push(&rest[..length]);
                rest = &rest[length..];
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };

    let mut decoder = Decoder::new(limit);
    let (mut received, mut shared) = (Vec::new(), BytesMut::new());
    let mut found = expected.iter();
    let mut found_owned = expected.iter();
    let mut rest = stream;
    let mut cuts = std::iter::once(first_cut).chain(cuts.into_iter().cycle().take(stream.len()));
    while !rest.is_empty() {
        let cut = cuts.next().map_or(rest.len(), |cut| usize::from(cut).max(1).min(rest.len()));
        let (chunk, left) = rest.split_at(cut);
        rest = left;
        received.extend_from_slice(chunk);
        shared.extend_from_slice(chunk);
        let error = loop {
            match decoder.next(&received) {
                Ok(Some((_, length))) => {
                    assert_eq!(found.next(), Some(&&received[..length]));
                    received.drain(..length);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let owned_error = loop {
            match PacketBuf::decode(&mut shared, limit) {
                Ok(Some(packet)) => assert_eq!(found_owned.next(), Some(&packet.as_bytes())),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        assert_eq!(error, owned_error);
        if error.is_some() {
            assert_eq!(error, end);
            break;
        }
        assert!(decoder.needed() > received.len() || received.is_empty());
        if rest.is_empty() {
            assert_eq!(end, None);
        }
    }
    assert_eq!((found.next(), found_owned.next()), (None, None));
});
