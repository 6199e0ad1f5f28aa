//! Checks the counters all the time: in every snapshot of a node, each frame is in exactly one
//! counter.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use actix_transport::Transport;

use crate::row::{Failure, Figures};

/// A thread that takes snapshots of nodes. It ends when this is dropped.
pub(crate) struct BalanceWatch(Arc<Mutex<Results>>);

#[derive(Default)]
struct Results {
    snapshots: u64,
    /// The first snapshot that did not balance.
    imbalance: Option<String>,
}

impl BalanceWatch {
    pub(crate) fn start<'t>(nodes: impl IntoIterator<Item = &'t Transport>) -> Self {
        let nodes: Vec<_> = nodes.into_iter().cloned().collect();
        let results = Arc::new(Mutex::new(Results::default()));
        let weak = Arc::downgrade(&results);
        thread::spawn(move || {
            while let Some(results) = weak.upgrade() {
                for node in &nodes {
                    let balance = node.stats().balance();
                    let mut results = results.lock().expect("no holder of this lock panics");
                    results.snapshots += 1;
                    if let Err(imbalance) = balance {
                        results.imbalance.get_or_insert(imbalance.to_string());
                    }
                }
                drop(results);
                thread::sleep(Duration::from_millis(1));
            }
        });
        BalanceWatch(results)
    }

    /// Returns the first snapshot that did not balance.
    pub(crate) fn first_imbalance(&self) -> Option<String> {
        self.results().imbalance.clone()
    }

    /// Fails if a snapshot did not balance.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.first_imbalance()
            .map_or(Ok(()), |imbalance| Err(Failure::error(imbalance)))
    }

    /// Adds the number of snapshots to the figures, and requires that all balanced.
    pub(crate) fn add_to(&self, figures: &mut Figures) {
        let snapshots = self.results().snapshots;
        let imbalance = self.first_imbalance();
        figures.add("snapshots that balance", snapshots);
        figures.require(snapshots > 0, || "no snapshot was taken".into());
        figures.require(imbalance.is_none(), || imbalance.unwrap_or_default());
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
