//! Every normative statement of MQTT 3.1.1 has a test in each crate that it binds: its id stands in a
//! comment right above the test or in it. `cargo test -p mqtt-examples --test normative -- --nocapture` prints
//! the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The statements: id, whom it binds (`server`, `client`, `both`), the layers that it concerns, and
/// what it asks for, in our words.
const STATEMENTS: &str = include_str!("normative.csv");

/// Statements that nothing here can break.
const NOT_APPLICABLE: [(&str, &str); 3] = [
    ("MQTT-3.8.3-2", "wildcards are supported"),
    ("MQTT-7.0.0-1", "there is no bridge to other servers"),
    ("MQTT-7.0.0-2", "every interop test shows it"),
];

/// Where the tests of a layer may be.
fn places(layer: &str) -> &'static [&'static str] {
    match layer {
        "codec" => &["mqtt-codec"],
        "broker" => &["mqtt-broker-core", "examples"],
        "client" => &["mqtt-client"],
        "transport" => &["examples", "mqtt-client"],
        other => panic!("no such layer: {other}"),
    }
}

/// The tests of a crate by the ids in the comments right above or inside of them.
fn tests_by_id(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(folder) {
        let source = fs::read_to_string(&file).unwrap();
        let mut ids: Vec<&str> = Vec::new();
        let mut is_test = false;
        let mut test = None;
        for line in source.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("//") {
                ids.extend(comment.split([' ', ',', '[', ']', '(', ')']).filter_map(|word| {
                    let word = word.trim_end_matches(['.', ':', ';']);
                    word.starts_with("MQTT-").then_some(word)
                }));
                continue;
            }
            if line.starts_with("#[") {
                is_test |= line.contains("test]") || line.contains("test(");
                continue;
            }
            if let Some(name) = function_name(line) {
                test = is_test.then_some(name);
                is_test = false;
            }
            if !line.is_empty() {
                for id in ids.drain(..).filter(|_| test.is_some()) {
                    tests.entry(id.to_owned()).or_default().extend(test.map(str::to_owned));
                }
            }
        }
    }
    tests
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_statement_has_a_test_in_each_crate_that_it_binds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeMap::new();
    for name in ["mqtt-codec", "mqtt-broker-core", "mqtt-client", "examples"] {
        tests.insert(name, tests_by_id(&root.join(name)));
    }
    let mut missing = Vec::new();
    let mut count = 0;
    for statement in STATEMENTS.lines().skip(1) {
        let mut fields = statement.splitn(4, ',');
        let [id, binds, layers] = std::array::from_fn(|_| fields.next().unwrap());
        count += 1;
        if let Some((_, reason)) = NOT_APPLICABLE.iter().find(|(other, _)| *other == id) {
            println!("{id:14} not applicable: {reason}");
            continue;
        }
        for layer in layers.trim_matches('"').split(' ') {
            if layer == "broker" && binds == "client" {
                continue;
            }
            let found = places(layer)
                .iter()
                .find_map(|place| tests[place].get(id).map(|names| (*place, names)));
            match found {
                Some((place, names)) => println!("{id:14} {layer:9} {place}: {}", names.join(", ")),
                None => missing.push(format!("{id} in the layer {layer}")),
            }
        }
    }
    assert_eq!(count, 141, "the standard has 141 statements");
    assert!(missing.is_empty(), "{} without a test: {missing:#?}", missing.len());
}
