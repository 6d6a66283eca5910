//! `mqtt-codec` beside the published codecs. See `README.md`.

mod codecs;
mod instructions;
mod meter;
#[path = "../../tests/packets/packets.rs"]
#[allow(dead_code, reason = "the tests look at more fields")]
mod packets;
mod rows;
mod strictness;
mod workload;

use std::env::args;

fn main() {
    let arguments: Vec<String> = args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            rows::print_times();
            instructions::print_table();
            strictness::print_table();
        }
        ["time"] => rows::print_times(),
        ["instructions"] => instructions::print_table(),
        ["strictness"] => strictness::print_table(),
        ["strictness", "all"] => strictness::print_rows(),
        // What `instructions` runs under callgrind.
        ["run", row, codec] => rows::run_once(row, codec),
        _ => {
            eprintln!("usage: mqtt-codec-compare [time | instructions | strictness [all]]");
            std::process::exit(2);
        }
    }
}
