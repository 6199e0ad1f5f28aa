//! [`Table`]: what the handles of one kind stand for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

/// Gives out numbers, none of them twice.
#[derive(Debug)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    /// Begins somewhere, so that a handle of another context is most likely found to be none of this one.
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Numbers(AtomicU64::new(RandomState::new().hash_one(0) >> 1 | 1))
    }

    /// Returns a number that is not 0, which stands for no handle. With a billion a second they last for
    /// three hundred years.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }
}

/// Values by the numbers of their handles. A number is never used again, so a handle that has ended finds
/// nothing, however long ago that was.
#[derive(Debug)]
pub(crate) struct Table<T> {
    numbers: Arc<Numbers>,
    rows: RwLock<FxHashMap<u64, Arc<T>>>,
}

impl<T> Table<T> {
    pub(crate) fn new(numbers: &Arc<Numbers>) -> Self {
        Table {
            numbers: numbers.clone(),
            rows: RwLock::default(),
        }
    }

    pub(crate) fn insert(&self, value: Arc<T>) -> u64 {
        self.insert_with(|_| value)
    }

    /// Inserts a value that knows its number.
    pub(crate) fn insert_with(&self, value: impl FnOnce(u64) -> Arc<T>) -> u64 {
        let number = self.numbers.next();
        let value = value(number);
        self.rows.write().insert(number, value);
        number
    }

    /// Returns the value. It lives on for this caller if another thread ends the handle meanwhile.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<T>> {
        self.rows.read().get(&number).cloned()
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Arc<T>> {
        self.rows.write().remove(&number)
    }

    /// Ends all handles, and returns their values.
    pub(crate) fn take_all(&self) -> Vec<Arc<T>> {
        let rows = std::mem::take(&mut *self.rows.write());
        rows.into_values().collect()
    }
}
