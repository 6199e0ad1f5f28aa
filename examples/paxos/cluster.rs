//! Three nodes and the clients in one process, each with its own transport on loopback.
//!
//! A node is one arbiter thread with one replica of every group and the transport. Only the
//! transport is stopped and started again. The replicas live on and keep their promises, as they
//! would if these were on a disk.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Arbiter, Handler, Message, dev::ToEnvelope};
use actix_transport::{
    BindError, Builder, Config, GroupId, Identity, Lane, Placement, Shutdown, Transport,
};
use futures::future::try_join_all;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    Failure,
    actor::{self, Connect, ReplicaActor, ReplicaReport, Retire, Status},
    client::{self, Client},
    links::{Addresses, Links},
    message::{NodeId, REPLICAS},
    replica::Replica,
    value::LONG,
};

/// Loopback, with a port that the system chooses.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Every wait for an actor or a transport fails after this long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long binding is retried while the port of a stopped node is still taken.
const REBIND_LIMIT: Duration = Duration::from_secs(3);

/// Frames that have waited longer than this for an absent node are dropped: that node has to
/// fetch the log in any case.
const STALE: Duration = Duration::from_secs(1);

/// The longest pause between attempts to reach an absent node. It is short because the run is
/// short, and on loopback an attempt costs next to nothing.
const REDIAL: Duration = Duration::from_millis(250);

/// Where all share one lane: more than the longest value that the arguments allow.
const LONGEST_FRAME: usize = 65 << 20;

/// Bytes of calls that a replica serves: some of the longest values.
const SERVED: usize = 256 << 20;

pub(crate) struct Cluster {
    nodes: Vec<Node>,
    clients: Transport,
    addresses: Addresses,
    options: Options,
    /// The thread of clients with long values: to make one takes milliseconds, in which the others would wait.
    long_clients: Arbiter,
    /// Transports that were stopped during the run. Their counters are checked, too.
    stopped: Vec<Transport>,
}

/// What the nodes of a cluster have in common.
#[derive(Copy, Clone)]
pub(crate) struct Options {
    pub(crate) groups: u32,
    pub(crate) seed: u64,
    /// Whether replica 0 is the first leader of all groups; otherwise each replica leads a third.
    pub(crate) one_leader: bool,
    /// Whether each kind of message has a lane of its own; otherwise all share one, and each is one frame.
    pub(crate) use_lanes: bool,
}

impl Options {
    fn first_leader(self, group: u32) -> NodeId {
        NodeId::replica(if self.one_leader { 0 } else { group as usize })
    }
}

struct Node {
    id: NodeId,
    arbiter: Arbiter,
    transport: Transport,
    /// By group.
    replicas: Vec<Addr<ReplicaActor>>,
}

/// Sums over all transports of a cluster.
#[derive(Copy, Clone, Default)]
pub(crate) struct Traffic {
    /// Frames written to a connection.
    pub(crate) frames: u64,
    /// Frames that a sender refused, a sender dropped, or a receiver dropped.
    pub(crate) drops: u64,
    /// Connections of the normal lane to a node after the first one. When two nodes dial each other at the same
    /// time, one of their two connections ends, so that there is one more here.
    pub(crate) reconnects: u64,
}

impl Cluster {
    /// Starts all nodes.
    pub(crate) async fn start(options: Options) -> Result<Self, Failure> {
        let clients = builder(REPLICAS, options).connect_only()?;
        let mut nodes = Vec::new();
        for id in NodeId::replicas() {
            nodes.push(Node::start(id, options).await?);
        }
        let mut addresses = [ANY_PORT; REPLICAS];
        for node in &nodes {
            addresses[node.id.index()] = node.transport.local_addr();
        }
        let cluster = Self {
            nodes,
            clients,
            addresses,
            options,
            long_clients: Arbiter::new(),
            stopped: Vec::new(),
        };
        // All replicas are registered before the first message is sent.
        for node in &cluster.nodes {
            node.register()?;
        }
        for node in &cluster.nodes {
            node.connect(&cluster.addresses, options).await?;
        }
        Ok(cluster)
    }

