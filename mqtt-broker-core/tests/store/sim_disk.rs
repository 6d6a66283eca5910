//! A disk whose power can fail.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use mqtt_broker_core::StorageBackend;

/// What is written whole or not at all.
const SECTOR: usize = 512;

/// A handle on a disk: the store has one, and the test another.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What a read gives.
    current: Vec<u8>,
    /// What is there after a loss of power for sure.
    durable: Vec<u8>,
    /// What may be there or not, in the order in which it came.
    pending: Vec<Change>,
    /// Operations until the power fails.
    operations_left: Option<u64>,
    /// Says that what it was told to sync is durable, and does nothing.
    lies: bool,
    /// How many sectors there are room for.
    room: Option<usize>,
    /// Sectors that were ever written.
    taken: Vec<bool>,
    fails_to_sync: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self::with(Vec::new(), false)
    }

    pub(crate) fn holding(contents: Vec<u8>) -> Self {
        Self::with(contents, false)
    }

    fn with(contents: Vec<u8>, lies: bool) -> Self {
        let sectors = contents.len().div_ceil(SECTOR);
        Self(Arc::new(Mutex::new(State {
            durable: contents.clone(),
            current: contents,
            pending: Vec::new(),
            operations_left: None,
            lies,
            room: None,
            taken: vec![true; sectors],
            fails_to_sync: false,
        })))
    }

    /// From now on its syncs are lies.
    pub(crate) fn lie(&self) {
        self.state().lies = true;
    }

    /// Lets the power fail after so many operations.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    pub(crate) fn fail_to_sync(&self, fails: bool) {
        self.state().fails_to_sync = fails;
    }

    pub(crate) fn fails_to_sync(&self) -> bool {
        self.state().fails_to_sync
    }

    pub(crate) fn has_power(&self) -> bool {
        self.state().operations_left != Some(0)
    }

    /// Leaves room for so many bytes beside what is written, or as much as there is.
    pub(crate) fn set_room(&self, bytes: Option<usize>) {
        let mut state = self.state();
        let taken = state.taken.iter().filter(|taken| **taken).count();
        state.room = bytes.map(|bytes| taken + bytes / SECTOR);
    }

    pub(crate) fn contents(&self) -> Vec<u8> {
        self.state().current.clone()
    }

    /// The disk after the power is back: of what was not synced, some sectors are there, in any
    /// order, and some not.
    pub(crate) fn power_up(&self, rng: &mut Rng) -> Self {
        let state = self.state();
        // All, none, half or most of what was pending.
        let share = *rng.choice(&[0, 13, 128, 243, 256]).unwrap();
        let mut len = state.durable.len() as u64;
        let mut longest = len;
        let mut sectors: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
        for change in &state.pending {
            match change {
                Change::SetLen(new) => {
                    if rng.u16(..256) < share {
                        len = *new;
                    }
                    longest = longest.max(*new);
                }
                Change::Write(offset, data) => {
                    let mut at = *offset;
                    let mut rest = data.as_slice();
                    while !rest.is_empty() {
                        let in_sector = SECTOR - at as usize % SECTOR;
                        let (part, behind) = rest.split_at(in_sector.min(rest.len()));
                        if rng.u16(..256) < share {
                            sectors.entry(at).or_default().push(part);
                        }
                        at += part.len() as u64;
                        rest = behind;
                    }
                }
            }
        }
        let mut contents = state.durable.clone();
        contents.resize(longest as usize, 0);
        for (at, versions) in sectors {
            // The last that was written, or an earlier one: the disk has an order of its own.
            let version = if rng.bool() { versions.last() } else { rng.choice(&versions) };
            let version = version.unwrap();
            let at = at as usize;
            if let Some(place) = contents.get_mut(at..at + version.len()) {
                place.copy_from_slice(version);
            }
        }
        contents.truncate(len as usize);
        contents.resize(len as usize, 0);
        Self::with(contents, state.lies)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn operate(&mut self) -> Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let state = self.state();
        if state.operations_left == Some(0) {
            return Err(Error::other("no power"));
        }
        let from = state.current.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.state();
        state.operate()?;
        // What is new is a hole, which takes no room until it is written.
        state.current.resize(len as usize, 0);
        state.taken.resize((len as usize).div_ceil(SECTOR), false);
        state.pending.push(Change::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.state();
        state.operate()?;
        if state.fails_to_sync {
            return Err(Error::other("the disk has lost something"));
        }
        if !state.lies {
            let state = &mut *state;
            for change in state.pending.drain(..) {
                match change {
                    Change::SetLen(len) => state.durable.resize(len as usize, 0),
                    Change::Write(offset, data) => {
                        let at = offset as usize;
                        state.durable[at..at + data.len()].copy_from_slice(&data);
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.operate()?;
        let at = offset as usize;
        if at + data.len() > state.current.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let sectors = at / SECTOR..(at + data.len()).div_ceil(SECTOR);
        if let Some(room) = state.room {
            let new = state.taken[sectors.clone()].iter().filter(|taken| !**taken).count();
            let taken = state.taken.iter().filter(|taken| **taken).count();
            if taken + new > room {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        state.taken[sectors].fill(true);
        state.current[at..at + data.len()].copy_from_slice(data);
        state.pending.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
