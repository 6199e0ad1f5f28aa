//! How a [`Transport`] starts: the parts are made, those that others need first, and know each other.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

#[cfg(feature = "remote")]
use crate::api::builder::ServedFirst;
#[cfg(feature = "tls")]
use crate::{api::tls_watch::TlsWatch, net::tls::Tls, tls_error::TlsError};
use crate::{
    api::{builder::Builder, running::Running, transport::Transport},
    calls::{lane_calls::LaneCalls, pending::PendingCalls},
    config::{Config, Placement, Sessions},
    datagrams::Outgoing,
    error::{BindError, ConfigError, RegisterError},
    net::{
        bind::{self, Bound},
        descriptors, random,
        tcp::ListeningSocket,
        tls::Endpoint,
        udp::UnattachedUdp,
    },
    observe::{receive_accounts::ReceiveAccounts, reporter::Reporter},
    receive::{
        admission::ConnectionLimits,
        budget::InboundBudget,
        call_parts::CallParts,
        context::ReceiveContext,
        groups::{Group, Groups},
        link_reading::LinkReading,
        node_memory::NodeMemory,
        served::ServedCalls,
        services::Services,
    },
    runtime::{
        arbiters::{self, Arbiters},
        lifecycle::Lifecycle,
        supervision::Supervisor,
    },
    send::{
        dialer::Dialer,
        peers::Peers,
        writer_context::{SessionParts, WriterContext},
    },
    session::{context::SessionContext, identity::Identity},
    wire::control::MAX_CONTROL,
};

impl Builder {
    /// Opens the sockets and starts the actors. From here on, others can connect. With port 0 the system
    /// chooses the port; see [`Transport::local_addr`].
    ///
    /// May be called on any thread. Where no actix `System` runs, as in a program on plain tokio, the
    /// transport starts one on a thread of its own; see [`Transport::arbiter`]. Only
    /// [`Placement::Current`] needs an actix arbiter on this thread. A host name is resolved here, which
    /// blocks. Of several addresses the first that can be bound is used.
    ///
    /// # Errors
    ///
    /// Names the address that cannot be bound, the field of the configuration that cannot be used, or
    /// the group that cannot be registered, what is wrong with the identity, with an address given to
    /// [`Builder::peer`], or with the keys given to `Builder::tls`; or says that this thread has no arbiter.
    pub fn bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<Transport, BindError> {
        self.bind_with(addr, |_| Ok(()))
    }

    /// Does the same as [`bind`](Builder::bind), and calls `prepare` when the port is open and nothing is
    /// received yet: connections and datagrams wait in the system meanwhile. So an actor that holds the
    /// transport can be registered before the first frame comes. `prepare` runs on this thread. It should
    /// not block, as other nodes wait.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_transport::{GroupId, Inbound, Transport};
    /// struct Replica(Transport);
    /// # impl Actor for Replica {
    /// #     type Context = Context<Self>;
    /// # }
    /// # impl Handler<Inbound> for Replica {
    /// #     type Result = ();
    /// #     fn handle(&mut self, _: Inbound, _: &mut Context<Self>) {}
    /// # }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # System::new().block_on(async {
    /// let transport = Transport::builder().bind_with("127.0.0.1:0", |transport| {
    ///     let replica = Replica(transport.clone()).start();
    ///     transport.register(GroupId::new(3), replica.recipient())
    /// })?;
    /// # transport.stop(actix_transport::Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`bind`](Builder::bind), or what `prepare` returns. The transport has ended then, even if a
    /// handle to it was kept.
    pub fn bind_with(
        mut self,
        addr: impl ToSocketAddrs + fmt::Debug,
        prepare: impl FnOnce(&Transport) -> Result<(), RegisterError>,
    ) -> Result<Transport, BindError> {
        self.check()?;
        self.sessions(0, None)?; // Before the port is open.
        self.config.udp &= self.may_have_datagrams();
        let failed = |source| BindError::Bind {
            addr: format!("{addr:?}"),
            source,
        };
        let addrs = addr.to_socket_addrs().map_err(failed)?;
        let tls = self.tls_endpoint()?;
        let Bound { tcp, udp, addr } = bind_first(addrs, &self.config).map_err(failed)?;
        let sessions = self.sessions(addr.port(), tls.as_ref())?;
        let made = self.make(addr, udp, sessions.as_ref(), tls.as_ref());
        let unstarted = Unstarted(Some(made.map_err(failed)?));
        self.register_on(unstarted.transport())?;
        prepare(unstarted.transport())?;
        Ok(unstarted.start(Some(tcp)))
    }

