//! Every option that the broker example reads has a test that shows its effect: `options.csv` names it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use mqtt_examples::config::OPTIONS;

/// Option, test, what it shows.
const TABLE: &str = include_str!("options.csv");

/// The tests of a folder by their names, with the text of their functions.
fn tests(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // What npm has installed is not ours.
        if path.is_dir() && name != "node_modules" {
            tests(&path, found);
        } else if name.ends_with(".rs") {
            let source = fs::read_to_string(&path).unwrap();
            for function in source.split("test]\n").skip(1) {
                let name = function.split_once("fn ").unwrap().1.split('(').next().unwrap();
                // A function ends where its closing brace stands as far left as its beginning.
                let indent = function.len() - function.trim_start_matches(' ').len();
                let end = format!("\n{}}}\n", &function[..indent]);
                let text = function.split(&end).next().unwrap();
                found.insert(name.to_owned(), text.to_owned());
            }
        }
    }
}

#[test]
fn every_option_has_a_test_that_names_it() {
    let mut found = BTreeMap::new();
    tests(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    let mut rows = BTreeSet::new();
    for line in TABLE.lines().skip(1) {
        let mut fields = line.splitn(3, ',');
        let [option, test, shows] = std::array::from_fn(|_| fields.next().unwrap_or_default());
        assert!(OPTIONS.contains(&option), "{option} is no option");
        assert!(rows.insert(option), "{option} is there twice");
        assert!(!shows.is_empty(), "{option}: what does {test} show?");
        let text = found.get(test).unwrap_or_else(|| panic!("{option}: there is no test {test}"));
        // Files of the TLS tests come from one function.
        let of_tls =
            ["certfile", "keyfile", "cafile"].contains(&option) && text.contains("server_options");
        assert!(text.contains(option) || test.contains(option) || of_tls, "{test}: no {option}");
        println!("{option:32} {test}: {shows}");
    }
    let missing: Vec<_> = OPTIONS.iter().filter(|option| !rows.contains(**option)).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}
