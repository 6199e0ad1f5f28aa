//! [`Directory`]: what the handles of one kind stand for, where they are used with every message.

use std::{
    marker::PhantomData,
    ptr,
    sync::{
        Arc,
        atomic::{
            AtomicPtr,
            Ordering::{Release, SeqCst},
        },
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::{living, table::Numbers};

/// How many threads can look something up at the same time without taking the lock.
const PLACES: usize = 64;

type Rows<T> = FxHashMap<u64, Arc<T>>;

/// Does the same as [`Table`](crate::table::Table). To look something up here takes one locked instruction, on memory that
/// hardly any two threads share: what C adds to a send is mostly such instructions. In return, each change copies the
/// table: a thousand handles cost some 10 µs for one more.
///
/// Whoever looks something up says which rows it reads ("hazard pointers"), and a change waits until nobody reads the
/// former ones. That is not long: who reads is at most about to queue a message or to write it without waiting for room.
#[derive(Debug)]
pub(crate) struct Directory<T> {
    numbers: Arc<Numbers>,
    /// From `Box::into_raw`. Never null.
    rows: AtomicPtr<Rows<T>>,
    places: Box<[Place<T>; PLACES]>,
    /// Locked while the table is changed.
    changing: Mutex<()>,
    owns: PhantomData<Rows<T>>,
}

/// The rows that a thread reads now, or null. On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Place<T>(AtomicPtr<Rows<T>>);

/// A thread that reads. It has read when this is dropped.
struct Reading<'d, T>(&'d Place<T>);

impl<T> Drop for Reading<'_, T> {
    fn drop(&mut self) {
        self.0.0.store(ptr::null_mut(), Release);
    }
}

impl<T> Directory<T> {
    pub(crate) fn new(numbers: &Arc<Numbers>) -> Self {
        Directory {
            numbers: numbers.clone(),
            rows: AtomicPtr::new(Box::into_raw(Box::default())),
            places: Box::new([const { Place(AtomicPtr::new(ptr::null_mut())) }; PLACES]),
            changing: Mutex::new(()),
            owns: PhantomData,
        }
    }

    pub(crate) fn insert(&self, value: Arc<T>) -> u64 {
        let number = self.numbers.next();
        self.change(|rows| rows.insert(number, value));
        number
    }

    /// Calls `with` with the value. `None`: the handle has ended. The value lives until `with` returns, also if another
    /// thread ends the handle meanwhile: that one waits. `with` must not change the directory.
    #[inline]
    pub(crate) fn with<R>(&self, number: u64, with: impl FnOnce(&T) -> R) -> Option<R> {
        match self.read() {
            Some((rows, _reading)) => Some(with(rows.get(&number)?)),
            None => Some(with(&*self.get_locked(number)?)),
        }
    }

    /// Returns the value, to be kept for longer.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<T>> {
        match self.read() {
            Some((rows, _reading)) => rows.get(&number).cloned(),
            None => self.get_locked(number),
        }
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

    /// Returns the rows, which are not freed before what comes with them is dropped. `None` if all places are taken.
    #[inline]
    fn read(&self) -> Option<(&Rows<T>, Reading<'_, T>)> {
        let own = living::number_of_thread() % PLACES;
        let mut next = own;
        loop {
            let (rows, place) = (self.rows.load(SeqCst), &self.places[next]);
            if (place.0)
                .compare_exchange(ptr::null_mut(), rows, SeqCst, SeqCst)
                .is_ok()
            {
                let reading = Reading(place);
                let current = self.rows.load(SeqCst);
                if current == rows {
                    // SAFETY: they were the current rows when the place said so already. Whoever has changed them since
                    // then sees the place, and waits for the end of `reading` before it frees them.
                    return Some((unsafe { &*current }, reading));
                }
                continue;
            }
            next = (next + 1) % PLACES;
            if next == own {
                return None;
            }
        }
    }

