use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, sync_channel};

use super::{LightSensor, parse_reading};

/// Lines read ahead: a file as standard input waits for its turn in the pipe, not in memory.
const AHEAD: usize = 16;

/// A number a line on standard input. Each reading takes the next line; while there is none, the
/// last one holds.
pub struct StdinSensor {
    lines: Receiver<io::Result<u16>>,
    last: Option<u16>,
}

impl StdinSensor {
    /// Standard input belongs to it from now on.
    pub fn new() -> Self {
        let (sender, lines) = sync_channel(AHEAD);
        // Reading a terminal or a pipe blocks, and nothing can end it: a thread of its own.
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let reading = line.and_then(|line| parse_reading(&line));
                if sender.send(reading).is_err() {
                    return;
                }
            }
        });
        Self { lines, last: None }
    }
}

impl Default for StdinSensor {
    fn default() -> Self {
        Self::new()
    }
}

impl LightSensor for StdinSensor {
    fn read(&mut self) -> io::Result<u16> {
        // An error says that there is nothing new, or that the input has ended.
        if let Ok(reading) = self.lines.try_recv() {
            self.last = Some(reading?);
        }
        self.last.ok_or_else(|| io::Error::other("no line on standard input yet"))
    }
}
