//! File descriptors: each connection needs one, and the usual limit is 1,024.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for listeners, files and the runtime itself.
const RESERVED: u64 = 64;

/// Raises the limit of open files as far as this process may, and returns how many connections fit
/// below it.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if current != maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX)
    })
}

/// True when an error of `accept` says that something has run out on our side: the connection stays
/// in the queue, and trying again at once would only spin.
pub fn are_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_can_be() {
        let connections = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert!(connections > 0);
    }

    #[test]
    fn only_a_lack_on_our_side_is_exhaustion() {
        assert!(are_exhausted(&io::Error::from_raw_os_error(Errno::MFILE.raw_os_error())));
        assert!(!are_exhausted(&io::ErrorKind::ConnectionAborted.into()));
    }

    use rustix::io::Errno;
}
