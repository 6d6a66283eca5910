//! Each normative statement that binds a codec has a test: its id stands in the line above one.

use std::fs;
use std::path::Path;

/// The statements of MQTT 3.1.1 (appendix B) that are about the bytes of packets.
const STATEMENTS: &str = "
    MQTT-1.5.3-1 MQTT-1.5.3-2 MQTT-1.5.3-3
    MQTT-2.2.2-1 MQTT-2.2.2-2 MQTT-2.3.1-1 MQTT-2.3.1-5
    MQTT-3.1.2-1 MQTT-3.1.2-3 MQTT-3.1.2-9 MQTT-3.1.2-11 MQTT-3.1.2-13 MQTT-3.1.2-14
    MQTT-3.1.2-15 MQTT-3.1.2-18 MQTT-3.1.2-19 MQTT-3.1.2-20 MQTT-3.1.2-21 MQTT-3.1.2-22
    MQTT-3.1.3-1 MQTT-3.1.3-3 MQTT-3.1.3-4 MQTT-3.1.3-10 MQTT-3.1.3-11
    MQTT-3.2.2-4
    MQTT-3.3.1-2 MQTT-3.3.1-4 MQTT-3.3.2-1 MQTT-3.3.2-2
    MQTT-3.6.1-1
    MQTT-3.8.1-1 MQTT-3.8.3-1 MQTT-3.8.3-3 MQTT-3.8.3-4
    MQTT-3.9.3-2
    MQTT-3.10.1-1 MQTT-3.10.3-1 MQTT-3.10.3-2
    MQTT-3.14.1-1
    MQTT-4.3.1-1
    MQTT-4.7.1-1 MQTT-4.7.1-2 MQTT-4.7.1-3 MQTT-4.7.3-1 MQTT-4.7.3-2 MQTT-4.7.3-3
";

/// The ids in comments that stand directly above a test.
fn tested(source: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let mut ids = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("// "));
        ids.extend(above.flat_map(|line| line.split([' ', ','])));
    }
    ids.into_iter()
}

fn read_sources(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn each_statement_about_bytes_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    read_sources(&root.join("src"), &mut sources);
    read_sources(&root.join("tests"), &mut sources);
    let tested: std::collections::HashSet<&str> = tested(&sources).collect();
    let untested: Vec<&str> =
        STATEMENTS.split_whitespace().filter(|id| !tested.contains(id)).collect();
    assert!(untested.is_empty(), "without a test: {untested:?}");
}
