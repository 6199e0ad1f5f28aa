//! Deliberate defects, so that the tests can show that they would find them: in a build with the
//! `defects` feature, the one that the environment names; nothing at all otherwise.
//!
//! `defect!(Name)` says whether that one is on; `defect!(Name, with, without)` is one thing or the
//! other. What is only there for a defect is not compiled without the feature. The names, what each
//! of them is and who finds it stand in `examples/torture/defects.rs`.

#[cfg(not(feature = "defects"))]
macro_rules! defect {
    ($name:ident) => {
        false
    };
    ($name:ident, $with:expr, $without:expr) => {
        $without
    };
}

#[cfg(feature = "defects")]
macro_rules! defect {
    ($name:ident) => {
        $crate::defect::is_on(stringify!($name))
    };
    ($name:ident, $with:expr, $without:expr) => {
        if $crate::defect::is_on(stringify!($name)) {
            $with
        } else {
            $without
        }
    };
}

#[cfg(feature = "defects")]
mod on {
    use std::{
        sync::{
            Arc, LazyLock,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Duration,
    };

    /// Whether the environment asks for this defect; it is asked once.
    pub(crate) fn is_on(name: &str) -> bool {
        static CHOSEN: LazyLock<Option<String>> =
            LazyLock::new(|| std::env::var("ACTIX_TRANSPORT_DEFECT").ok());
        CHOSEN.as_deref() == Some(name)
    }

    static CURSOR: AtomicUsize = AtomicUsize::new(0);

    /// Remembers how far into a frame a link came that is gone.
    pub(crate) fn keep_cursor(cursor: usize) {
        CURSOR.store(cursor, SeqCst);
    }

    /// What was remembered last.
    pub(crate) fn kept_cursor() -> usize {
        CURSOR.swap(0, SeqCst)
    }

    /// Adds one after everybody else had time to act on its not being there.
    pub(crate) fn count_late(number: &Arc<AtomicUsize>) -> usize {
        let number = number.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            number.fetch_add(1, SeqCst);
        });
        0
    }
}

#[cfg(feature = "defects")]
pub(crate) use on::*;
