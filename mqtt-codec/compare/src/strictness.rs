use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};

use crate::codecs::{PEERS, Verdict, codec};
use crate::packets::{legal, malformed};

/// How many malformed packets each codec lets through, and how many legal ones it does not.
pub fn print_table() {
    silence_panics();
    let (malformed, legal) = (malformed(), legal());
    println!("\nof {} malformed packets, of {} legal ones", malformed.len(), legal.len());
    println!("{:<12} {:>8} {:>6} {:>7} {:>14}", "", "accepted", "waits", "panics", "legal refused");
    for name in ["ours"].into_iter().chain(PEERS) {
        let verdicts: Vec<Verdict> =
            malformed.iter().map(|row| verdict(name, &row.bytes)).collect();
        let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
        let refused =
            legal.iter().filter(|row| verdict(name, &row.bytes) != Verdict::Accepts).count();
        println!(
            "{name:<12} {:>8} {:>6} {:>7} {refused:>14}",
            count(Verdict::Accepts),
            count(Verdict::Waits),
            count(Verdict::Panics),
        );
    }
}

/// The same, packet by packet: who is wrong.
pub fn print_rows() {
    silence_panics();
    for row in malformed() {
        let wrong: Vec<String> = PEERS
            .iter()
            .map(|name| (name, verdict(name, &row.bytes)))
            .filter(|(_, verdict)| *verdict != Verdict::Refuses)
            .map(|(name, verdict)| format!("{name} {verdict:?}"))
            .collect();
        println!("{:<50} {:<14} {}", row.name, row.statement, wrong.join(", "));
        assert_eq!(verdict("ours", &row.bytes), Verdict::Refuses);
    }
    for row in legal() {
        let wrong: Vec<&str> = PEERS
            .into_iter()
            .filter(|name| verdict(name, &row.bytes) != Verdict::Accepts)
            .collect();
        println!("{:<50} {:<14} {}", row.name, row.allowed_by, wrong.join(", "));
        assert_eq!(verdict("ours", &row.bytes), Verdict::Accepts);
    }
}

/// The packet stands at the front of a buffer with twenty PINGREQ behind it, as in a stream.
fn verdict(name: &str, bytes: &[u8]) -> Verdict {
    let stream = [bytes, &b"\xC0\0".repeat(20)].concat();
    let codec = codec(name);
    catch_unwind(AssertUnwindSafe(|| codec.decode_one(&stream))).unwrap_or(Verdict::Panics)
}

fn silence_panics() {
    set_hook(Box::new(|_| {}));
}
