//! How a [`Transport`] is made.

#[cfg(feature = "remote")]
use std::{fmt, sync::Arc};

use actix::Recipient;

#[cfg(feature = "tls")]
use crate::net::tls::Tls;
use crate::{
    api::transport::Transport,
    config::Config,
    error::PeerError,
    ids::{GroupId, NodeId},
    net::names::{Resolve, Resolver},
    observe::event::PeerEvent,
    peer_addr::PeerAddr,
    receive::{
        call::Call,
        groups::{CatchAll, GroupOverflow},
        inbound::Inbound,
    },
    runtime::failpoints::Failpoints,
    session::{identity::Identity, meant::Meant},
};
#[cfg(feature = "remote")]
use crate::{error::RegisterError, receive::services::Services};

/// Configures and starts a [`Transport`].
///
/// Who serves which group can be said here, before the port is open: then no frame comes too early for
/// its actor. An actor that needs the transport itself is registered in
/// [`bind_with`](Builder::bind_with).
///
/// ```
/// # use actix::prelude::*;
/// # use actix_transport::{GroupId, Inbound, Transport};
/// # struct Replica;
/// # impl Actor for Replica {
/// #     type Context = Context<Self>;
/// # }
/// # impl Handler<Inbound> for Replica {
/// #     type Result = ();
/// #     fn handle(&mut self, _: Inbound, _: &mut Context<Self>) {}
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # System::new().block_on(async {
/// let transport = Transport::builder()
///     .register(GroupId::new(3), Replica.start().recipient())
///     .bind("127.0.0.1:0")?;
/// # transport.stop(actix_transport::Shutdown::Now).await;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    pub(super) config: Config,
    pub(super) failpoints: Failpoints,
    pub(super) groups: Vec<Registration>,
    pub(super) catch_all: Option<CatchAll>,
    pub(super) services: Vec<(GroupId, Recipient<Call>)>,
    #[cfg(feature = "remote")]
    pub(crate) messages: Vec<ServedFirst>,
    pub(super) subscribers: Vec<Recipient<PeerEvent>>,
    pub(super) identity: Option<Identity>,
    pub(super) meant: Meant,
    /// The first thing given to `peer` that is no address.
    pub(super) bad_peer: Option<PeerError>,
    pub(super) resolver: Resolver,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls>,
}

/// A group that is served from the first frame on.
#[derive(Debug, Clone)]
pub(super) struct Registration {
    pub(super) group: GroupId,
    pub(super) actor: Recipient<Inbound>,
    pub(super) overflow: GroupOverflow,
}

/// Lets an actor serve typed messages from the first one on. Which messages they are is known only where this is made.
#[cfg(feature = "remote")]
#[derive(Clone)]
pub(crate) struct ServedFirst(pub(crate) Arc<ServeOn>);

#[cfg(feature = "remote")]
type ServeOn = dyn Fn(&Services) -> Result<(), RegisterError> + Send + Sync;

#[cfg(feature = "remote")]
impl fmt::Debug for ServedFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedFirst")
    }
}

impl Builder {
    /// Sets the configuration. The default is [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Lets `actor` serve `group` from the first frame on; see [`Transport::register`]. If the group is
    /// reserved or given twice, [`bind`](Builder::bind) says so.
    #[must_use]
    pub fn register(self, group: GroupId, actor: Recipient<Inbound>) -> Self {
        self.register_with(group, actor, GroupOverflow::Wait)
    }

    /// Does the same as [`register`](Builder::register), with a choice of what happens while the actor is
    /// slow.
    #[must_use]
    pub fn register_with(
        mut self,
        group: GroupId,
        actor: Recipient<Inbound>,
        overflow: GroupOverflow,
    ) -> Self {
        self.groups.push(Registration {
            group,
            actor,
            overflow,
        });
        self
    }

    /// Lets `actor` serve the calls of `group` from the first one on; see [`Transport::serve_calls`]. If the group is
    /// reserved or given twice, [`bind`](Builder::bind) says so.
    #[must_use]
    pub fn serve_calls(mut self, group: GroupId, actor: Recipient<Call>) -> Self {
        self.services.push((group, actor));
        self
    }

    /// Lets `actor` serve all groups that no other actor serves, from the first frame on; see
    /// [`Transport::catch_all`].
    #[must_use]
    pub fn catch_all(mut self, actor: Recipient<Inbound>) -> Self {
        self.catch_all = Some(CatchAll {
            actor,
            in_order: false,
        });
        self
    }

    /// As [`catch_all`](Builder::catch_all), but with the frames of all these groups in the order of their arrival; see
    /// [`Transport::catch_all_in_order`].
    #[must_use]
    pub fn catch_all_in_order(mut self, actor: Recipient<Inbound>) -> Self {
        self.catch_all = Some(CatchAll {
            actor,
            in_order: true,
        });
        self
    }

    /// Sends `subscriber` all events of the transport, from the first on; see [`Transport::subscribe`].
    #[must_use]
    pub fn subscribe(mut self, subscriber: Recipient<PeerEvent>) -> Self {
        self.subscribers.push(subscriber);
        self
    }

    /// Says who this node is. Then it introduces itself to other nodes, and they to it; see
    /// [`Config::sessions`](Config::sessions).
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Says which node is meant at an address. If another one answers there, it gets no frames: they wait
    /// in the queue until the node that is meant is back, or until they go stale. Needs an
    /// [`identity`](Builder::identity) of this node, and sessions. Of several nodes for one address the last
    /// counts.
    ///
    /// `addr` is whatever [`Transport::peer`] takes: a `SocketAddr`, a [`PeerAddr`], or a text such as
    /// `"node-3.svc:7000"`. If the text is no address, [`bind`](Builder::bind) says so. Then
    /// [`Transport::peer_of`] finds the peer by its number, at the last address that was given for it.
    #[must_use]
    pub fn peer<A>(mut self, node: NodeId, addr: A) -> Self
    where
        A: TryInto<PeerAddr>,
        PeerError: From<A::Error>,
    {
        match addr.try_into().map_err(PeerError::from) {
            Ok(addr) => self.meant.insert(node, addr),
            Err(err) => self.bad_peer = self.bad_peer.or(Some(err)),
        }
        self
    }

    /// Sets who finds the addresses of host names. The default asks the operating system. See [`Resolve`].
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Resolver::new(resolver);
        self
    }

    /// Encrypts all connections, and accepts only nodes with an accepted certificate. Needs an
    /// [`identity`](Builder::identity), which the certificate must cover, and sessions that are required,
    /// which is their default then. There are no datagrams, unless they are
    /// [allowed](Tls::allow_datagrams).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets a test make the transport's actors panic.
    #[cfg(feature = "failpoints")]
    #[must_use]
    pub fn failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }
}

impl Transport {
    /// Returns a builder, which configures and starts a transport.
    pub fn builder() -> Builder {
        Builder::default()
    }
}
