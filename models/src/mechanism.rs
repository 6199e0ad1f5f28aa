// The queue's sources and what they need, exactly as they are in the crate, except that every lock is
// the model's. Both programs include this file at their root, because `crate::` in those sources then
// means the program.

#[path = "../../src"]
mod source {
    pub(crate) mod call_error;
    pub(crate) mod calls {
        mod call_table;
        pub(crate) mod deadlines;
        pub(crate) mod expire;
        pub(crate) mod foreign;
        pub(crate) mod pending;
        pub(crate) mod queued_call;
    }
    pub(crate) mod config;
    pub(crate) mod error;
    pub(crate) mod ids;
    pub(crate) mod lane;
    pub(crate) mod net {
        pub(crate) mod clock;
        // The crate's goes by tokio's clock.
        pub(crate) mod time {
            pub(crate) use std::time::Instant;

            pub(crate) fn now() -> Instant {
                Instant::now()
            }
        }
    }
    pub(crate) mod observe {
        pub(crate) mod stats;
    }
    pub(crate) mod peer_addr;
    pub(crate) mod send {
        pub(crate) mod queue;
    }
    pub(crate) mod wire {
        pub(crate) mod body;
        pub(crate) mod call;
        pub(crate) mod count;
        pub(crate) mod frame;
        pub(crate) mod head_bytes;
        pub(crate) mod payload;
        pub(crate) mod trace_context;
    }
}

mod check;

use source::*;

// With this, `use parking_lot::Mutex` in the queue means the `Mutex` at the root of the program.
extern crate self as parking_lot;

pub use config::Config;
pub use error::SendError;
pub use ids::GroupId;
pub use wire::payload::Payload;
