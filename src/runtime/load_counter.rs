//! Who carries how much: the load of the I/O workers, and the caps on connections.
//!
//! Both are numbers that go up with a guard and down with its `Drop`, so that a connection that ends
//! in whatever way gives back what it took. Nothing here knows what a connection is.
//!
//! The protocol of a `LoadCounter`: it is raised by the one who hands work over, *before* the hand-over, so
//! that a burst of connections sees each other; it falls when the `LoadGuard` guard that travels with
//! the work is dropped, on whatever thread that happens. Nobody is woken by either. The number is a
//! hint for a fair spread and orders no other memory, hence `Relaxed`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many connections, or peers, one worker carries.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadCounter(Arc<AtomicUsize>);

impl LoadCounter {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Takes one more; the guard gives it back.
    pub(crate) fn carry(&self) -> LoadGuard {
        self.0.fetch_add(1, Relaxed);
        LoadGuard(self.clone())
    }
}

/// One unit of load, for as long as it lives.
#[derive(Debug)]
pub(crate) struct LoadGuard(LoadCounter);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Picks the worker that carries least, the first of several.
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
    fn a_burst_spreads_evenly_because_load_counts_before_the_hand_over() {
        let workers = vec![
            LoadCounter::default(),
            LoadCounter::default(),
            LoadCounter::default(),
        ];
        let burst: Vec<_> = (0..9)
            .map(|_| least_loaded(&workers, |load| load).expect("three").carry())
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
