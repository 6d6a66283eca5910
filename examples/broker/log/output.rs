use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::Kind;
use super::topic::TopicLog;
use crate::config::LogDestination;

/// Where the system's log takes lines.
const SYSLOG: &str = "/dev/log";

/// A destination of lines that is open.
pub(super) enum Output {
    Stdout,
    Stderr,
    Syslog(UnixDatagram),
    Topic,
    File(File),
}

/// A destination that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be written to {}: {error}", file.display())]
pub struct OpenError {
    file: PathBuf,
    error: io::Error,
}

impl Output {
    pub(super) fn open(destination: &LogDestination) -> Result<Self, OpenError> {
        Ok(match destination {
            LogDestination::Stdout => Self::Stdout,
            LogDestination::Stderr => Self::Stderr,
            LogDestination::Topic => Self::Topic,
            LogDestination::Syslog => {
                let open = || {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(SYSLOG)?;
                    // A system's log that hangs must not hang the broker.
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                };
                Self::Syslog(open().map_err(|error| OpenError { file: SYSLOG.into(), error })?)
            }
            LogDestination::File(file) => {
                let open = File::options().append(true).create(true).open(file);
                Self::File(open.map_err(|error| OpenError { file: file.clone(), error })?)
            }
        })
    }

    /// Writes a line; `text` is the line without the time. What cannot be written is lost: there is
    /// nobody left to tell.
    pub(super) fn write(&self, kind: Kind, line: &str, text: &str, topic: &TopicLog) {
        let _ = match self {
            Self::Stdout => writeln!(io::stdout().lock(), "{line}"),
            Self::Stderr => writeln!(io::stderr().lock(), "{line}"),
            // One write, so that lines of several processes do not mix.
            Self::File(file) => (&*file).write_all(format!("{line}\n").as_bytes()),
            Self::Syslog(socket) => {
                let priority = FACILITY_DAEMON * 8 + severity(kind);
                let process = std::process::id();
                socket.send(format!("<{priority}>broker[{process}]: {text}").as_bytes()).map(drop)
            }
            Self::Topic => {
                topic.push(name(kind), line);
                Ok(())
            }
        };
    }
}

/// The number of "system daemons" in syslog.
const FACILITY_DAEMON: u8 = 3;

/// The numbers of severities in syslog.
fn severity(kind: Kind) -> u8 {
    match kind {
        Kind::Error => 3,
        Kind::Warning => 4,
        Kind::Notice => 5,
        Kind::Information | Kind::Subscribe | Kind::Unsubscribe => 6,
        Kind::Debug => 7,
    }
}

/// The last level of the topic in `$SYS/broker/log/...`.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Error => "E",
        Kind::Warning => "W",
        Kind::Notice => "N",
        Kind::Information => "I",
        Kind::Debug => "D",
        Kind::Subscribe => "M/subscribe",
        Kind::Unsubscribe => "M/unsubscribe",
    }
}
