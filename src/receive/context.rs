//! The parts that all receiving tasks of a transport share.

use std::sync::Arc;

use crate::{
    config::Config,
    observe::receive_accounts::ReceiveAccounts,
    receive::{budget::InboundBudget, groups::Groups},
    runtime::lifecycle::Lifecycle,
};

/// The settings, the memory budget, who serves which group, where received frames are counted, and when receiving ends.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveContext {
    pub(crate) config: Arc<Config>,
    pub(crate) budget: InboundBudget,
    pub(crate) groups: Groups,
    pub(crate) accounts: ReceiveAccounts,
    pub(crate) lifecycle: Lifecycle,
}
