//! Threads that serve connections.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::listener::Accepted;
use crate::reactor::Reactor;

/// Threads of a runtime for what blocks: two logins that are hashed at a time, and pieces of files for
/// pages. Without a bound of ours each request for a file could start one.
const BLOCKING_THREADS: usize = 8;

/// A runtime whose one thread serves connections.
///
/// # Errors
/// When the system has no more descriptors.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().max_blocking_threads(BLOCKING_THREADS).enable_all().build()
}

/// Runtimes of one thread each, that connections are handed to in turn.
///
/// One thread serves many thousand clients, and a message between clients of two threads costs a
/// wake-up across them, 13 µs when the other one sleeps. So one is the default, and more are for a
/// broker that has a whole core to do.
pub struct Workers {
    /// Of the thread that accepts, which serves as well.
    own: Reactor,
    others: Vec<(Handle, Reactor)>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts all but one of `count` threads; that one is the runtime in whose context this is called.
    /// They end with the process.
    ///
    /// # Errors
    /// When the system has no more threads or descriptors.
    pub fn start(count: usize) -> io::Result<Self> {
        let start = |number| {
            let runtime = runtime()?;
            let handle = runtime.handle().clone();
            let inside = handle.enter();
            let reactor = Reactor::start()?;
            drop(inside);
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
            Ok((handle, reactor))
        };
        let others = (1..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { own: Reactor::start()?, others, next: AtomicUsize::new(0) })
    }

    /// Has one of the threads do what `serve` makes of an accepted connection.
    ///
    /// # Errors
    /// When the connection cannot be moved there; it is closed then.
    pub fn spawn<S, F>(&self, stream: S, serve: impl FnOnce(S::Transport) -> F) -> io::Result<()>
    where
        S: Accepted,
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        let other = turn.checked_sub(1).and_then(|turn| self.others.get(turn));
        let _inside = other.map(|(handle, _)| handle.enter());
        let reactor = other.map_or(&self.own, |(_, reactor)| reactor);
        tokio::spawn(serve(stream.watched_by(reactor)?));
        Ok(())
    }
}
