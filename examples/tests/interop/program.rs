use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
///
/// It only decides how long a failing test waits: two busy cores with a debug build stay far below.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A child process whose output is read line by line, with a deadline, and that never outlives
/// its test.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Starts `command` with standard output captured; standard error goes to the test's own.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { name, child, lines }
    }

    /// The next line of output, or `None` when the program has closed it.
    pub(crate) fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} printed nothing for {DEADLINE:?}", self.name)
            }
        }
    }

    /// Reads until a line satisfies `wanted` and returns it.
    pub(crate) fn line_where(&self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let mut seen = Vec::new();
        let start = Instant::now();
        while let Some(line) = self.next_line() {
            if wanted(&line) {
                return line;
            }
            seen.push(line);
            // It may have a lot to say, and never that.
            assert!(start.elapsed() < 2 * DEADLINE, "{} does not say it: {seen:#?}", self.name);
        }
        panic!("{} ended without the line that was expected: {seen:#?}", self.name)
    }

    /// Waits for the end of the program and returns its status and the rest of its output.
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<String>) {
        let status = wait(&mut self.child)
            .unwrap_or_else(|| panic!("{} does not end within {DEADLINE:?}", self.name));
        let mut rest = Vec::new();
        while let Some(line) = self.next_line() {
            rest.push(line);
        }
        (status, rest)
    }

    /// Ends the program as a user does with Ctrl-C in another terminal (TERM) and waits for it.
    pub(crate) fn terminate(self) -> ExitStatus {
        signal(&self.child, "TERM");
        self.finish().0
    }

    /// Ends the program without giving it a chance to say goodbye (KILL) and waits for it. Returns
    /// what it had said that was not read yet.
    pub(crate) fn kill_9(self) -> Vec<String> {
        signal(&self.child, "KILL");
        self.finish().1
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already: nothing to do about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name, with the `kill` of the system: the tests have no unsafe code.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status()
        .expect("kill is part of every Unix");
    assert!(status.success(), "kill -s {name} failed");
}

/// Waits for `child` until the deadline.
pub(crate) fn wait(child: &mut Child) -> Option<ExitStatus> {
    eventually(|| child.try_wait().expect("a child can be waited for"))
}

/// Asks again and again until there is an answer or the deadline is over.
pub(crate) fn eventually<T>(mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if start.elapsed() > DEADLINE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command that ends by itself; it must succeed. Returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let mut stdout = child.stdout.take().expect("standard output is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let Some(status) = wait(&mut child) else {
        let _ = child.kill();
        panic!("{command:?} does not end within {DEADLINE:?}");
    };
    assert!(status.success(), "{command:?} failed: {status}");
    reader.join().expect("the reader does not panic").expect("the output is UTF-8")
}

/// The folder of this test's sources, where the scripts for foreign clients are.
pub(crate) fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// A folder for what the tests write: logs of brokers, files for clients.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}
