use std::time::{Duration, Instant};

/// Measures one part of a run, without what prepares it.
pub struct Meter {
    best: Duration,
    packets: usize,
}

impl Meter {
    pub fn new() -> Self {
        Self { best: Duration::MAX, packets: 0 }
    }

    /// Runs `work`, which gives the number of packets that it did, and keeps the shortest time: what
    /// else runs on the machine only ever adds.
    pub fn measure(&mut self, work: impl FnOnce() -> usize) {
        let start = Instant::now();
        let packets = measured(work);
        self.best = self.best.min(start.elapsed());
        self.packets = packets;
    }

    /// Nanoseconds a packet.
    pub fn nanoseconds(&self) -> f64 {
        self.best.as_nanos() as f64 / self.packets as f64
    }

    pub fn packets(&self) -> usize {
        self.packets
    }
}

/// The function that callgrind counts, by its name.
#[inline(never)]
fn measured(work: impl FnOnce() -> usize) -> usize {
    work()
}
