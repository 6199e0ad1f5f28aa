//! The `Reader`s of a transport, and which of them gets the next connection.

use actix::Addr;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    receive::reader::Reader,
    runtime::load_counter::{LoadCounter, LoadGuard, least_loaded},
};

/// The Readers, by index. A Reader that is started again takes the place of its former life.
#[derive(Debug)]
pub(crate) struct ReaderSet {
    places: Box<[Place]>,
    /// Notified when a Reader has started or ended for good.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Place {
    load: LoadCounter,
    /// The Reader in its latest life; `None` before its first and after its last.
    reader: Mutex<Option<Addr<Reader>>>,
}

impl Place {
    fn living_reader(&self) -> Option<Addr<Reader>> {
        self.reader.lock().clone().filter(Addr::connected)
    }
}

impl ReaderSet {
    pub(crate) fn new(readers: usize) -> Self {
        ReaderSet {
            places: (0..readers).map(|_| Place::default()).collect(),
            changed: Notify::new(),
        }
    }

    /// Puts a Reader into its place, or empties the place.
    pub(crate) fn set(&self, index: usize, reader: Option<Addr<Reader>>) {
        *self.places[index].reader.lock() = reader;
        self.changed.notify_one();
    }

    /// Returns the living Reader with the fewest connections, with one more counted for it.
    pub(super) fn least_loaded(&self) -> Option<(Addr<Reader>, LoadGuard)> {
        let living = self.places.iter().filter_map(|place| {
            let reader = place.living_reader()?;
            Some((place, reader))
        });
        let (place, reader) = least_loaded(living, |(place, _)| &place.load)?;
        Some((reader, place.load.add()))
    }

    /// Waits until a Reader lives.
    pub(super) async fn any(&self) {
        while self
            .places
            .iter()
            .all(|place| place.living_reader().is_none())
        {
            self.changed.notified().await;
        }
    }

    /// Waits until each Reader has begun its first life, so that the first connections spread evenly.
    pub(super) async fn all_started(&self) {
        while self
            .places
            .iter()
            .any(|place| place.reader.lock().is_none())
        {
            self.changed.notified().await;
        }
    }
}
