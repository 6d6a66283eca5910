use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::journal::Wait;

/// Payloads from this size on are shared with the message and not copied. A vectored write costs
/// more than copying a small payload does; from a few pages on the copy costs more.
pub(crate) const SHARE_FROM: usize = 16 << 10;

/// Bytes on their way to one transport: packets one behind the other, large payloads shared with
/// the messages that they belong to.
///
/// It is a [`Buf`]: write [`chunk`](Buf::chunk) or [`chunks_vectored`](Buf::chunks_vectored), then
/// [`advance`](Buf::advance) by what was taken.
#[derive(Debug, Default)]
pub struct SendBuffer {
    /// Everything that was copied.
    own: Vec<u8>,
    /// How much of `own` is sent.
    sent: usize,
    /// Shared parts, each with its place: it comes before `own[at..]`.
    shared: VecDeque<(usize, Bytes)>,
    len: usize,
    /// The batch of the journal that has to be durable before it leaves, or 0.
    after: u64,
    /// It takes a message over that is to be kept.
    pub(crate) acknowledges: bool,
}

impl SendBuffer {
    /// Whether nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes left to send.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything is one block, so that a plain write will do.
    pub fn is_contiguous(&self) -> bool {
        self.shared.is_empty()
    }

    /// Bytes of memory that it holds on to when it is empty.
    pub(crate) fn capacity(&self) -> usize {
        self.own.capacity() + self.shared.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Adds another buffer at the end and empties it.
    pub(crate) fn append_all(&mut self, other: &mut Self) {
        debug_assert!(other.sent == 0 && other.is_contiguous(), "answers are never shared parts");
        self.append(|own| own.append(&mut other.own));
        other.len = 0;
        self.wait_for(std::mem::take(&mut other.after));
        self.acknowledges |= std::mem::take(&mut other.acknowledges);
    }

    /// It leaves when this batch of the journal is durable; 0 for none.
    pub(crate) fn wait_for(&mut self, after: u64) {
        self.after = self.after.max(after);
    }

    /// What has to come before it leaves, once.
    pub(crate) fn take_wait(&mut self) -> Wait {
        Wait::new(std::mem::take(&mut self.after), std::mem::take(&mut self.acknowledges))
    }

    /// Adds bytes at the end: `write` appends to the vector that it is given.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.own.len();
        write(&mut self.own);
        self.len += self.own.len() - before;
    }

    /// Adds a part that is shared.
    pub(crate) fn append_shared(&mut self, part: Bytes) {
        self.len += part.len();
        self.shared.push_back((self.own.len(), part));
    }

    fn next_shared(&self) -> Option<&Bytes> {
        self.shared.front().filter(|(at, _)| *at == self.sent).map(|(_, part)| part)
    }

    /// The end of the copied bytes that come before the next shared part.
    fn own_end(&self) -> usize {
        self.shared.front().map_or(self.own.len(), |(at, _)| *at)
    }
}

impl Buf for SendBuffer {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        match self.next_shared() {
            Some(part) => part,
            None => self.own.get(self.sent..self.own_end()).unwrap_or_default(),
        }
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut slots = dst.iter_mut();
        let mut used = 0;
        let mut at = self.sent;
        let mut push = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = slots.next() else { return false };
            *slot = IoSlice::new(bytes);
            used += 1;
            true
        };
        for (end, part) in &self.shared {
            if !push(self.own.get(at..*end).unwrap_or_default()) || !push(part) {
                return used;
            }
            at = *end;
        }
        push(self.own.get(at..).unwrap_or_default());
        used
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advanced past the end");
        self.len -= count;
        while count > 0 {
            if self.next_shared().is_some() {
                let Some((_, part)) = self.shared.front_mut() else { return };
                let step = count.min(part.len());
                part.advance(step);
                count -= step;
                if part.is_empty() {
                    self.shared.pop_front();
                }
            } else {
                let step = count.min(self.own_end() - self.sent);
                self.sent += step;
                count -= step;
            }
        }
        if self.len == 0 {
            self.own.clear();
            self.sent = 0;
            self.shared.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_appended_comes_out_in_order_by_any_steps(
            parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..12),
            steps in prop::collection::vec(1usize..7, 1..20),
        ) {
            let mut buffer = SendBuffer::default();
            let mut expected = Vec::new();
            for (share, bytes) in &parts {
                if *share && !bytes.is_empty() {
                    buffer.append_shared(Bytes::copy_from_slice(bytes));
                } else {
                    buffer.append(|own| own.extend_from_slice(bytes));
                }
                expected.extend_from_slice(bytes);
            }
            let mut steps = steps.iter().cycle();
            let mut got = Vec::new();
            while !buffer.is_empty() {
                prop_assert_eq!(buffer.len(), expected.len() - got.len());
                let mut slices = [IoSlice::new(&[]); 64];
                let used = buffer.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..used].iter().flat_map(|s| s.to_vec()).collect();
                prop_assert_eq!(&all, &expected[got.len()..]);
                prop_assert!(!buffer.chunk().is_empty());
                let step = (*steps.next().unwrap()).min(buffer.len());
                got.extend_from_slice(&all[..step]);
                buffer.advance(step);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
