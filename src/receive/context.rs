//! The parts that all receiving tasks of a transport share.

use std::sync::{Arc, Weak};

use crate::{
    config::Config,
    net::tls::Endpoint,
    observe::receive_accounts::ReceiveAccounts,
    receive::{
        budget::InboundBudget, call_parts::CallParts, groups::Groups, node_memory::NodeMemory,
    },
    runtime::lifecycle::Lifecycle,
    send::peers::Peers,
    session::context::SessionContext,
};

/// The settings, the memory budgets, who serves which group, where received frames are counted, when
/// receiving ends, and what is needed to know and answer senders. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveContext {
    pub(crate) config: Arc<Config>,
    pub(crate) budget: InboundBudget,
    pub(crate) node_memory: NodeMemory,
    pub(crate) groups: Groups,
    pub(crate) accounts: ReceiveAccounts,
    pub(crate) lifecycle: Lifecycle,
    /// `None` if sessions are off.
    pub(crate) sessions: Option<Arc<SessionContext>>,
    /// `None` if TLS is off.
    pub(crate) tls: Option<Arc<Endpoint>>,
    pub(crate) calls: CallParts,
    /// For answers to senders.
    pub(crate) peers: Weak<Peers>,
}
