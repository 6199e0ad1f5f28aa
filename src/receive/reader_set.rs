//! The `Reader`s of a transport, and which of them gets the next connection.

use actix::Addr;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    receive::reader::Reader,
    runtime::load_counter::{LoadCounter, LoadGuard, least_loaded},
};

/// The Readers, by index. A Reader that is started again takes the slot of its former life.
#[derive(Debug)]
pub(crate) struct ReaderSet {
    slots: Box<[ReaderSlot]>,
    /// Notified when a Reader has started or ended for good.
    changed: Notify,
}

#[derive(Debug, Default)]
struct ReaderSlot {
    load: LoadCounter,
    /// The current Reader. `None` before it has started, and after it has ended for good.
    reader: Mutex<Option<Addr<Reader>>>,
}

impl ReaderSlot {
    fn living_reader(&self) -> Option<Addr<Reader>> {
        self.reader.lock().clone().filter(Addr::connected)
    }
}

impl ReaderSet {
    pub(crate) fn new(readers: usize) -> Self {
        ReaderSet {
            slots: (0..readers).map(|_| ReaderSlot::default()).collect(),
            changed: Notify::new(),
        }
    }

    /// Puts a Reader into its slot, or empties the slot.
    pub(crate) fn set(&self, index: usize, reader: Option<Addr<Reader>>) {
        *self.slots[index].reader.lock() = reader;
        self.changed.notify_one();
    }

    /// Returns the living Reader with the fewest connections, or `None` if none lives. Until the guard is
    /// dropped, one more connection counts for it.
    pub(super) fn least_loaded(&self) -> Option<(Addr<Reader>, LoadGuard)> {
        let living = self.slots.iter().filter_map(|slot| {
            let reader = slot.living_reader()?;
            Some((slot, reader))
        });
        let (slot, reader) = least_loaded(living, |(slot, _)| &slot.load)?;
        Some((reader, slot.load.add()))
    }

    /// Waits until a Reader lives.
    pub(super) async fn any(&self) {
        while self.slots.iter().all(|slot| slot.living_reader().is_none()) {
            self.changed.notified().await;
        }
    }

    /// Waits until each Reader has begun its first life, so that the first connections spread evenly.
    pub(super) async fn all_started(&self) {
        while self.slots.iter().any(|slot| slot.reader.lock().is_none()) {
            self.changed.notified().await;
        }
    }
}
