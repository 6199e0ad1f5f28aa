//! The parts that all `PeerWriter`s of a transport share.

use std::sync::Arc;

use crate::{
    config::Config,
    observe::reporter::Reporter,
    runtime::{failpoints::Failpoints, lifecycle::Lifecycle},
    send::{dialer::Dialer, read_links::ReadLinks},
    session::context::SessionContext,
};

/// The parts that all `PeerWriter`s of a transport share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WriterContext {
    pub(crate) config: Arc<Config>,
    pub(crate) dialer: Arc<Dialer>,
    /// `None` if sessions are off.
    pub(crate) sessions: Option<Arc<SessionContext>>,
    pub(crate) links: Arc<dyn ReadLinks>,
    pub(crate) reporter: Reporter,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) failpoints: Failpoints,
}
