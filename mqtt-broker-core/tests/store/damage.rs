use fastrand::Rng;
use mqtt_broker_core::{FileStore, OpenError, Store};

use super::model::{Model, Picture, whole};
use super::sim_disk::SimDisk;

/// A store with something of everything.
fn filled(rng: &mut Rng) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let (mut store, _) = FileStore::open_with_backend(disk.clone()).unwrap();
    let mut model = Model::new(true);
    for _ in 0..80 {
        store.commit(&model.change(rng)).unwrap();
    }
    (disk, model)
}

const NAME: &str = "damage::a_file_that_has_changed_is_refused_or_says_what_it_said";

#[test]
fn a_file_that_has_changed_is_refused_or_says_what_it_said() {
    // The database panics where it finds what it never wrote; that is for nobody to read.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(NAME) {
            usual(panic);
        }
    }));
    let mut rng = Rng::with_seed(1);
    let (disk, model) = filled(&mut rng);
    let contents = disk.contents();
    let mut refused = 0;
    for _ in 0..300 {
        let mut damaged = contents.clone();
        match rng.u8(0..3) {
            0 => damaged[rng.usize(..contents.len())] ^= 1 << rng.u8(0..8),
            1 => {
                let at = rng.usize(..contents.len());
                let end = contents.len().min(at + rng.usize(1..5000));
                damaged[at..end].fill(rng.u8(..));
            }
            _ => damaged.truncate(rng.usize(1..contents.len())),
        }
        match FileStore::open_with_backend(SimDisk::holding(damaged)) {
            // It was in what is free.
            Ok(opened) => match whole(opened) {
                Ok((_, recovered)) => assert_eq!(Picture::from(&recovered), model.picture()),
                Err(_) => refused += 1,
            },
            Err(OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Io { .. }) => {
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((30..300).contains(&refused), "{refused} of 300 were refused");
}
