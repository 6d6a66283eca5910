use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use mqtt_broker_core::{FileStore, OpenError, Recovered, Store};

use super::model::{Model, Picture, whole};

/// A directory for one test, gone at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("broker.db")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refusal(result: Result<(FileStore, Recovered), OpenError>) -> OpenError {
    result.map(drop).expect_err("the file cannot be used")
}

#[test]
fn what_is_committed_is_there_after_a_restart() {
    let directory = Directory::new("restart");
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        let mut model = Model::new(true);
        let _ = fs::remove_file(directory.file());
        for _ in 0..20 {
            let opened = FileStore::open(directory.file()).unwrap();
            let (mut store, recovered) = whole(opened).unwrap();
            assert_eq!(Picture::from(&recovered), model.picture(), "seed {seed}");
            model.restart(&recovered);
            for _ in 0..rng.u8(0..20) {
                store.commit(&model.change(&mut rng)).unwrap();
            }
        }
    }
}

#[test]
fn a_new_store_is_for_its_owner_only_and_leaves_nothing_else() {
    let directory = Directory::new("new");
    let (_store, recovered) = FileStore::open(directory.file()).unwrap();
    assert!(recovered.sessions.is_empty() && recovered.retained.is_empty());
    let names: Vec<_> =
        fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let mut names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["broker.db", "broker.db.reserve"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        for file in FileStore::files(directory.file()) {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

#[test]
fn a_start_that_was_cut_short_is_no_obstacle() {
    let directory = Directory::new("cut-short");
    fs::write(directory.0.join("broker.db.new"), b"redb, but not much of it").unwrap();
    FileStore::open(directory.file()).unwrap();
}

#[test]
fn a_file_is_for_one_broker_at_a_time() {
    let directory = Directory::new("in-use");
    let (store, _) = FileStore::open(directory.file()).unwrap();
    let error = refusal(FileStore::open(directory.file()));
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("broker.db: another process"), "{error}");
    drop(store);
    FileStore::open(directory.file()).unwrap();
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let directory = Directory::new("foreign");
    let mosquitto = b"\x00\xb5\x00mosquitto db\x00\x00\x00\x00\x00\x00\x00\x06";
    for contents in [mosquitto.as_slice(), b"", b"x"] {
        fs::write(directory.file(), contents).unwrap();
        let error = refusal(FileStore::open(directory.file()));
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("broker.db"), "{error}");
        assert_eq!(fs::read(directory.file()).unwrap(), contents);
    }
}

#[test]
fn a_place_that_is_not_there_is_named() {
    let directory = Directory::new("nowhere");
    let error = refusal(FileStore::open(directory.0.join("missing/broker.db")));
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("missing/broker.db"), "{error}");
}
