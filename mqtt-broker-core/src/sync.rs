//! The only file that names locks and atomics, so that a model checker can stand in for them.

#[cfg(loom)]
use loom::sync as imp;
#[cfg(not(loom))]
use std::sync as imp;

use std::sync::PoisonError;

#[cfg(feature = "store")]
pub(crate) use imp::atomic::AtomicU8;
pub(crate) use imp::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use imp::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
// Nothing here depends on who lets go last, so the model has fewer orders to look at with this one.
pub(crate) use std::sync::Arc;

/// A mutex without poisoning: hooks and wakers run outside of all locks, so that no foreign code
/// can unwind through one.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A readers-writer lock without poisoning, as [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(imp::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
