use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// Reads what a process has used: the time of all its threads, user and system, and its memory.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    process: Pid,
}

impl Meter {
    /// For the process with this id.
    pub fn new(process: u32) -> Self {
        Self { process: Pid::from_raw(process.cast_signed()) }
    }

    /// For the generator itself.
    pub fn own() -> Self {
        Self::new(std::process::id())
    }

    /// CPU time since the start, in nanoseconds' grain: the clock of the process, since the ticks of
    /// `/proc/PID/stat` are too coarse for a second of a fast broker.
    pub fn cpu(&self) -> io::Result<Duration> {
        let clock: ClockId = clock_getcpuclockid(self.process)?;
        Ok(clock.now()?.into())
    }

    /// Bytes that the process has had written to disks.
    pub fn written(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.process))?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        let bytes = bytes.and_then(|bytes| bytes.trim().parse().ok());
        bytes.ok_or_else(|| io::Error::other("no `write_bytes` in io"))
    }

    /// Resident memory in bytes. From `smaps_rollup`, which counts pages when it is asked; `statm` may
    /// trail by some hundred pages.
    pub fn memory(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process))?;
        let rss = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        rss.and_then(|rss| rss.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("no `Rss` in smaps_rollup"))
    }
}

/// The processors on which the generator may run, to be given back when this is dropped.
pub struct Shared(CpuSet);

impl Meter {
    /// Has the process and the generator run on one processor, of those that the generator has now.
    ///
    /// Whether the two are on one or on two is chosen by the system, stays so for a while, and changes
    /// the cost of a message that comes alone by half: another processor has to be woken for it.
    pub fn share_processor(&self) -> io::Result<Shared> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let last = (0..CpuSet::count()).rev().find(|&n| before.is_set(n).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(last.unwrap_or(0))?;
        sched_setaffinity(Pid::from_raw(0), &one)?;
        let shared = Shared(before);
        for thread in fs::read_dir(format!("/proc/{}/task", self.process))? {
            let thread = thread?.file_name().into_string().ok().and_then(|id| id.parse().ok());
            thread.map_or(Ok(()), |id| sched_setaffinity(Pid::from_raw(id), &one))?;
        }
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // At worst the rest is measured on one processor as well.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// Raises the limit of open files as far as this process may, for itself and for the brokers that it
/// starts.
pub fn raise_open_files() {
    /// For the 10,000 connections of the largest workload on both sides.
    const WANTED: u64 = 25_000;
    if let Ok((_, maximum)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let raised = maximum.max(WANTED);
        if setrlimit(Resource::RLIMIT_NOFILE, raised, raised).is_err() {
            // Only root may go past the maximum.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_time_and_memory_costs_bytes() {
        let meter = Meter::own();
        let (time, memory) = (meter.cpu().unwrap(), meter.memory().unwrap());
        let block = vec![1u8; 64 << 20];
        assert_eq!(block.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 64 << 20);
        assert!(meter.memory().unwrap() >= memory + (60 << 20));
        assert!(meter.cpu().unwrap() > time);
    }
}
