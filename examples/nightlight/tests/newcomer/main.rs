//! A newcomer reads the README and copies each command as it stands.
//!
//! The commands of a section run beside each other, each in a terminal of its own as the text says,
//! and print what stands below them; numbers may differ. In place of cargo there is a program that
//! knows what cargo has built for the tests, and in place of npm one that works in a copy.

#[allow(dead_code, reason = "the broker's own tests need more of it")]
#[path = "../../../tests/interop/broker_process.rs"]
mod broker_process;
#[allow(dead_code, reason = "the broker's own tests need more of it")]
#[path = "../../../tests/interop/foreign.rs"]
mod foreign;
#[allow(dead_code, reason = "the broker's own tests need more of it")]
#[path = "../../../tests/interop/program.rs"]
mod program;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use foreign::{in_path, required};
use program::{Program, eventually, scratch};

/// A command with the lines that it prints.
#[derive(Debug)]
struct Step<'a> {
    command: &'a str,
    prints: Vec<&'a str>,
}

#[test]
fn each_command_of_the_readme_works_as_it_stands() {
    if listens(1883) || listens(8080) {
        println!("skipped: something listens on port 1883 or 8080 already");
        return;
    }
    if required("npm", in_path("npm")).is_none() {
        return;
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    let bin = stand_ins();
    let mut commands = 0;
    for section in readme.split("\n## ") {
        let steps = steps(section);
        commands += steps.len();
        walk(section, &steps, &bin);
        let is_free = eventually(|| (!listens(1883) && !listens(8080)).then_some(()));
        assert!(is_free.is_some(), "something goes on after: {steps:?}");
    }
    assert!(commands > 10, "{commands} commands were found");
}

/// The console blocks of a section.
fn steps(section: &str) -> Vec<Step<'_>> {
    let blocks = section.split("```console\n").skip(1);
    let blocks = blocks.map(|block| block.split("\n```").next().unwrap_or(block));
    let mut steps = Vec::new();
    for line in blocks.flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command, prints: Vec::new() }),
            None => {
                let step: &mut Step<'_> = steps.last_mut().expect("a command comes first");
                step.prints.push(line);
            }
        }
    }
    steps
}

fn walk(section: &str, steps: &[Step<'_>], bin: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var("PATH").expect("there is a search path");
    let log = std::fs::File::create(bin.join("log")).expect("a file can be made");
    let mut terminals = Vec::new();
    for step in steps {
        let terminal = Program::start(
            Command::new("bash")
                .args(["-c", step.command])
                .current_dir(&root)
                .env("PATH", format!("{}:{path}", bin.display()))
                .env_remove("CARGO")
                .stdin(Stdio::null())
                .stderr(log.try_clone().expect("a file handle can be cloned")),
        );
        if !step.command.starts_with("cargo run") {
            let (status, _) = terminal.finish();
            assert!(status.success(), "{}", step.command);
            continue;
        }
        // Whoever types is not faster than a broker starts.
        if step.command.contains("--example broker") || step.command.ends_with(" nightlight") {
            assert!(eventually(|| listens(1883).then_some(())).is_some(), "{}", step.command);
        }
        terminals.push((terminal, step));
    }
    for (terminal, step) in &terminals {
        for expected in &step.prints {
            terminal.line_where(|line| without_numbers(line) == without_numbers(expected));
        }
    }
    if section.contains("<http://localhost:8080>") {
        let page = page();
        assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("Nightlights"), "{page}");
    }
    // The last one first, as somebody closes windows.
    for (terminal, step) in terminals.into_iter().rev() {
        assert!(terminal.terminate().success(), "{} does not end well", step.command);
    }
}

fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for character in line.chars() {
        match character {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            character => text.push(character),
        }
    }
    text
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn page() -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)).expect("the page is served");
    let request = "GET / HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it can be asked for");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is text");
    answer
}

/// A folder with a `cargo` and an `npm` for the search path.
fn stand_ins() -> PathBuf {
    let sources = ["examples/nightlight/src", "examples/nightlight/programs", "mqtt-client/src"];
    let examples = broker_process::built("nightlight", &sources);
    let examples = examples.parent().expect("it is in a folder");
    for name in ["nightlight-device", "nightlight-server", "thermostat"] {
        broker_process::built(name, &sources);
    }
    broker_process::example("broker");
    let bin = scratch().join("newcomer");
    std::fs::create_dir_all(&bin).expect("a folder can be made");
    let npm = in_path("npm").expect("it was looked for");
    let cargo = format!(
        "#!/bin/bash\n\
         [ \"$1 $2 $3\" = 'run --release --example' ] || {{ echo \"cargo $*\" >&2; exit 64; }}\n\
         program='{}'/$4\n\
         shift 4\n\
         [ $# = 0 ] || [ \"$1\" = -- ] || {{ echo 'no -- before options' >&2; exit 64; }}\n\
         exec \"$program\" \"${{@:2}}\"\n",
        examples.display()
    );
    let npm = format!(
        "#!/bin/bash\n\
         set -e\n\
         copy='{}'\n\
         cp package.json package-lock.json \"$copy\"\n\
         cd \"$copy\"\n\
         exec '{}' \"$@\" --no-audit --no-fund\n",
        bin.display(),
        npm.display()
    );
    for (name, text) in [("cargo", cargo), ("npm", npm)] {
        let file = bin.join(name);
        std::fs::write(&file, text).expect("a file can be written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&file, executable).expect("it can be made executable");
    }
    bin
}
