use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use super::hash::{PasswordHash, Scheme};

/// The text of a password file while it is edited. Comments and the order of lines stay.
#[derive(Clone, Debug, Default)]
pub struct PasswordText {
    lines: Vec<String>,
}

/// Why a user name cannot be in a password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("the user name is empty")]
    Empty,
    /// The colon ends the name in the file.
    #[error("a user name cannot have a colon in it")]
    Colon,
    /// A line end, or something else that is not text.
    #[error("a user name cannot have control characters in it")]
    Control,
    /// A line that begins with # is a comment.
    #[error("a user name cannot begin with #")]
    Comment,
    /// Reading a file takes spaces at the ends away.
    #[error("a user name cannot begin or end with a space")]
    Space,
}

impl PasswordText {
    /// A file's text.
    pub fn new(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    /// Sets the hash of a user: in its line if there is one, else in a new line at the end.
    ///
    /// # Errors
    /// When the name cannot be in a file.
    pub fn set(&mut self, name: &str, hash: &PasswordHash) -> Result<(), NameError> {
        check_name(name)?;
        let line = format!("{name}:{hash}");
        match self.lines.iter_mut().find(|line| is_of(line, name)) {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
        Ok(())
    }

    /// Takes a user away. False when there is none with this name.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !is_of(line, name));
        self.lines.len() < before
    }

    /// Hashes the passwords of all lines that are `name:password` with the password as it is, and
    /// returns how many there were. What is a hash already stays one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn hash_plain(&mut self, scheme: Scheme) -> Result<usize, getrandom::Error> {
        let mut hashed = 0;
        for line in &mut self.lines {
            let text = line.trim();
            let Some((name, password)) = text.split_once(':') else { continue };
            if text.starts_with('#') || password.parse::<PasswordHash>().is_ok() {
                continue;
            }
            let hash = PasswordHash::new(password.as_bytes(), scheme)?;
            *line = format!("{name}:{hash}");
            hashed += 1;
        }
        Ok(hashed)
    }

    /// Writes the text to a file in one step: a broker that reads it meanwhile sees the old text or
    /// the new one. A new file is for its owner only; an existing one keeps its owner and its
    /// permissions, and one behind a link is written where it is.
    ///
    /// # Errors
    /// When the file cannot be written; it is as it was then.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let mut name = file.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        let result = self.write_new(new, file).and_then(|()| fs::rename(new, file));
        if result.is_err() {
            // There may be nothing to remove.
            let _ = fs::remove_file(new);
        }
        result
    }

    fn write_new(&self, new: &Path, old: &Path) -> io::Result<()> {
        let mut options = File::options();
        let mut output = options.write(true).create(true).truncate(true).mode(0o600).open(new)?;
        if let Ok(old) = fs::metadata(old) {
            // Of another user, as that of a broker, for whom root edits it. First, since it takes
            // permissions away.
            let made = output.metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                fchown(&output, Some(old.uid()), Some(old.gid()))?;
            }
            output.set_permissions(Permissions::from_mode(old.mode()))?;
        }
        for line in &self.lines {
            writeln!(output, "{line}")?;
        }
        output.sync_all()
    }
}

fn is_of(line: &str, name: &str) -> bool {
    line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
}

fn check_name(name: &str) -> Result<(), NameError> {
    match name {
        "" => Err(NameError::Empty),
        name if name.contains(':') => Err(NameError::Colon),
        name if name.contains(char::is_control) => Err(NameError::Control),
        name if name.starts_with('#') => Err(NameError::Comment),
        name if name.trim() != name => Err(NameError::Space),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::Passwords;

    fn hash(password: &str) -> PasswordHash {
        PasswordHash::new(password.as_bytes(), Scheme::Sha512).expect("random bytes")
    }

    fn read(text: &PasswordText) -> Passwords {
        Passwords::parse(Path::new("pw"), &text.lines.join("\n")).expect("a good file")
    }

    #[test]
    fn users_are_added_changed_and_removed() {
        let mut text = PasswordText::new("# people\n");
        text.set("alice", &hash("a")).expect("a good name");
        text.set("alice b", &hash("b")).expect("a good name");
        text.set("alice", &hash("c")).expect("a good name");
        let users = read(&text);
        assert!(users.verify("alice", b"c") && !users.verify("alice", b"a"));
        assert!(users.verify("alice b", b"b"));
        assert!(text.remove("alice") && !text.remove("alice"));
        let users = read(&text);
        assert!(!users.verify("alice", b"c") && users.verify("alice b", b"b"));
        assert_eq!(text.lines[0], "# people");
    }

    #[test]
    fn a_file_stays_where_and_whose_it_is() {
        let folder = std::env::temp_dir().join(format!("passwords-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (file, link) = (folder.join("file"), folder.join("link"));
        PasswordText::new("").write(&file).expect("a new file");
        let is_root = fs::metadata(&file).expect("it is there").uid() == 0;
        let owner = is_root.then_some(12_345);
        std::os::unix::fs::chown(&file, owner, owner).expect("a file of root's");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("a file of ours");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("file", &link).expect("a link");
        let before = fs::metadata(&file).expect("it is there");
        let mut text = PasswordText::default();
        text.set("alice", &hash("a")).expect("a good name");
        text.write(&link).expect("it can be written");
        let after = fs::metadata(&file).expect("it is there");
        let of = |file: &fs::Metadata| (file.uid(), file.gid(), file.mode());
        assert_eq!(of(&after), of(&before));
        assert!(after.len() > 0 && link.is_symlink());
        let _ = fs::remove_dir_all(folder);
    }

    #[test]
    fn names_that_a_file_cannot_hold_are_refused() {
        let mut text = PasswordText::default();
        for name in ["", "a:b", "a\nb", "#a", " a", "a "] {
            assert!(text.set(name, &hash("x")).is_err(), "{name:?}");
        }
        assert!(text.lines.is_empty());
    }

    #[test]
    fn plain_passwords_are_hashed_once() {
        let mut text = PasswordText::new("alice:secret\n# bob:x\ncarol:pass:word\n");
        assert_eq!(text.hash_plain(Scheme::Sha512), Ok(2));
        let users = read(&text);
        assert!(users.verify("alice", b"secret") && users.verify("carol", b"pass:word"));
        assert_eq!(text.hash_plain(Scheme::Sha512), Ok(0));
        assert!(read(&text).verify("alice", b"secret"));
    }
}
