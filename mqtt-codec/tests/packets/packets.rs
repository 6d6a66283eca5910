//! Tables of packets as bytes. Shared with the comparison in `compare/`.

#[path = "legal.rs"]
mod legal;
#[path = "malformed.rs"]
mod malformed;

pub(crate) use legal::legal;
pub(crate) use malformed::malformed;

/// A packet with the shortest remaining length.
pub(crate) fn frame(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    let mut remaining = body.len();
    loop {
        let digit = (remaining % 128) as u8;
        remaining /= 128;
        if remaining == 0 {
            bytes.push(digit);
            break;
        }
        bytes.push(digit | 0x80);
    }
    bytes.extend(body);
    bytes
}

/// A string or binary field.
pub(crate) fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a field has at most 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}