    /// Starts the client of a group.
    pub(crate) fn start_client(
        &self,
        group: u32,
        load: client::Load,
    ) -> Result<Arc<Client>, Failure> {
        let long = load.payload > LONG;
        let lane = match long && self.options.use_lanes {
            true => Lane::BULK,
            false => Lane::NORMAL,
        };
        let replica = |addr| self.clients.peer(addr).map(|peer| peer.lane(lane));
        let replicas = self.addresses.into_iter().map(replica);
        let leader = self.options.first_leader(group);
        let replicas = replicas.collect::<Result<_, _>>()?;
        let client = Client::new(GroupId::new(group), replicas, leader, load);
        match long {
            true => client.start(&self.long_clients.handle()),
            false => client.start(&Arbiter::current()),
        }
        Ok(client)
    }

    /// Stops the transport of a node. All that it holds is lost, and the node cannot be reached.
    pub(crate) async fn kill(&mut self, id: NodeId) -> Result<(), Failure> {
        let transport = self.nodes[id.index()].transport.clone();
        stop(&transport, Shutdown::Now).await?;
        self.stopped.push(transport);
        Ok(())
    }

    /// Binds a stopped node to its old port.
    pub(crate) async fn restart(&mut self, id: NodeId) -> Result<(), Failure> {
        let addr = self.addresses[id.index()];
        let node = &mut self.nodes[id.index()];
        let begun = Instant::now();
        node.transport = loop {
            match bind_on(&node.arbiter, id, addr, self.options).await {
                Ok(transport) => break transport,
                Err(err) if begun.elapsed() >= REBIND_LIMIT => return Err(err),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        node.register()?;
        node.connect(&self.addresses, self.options).await
    }

    /// Asks every replica for its status. The outer list is by group, the inner by node.
    pub(crate) async fn status(&self) -> Result<Vec<Vec<Status>>, Failure> {
        let by_group = (0..self.options.groups as usize).map(|group| {
            let replicas = self.nodes.iter().map(move |node| &node.replicas[group]);
            try_join_all(replicas.map(|replica| ask(replica, actor::Ask)))
        });
        try_join_all(by_group).await
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic::default();
        let mut connects = HashMap::new();
        for transport in self.transports() {
            let stats = transport.stats();
            traffic.frames += stats.tcp.written.frames;
            traffic.drops += stats.tcp.rejected.total().frames
                + stats.tcp.dropped.total().frames
                + stats.inbound.dropped.total().frames;
            // A restarted node has the same address, so that both its transports add to one entry.
            for to in self.addresses {
                let epoch = transport.peer_stats(to).map_or(0, |peer| peer.epoch);
                *connects.entry((transport.local_addr(), to)).or_insert(0) += epoch;
            }
        }
        let again = connects
            .into_values()
            .map(|connects: u64| connects.saturating_sub(1));
        traffic.reconnects = again.sum();
        traffic
    }

    /// Stops all transports and returns how many there were. Fails if the counters of one do not
    /// balance, that is, if a frame is unaccounted for.
    pub(crate) async fn stop(&self) -> Result<usize, Failure> {
        for node in &self.nodes {
            stop(&node.transport, Shutdown::Drain(TIMEOUT / 5)).await?;
        }
        stop(&self.clients, Shutdown::Drain(TIMEOUT / 5)).await?;
        for transport in self.transports() {
            let addr = transport.local_addr();
            let balance = transport.stats().balance();
            balance.map_err(|err| format!("the counters of {addr} do not balance: {err}"))?;
        }
        Ok(self.transports().count())
    }

    /// Stops the replicas of a group and returns their logs, by node.
    pub(crate) async fn retire(&self, group: u32) -> Result<Vec<ReplicaReport>, Failure> {
        let replicas = self.nodes.iter().map(|node| &node.replicas[group as usize]);
        try_join_all(replicas.map(|replica| ask(replica, Retire))).await
    }

    fn transports(&self) -> impl Iterator<Item = &Transport> {
        let living = self.nodes.iter().map(|node| &node.transport);
        living.chain([&self.clients]).chain(&self.stopped)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.arbiter.stop();
        }
        self.long_clients.stop();
    }
}

impl Node {
    async fn start(id: NodeId, options: Options) -> Result<Self, Failure> {
        let arbiter = Arbiter::new();
        let transport = bind_on(&arbiter, id, ANY_PORT, options).await?;
        let replica = |group: u32| {
            let seed = options.seed ^ u64::from(group) << 8 ^ id.index() as u64;
            let stand_at_once = id == options.first_leader(group);
            ReplicaActor::start_in_arbiter(&arbiter.handle(), move |_| {
                ReplicaActor::new(Replica::new(id, stand_at_once, seed, Instant::now()))
            })
        };
        let replicas = (0..options.groups).map(replica).collect();
        Ok(Self {
            id,
            arbiter,
            transport,
            replicas,
        })
    }