    #[cold]
    fn get_locked(&self, number: u64) -> Option<Arc<T>> {
        let _changing = self.changing.lock();
        // SAFETY: current rows are only freed by `change`, by whoever holds the lock.
        let rows = unsafe { &*self.rows.load(SeqCst) };
        rows.get(&number).cloned()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Rows<T>) -> R) -> R {
        let changing = self.changing.lock();
        // SAFETY: as in `get_locked`.
        let mut rows = unsafe { Rows::clone(&*self.rows.load(SeqCst)) };
        let result = change(&mut rows);
        let former = self.rows.swap(Box::into_raw(Box::new(rows)), SeqCst);
        self.wait_until_read(former);
        drop(changing);
        // SAFETY: made by `Box::into_raw`, as all rows are. Nobody reads these, or can begin to: they are not the current
        // ones any more.
        drop(unsafe { Box::from_raw(former) });
        result
    }

    /// Waits until nobody reads these rows, which are not the current ones any more.
    fn wait_until_read(&self, former: *mut Rows<T>) {
        let is_read = |place: &Place<T>| place.0.load(SeqCst) == former;
        for round in 0_u64.. {
            if !self.places.iter().any(is_read) {
                return;
            }
            match round < 100 {
                true => thread::yield_now(),
                // The reader may have a lower priority, and get the core only while this one sleeps.
                false => thread::sleep(Duration::from_micros(50)),
            }
        }
    }
}

impl<T> Drop for Directory<T> {
    fn drop(&mut self) {
        // SAFETY: as in `change`; nobody else has the directory any more.
        drop(unsafe { Box::from_raw(*self.rows.get_mut()) });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Says when it is dropped.
    struct Value(Arc<AtomicBool>);

    impl Drop for Value {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    #[test]
    fn a_handle_that_has_ended_leads_nowhere_and_its_value_is_gone() {
        let directory = Directory::new(&Arc::new(Numbers::new()));
        let is_gone = Arc::new(AtomicBool::new(false));
        let number = directory.insert(Arc::new(Value(is_gone.clone())));
        assert_eq!(directory.with(number, |_| 7), Some(7));
        assert!(directory.get(number).is_some());
        assert!(directory.remove(number).is_some());
        assert!(is_gone.load(SeqCst));
        assert_eq!(directory.with(number, |_| 7), None);
    }

    #[test]
    fn a_value_lives_as_long_as_somebody_is_at_it() {
        let directory = Directory::new(&Arc::new(Numbers::new()));
        let (current, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let seen = AtomicUsize::new(0);
        let is_there = |value: &Value| {
            assert!(!value.0.load(SeqCst), "it is not dropped");
            thread::yield_now();
            assert!(!value.0.load(SeqCst), "nor meanwhile");
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Relaxed) {
                        let number = current.load(Relaxed) as u64;
                        let found = directory.with(number, is_there);
                        seen.fetch_add(usize::from(found.is_some()), Relaxed);
                    }
                });
            }
            for _ in 0..100 {
                let is_gone = Arc::new(AtomicBool::new(false));
                let number = directory.insert(Arc::new(Value(is_gone.clone())));
                let before = seen.load(Relaxed);
                current.store(number as usize, Relaxed);
                while seen.load(Relaxed) == before {
                    thread::yield_now();
                }
                drop(directory.remove(number));
                assert!(is_gone.load(SeqCst), "nobody keeps it");
            }
            is_over.store(true, Relaxed);
        });
    }

    #[test]
    fn who_finds_no_place_finds_the_value_too() {
        let directory = Directory::new(&Arc::new(Numbers::new()));
        let number = directory.insert(Arc::new(3));
        let places: Vec<_> = (0..PLACES).map_while(|_| directory.read()).collect();
        assert_eq!(places.len(), PLACES);
        assert!(directory.read().is_none());
        assert_eq!(directory.with(number, |value| value + 4), Some(7));
        assert_eq!(directory.get(number).as_deref(), Some(&3));
        assert_eq!(directory.with(number + 1, |value| value + 4), None);
    }
}
