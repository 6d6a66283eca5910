use crate::Fault;

/// What every message begins with, so that its arrival can be checked: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Messages of one stream have one publisher and one topic, and keep their order.
    pub(crate) stream: u32,
    /// Counts within the stream, from 0.
    pub(crate) number: u32,
    /// When it was meant to be sent, in nanoseconds since the start of the load.
    pub(crate) time: u64,
}

impl Mark {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.stream.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.time.to_be_bytes());
        bytes
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let mark = payload.first_chunk::<{ Self::LEN }>().ok_or(Fault::Foreign)?;
        let (stream, rest) = mark.split_first_chunk().ok_or(Fault::Foreign)?;
        let (number, time) = rest.split_first_chunk().ok_or(Fault::Foreign)?;
        let time = time.first_chunk().ok_or(Fault::Foreign)?;
        Ok(Self {
            stream: u32::from_be_bytes(*stream),
            number: u32::from_be_bytes(*number),
            time: u64::from_be_bytes(*time),
        })
    }
}

/// The number that is due next at each receiver for each stream: a message is missing, doubled or
/// out of order when another comes.
#[derive(Debug)]
pub(crate) struct Ledger {
    due: Vec<u32>,
}

impl Ledger {
    /// For so many pairs of stream and receiver.
    pub(crate) fn new(cells: usize) -> Self {
        Self { due: vec![0; cells] }
    }

    /// Enters an arrival. `cell` is the pair of stream and receiver.
    pub(crate) fn enter(&mut self, cell: usize, mark: Mark) -> Result<(), Fault> {
        let due = self.due.get_mut(cell).ok_or(Fault::Foreign)?;
        if mark.number != *due {
            return Err(match mark.number < *due {
                true => Fault::Doubled { stream: mark.stream, number: mark.number, due: *due },
                false => Fault::Missing { stream: mark.stream, number: mark.number, due: *due },
            });
        }
        *due += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32) -> Mark {
        Mark { stream: 1, number, time: 7 }
    }

    #[test]
    fn a_mark_reads_back() {
        assert_eq!(Mark::parse(&mark(9).to_bytes()).unwrap(), mark(9));
        assert!(Mark::parse(&[0; 15]).is_err());
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_noticed() {
        let mut ledger = Ledger::new(2);
        ledger.enter(1, mark(0)).unwrap();
        ledger.enter(1, mark(1)).unwrap();
        assert!(matches!(ledger.enter(1, mark(1)), Err(Fault::Doubled { .. })));
        assert!(matches!(ledger.enter(1, mark(3)), Err(Fault::Missing { .. })));
        assert!(matches!(ledger.enter(2, mark(0)), Err(Fault::Foreign)));
    }
}
