//! [`MayGo`]: whether a frame may be written when its turn has come.

use crate::{
    net::time::{self, Instant},
    wire::call::CallId,
};

/// Whether a frame may be written when its turn has come.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum MayGo {
    Yes,
    /// It is a part of a message, and the parts before it went on a link that has ended.
    ForFormerLink,
    /// It is a call that was given up.
    GivenUp(CallId),
    /// It is a call, and the far end of the link takes none.
    Unsupported,
}

/// The time at which a batch is taken. Asked for once for all of its calls, and not if it has none.
#[derive(Default)]
pub(super) struct Now(Option<Instant>);

impl Now {
    pub(super) fn get(&mut self) -> Instant {
        *self.0.get_or_insert_with(time::now)
    }
}
