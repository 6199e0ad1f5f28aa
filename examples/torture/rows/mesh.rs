//! Nodes of one process that all send to each other, with an identity and perhaps TLS.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use actix_transport::{
    Config, DownReason, Identity, NodeId, PeerEvent, Sessions, Shutdown, Tls, Transport,
};

use crate::{
    fixed_port::{FixedPort, bind_again},
    numbered_log::{Life, NumberedLog, group_for},
    row::Failure,
    stamp::Stamp,
    traffic::{Offering, Pace, offer},
    world::{EventLog, ONE_EACH, until},
};

const MS: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// How long anything may take. The machine may be busy.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// The numbers of the nodes.
pub(super) const NODES: [u32; 3] = [1, 2, 3];

/// Each sends four frames to each other in a millisecond.
const PACE: Pace = Pace::Each(MS, 4);
const LENGTHS: [usize; 4] = [40, 60, 200, 1_000];

/// Where the nodes listen.
pub(super) struct Ports(Vec<FixedPort>);

impl Ports {
    pub(super) fn reserve() -> Result<Self, Failure> {
        let ports: Result<Vec<_>, _> = NODES.iter().map(|_| FixedPort::reserve()).collect();
        Ok(Ports(ports?))
    }

    fn of(&self, node: u32) -> SocketAddr {
        self.0[node as usize - 1].addr
    }
}

/// One life of a node.
pub(super) struct Member {
    pub(super) node: u32,
    pub(super) incarnation: u32,
    pub(super) transport: Transport,
    pub(super) log: NumberedLog,
    pub(super) events: EventLog,
    offerings: Vec<(u32, Offering)>,
    /// What it accepted for each peer, when its load has ended.
    accepted: Vec<(u32, u64)>,
}

impl Member {
    /// Binds a node at its port. It does not send yet.
    pub(super) async fn start(
        ports: &Ports,
        node: u32,
        incarnation: u32,
        tls: Option<Tls>,
    ) -> Result<Self, Failure> {
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .sessions(Sessions::Required)
            .stale_after(NEVER)
            .redial_first(2 * MS)
            .redial_max(50 * MS)
            .stable_after(Duration::ZERO);
        let identity = Identity::new(NodeId::new(node.into()))
            .cluster("torture")
            .incarnation(incarnation.into());
        let log = NumberedLog::default();
        let recorder = log.recorder(node, |_, _| {});
        let mut builder = Transport::builder()
            .config(config)
            .identity(identity)
            .catch_all(recorder.clone().recipient())
            .subscribe(recorder.recipient());
        for other in others(node) {
            builder = builder.peer(NodeId::new(other.into()), ports.of(other));
        }
        if let Some(tls) = tls {
            builder = builder.tls(tls);
        }
        let transport = bind_again(&builder, ports.of(node)).await?;
        Ok(Member {
            node,
            incarnation,
            events: EventLog::start(&transport),
            transport,
            log,
            offerings: Vec::new(),
            accepted: Vec::new(),
        })
    }

    /// Sends to all others from now on.
    pub(super) fn load(&mut self, ports: &Ports) -> Result<(), Failure> {
        let (sender, incarnation) = (self.node, self.incarnation);
        for other in others(sender) {
            let peer = self.transport.peer(ports.of(other))?;
            let offering = Offering::start(PACE, move |sequence| {
                let stamp = Stamp {
                    sender,
                    incarnation,
                    group: group_for(other, sequence),
                    sequence,
                };
                let len = LENGTHS[sequence as usize % LENGTHS.len()];
                offer(&peer, stamp.group, stamp.payload(len))
            });
            self.offerings.push((other, offering));
        }
        Ok(())
    }

    /// Sends no more.
    pub(super) fn quiet(&mut self) {
        let offerings = self.offerings.drain(..);
        self.accepted
            .extend(offerings.map(|(to, offering)| (to, offering.end())));
    }

    /// Returns how many frames it has accepted for a node.
    pub(super) fn accepted(&self, to: u32) -> u64 {
        let ended = self.accepted.iter().find(|(other, _)| *other == to);
        let going_on = self.offerings.iter().find(|(other, _)| *other == to);
        ended.map_or_else(
            || going_on.map_or(0, |(_, offering)| offering.taken()),
            |(_, accepted)| *accepted,
        )
    }

    /// Returns what it got from a life of a node.
    pub(super) fn got(&self, node: u32, incarnation: u32) -> Life {
        let log = self.log.lock();
        log.lives
            .get(&(node, incarnation))
            .copied()
            .unwrap_or_default()
    }

    /// Returns how many links ended for this reason.
    pub(super) fn ended(&self, wanted: DownReason) -> usize {
        let ended = self.ends();
        ended
            .get(&wanted.to_string())
            .map_or(0, |(links, _)| *links)
    }

    /// Returns why links ended on which it sent: by the reason, how many, and how many frames were in doubt.
    pub(super) fn ends(&self) -> BTreeMap<String, (usize, u64)> {
        let mut ends = BTreeMap::<_, (usize, u64)>::new();
        for (_, event) in self.events.all() {
            if let PeerEvent::Down {
                reason, receipt, ..
            } = event
            {
                let (links, in_doubt) = ends.entry(reason.to_string()).or_default();
                *links += 1;
                *in_doubt += receipt.map_or(0, |receipt| receipt.in_doubt.frames);
            }
        }
        ends
    }

    /// Returns whether all its links are encrypted, with the certificates that the others have now.
    pub(super) fn trusts(&self, all: &[Member]) -> bool {
        let peers = self.transport.peers();
        others(self.node).all(|other| {
            let now = all.iter().find(|member| member.node == other);
            let now = now.and_then(|member| member.transport.certificate());
            let is_other =
                |certificate: &actix_transport::Certificate| now.as_ref() == Some(certificate);
            peers
                .iter()
                .any(|peer| peer.certificate.as_ref().is_some_and(is_other))
        })
    }

    /// Ends in order: what it has accepted is written before.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.quiet();
        self.transport.stop(Shutdown::Drain(LONG)).await;
        Ok(self.transport.stats().balance()?)
    }
}

/// Returns the numbers of all other nodes.
pub(super) fn others(node: u32) -> impl Iterator<Item = u32> {
    NODES.into_iter().filter(move |&other| other != node)
}

/// Waits until all members hear all others in their present lives.
pub(super) async fn all_hear(members: &[Member]) -> Result<(), Failure> {
    for to in members {
        for from in members.iter().filter(|from| from.node != to.node) {
            let what = format!("{} hears {} {}", to.node, from.node, from.incarnation);
            let heard = || to.got(from.node, from.incarnation).frames > 0;
            until(&what, LONG, heard).await?;
        }
    }
    Ok(())
}
