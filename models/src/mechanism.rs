// The crate's queue and the sources that it uses, unchanged, except that they lock the model's
// mutex. Both programs include this file at their root, which is what `crate::` means in those
// sources.

#[path = "../../src"]
mod source {
    pub(crate) mod config;
    pub(crate) mod error;
    pub(crate) mod ids;
    pub(crate) mod net {
        pub(crate) mod clock;
    }
    pub(crate) mod observe {
        pub(crate) mod stats;
    }
    pub(crate) mod send {
        pub(crate) mod queue;
    }
    pub(crate) mod wire {
        pub(crate) mod count;
        pub(crate) mod frame;
        pub(crate) mod payload;
    }
}

mod check;

use source::*;

// `use parking_lot::Mutex` in the queue finds the `Mutex` of this program's root.
extern crate self as parking_lot;

pub use config::Config;
pub use error::SendError;
pub use ids::GroupId;
pub use wire::payload::Payload;
