//! The parts that all `PeerWriter`s of a transport share.

use std::sync::Arc;

use crate::{
    calls::lane_calls::LaneCalls,
    config::Config,
    net::tls::Endpoint,
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
    pub(crate) sessions: Option<SessionParts>,
    /// `None` if TLS is off.
    pub(crate) tls: Option<Arc<Endpoint>>,
    /// What the calls of each lane are made of.
    pub(crate) calls: LaneCalls,
    pub(crate) reporter: Reporter,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) failpoints: Failpoints,
}

/// What writers need if sessions are on. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SessionParts {
    pub(crate) context: Arc<SessionContext>,
    /// Reads the links on which frames come back.
    pub(crate) links: Arc<dyn ReadLinks>,
}
