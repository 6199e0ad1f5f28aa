//! [`Directory`]: what the handles of one kind stand for, where they are used with every message.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::table::Numbers;

/// Does the same as [`Table`](crate::table::Table). To look something up here takes no lock and changes no memory
/// that threads share, which saves half of what C adds to a send. In return, each change copies the table: a thousand
/// handles cost some 10 µs for one more.
#[derive(Debug)]
pub(crate) struct Directory<T> {
    numbers: Arc<Numbers>,
    rows: ArcSwap<FxHashMap<u64, Arc<T>>>,
    /// Locked while the table is changed.
    changing: Mutex<()>,
}

impl<T> Directory<T> {
    pub(crate) fn new(numbers: &Arc<Numbers>) -> Self {
        Directory {
            numbers: numbers.clone(),
            rows: ArcSwap::default(),
            changing: Mutex::new(()),
        }
    }

    pub(crate) fn insert(&self, value: Arc<T>) -> u64 {
        let number = self.numbers.next();
        self.change(|rows| rows.insert(number, value));
        number
    }

    /// Calls `with` with the value. `None`: the handle has ended. The value lives until `with` returns, also if another
    /// thread ends the handle meanwhile.
    #[inline]
    pub(crate) fn with<R>(&self, number: u64, with: impl FnOnce(&T) -> R) -> Option<R> {
        let rows = self.rows.load();
        Some(with(rows.get(&number)?))
    }

    /// Returns the value, to be kept for longer.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<T>> {
        self.rows.load().get(&number).cloned()
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Arc<T>> {
        self.change(|rows| rows.remove(&number))
    }

    /// Ends the handles whose values do not pass.
    pub(crate) fn retain(&self, passes: impl Fn(&T) -> bool) {
        self.change(|rows| rows.retain(|_, value| passes(value)));
    }

    /// Ends all handles.
    pub(crate) fn clear(&self) {
        self.change(FxHashMap::clear);
    }

    fn change<R>(&self, change: impl FnOnce(&mut FxHashMap<u64, Arc<T>>) -> R) -> R {
        let _changing = self.changing.lock();
        let mut rows = FxHashMap::clone(&self.rows.load());
        let result = change(&mut rows);
        self.rows.store(Arc::new(rows));
        result
    }
}
