//! Three nodes and the clients in one process, each with a transport of its own on loopback.
//!
//! A node is a thread: an arbiter with one replica of every group and, placed beside them, the
//! transport. What dies and comes back is the transport. The replicas live on and keep what they
//! promised, as they would if it had been on a disk.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Arbiter, Handler, Message, dev::ToEnvelope};
use actix_transport::{BindError, Config, GroupId, Placement, Shutdown, Transport};
use futures::future::try_join_all;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    Failure,
    actor::{self, Connect, Legacy, ReplicaActor, Retire, Status},
    client::Client,
    links::{Addresses, Links},
    message::{NodeId, REPLICAS},
    replica::Replica,
};

/// A port of the system's choice on loopback.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Every wait for an actor or a transport ends after this long, with a failure.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the port of a node that died may stay taken.
const REBIND: Duration = Duration::from_secs(3);

/// What waits longer than this for a node that is away is of no use to it any more: it will have
/// to ask for the log in any case.
const STALE: Duration = Duration::from_secs(1);

/// The longest pause between attempts to reach a node that is away: short, as the run is, and on
/// loopback an attempt costs next to nothing.
const REDIAL: Duration = Duration::from_millis(250);

pub(crate) struct Cluster {
    nodes: Vec<Node>,
    clients: Transport,
    addresses: Addresses,
    groups: u32,
    /// Transports that were stopped in the course of things. Their books must balance, too.
    buried: Vec<Transport>,
}

struct Node {
    id: NodeId,
    arbiter: Arbiter,
    transport: Transport,
    /// By group.
    replicas: Vec<Addr<ReplicaActor>>,
}

/// What the transports of a cluster have done so far.
#[derive(Copy, Clone, Default)]
pub(crate) struct Traffic {
    /// Frames written to a connection.
    pub(crate) frames: u64,
    /// Frames refused by a sender, dropped by one, or dropped by a receiver.
    pub(crate) drops: u64,
    /// Connections made to a node that had been connected to before.
    pub(crate) reconnects: u64,
}

impl Cluster {
    /// Starts all nodes. Group `g` is first led by replica `g % 3`, so that each leads a share.
    pub(crate) async fn start(groups: u32, seed: u64) -> Result<Self, Failure> {
        let clients = bind(ANYWHERE)?;
        let mut nodes = Vec::new();
        for id in NodeId::replicas() {
            nodes.push(Node::start(id, groups, seed).await?);
        }
        let mut addresses = [clients.local_addr(); REPLICAS + 1];
        for node in &nodes {
            addresses[node.id.index()] = node.transport.local_addr();
        }
        let cluster = Self {
            nodes,
            clients,
            addresses,
            groups,
            buried: Vec::new(),
        };
        // All can be reached before the first one speaks.
        for node in &cluster.nodes {
            node.register()?;
        }
        for node in &cluster.nodes {
            node.connect(&cluster.addresses).await?;
        }
        Ok(cluster)
    }

    /// Starts the client of a group, with so many sessions.
    pub(crate) fn start_client(
        &self,
        group: u32,
        sessions: u32,
        payload: usize,
    ) -> Result<Addr<Client>, Failure> {
        let id = GroupId::new(group);
        let links = Links::new(NodeId::CLIENTS, id, &self.clients, &self.addresses)?;
        let client = Client::new(links, first_leader(group), sessions, payload).start();
        self.clients.register(id, client.clone().recipient())?;
        Ok(client)
    }

    /// Kills the transport of a node: whatever it holds is lost, and nobody can reach it.
    pub(crate) async fn kill(&mut self, id: NodeId) -> Result<(), Failure> {
        let transport = self.nodes[id.index()].transport.clone();
        stop(&transport, Shutdown::Now).await?;
        self.buried.push(transport);
        Ok(())
    }

