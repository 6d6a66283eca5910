use mqtt_codec::{Packet, PacketId};

/// Acknowledgements of one kind, one behind the other: they are carried out under one lock. A client
/// that reads many messages at a time answers them at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acks<'a> {
    /// Of the first one.
    id: Option<PacketId>,
    /// The others, as they came.
    rest: &'a [[u8; 4]],
}

impl<'a> Acks<'a> {
    /// Those at the front of `bytes`, where `first` was decoded; none if it is another packet.
    pub(super) fn at_front(first: &Packet<'_>, bytes: &'a [u8]) -> Self {
        let (Packet::PubAck(id) | Packet::PubRec(id) | Packet::PubRel(id) | Packet::PubComp(id)) =
            first
        else {
            return Self { id: None, rest: &[] };
        };
        // One whose remaining length takes more bytes than it needs stays alone.
        let (acks, _) = bytes.as_chunks::<4>();
        let rest = match acks {
            [[kind, 2, ..], rest @ ..] => {
                let is_same = |ack: &[u8; 4]| ack[..2] == [*kind, 2] && ack[2..] != [0, 0];
                let end = rest.iter().position(|ack| !is_same(ack)).unwrap_or(rest.len());
                rest.get(..end).unwrap_or_default()
            }
            _ => &[],
        };
        Self { id: Some(*id), rest }
    }

    pub(super) fn len(self) -> usize {
        usize::from(self.id.is_some()) + self.rest.len()
    }

    /// Bytes of them all, if each takes four.
    pub(super) fn encoded_len(self) -> usize {
        self.len() * 4
    }

    pub(super) fn ids(self) -> impl Iterator<Item = PacketId> + use<'a> {
        let others = self.rest.iter().filter_map(|&[_, _, high, low]| {
            // Looked at before: none is 0.
            PacketId::new(u16::from_be_bytes([high, low]))
        });
        self.id.into_iter().chain(others)
    }
}

#[cfg(test)]
mod tests {
    use mqtt_codec::decode;

    use super::*;

    fn acks(bytes: &[u8]) -> (Vec<u16>, usize) {
        let (first, _) = decode(bytes, 100).unwrap().unwrap();
        let acks = Acks::at_front(&first, bytes);
        assert_eq!(acks.ids().count(), acks.len());
        (acks.ids().map(PacketId::get).collect(), acks.encoded_len())
    }

    #[test]
    fn acknowledgements_of_one_kind_are_taken_together() {
        assert_eq!(acks(b"\x40\x02\0\x01\x40\x02\x01\0\x50\x02\0\x03"), (vec![1, 256], 8));
        assert_eq!(acks(b"\x62\x02\0\x01\x62\x02\0"), (vec![1], 4));
        assert_eq!(acks(b"\x70\x02\0\x01\x70\x02\0\0"), (vec![1], 4), "0 is no id");
        assert_eq!(acks(b"\x40\x02\0\x01\x40\x03\0\x02"), (vec![1], 4));
        assert_eq!(acks(b"\x40\x82\0\0\x01\x40\x02\0\x02"), (vec![1], 4), "a longer one");
        assert_eq!(acks(b"\xc0\0\x40\x02\0\x01"), (vec![], 0));
    }
}
