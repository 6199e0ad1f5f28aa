//! How a [`Transport`] is made.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::{
    api::{running::Running, transport::Transport},
    config::{Config, Placement},
    datagrams::Outgoing,
    error::BindError,
    net::{
        bind::{self, Bound},
        descriptors,
    },
    observe::{receive_accounts::ReceiveAccounts, reporter::Reporter},
    receive::{
        admission::ConnectionLimits, budget::InboundBudget, context::ReceiveContext, groups::Groups,
    },
    runtime::{
        arbiters::Arbiters, failpoints::Failpoints, lifecycle::Lifecycle, supervision::Supervisor,
    },
    send::{dialer::Dialer, peers::Peers, writer_context::WriterContext},
};

/// Configures and starts a [`Transport`].
#[derive(Debug, Clone, Default)]
pub struct Builder {
    config: Config,
    failpoints: Failpoints,
}

impl Builder {
    /// Sets the configuration. The default is [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Lets a test make the transport's actors panic.
    #[cfg(feature = "failpoints")]
    #[must_use]
    pub fn failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Opens the sockets and starts the actors. From here on, others can connect. With port 0 the system
    /// chooses the port; see [`Transport::local_addr`].
    ///
    /// Must be called where an actix `System` runs. With [`Placement::Current`] a tokio `LocalSet` is
    /// enough; on a tokio runtime without one this panics, as `tokio::task::spawn_local` does. A host
    /// name is resolved here, which blocks. Of several addresses the first that can be bound is used.
    ///
    /// # Errors
    ///
    /// - [`BindError::Config`]: a field of the configuration is out of bounds.
    /// - [`BindError::Bind`]: the address cannot be resolved or bound.
    /// - [`BindError::NoSystem`]: no actix `System` runs on this thread.
    pub fn bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<Transport, BindError> {
        self.config.validate()?;
        let runs = match self.config.placement {
            Placement::Dedicated { .. } => actix_rt::System::is_registered(),
            Placement::Current => tokio::runtime::Handle::try_current().is_ok(),
        };
        if !runs {
            return Err(BindError::NoSystem);
        }
        let failed = |source| BindError::Bind {
            addr: format!("{addr:?}"),
            source,
        };
        let addrs = addr.to_socket_addrs().map_err(failed)?;
        let bound = bind_first(addrs, &self.config).map_err(failed)?;
        self.start(bound).map_err(failed)
    }

    /// Makes the parts, those that others need first, and starts the actors.
    fn start(self, bound: Bound) -> io::Result<Transport> {
        let config = Arc::new(self.config);
        let lifecycle = Lifecycle::default();
        let reporter = Reporter::default();
        let supervisor = Supervisor::new(config.clone(), lifecycle.clone(), reporter.clone());
        let subscribers = reporter.subscribers.clone();
        let arbiters = Arbiters::start(config.placement, &lifecycle, subscribers)?;
        let arbiters = Arc::new(arbiters);

        let writers = WriterContext {
            config: config.clone(),
            dialer: Arc::new(Dialer::new(config.clone(), reporter.clone())),
            reporter: reporter.clone(),
            lifecycle: lifecycle.clone(),
            failpoints: self.failpoints.clone(),
        };
        let peers = Peers::new(writers, supervisor.clone(), arbiters.clone());
        let outgoing = Outgoing::new(bound.udp, bound.addr, &config, reporter.clone());

        let limits = ConnectionLimits::within(&config, descriptors::limit());
        if limits.max() < config.max_connections {
            reporter.few_descriptors(config.max_connections, limits.max());
        }
        let receive = ReceiveContext {
            budget: InboundBudget::new(config.inbound_bytes),
            config,
            groups: Groups::default(),
            accounts: ReceiveAccounts::new(reporter.subscribers.clone()),
            lifecycle: lifecycle.clone(),
        };
        let running = Running {
            local: bound.addr,
            receive,
            limits,
            peers,
            outgoing: Arc::new(outgoing),
            lifecycle,
            reporter,
            supervisor,
            failpoints: self.failpoints,
            arbiters,
            node: Arc::new(Mutex::new(None)),
            stopped: OnceCell::new(),
        };
        running.start(bound.tcp);
        Ok(Transport(Arc::new(running)))
    }
}

impl Transport {
    /// Returns a builder, which configures and starts a transport.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Binds the first of the addresses that can be bound. Otherwise returns the error of the last one.
fn bind_first(addrs: impl Iterator<Item = SocketAddr>, config: &Config) -> io::Result<Bound> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for addr in addrs {
        result = bind::bind(addr, config);
        if result.is_ok() {
            break;
        }
    }
    result
}
