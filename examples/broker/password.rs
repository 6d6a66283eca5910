//! Password files as `mosquitto_passwd` makes them, all three kinds of its history.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use crate::config::Position;
use crate::lines;

mod edit;
mod hash;

pub use edit::{NameError, PasswordText};
pub use hash::{HashError, PasswordHash, Scheme};

/// The users of a password file.
///
/// Verifying is slow on purpose, with up to 64 MiB for one attempt: run it where it blocks nobody,
/// and only a few at a time.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    users: HashMap<String, PasswordHash>,
}

/// A password file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{position}: {reason}")]
pub struct PasswordFileError {
    position: Position,
    reason: Reason,
}

/// What is wrong with a line. All of them end the reading: a line that was skipped could be the one
/// that keeps somebody out.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("a line is `name:hash`")]
    NoColon,
    #[error("the user name is empty")]
    NoName,
    #[error("user {0} is there already")]
    Twice(String),
    #[error("the hash of user {name}: {error}")]
    Hash { name: String, error: HashError },
}

impl Passwords {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, and for the first line that is not right.
    pub fn read(file: &Path) -> Result<Self, PasswordFileError> {
        let mut passwords = Self::default();
        lines::read(file, |line| passwords.take(line)).map_err(PasswordFileError::from)?;
        Ok(passwords)
    }

    /// As [`Passwords::read`] with the text at hand. `file` is for errors only.
    ///
    /// # Errors
    /// As [`Passwords::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, PasswordFileError> {
        let mut passwords = Self::default();
        lines::parse(file, text, |line| passwords.take(line)).map_err(PasswordFileError::from)?;
        Ok(passwords)
    }

    fn take(&mut self, line: &str) -> Result<(), Reason> {
        let (name, hash) = line.split_once(':').ok_or(Reason::NoColon)?;
        if name.is_empty() {
            return Err(Reason::NoName);
        }
        let hash = hash.parse().map_err(|error| Reason::Hash { name: name.to_owned(), error })?;
        match self.users.entry(name.to_owned()) {
            Entry::Occupied(entry) => Err(Reason::Twice(entry.key().clone())),
            Entry::Vacant(entry) => {
                entry.insert(hash);
                Ok(())
            }
        }
    }

    /// True when `password` is that of `name`.
    ///
    /// An unknown name takes as long as a known one, as far as all lines of the file are of one
    /// kind.
    pub fn verify(&self, name: &str, password: &[u8]) -> bool {
        match self.users.get(name) {
            Some(hash) => hash.verify(password),
            None => {
                if let Some(any) = self.users.values().next() {
                    std::hint::black_box(any.verify(password));
                }
                false
            }
        }
    }

    /// True when there is a user with this name.
    pub fn has(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// True when a line is of the kind that Mosquitto 1.6 wrote: one round of SHA-512, which a
    /// machine tries by the million each second.
    pub fn has_weak_hashes(&self) -> bool {
        self.users.values().any(PasswordHash::is_weak)
    }
}

impl From<(Position, Reason)> for PasswordFileError {
    fn from((position, reason): (Position, Reason)) -> Self {
        Self { position, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines that `mosquitto_passwd` of Debian's Mosquitto 2.0.11 wrote, the second one with
    /// `-H sha512`, and one of argon2-cffi with the parameters of Mosquitto 2.1.
    const FILE: &str = "\
# users
alice:$7$101$pnhYJVy7Lr/mHSRW$OloNrIQExjFdtuS3peW0+/qYk1K2Ue7FcEIxUixvCNvuh/ZFq7c1HqCSMQzOhRLTdBPfxh1GlFwtsIhJ+IyB5w==

bob:$6$NNoNbxF00bz7Wkm5$bn6afgjfoXQoOgBwshWE818Xk4USZtZeUaaYJLwsN6W4LS3HPjjyTiTD0w2tR3Nqr0vzWTDXHvjTMMM31z3jEw==
carol:$argon2id$v=19$m=47104,t=1,p=1$s0/rpKxPbZOCsv01O7dvCXM75jN1EUSwc0nmGjG2zufmLijccN6baTQzCo0ZgR2cdKe2nCXISNQ/7GuVD484Jg$l91NdF37zlfP7zdHhT6e45NHH7jkFPX4R+k7hYiLOKx0KtYg4ASv8t08Y/AS7m8M2r7wRuQvQr+2J/cDo/Ev+g
";

    fn parse(text: &str) -> Result<Passwords, PasswordFileError> {
        Passwords::parse(Path::new("pw"), text)
    }

    #[test]
    fn the_lines_of_three_versions_are_verified() {
        let passwords = parse(FILE).expect("a good file");
        for name in ["alice", "bob", "carol"] {
            assert!(passwords.verify(name, b"secret"), "{name}");
            for wrong in [&b"secreT"[..], b"", b"secre", b"secret "] {
                assert!(!passwords.verify(name, wrong), "{name}");
            }
        }
        assert!(!passwords.verify("dave", b"secret"));
        assert!(passwords.has_weak_hashes());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(a:|\\$(6|7|argon2id)\\$|v=19|m=[0-9]{1,9},t=1,p=1|[0-9A-Za-z+/=$:\n]{0,20}){0,8}",
        ) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn a_file_without_users_lets_nobody_in() {
        for text in ["", "\n\n", "# alice:x\n"] {
            let passwords = parse(text).expect("a good file");
            assert!(!passwords.verify("", b"") && !passwords.verify("alice", b"x"));
        }
    }

    #[test]
    fn a_line_that_is_not_right_is_named() {
        let error = |text: &str| parse(text).expect_err("an error").to_string();
        assert_eq!(error("# x\nbob\n"), "pw:2: a line is `name:hash`");
        assert_eq!(error(":$7$1$YQ==$YQ==\n"), "pw:1: the user name is empty");
        assert!(error("bob:\n").starts_with("pw:1: the hash of user bob"));
        assert!(error("bob:secret\n").starts_with("pw:1: the hash of user bob"));
        let twice = FILE.replace("bob:", "alice:");
        assert_eq!(error(&twice), "pw:4: user alice is there already");
        let missing = Passwords::read(Path::new("/nonexistent/pw")).expect_err("an error");
        assert!(missing.to_string().starts_with("/nonexistent/pw: cannot be read"));
    }
}
