//! File descriptors: each connection needs one, and the usual limit is 1,024.

use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are kept for listeners, files and the runtime itself.
const RESERVED: u64 = 64;

/// Raises the limit of open files as far as this process may, and returns how many connections fit
/// below it.
pub fn raise_limit() -> usize {
    let Ok((current, maximum)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // Unknown: what does not fit is refused by the system.
        return usize::MAX;
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, maximum, maximum).is_ok();
    let limit = if raised { maximum } else { current };
    usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX)
}

/// True when an error of `accept` says that something has run out on our side: the connection stays
/// in the queue, and trying again at once would only spin.
pub fn are_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|error| exhausted.contains(&Errno::from_raw(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_can_be() {
        let connections = raise_limit();
        let (current, maximum) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit is known");
        assert_eq!(current, maximum);
        assert!(connections > 0);
    }

    #[test]
    fn only_a_lack_on_our_side_is_exhaustion() {
        assert!(are_exhausted(&Errno::EMFILE.into()));
        assert!(!are_exhausted(&io::ErrorKind::ConnectionAborted.into()));
    }
}
