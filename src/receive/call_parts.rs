//! [`CallParts`]: what connections need for calls.

use std::sync::Arc;

use crate::{
    calls::pending::PendingCalls,
    receive::{served::ServedCalls, services::Services},
};

/// What a connection needs for calls.
#[derive(Debug, Clone)]
pub(crate) struct CallParts {
    /// The calls of this node.
    pub(crate) pending: Arc<PendingCalls>,
    pub(crate) services: Services,
    /// The calls of other nodes.
    pub(crate) served: Arc<ServedCalls>,
}
