//! [`MayGo`]: whether a frame may be written when its turn has come.

use crate::wire::call::CallId;

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
