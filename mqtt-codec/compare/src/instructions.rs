use std::env::current_exe;
use std::process::Command;

use crate::rows::{ROWS, Row, print_header};

/// Instructions a packet under callgrind: the steady figure. Needs valgrind.
pub fn print_table() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("\nno valgrind here, so no instructions");
        return;
    }
    print_header("instructions");
    for row in &ROWS {
        let figures: Vec<f64> =
            [row.ours].iter().chain(row.peers).map(|codec| count(row, codec)).collect();
        row.print(&figures, row.instruction_target);
    }
}

/// Counts what happens inside `measured` only.
fn count(row: &Row, codec: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*"])
        .arg(current_exe().expect("this program has a path"))
        .args(["run", row.name, codec])
        .output()
        .expect("valgrind starts");
    let (log, packets) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let collected = log
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, figure)| figure.trim().parse::<f64>().ok());
    match (collected, packets.trim().parse::<f64>()) {
        (Some(collected), Ok(packets)) => collected / packets,
        _ => panic!("callgrind of {} with {codec} failed:\n{log}", row.name),
    }
}
