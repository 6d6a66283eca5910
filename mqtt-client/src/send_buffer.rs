use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Payloads from this size on are shared with the message and not copied. A vectored write costs
/// more than copying a small payload does; from a few pages on the copy costs more.
const SHARE_FROM: usize = 16 << 10;

/// A buffer above this is given back when it is empty, so that an idle client holds little.
const KEEP: usize = 1 << 10;

/// Bytes on their way to the transport: packets one behind the other, large payloads shared with
/// the messages that they belong to.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    own: Vec<u8>,
    /// How much of `own` is sent.
    sent: usize,
    /// Shared parts with their place: each comes before `own[at..]`.
    shared: VecDeque<(usize, Bytes)>,
    len: usize,
}

impl SendBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds what `write` appends to the vector that it is given.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.own.len();
        write(&mut self.own);
        self.len += self.own.len() - before;
    }

    /// Adds a payload, by copy or by reference as its size says.
    pub(crate) fn append_payload(&mut self, payload: &Bytes) {
        if payload.len() < SHARE_FROM {
            self.own.extend_from_slice(payload);
        } else {
            self.shared.push_back((self.own.len(), payload.clone()));
        }
        self.len += payload.len();
    }

    /// The bytes that come first, and whether they are all.
    pub(crate) fn chunk(&self) -> (&[u8], bool) {
        let chunk = match self.shared.front() {
            Some((at, part)) if *at == self.sent => part,
            Some((at, _)) => self.own.get(self.sent..*at).unwrap_or_default(),
            None => self.own.get(self.sent..).unwrap_or_default(),
        };
        (chunk, chunk.len() == self.len)
    }

    /// Fills `parts` for a vectored write and says how many it used.
    pub(crate) fn chunks<'a>(&'a self, parts: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.sent;
        let mut chunks = Vec::new();
        for (end, part) in self.shared.iter().take(parts.len()) {
            chunks.push(self.own.get(at..*end).unwrap_or_default());
            chunks.push(part);
            at = *end;
        }
        chunks.push(self.own.get(at..).unwrap_or_default());
        let chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty());
        parts.iter_mut().zip(chunks).map(|(slot, chunk)| *slot = IoSlice::new(chunk)).count()
    }

    /// `written` bytes at the front are sent.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.len = self.len.saturating_sub(written);
        while written > 0 {
            match self.shared.front_mut() {
                Some((at, part)) if *at == self.sent => {
                    let step = written.min(part.len());
                    written -= step;
                    if step == part.len() {
                        self.shared.pop_front();
                    } else {
                        let _ = part.split_to(step);
                    }
                }
                front => {
                    let end = front.map_or(self.own.len(), |(at, _)| *at);
                    let step = written.min(end - self.sent);
                    self.sent += step;
                    written -= step;
                    if step == 0 {
                        break;
                    }
                }
            }
        }
        if self.len == 0 {
            self.own.clear();
            self.sent = 0;
        }
    }

    /// Lets go of memory that an idle client does not need.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 && self.own.capacity() > KEEP {
            *self = Self::default();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(buffer: &SendBuffer) -> Vec<u8> {
        let mut parts = [IoSlice::new(&[]); 16];
        let used = buffer.chunks(&mut parts);
        parts[..used].iter().flat_map(|part| part.iter().copied()).collect()
    }

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_is_taken_at_a_time() {
        let large = Bytes::from(vec![7; SHARE_FROM]);
        for step in [999, 1000, 5000, SHARE_FROM, 3 * SHARE_FROM] {
            let mut buffer = SendBuffer::default();
            buffer.append(|own| own.extend_from_slice(b"head"));
            buffer.append_payload(&large);
            buffer.append_payload(&large);
            buffer.append_payload(&Bytes::from_static(b"small"));
            let whole = all(&buffer);
            assert_eq!(whole.len(), buffer.len());
            assert_eq!(whole.len(), 4 + 2 * SHARE_FROM + 5);
            let mut taken = Vec::new();
            while !buffer.is_empty() {
                let (chunk, is_all) = buffer.chunk();
                assert_eq!(is_all, chunk.len() == buffer.len());
                let rest = all(&buffer);
                assert!(rest.starts_with(chunk) && !chunk.is_empty());
                let step = step.min(rest.len());
                taken.extend_from_slice(&rest[..step]);
                buffer.advance(step);
            }
            assert_eq!(taken, whole);
        }
    }
}
