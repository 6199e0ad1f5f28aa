//! [`SessionContext`]: the decisions of the handshake, at both ends of a link.
//!
//! Knows who this node is, whom it means to reach at which address, and which nodes have introduced
//! themselves. Does no I/O.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

#[cfg(feature = "tls")]
use crate::net::tls::Keys;
use crate::{
    ids::{Incarnation, NodeId},
    lane::Lane,
    net::{
        halves::WriteHalf,
        tls::{Endpoint, Secured},
    },
    peer_addr::PeerAddr,
    session::{
        admitted::Session,
        identity::Resolved,
        inbound_stream::InboundStream,
        known_nodes::{KnownNodes, NotAdmitted, Retired},
        meant::Meant,
        open_link::{OpenLink, Rank},
    },
    wire::control::{
        Control,
        node_info::{Features, NodeInfo},
        refused::{Refused, RefusedReason},
    },
};

/// The part of a transport that knows who is who. There is none if sessions are off.
#[derive(Debug)]
pub(crate) struct SessionContext {
    /// Whether frames need a session.
    pub(crate) required: bool,
    /// How long a handshake may take.
    pub(crate) time_limit: Duration,
    /// `None` if TLS is off.
    tls: Option<Arc<Endpoint>>,
    meant: Meant,
    me: Mutex<Me>,
    known: Mutex<KnownNodes>,
}

#[derive(Debug)]
struct Me {
    info: NodeInfo,
    /// Whether the incarnation may still change: it is from the clock, and no peer has accepted it.
    adjustable: bool,
}

/// What a link needs before frames may leave.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct Demand {
    /// The node that is meant. `None` if any will do.
    pub(crate) node: Option<NodeId>,
    /// Whether frames wait for the answer.
    pub(crate) waits: bool,
    /// Whether frames are sent to a peer that does not answer in time.
    pub(crate) serves_mute: bool,
}

impl Demand {
    /// Adds a demand for a certain node, unless there is one.
    pub(crate) fn or_node(mut self, node: Option<NodeId>) -> Self {
        if self.node.is_none() && node.is_some() {
            self.node = node;
            (self.waits, self.serves_mute) = (true, false);
        }
        self
    }
}

impl SessionContext {
    pub(crate) fn new(
        identity: Resolved,
        port: u16,
        max_frame: usize,
        meant: Meant,
        required: bool,
        time_limit: Duration,
    ) -> Self {
        SessionContext {
            tls: None,
            required,
            time_limit,
            meant,
            me: Mutex::new(Me {
                adjustable: identity.from_clock,
                info: NodeInfo {
                    node: identity.node,
                    incarnation: identity.incarnation,
                    cluster: identity.cluster,
                    advertised: identity.advertised,
                    port,
                    max_frame: u32::try_from(max_frame).ok(),
                    max_message: None,
                    features: Features::LINKS.and(Features::CALLS),
                },
            }),
            known: Mutex::default(),
        }
    }

    /// Lets only links be used that TLS trusts.
    pub(crate) fn secured(mut self, tls: Option<Arc<Endpoint>>) -> Self {
        self.tls = tls;
        self
    }

    /// Says how long a message in parts this node takes. 0: none.
    pub(crate) fn taking_messages(mut self, max: usize) -> Self {
        let max = Some(max as u64).filter(|&max| max > 0);
        self.me.get_mut().info.max_message = max;
        self
    }

