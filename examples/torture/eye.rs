//! An eye on the counters: in every snapshot of a node, at whatever moment, each frame is in one place.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use actix_transport::Transport;

use crate::row::{Failure, Figures};

/// A thread that takes snapshots of nodes all the time. It ends when this goes.
pub(crate) struct Eye(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    looks: u64,
    /// The first snapshot in which a frame was in no place, or in two.
    wrong: Option<String>,
}

impl Eye {
    pub(crate) fn on<'t>(nodes: impl IntoIterator<Item = &'t Transport>) -> Self {
        let nodes: Vec<_> = nodes.into_iter().cloned().collect();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let ours = Arc::downgrade(&seen);
        thread::spawn(move || {
            while let Some(seen) = ours.upgrade() {
                for node in &nodes {
                    let balance = node.stats().balance();
                    let mut seen = seen.lock().expect("nobody panics here");
                    seen.looks += 1;
                    if let Err(imbalance) = balance {
                        seen.wrong.get_or_insert(imbalance.to_string());
                    }
                }
                drop(seen);
                thread::sleep(Duration::from_millis(1));
            }
        });
        Eye(seen)
    }

    /// What was wrong first.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.seen().wrong.clone()
    }

    /// Fails when anything was.
    pub(crate) fn holds(&self) -> Result<(), Failure> {
        self.wrong()
            .map_or(Ok(()), |wrong| Err(Failure::stuck(wrong)))
    }

    /// Notes how often it has looked, and demands what must be.
    pub(crate) fn tell(&self, figures: &mut Figures) {
        let looks = self.seen().looks;
        let wrong = self.wrong();
        figures.add("snapshots that balance", looks);
        figures.must(looks > 0, || "nobody looked at the counters".into());
        figures.must(wrong.is_none(), || wrong.unwrap_or_default());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("nobody panics here")
    }
}
