use fastrand::Rng;
use mqtt_broker_core::{CommitError, FileStore, OpenError, Recovered, Store};

use super::model::{Model, Picture, whole};
use super::sim_disk::SimDisk;

/// Losses of power in a normal run. `STORE_POWER_LOSSES` asks for more: a minute is good for about
/// 25,000 with `--release`.
const LOSSES: u64 = 400;

/// Lives of one file, before the next begins with another seed.
const LIVES: u64 = 200;

/// What a run came to.
#[derive(Debug, Default)]
struct Tally {
    losses: u64,
    losses_in_recovery: u64,
    commits: u64,
    /// Commits that were cut short, and were there all the same.
    unsure_and_there: u64,
    full: u64,
    /// Lives that ended when a full disk had let go of what was done, and no more.
    cut_short: u64,
    failed_syncs: u64,
}

/// What the store has to give back: what it has said that it has, and perhaps what it was doing.
struct Owed {
    sure: Model,
    unsure: Option<Model>,
    /// What a full disk has refused, over and over.
    refused: Vec<Model>,
}

impl Owed {
    /// Checks what was recovered, and goes on from there. False when that is for a broker to do:
    /// the model does not know what becomes of messages that are not there.
    fn settle(&mut self, recovered: &Recovered, tally: &mut Tally) -> Result<bool, String> {
        let picture = Picture::from(recovered);
        let unsure = self.unsure.take();
        let refused = std::mem::take(&mut self.refused);
        if picture != self.sure.picture() {
            match unsure {
                Some(unsure) if picture == unsure.picture() => self.sure = unsure,
                _ if self.is_without(&picture, &refused) => {
                    tally.cut_short += 1;
                    return Ok(false);
                }
                _ => {
                    return Err(format!("expected {:#?}, found {picture:#?}", self.sure.picture()));
                }
            }
            tally.unsure_and_there += 1;
        }
        self.sure.restart(recovered);
        Ok(true)
    }

    fn is_without(&self, picture: &Picture, refused: &[Model]) -> bool {
        let attempts = 1..=refused.len();
        attempts.rev().any(|count| *picture == self.sure.picture_without(&refused[..count]))
    }
}

/// Lets the power fail so many times. Fails when something is lost that was committed, or half of a
/// batch is there.
fn live(seed: u64, losses: u64, lies: bool, tally: &mut Tally) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let mut disk = SimDisk::new();
    let mut owed =
        Owed { sure: Model::new(seed.is_multiple_of(4)), unsure: None, refused: Vec::new() };
    // Making the file is not part of it: a file has its name when it is whole.
    drop(FileStore::open_with_backend(disk.clone()).unwrap());
    if lies {
        disk.lie();
    }
    for _ in 0..losses {
        // Some lives end while what is left of the one before is being read.
        let operations = if rng.u8(0..4) == 0 { rng.u64(0..16) } else { rng.u64(0..600) };
        disk.fail_after(operations);
        match FileStore::open_with_backend(disk.clone()) {
            Ok(opened) => match whole(opened) {
                Ok((store, recovered)) => {
                    if !owed.settle(&recovered, tally)? {
                        return Ok(());
                    }
                    commit_until_the_end(store, &disk, &mut owed, &mut rng, tally)?;
                }
                Err(_) if !disk.has_power() => tally.losses_in_recovery += 1,
                Err(error) => return Err(error.to_string()),
            },
            Err(OpenError::Io { .. }) if !disk.has_power() => tally.losses_in_recovery += 1,
            Err(error) => return Err(error.to_string()),
        }
        tally.losses += 1;
        disk = disk.power_up(&mut rng);
    }
    Ok(())
}

fn commit_until_the_end(
    mut store: FileStore,
    disk: &SimDisk,
    owed: &mut Owed,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<(), String> {
    loop {
        if rng.u8(0..60) == 0 && store.compact().is_err() {
            return Ok(());
        }
        if rng.u8(0..20) == 0 && store.tidy().is_err() {
            return Ok(());
        }
        disk.set_room(None);
        if rng.u8(0..12) == 0 {
            disk.set_room(Some(rng.usize(0..20_000)));
        }
        if rng.u16(0..300) == 0 {
            disk.fail_to_sync(true);
            tally.failed_syncs += 1;
        }
        let mut next = owed.sure.clone();
        let mut batch = next.change(rng);
        let mut result = store.commit(&batch);
        while let Err(CommitError::Full(_)) = result {
            tally.full += 1;
            owed.refused.push(next.clone());
            match rng.u8(0..4) {
                0 => disk.set_room(None),
                1 => next.change_more(rng, &mut batch),
                _ => {}
            }
            owed.refused.push(next.clone());
            result = store.commit(&batch);
        }
        match result {
            Ok(()) => {
                owed.sure = next;
                owed.refused.clear();
            }
            Err(error) => {
                owed.refused.push(next.clone());
                owed.unsure = Some(next);
                let has_reason = !disk.has_power() || disk.fails_to_sync();
                disk.fail_to_sync(false);
                if !has_reason {
                    return Err(error.to_string());
                }
                // A disk that failed once is not asked again.
                return match store.commit(&batch) {
                    Err(CommitError::Failed(_)) => Ok(()),
                    other => Err(format!("{other:?} after {error}")),
                };
            }
        }
        tally.commits += 1;
    }
}

#[test]
fn nothing_that_was_committed_is_lost_with_the_power() {
    let losses = std::env::var("STORE_POWER_LOSSES");
    let losses = losses.map_or(LOSSES, |losses| losses.parse().unwrap());
    let mut tally = Tally::default();
    for seed in 0.. {
        if tally.losses == losses {
            break;
        }
        if let Err(error) = live(seed, LIVES.min(losses - tally.losses), false, &mut tally) {
            panic!("seed {seed}, after {tally:?}: {error}");
        }
    }
    println!("{tally:?}");
    // It was what it says: each of these has happened, and often.
    assert!(tally.commits > losses && tally.losses_in_recovery > losses / 40, "{tally:?}");
    assert!(tally.unsure_and_there > losses / 100 && tally.full > losses / 100, "{tally:?}");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_caught() {
    for seed in 0..8 {
        let mut tally = Tally::default();
        live(seed, LIVES, true, &mut tally).expect_err("it lost what it said it had");
    }
}