    /// Returns whether TLS is on.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns whether a connection without TLS may be used.
    pub(crate) fn allows_plain(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_optional())
    }

    /// Returns who this node is.
    pub(crate) fn me(&self) -> NodeInfo {
        self.me.lock().info.clone()
    }

    /// Returns who this node is, for a link of a lane that carries frames both ways or only to the far end.
    pub(crate) fn me_for(&self, lane: Lane, both_ways: bool) -> NodeInfo {
        let mut me = self.me();
        me.features = Features::links_of(lane).and(Features::CALLS);
        if !both_ways {
            me.features = Features::default();
            me.max_message = None;
        }
        me
    }

    /// Returns where the user says that this node is.
    pub(crate) fn addr_of(&self, node: NodeId) -> Option<&PeerAddr> {
        self.meant.addr_of(node)
    }

    // ---- the end that dials ------------------------------------------------------------------------

    /// Returns what a link to this address needs.
    pub(crate) fn demand(&self, peer: &PeerAddr) -> Demand {
        let node = self.meant.node_at(peer);
        let me = self.me();
        // A node that listens nowhere gets its answers on this link only, so both ends must agree on that.
        let needs_answer = me.cluster.is_some() || me.port == 0;
        Demand {
            node,
            waits: self.required || node.is_some() || needs_answer,
            serves_mute: !self.required && node.is_none(),
        }
    }

    /// Decides about a `Welcome` that answered a `Hello` for `meant`.
    pub(crate) fn welcomed(
        &self,
        from: &NodeInfo,
        meant: Option<NodeId>,
    ) -> Result<Session, Refused> {
        if meant.is_some_and(|meant| meant != from.node) {
            return Err(Refused::because(RefusedReason::Node));
        }
        let session = self.admit(from)?;
        self.accepted();
        Ok(session)
    }

    /// Notes that a peer has accepted this node as it is.
    pub(crate) fn accepted(&self) {
        self.me.lock().adjustable = false;
    }

    /// Notes that a peer refused this node. If it knows a later incarnation, and no peer has accepted this
    /// one, the clock of this machine was set back since the last start: takes the next incarnation.
    pub(crate) fn refused(&self, refused: Refused) {
        let mut me = self.me.lock();
        if let Some(known) = refused.known
            && refused.reason == RefusedReason::OlderIncarnation
            && me.adjustable
            && known >= me.info.incarnation
        {
            me.info.incarnation = Incarnation::new(known.get().saturating_add(1));
        }
    }

    // ---- the end that accepts ----------------------------------------------------------------------

    /// Decides about a `Hello`. Returns the answer, and what the link needs if the node is welcome.
    pub(crate) fn answer(
        self: &Arc<Self>,
        version: u8,
        (from, lane): (&NodeInfo, Lane),
        to: Option<NodeId>,
    ) -> Answer {
        let me = self.me();
        if to.is_some_and(|to| to != me.node) {
            return Answer::refuse(RefusedReason::Node);
        }
        match self.admit(from) {
            Ok(session) => {
                let welcome = Control::Welcome { version, from: me };
                Answer::Welcome(welcome, session, self.greets(from.node, lane))
            }
            Err(refused) => Answer::Refused(refused),
        }
    }

    /// Checks what holds for both ends.
    fn admit(&self, from: &NodeInfo) -> Result<Session, Refused> {
        let me = self.me();
        if from.cluster != me.cluster {
            return Err(Refused::because(RefusedReason::Cluster));
        }
        // Nodes may dial themselves.
        if from.node == me.node && from.incarnation > me.incarnation {
            return Err(Refused::because(RefusedReason::SameNode));
        }
        if from.node == me.node && from.incarnation < me.incarnation {
            return Err(Refused::older_than(me.incarnation));
        }
        let admitted = self.known.lock().admit(from.node, from.incarnation);
        admitted.map_err(|why| match why {
            NotAdmitted::Older(known) => Refused::older_than(known),
            NotAdmitted::Full => Refused::because(RefusedReason::TooManyNodes),
        })
    }
}

// ---- links ---------------------------------------------------------------------------------------------

impl SessionContext {
    /// Adds a link with a node that was admitted. `dialled` by this node, or accepted. `writing` is the half
    /// that writes if anybody may claim it.
    pub(crate) fn open_link(
        &self,
        session: Session,
        (far, lane): (&NodeInfo, Lane),
        addr: SocketAddr,
        dialled: bool,
        writing: Option<WriteHalf>,
        tls: Option<Arc<Secured>>,
    ) -> Arc<OpenLink> {
        let me = self.me.lock().info.node;
        // A node that dials itself has both ends of the link, and writes to the one that it dialled. The half of the
        // other end is kept, or that end would be closed.
        let (writing, unused) = match far.node == me {
            true => (None, writing),
            false => (writing, None),
        };
        let mut known = self.known.lock();
        let rank = Rank {
            dialled_by_lower: dialled == (me < far.node),
            number: known.count_up(),
        };
        let link = OpenLink::new((far, lane), addr, rank, dialled, session, writing, tls);
        link.keep(unused);
        let link = Arc::new(link);
        known.add_link(&link);
        drop(known);
        // The keys may have changed since the node introduced itself.
        self.end_unless_of_these_keys(&link);
        link
    }

    /// Ends the link at once if the certificate of the far end is not accepted any more, or there is none and
    /// TLS is required. Ends it in order if this node has another certificate by now.
    fn end_unless_of_these_keys(&self, link: &OpenLink) {
        let trusted = match (&self.tls, &link.tls) {
            (None, _) => true,
            (Some(_), Some(tls)) => tls.vouches_for(link.node),
            (Some(_), None) => self.allows_plain(),
        };
        if !trusted {
            link.distrust();
        }
        // Nothing happens to a link that has ended.
        #[cfg(feature = "tls")]
        if let Some(tls) = &link.tls
            && tls.trust().is_of_former_keys()
        {
            link.renew();
        }
    }