    /// Starts the actors without listening anywhere, for a client, a tool, or a node that others cannot dial.
    /// It gets its answers on the connections that it makes itself, if it has an
    /// [`identity`](Builder::identity) and the peers have one. There are no datagrams.
    /// [`Transport::local_addr`] is `0.0.0.0:0`.
    ///
    /// The connection ends when nothing was sent on it in either direction for
    /// [`Config::idle_timeout`](crate::Config::idle_timeout). From then on others cannot reach this node
    /// until it sends to them again. So an answer must begin to come before that.
    ///
    /// Where sessions are optional, its frames wait for the peer's answer to a `Hello`, at most
    /// [`Config::connect_timeout`](crate::Config::connect_timeout), so that both can send on the connection.
    ///
    /// ```
    /// # use actix_transport::{GroupId, Identity, NodeId, Shutdown, Transport};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # actix::System::new().block_on(async {
    /// let client = Transport::builder()
    ///     .identity(Identity::new(NodeId::new(900)))
    ///     .connect_only()?;
    /// client.peer("127.0.0.1:7000")?.try_send(GroupId::new(3), "question")?;
    /// # client.stop(Shutdown::Now).await;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`bind`](Builder::bind).
    pub fn connect_only(self) -> Result<Transport, BindError> {
        self.check()?;
        let tls = self.tls_endpoint()?;
        let sessions = self.sessions(0, tls.as_ref())?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let made = self.make(nowhere, None, sessions.as_ref(), tls.as_ref());
        let unstarted = Unstarted(Some(made.map_err(|source| BindError::Bind {
            addr: "nowhere".to_owned(),
            source,
        })?));
        self.register_on(unstarted.transport())?;
        Ok(unstarted.start(None))
    }

    /// Checks what needs no port.
    fn check(&self) -> Result<(), BindError> {
        self.config.validate()?;
        if self.config.placement == Placement::Current && !arbiters::is_arbiter_here() {
            return Err(BindError::NoSystem);
        }
        Ok(self.bad_peer.clone().map_or(Ok(()), Err)?)
    }

    /// Returns what sessions need, given the port that this node listens on. `None` if they are off.
    fn sessions(
        &self,
        port: u16,
        tls: Option<&Arc<Endpoint>>,
    ) -> Result<Option<Arc<SessionContext>>, BindError> {
        let bad = |field, problem: String| Err(ConfigError { field, problem }.into());
        let identity = self.identity.as_ref();
        let identity = identity.map(Identity::resolve).transpose()?;
        let (identity, required) = match (self.config.sessions, identity) {
            (Sessions::Auto | Sessions::Required, Some(identity)) => (identity, true),
            (Sessions::Optional, Some(identity)) => (identity, false),
            (Sessions::Optional | Sessions::Required, None) => {
                return bad("sessions", "needs the identity of this node".to_owned());
            }
            (Sessions::Auto, None) | (Sessions::Off, _) if self.meant.is_empty() => {
                return Ok(None);
            }
            (Sessions::Auto, None) | (Sessions::Off, _) => {
                let problem = "is off, but a certain node is meant at an address".to_owned();
                return bad("sessions", problem);
            }
        };
        let Config {
            max_frame,
            connect_timeout,
            ..
        } = self.config;
        if max_frame < MAX_CONTROL {
            let problem = format!("is {max_frame}, but sessions need at least {MAX_CONTROL}");
            return bad("max_frame", problem);
        }
        let sessions = SessionContext::new(
            identity,
            port,
            max_frame,
            self.meant.clone(),
            required,
            connect_timeout,
        );
        let sessions = sessions.taking_messages(self.config.longest_message());
        Ok(Some(Arc::new(sessions.secured(tls.cloned()))))
    }

