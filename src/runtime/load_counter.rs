//! How many connections, or peers, a worker has, and which worker has the fewest.
//!
//! The number is raised *before* a connection or peer is handed to a worker, so that connections that come
//! at the same moment spread over the workers. It falls when the [`LoadGuard`] that travels with the
//! connection or peer is dropped, on any thread. The number only serves to spread work evenly and orders
//! no other memory, hence `Relaxed`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many connections, or peers, one worker has.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadCounter(Arc<AtomicUsize>);

impl LoadCounter {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Adds one, until the guard is dropped.
    pub(crate) fn add(&self) -> LoadGuard {
        self.0.fetch_add(1, Relaxed);
        LoadGuard(self.clone())
    }
}

/// One connection or peer of a worker, for as long as this lives.
#[derive(Debug)]
pub(crate) struct LoadGuard(LoadCounter);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Returns the worker with the lowest load, the first of several.
pub(crate) fn least_loaded<T>(
    workers: impl IntoIterator<Item = T>,
    load: impl Fn(&T) -> &LoadCounter,
) -> Option<T> {
    workers.into_iter().min_by_key(|worker| load(worker).get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_spreads_evenly_because_load_is_counted_before_the_hand_over() {
        let workers = vec![
            LoadCounter::default(),
            LoadCounter::default(),
            LoadCounter::default(),
        ];
        let burst: Vec<_> = (0..9)
            .map(|_| least_loaded(&workers, |load| load).expect("three").add())
            .collect();
        assert_eq!(
            workers.iter().map(LoadCounter::get).collect::<Vec<_>>(),
            [3, 3, 3]
        );
        drop(burst);
        assert_eq!(
            workers.iter().map(LoadCounter::get).collect::<Vec<_>>(),
            [0, 0, 0]
        );
    }
}