    /// Returns the nodes with which a link is open that would end at once if these keys were used.
    #[cfg(feature = "tls")]
    pub(crate) fn cut_by(&self, keys: &Keys) -> Vec<NodeId> {
        let links = self.known.lock().links();
        let is_cut = |link: &&Arc<OpenLink>| match &link.tls {
            Some(tls) => !tls.trust().would_vouch_for(link.node, keys),
            None => !keys.are_optional(),
        };
        let mut nodes: Vec<_> = links.iter().filter(is_cut).map(|link| link.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Ends the links that would not be accepted any more, or not be made in the same way.
    #[cfg(feature = "tls")]
    pub(crate) fn keys_changed(&self) {
        let links = self.known.lock().links();
        for link in links {
            self.end_unless_of_these_keys(&link);
        }
    }

    /// Ends the links of which a certificate has expired at this time.
    #[cfg(feature = "tls")]
    pub(crate) fn end_expired(&self, now: crate::net::time::SystemTime) {
        let links = self.known.lock().links();
        let has_expired = |link: &&Arc<OpenLink>| {
            let tls = link.tls.as_ref();
            tls.is_some_and(|tls| tls.trust().has_expired(now))
        };
        for link in links.iter().filter(has_expired) {
            link.expire(2 * self.time_limit);
        }
    }

    /// Returns the best link of a lane with a node that nobody writes to, and the half that writes.
    pub(crate) fn claim_link(
        &self,
        node: NodeId,
        lane: Lane,
    ) -> Option<(Arc<OpenLink>, WriteHalf)> {
        let known = self.known.lock();
        let link = known.best_link(node, lane)?;
        let writing = link.claim()?;
        Some((link, writing))
    }

    /// Returns one of the streams of the node at the far end. `None` if a later incarnation of it has come.
    pub(crate) fn stream(&self, link: &OpenLink, number: u64) -> Option<Arc<InboundStream>> {
        let mut known = self.known.lock();
        known.stream(link.node, link.incarnation, number)
    }

    /// Notes that a link of a lane with a node is being made, until the guard is dropped. Both ends note it before the
    /// `Welcome` is written: then the other end may send frames, end the link and begin another one before this
    /// end has [opened](SessionContext::open_link) it.
    pub(crate) fn greets(self: &Arc<Self>, node: NodeId, lane: Lane) -> Greeting {
        self.known.lock().greets(node, lane);
        Greeting {
            context: self.clone(),
            node,
            lane,
        }
    }

    /// Returns whether frames may still begin to come on another link of the same lane with the node of this one.
    pub(crate) fn another_may_begin(&self, link: &OpenLink) -> bool {
        self.known.lock().another_may_begin(link)
    }

    /// Notes how far a queue for the node got that has ended.
    pub(crate) fn retire(&self, node: NodeId, retired: Retired) {
        self.known.lock().retire(node, retired);
    }

    /// Takes one of those of a lane out, for a queue that goes on with its numbers.
    pub(crate) fn take_retired(&self, node: NodeId, lane: Lane) -> Option<Retired> {
        self.known.lock().take_retired(node, lane)
    }

    /// Lets a peer stand for a known node, unless another one does.
    pub(crate) fn set_first_peer(&self, node: NodeId, peer: &PeerAddr) {
        let mut known = self.known.lock();
        if known.peer(node).is_none() {
            known.set_peer(node, peer);
        }
    }

    /// Lets a peer stand for a known node.
    pub(crate) fn set_peer(&self, node: NodeId, peer: &PeerAddr) {
        self.known.lock().set_peer(node, peer);
    }

    /// Returns the peer that stands for a node.
    pub(crate) fn peer(&self, node: NodeId) -> Option<PeerAddr> {
        let meant = self.addr_of(node).cloned();
        meant.or_else(|| self.known.lock().peer(node).cloned())
    }
}

/// A link that is being made. Dropped when it is open, or when there will be none.
#[derive(Debug)]
pub(crate) struct Greeting {
    context: Arc<SessionContext>,
    node: NodeId,
    lane: Lane,
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.context.known.lock().has_greeted(self.node, self.lane);
    }
}

/// The answer to a `Hello`.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The guard is kept until the link is open.
    Welcome(Control, Session, Greeting),
    Refused(Refused),
}

impl Answer {
    pub(crate) fn refuse(reason: RefusedReason) -> Self {
        Answer::Refused(Refused::because(reason))
    }
}

#[cfg(test)]
mod tests;
