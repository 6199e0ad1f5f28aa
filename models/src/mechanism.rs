// The queue of the crate and what it rests on, as they are, and no other way to lock than the
// model's. Included by both programs at their root, which is what `crate::` means in there.

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

// `use parking_lot::Mutex` in the queue means the one that is named at the root here.
extern crate self as parking_lot;

pub use config::Config;
pub use error::SendError;
pub use ids::GroupId;
pub use wire::payload::Payload;
