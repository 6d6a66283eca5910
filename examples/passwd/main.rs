//! Makes and edits password files, as `mosquitto_passwd` does: `cargo run --example passwd`.

use std::error::Error;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use mqtt_examples::password::{PasswordHash, PasswordText, Scheme};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

/// Makes and edits password files of MQTT brokers.
///
/// The broker example and Mosquitto read them.
#[derive(Parser)]
#[command(name = "passwd", version)]
struct Arguments {
    /// Creates the file. What it had before is gone.
    #[arg(short, long)]
    create: bool,
    /// Takes the password from the command line, where everyone on this machine can read it.
    #[arg(short, long)]
    batch: bool,
    /// Deletes the user.
    #[arg(short = 'D', long, conflicts_with_all = ["create", "batch", "update"])]
    delete: bool,
    /// Hashes the passwords of a file that has them as they are.
    #[arg(short = 'U', long, conflicts_with_all = ["create", "batch"])]
    update: bool,
    /// How passwords are hashed.
    #[arg(short = 'H', long, value_name = "SCHEME", default_value = "sha512-pbkdf2")]
    hash: Hash,
    /// The password file.
    file: PathBuf,
    /// The user's name.
    #[arg(required_unless_present = "update")]
    name: Option<String>,
    /// The password, with -b.
    #[arg(required_if_eq("batch", "true"))]
    password: Option<String>,
}

/// The names that `mosquitto_passwd` has for them.
#[derive(Clone, Copy, ValueEnum)]
enum Hash {
    /// For Mosquitto 1.6.
    Sha512,
    /// For Mosquitto 2.0 and later.
    Sha512Pbkdf2,
    /// For Mosquitto 2.1 and later.
    Argon2id,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("passwd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let scheme = match arguments.hash {
        Hash::Sha512 => Scheme::Sha512,
        Hash::Sha512Pbkdf2 => Scheme::Pbkdf2,
        Hash::Argon2id => Scheme::Argon2id,
    };
    let mut text = if arguments.create { PasswordText::default() } else { read(&arguments.file)? };
    let name = arguments.name.as_deref().unwrap_or_default();
    if arguments.update {
        let hashed = text.hash_plain(scheme)?;
        println!("{hashed} passwords hashed");
    } else if arguments.delete {
        if !text.remove(name) {
            return Err(format!("there is no user {name} in {}", arguments.file.display()).into());
        }
    } else {
        let password = match (&arguments.password, arguments.batch) {
            (Some(password), true) => password.clone(),
            (Some(_), false) => return Err("a password on the command line needs -b".into()),
            (None, _) => ask()?,
        };
        text.set(name, &PasswordHash::new(password.as_bytes(), scheme)?)?;
    }
    let written = text.write(&arguments.file);
    written.map_err(|error| format!("{}: {error}", arguments.file.display()).into())
}

fn read(file: &Path) -> Result<PasswordText, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(PasswordText::new(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{}: {error} (-c creates it)", file.display()))
        }
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// Asks for a password twice. From a pipe it is read twice as well, as `mosquitto_passwd` does.
fn ask() -> Result<String, Box<dyn Error>> {
    let first = hidden_line("Password: ")?;
    let second = hidden_line("Reenter password: ")?;
    match first {
        first if first != second => Err("the passwords are not the same".into()),
        first if first.is_empty() => Err("the password is empty".into()),
        first => Ok(first),
    }
}

/// Reads a line without showing it.
fn hidden_line(prompt: &str) -> io::Result<String> {
    let input = io::stdin();
    eprint!("{prompt}");
    io::stderr().flush()?;
    let shown = input.is_terminal().then(|| tcgetattr(&input)).transpose()?;
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&input, SetArg::TCSAFLUSH, &hidden)?;
    }
    let mut line = String::new();
    let result = input.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        tcsetattr(&input, SetArg::TCSAFLUSH, shown)?;
    }
    eprintln!();
    match result? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}