    /// Registers every replica for the frames and the calls of its group.
    fn register(&self) -> Result<(), Failure> {
        for (group, replica) in (0..).map(GroupId::new).zip(&self.replicas) {
            let transport = &self.transport;
            transport.register(group, replica.clone().recipient())?;
            transport.serve_calls(group, replica.clone().recipient())?;
        }
        Ok(())
    }

    /// Gives every replica its links, so that it can send.
    async fn connect(&self, addresses: &Addresses, options: Options) -> Result<(), Failure> {
        for (group, replica) in (0..).map(GroupId::new).zip(&self.replicas) {
            let links = Links::new(
                self.id,
                group,
                &self.transport,
                addresses,
                options.use_lanes,
            )?;
            ask(replica, Connect(links)).await?;
        }
        Ok(())
    }
}

/// Sends a message to an actor and waits for its answer, at most [`TIMEOUT`].
pub(crate) async fn ask<A, M>(actor: &Addr<A>, message: M) -> Result<M::Result, Failure>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result: Send> + Send + 'static,
{
    let answer = timeout(TIMEOUT, actor.send(message)).await;
    Ok(answer.map_err(|_| "an actor did not answer in time")??)
}

/// Binds a transport on the thread of an arbiter, and lets it run there.
async fn bind_on(
    arbiter: &Arbiter,
    id: NodeId,
    addr: SocketAddr,
    options: Options,
) -> Result<Transport, Failure> {
    let (bound_tx, bound) = oneshot::channel();
    arbiter.spawn_fn(move || {
        // Fails if the other side has stopped waiting.
        let _ = bound_tx.send(bind(id, addr, options));
    });
    let bound = timeout(TIMEOUT, bound).await;
    Ok(bound.map_err(|_| "an arbiter did not run in time")???)
}

/// Binds a transport on this thread, and lets it run here.
fn bind(id: NodeId, addr: SocketAddr, options: Options) -> Result<Transport, BindError> {
    builder(id.index(), options).bind(addr)
}

/// Returns the settings of a node. It has an identity, because calls and messages that are longer than a frame need one
/// at both ends. This example needs no datagrams.
fn builder(node: usize, options: Options) -> Builder {
    let mut config = Config::default()
        .stale_after(STALE)
        .redial_max(REDIAL)
        .placement(Placement::Current)
        .served_call_bytes(SERVED)
        .udp(false);
    if !options.use_lanes {
        config = config.max_frame(LONGEST_FRAME);
    }
    let identity = Identity::new(actix_transport::NodeId::new(node as u64));
    Transport::builder().config(config).identity(identity)
}

async fn stop(transport: &Transport, how: Shutdown) -> Result<(), Failure> {
    let addr = transport.local_addr();
    let stopped = timeout(TIMEOUT, transport.stop(how)).await;
    stopped.map_err(|_| format!("the transport of {addr} did not stop in time"))?;
    Ok(())
}
