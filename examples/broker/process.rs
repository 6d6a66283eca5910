//! What a broker owes to the system that runs it: a pid file, a user without rights, a word to
//! systemd.

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};

/// A pid file. Dropping it removes the file.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the id of this process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(file: &Path) -> io::Result<Self> {
        std::fs::write(file, format!("{}\n", std::process::id()))?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The user that the broker has become may not remove it. A new start writes over it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Why the process could not become another user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is no such user.
    #[error("there is no user {0}")]
    Unknown(String),
    /// The system does not let us.
    #[error("cannot become user {name}: {error}")]
    Denied {
        /// The user.
        name: String,
        /// Why.
        error: nix::Error,
    },
}

/// Becomes a user, with its groups, when started as root. Ports below 1024 are to be open by then.
///
/// # Errors
/// When there is no such user, or the system does not let us: going on as root is not what was asked
/// for.
pub fn become_user(name: &str) -> Result<(), UserError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let denied = |error| UserError::Denied { name: name.to_owned(), error };
    let user = user(name).map_err(denied)?.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
    let c_name = CString::new(user.name).map_err(|_| UserError::Unknown(name.to_owned()))?;
    initgroups(&c_name, user.gid).map_err(denied)?;
    setgid(user.gid).map_err(denied)?;
    setuid(user.uid).map_err(denied)
}

/// A user by its name. Where nobody is called mosquitto, nobody is meant, as in Mosquitto.
fn user(name: &str) -> nix::Result<Option<User>> {
    match (User::from_name(name)?, name) {
        (None, "mosquitto") => User::from_name("nobody"),
        (user, _) => Ok(user),
    }
}

/// Gives a file to the user that [`become_user`] will become, when started as root. What is no file,
/// such as `/dev/stdout`, stays whose it is.
///
/// # Errors
/// When there is no such user, or the system does not let us.
pub fn give_file(file: &Path, name: &str) -> io::Result<()> {
    if !geteuid().is_root() || !file.metadata()?.is_file() {
        return Ok(());
    }
    let user = user(name)?.ok_or(io::ErrorKind::NotFound)?;
    std::os::unix::fs::chown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

/// True when the process may do everything, which a broker need not.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Tells systemd that the service is ready, or that it ends (`READY=1`, `STOPPING=1`).
///
/// # Errors
/// When systemd's socket does not take it. Nothing is done when systemd does not ask for it.
pub fn notify(state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::SocketAddr;

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
