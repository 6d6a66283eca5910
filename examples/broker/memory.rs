//! The memory that the broker uses, and how much it may.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tracing::warn;

use crate::config::Limit;

/// What is on the heap, measured against a limit.
pub struct Memory {
    heap: Heap,
    limit: AtomicUsize,
    is_full: AtomicBool,
}

/// Tells how many bytes are on the heap.
pub type Heap = fn() -> usize;

impl Memory {
    /// The memory of the process that `heap` tells about, and its limit in bytes.
    pub fn new(heap: Heap, limit: usize) -> Self {
        Self { heap, limit: AtomicUsize::new(limit), is_full: AtomicBool::new(false) }
    }

    /// Bytes on the heap.
    pub fn in_use(&self) -> usize {
        (self.heap)()
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Another limit counts from now on.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether there is more than the limit: no message and no client is taken. Once there is, a
    /// sixteenth of it has to be given back before there is not: the log would be full of ups and
    /// downs otherwise.
    pub fn is_full(&self) -> bool {
        let limit = self.limit();
        let was_full = self.is_full.load(Ordering::Relaxed);
        let bound = if was_full { limit - limit / 16 } else { limit };
        let in_use = self.in_use();
        let is_full = in_use > bound;
        if is_full != was_full {
            self.is_full.store(is_full, Ordering::Relaxed);
            let what = if is_full { "are refused" } else { "are welcome again" };
            warn!("{in_use} bytes of {limit} (memory_limit): messages and new clients {what}");
        }
        is_full
    }

    /// Whether there is even an eighth more than the limit: nothing is read from anybody.
    pub fn is_exhausted(&self) -> bool {
        let limit = self.limit();
        self.in_use() > limit.saturating_add(limit / 8)
    }
}

impl Limit {
    /// The limit in bytes. The default is three quarters of what the machine or the control group
    /// has: the system ends a process that takes all.
    pub fn bytes(self) -> usize {
        match self {
            Self::At(bytes) => bytes,
            Self::None => usize::MAX,
            Self::Default => available().map_or(usize::MAX, |bytes| bytes / 4 * 3),
        }
    }
}

/// The memory of the machine, or of the control group if that is less.
fn available() -> Option<usize> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = std::fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|l| l.strip_prefix("0::/")));
    let limit = group.and_then(|name| {
        let file = Path::new("/sys/fs/cgroup").join(name).join("memory.max");
        // `max` is no number, and no limit.
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    machine.into_iter().chain(limit).min()
}

fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn what_is_over_the_limit_stays_so_until_some_is_given_back() {
        let memory = Memory::new(|| BYTES.get(), 1600);
        for (bytes, is_full) in [(1600, false), (1601, true), (1501, true), (1500, false)] {
            BYTES.set(bytes);
            assert_eq!(memory.is_full(), is_full, "{bytes}");
            assert!(!memory.is_exhausted());
        }
        BYTES.set(1801);
        assert!(memory.is_exhausted());
        BYTES.set(usize::MAX);
        memory.set_limit(Limit::None.bytes());
        assert!(!memory.is_full() && !memory.is_exhausted());
    }

    #[test]
    fn the_default_is_less_than_the_machine_has() {
        let default = Limit::Default.bytes();
        assert!(default > 1 << 20);
        assert_eq!(total("MemTotal:   2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
    }
}