    /// Returns what TLS needs. `None` if it is off.
    #[cfg(feature = "tls")]
    fn tls_endpoint(&self) -> Result<Option<Arc<Endpoint>>, BindError> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let required = matches!(self.config.sessions, Sessions::Auto | Sessions::Required);
        let me = self.identity.as_ref().filter(|_| required);
        let me = me.ok_or(TlsError::NeedsSessions)?.node();
        let Config {
            max_frame,
            connect_timeout,
            ..
        } = self.config;
        let endpoint = Endpoint::new(tls, me, max_frame, connect_timeout)?;
        Ok(Some(Arc::new(endpoint)))
    }

    #[cfg(not(feature = "tls"))]
    fn tls_endpoint(&self) -> Result<Option<Arc<Endpoint>>, BindError> {
        Ok(None)
    }

    /// Returns whether datagrams may be sent and received.
    fn may_have_datagrams(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_none_or(Tls::has_datagrams);
        #[cfg(not(feature = "tls"))]
        true
    }

    /// Makes the parts, those that others need first.
    fn make(
        &self,
        addr: SocketAddr,
        udp: Option<UnattachedUdp>,
        sessions: Option<&Arc<SessionContext>>,
        tls: Option<&Arc<Endpoint>>,
    ) -> io::Result<Transport> {
        let config = Arc::new(self.config.clone());
        let lifecycle = Lifecycle::default();
        let reporter = Reporter::default();
        let supervisor = Supervisor::new(config.clone(), lifecycle.clone(), reporter.clone());
        let subscribers = reporter.subscribers.clone();
        let arbiters = Arbiters::start(config.placement, &lifecycle, subscribers)?;
        let arbiters = Arc::new(arbiters);

        let pending = PendingCalls::new(config.max_call_bytes, random::first_number());
        let calls = CallParts {
            pending,
            services: Services::default(),
            served: ServedCalls::new(arbiters.readers[0].clone(), config.served_call_bytes),
        };
        let outgoing = Outgoing::new(udp, addr, &config, reporter.clone());
        let limits = connection_limits(&config, &reporter);
        let receive = |peers: &Weak<Peers>| ReceiveContext {
            budget: InboundBudget::new(config.inbound_bytes),
            node_memory: NodeMemory::new(config.longest_message()),
            config: config.clone(),
            groups: Groups::default(),
            accounts: ReceiveAccounts::new(reporter.clone()),
            lifecycle: lifecycle.clone(),
            sessions: sessions.cloned(),
            tls: tls.cloned(),
            calls: calls.clone(),
            peers: peers.clone(),
        };
        // The two know each other: answers go to peers, and links to peers are read.
        let mut received = None;
        let peers = Peers::new(
            |peers| self.writers(addr, received.insert(receive(peers))),
            supervisor.clone(),
            arbiters.clone(),
        );
        let receive = received.expect("made with the peers");
        #[cfg(feature = "tls")]
        let tls = self
            .tls
            .as_ref()
            .zip(tls)
            .zip(sessions)
            .map(|((keys, tls), sessions)| {
                let watch = TlsWatch::new(
                    tls.clone(),
                    sessions.clone(),
                    reporter.clone(),
                    keys.clone(),
                );
                Arc::new(watch)
            });
        Ok(Transport(Arc::new(Running {
            local: addr,
            #[cfg(feature = "tls")]
            tls,
            receive,
            limits,
            peers,
            outgoing: Arc::new(outgoing),
            lifecycle,
            reporter,
            supervisor,
            failpoints: self.failpoints.clone(),
            arbiters,
            node: Arc::new(Mutex::new(None)),
            stopped: OnceCell::new(),
        })))
    }

    /// Makes what all writers share.
    fn writers(&self, addr: SocketAddr, receive: &ReceiveContext) -> WriterContext {
        let (config, reporter) = (&receive.config, receive.accounts.reporter());
        let resolver = self.resolver.clone();
        let dialer = Dialer::new(config.clone(), reporter.clone(), resolver, addr);
        let sessions = receive.sessions.clone();
        WriterContext {
            config: config.clone(),
            dialer: Arc::new(dialer),
            sessions: sessions.map(|context| SessionParts {
                context,
                links: Arc::new(LinkReading(receive.clone())),
            }),
            tls: receive.tls.clone(),
            calls: LaneCalls::new(config, receive.calls.pending.clone()),
            reporter: reporter.clone(),
            lifecycle: receive.lifecycle.clone(),
            failpoints: self.failpoints.clone(),
        }
    }

    /// Subscribes and registers the actors that this builder was given.
    fn register_on(self, transport: &Transport) -> Result<(), RegisterError> {
        for subscriber in self.subscribers {
            transport.subscribe(subscriber);
        }
        transport.set_catch_all(self.catch_all);
        for (group, actor) in self.services {
            transport.serve_calls(group, actor)?;
        }
        #[cfg(feature = "remote")]
        for ServedFirst(serve) in self.messages {
            serve(transport.services())?;
        }
        let rows = self.groups.into_iter().map(|served| {
            let row = Group::new(served.actor, served.overflow);
            (served.group, row)
        });
        transport.0.receive.groups.register_all(rows.collect())
    }
}

/// A transport that receives nothing yet. It ends when this is dropped before it was started, even if
/// somebody holds a handle to it.
struct Unstarted(Option<Transport>);

impl Unstarted {
    fn transport(&self) -> &Transport {
        self.0.as_ref().expect("taken only by `start` and `drop`")
    }

    fn start(mut self, socket: Option<ListeningSocket>) -> Transport {
        let transport = self.0.take().expect("taken only by `start` and `drop`");
        transport.0.start(socket);
        transport
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            transport.0.abandon();
        }
    }
}

/// Returns how many connections there may be. Reports it if that is fewer than were asked for.
fn connection_limits(config: &Config, reporter: &Reporter) -> ConnectionLimits {
    let limits = ConnectionLimits::within(config, descriptors::limit());
    // A quarter more, for links that this node dials and for the rest of the process.
    descriptors::make_room(limits.max().saturating_add(limits.max() / 4));
    if limits.max() < config.max_connections {
        reporter.few_descriptors(config.max_connections, limits.max());
    }
    limits
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