    /// Binds a node that was killed to its old port.
    pub(crate) async fn revive(&mut self, id: NodeId) -> Result<(), Failure> {
        let addr = self.addresses[id.index()];
        let node = &mut self.nodes[id.index()];
        let begun = Instant::now();
        node.transport = loop {
            match bind_on(&node.arbiter, addr).await {
                Ok(transport) => break transport,
                Err(err) if begun.elapsed() >= REBIND => return Err(err),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        node.register()?;
        node.connect(&self.addresses).await
    }

    /// Asks every replica how it stands: a list by group of lists by node.
    pub(crate) async fn status(&self) -> Result<Vec<Vec<Status>>, Failure> {
        let by_group = (0..self.groups as usize).map(|group| {
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
            // A node that was revived dials from where it did before.
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

    /// Stops all transports and returns how many there were, if the books of every one of them
    /// balance: each frame it was given is accounted for.
    pub(crate) async fn stop(&self) -> Result<usize, Failure> {
        for node in &self.nodes {
            stop(&node.transport, Shutdown::Drain(ANSWER / 5)).await?;
        }
        stop(&self.clients, Shutdown::Drain(ANSWER / 5)).await?;
        for transport in self.transports() {
            let addr = transport.local_addr();
            let balance = transport.stats().balance();
            balance.map_err(|err| format!("the books of {addr} do not balance: {err}"))?;
        }
        Ok(self.transports().count())
    }

    /// Ends the replicas of a group and returns what they leave, by node.
    pub(crate) async fn retire(&self, group: u32) -> Result<Vec<Legacy>, Failure> {
        let replicas = self.nodes.iter().map(|node| &node.replicas[group as usize]);
        try_join_all(replicas.map(|replica| ask(replica, Retire))).await
    }

    fn transports(&self) -> impl Iterator<Item = &Transport> {
        let living = self.nodes.iter().map(|node| &node.transport);
        living.chain([&self.clients]).chain(&self.buried)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.arbiter.stop();
        }
    }
}

impl Node {
    async fn start(id: NodeId, groups: u32, seed: u64) -> Result<Self, Failure> {
        let arbiter = Arbiter::new();
        let transport = bind_on(&arbiter, ANYWHERE).await?;
        let replica = |group: u32| {
            let seed = seed ^ u64::from(group) << 8 ^ id.index() as u64;
            let eager = id == first_leader(group);
            ReplicaActor::start_in_arbiter(&arbiter.handle(), move |_| {
                ReplicaActor::new(Replica::new(id, eager, seed, Instant::now()))
            })
        };
        let replicas = (0..groups).map(replica).collect();
        Ok(Self {
            id,
            arbiter,
            transport,
            replicas,
        })
    }

    /// Lets every replica hear what is sent to its group.
    fn register(&self) -> Result<(), Failure> {
        for (group, replica) in (0..).map(GroupId::new).zip(&self.replicas) {
            self.transport
                .register(group, replica.clone().recipient())?;
        }
        Ok(())
    }

    /// Lets every replica speak.
    async fn connect(&self, addresses: &Addresses) -> Result<(), Failure> {
        for (group, replica) in (0..).map(GroupId::new).zip(&self.replicas) {
            let links = Links::new(self.id, group, &self.transport, addresses)?;
            ask(replica, Connect(links)).await?;
        }
        Ok(())
    }
}

/// Sends a message to an actor and waits for what comes back, though not for ever.
pub(crate) async fn ask<A, M>(actor: &Addr<A>, message: M) -> Result<M::Result, Failure>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result: Send> + Send + 'static,
{
    let answer = timeout(ANSWER, actor.send(message)).await;
    Ok(answer.map_err(|_| "an actor gives no answer")??)
}

fn first_leader(group: u32) -> NodeId {
    NodeId::replica(group as usize)
}

/// Binds a transport on the thread of an arbiter, where it then runs.
async fn bind_on(arbiter: &Arbiter, addr: SocketAddr) -> Result<Transport, Failure> {
    let (tell, bound) = oneshot::channel();
    arbiter.spawn_fn(move || {
        // Nobody listens any more if this took too long.
        let _ = tell.send(bind(addr));
    });
    let bound = timeout(ANSWER, bound).await;
    Ok(bound.map_err(|_| "an arbiter does nothing")???)
}

/// Binds a transport on this thread, where it then runs. Nothing in here is a datagram.
fn bind(addr: SocketAddr) -> Result<Transport, BindError> {
    let config = Config::default()
        .stale_after(STALE)
        .redial_max(REDIAL)
        .placement(Placement::Current)
        .udp(false);
    Transport::builder().config(config).bind(addr)
}

async fn stop(transport: &Transport, how: Shutdown) -> Result<(), Failure> {
    let addr = transport.local_addr();
    let stopped = timeout(ANSWER, transport.stop(how)).await;
    stopped.map_err(|_| format!("the transport of {addr} does not stop"))?;
    Ok(())
}
