//! The handshake at the end that accepts: who dials, and whether it is welcome.
//!
//! Reads the beginning of a connection until its first frame is known. If that is a `Hello`, it is answered.
//! From then on the connection is a link with a known node, which others may write to, or it belongs to
//! nobody. The decisions are those of [`SessionContext`]. There is no such step if sessions are off.

use std::{pin::pin, sync::Arc};

use futures::future::OptionFuture;

use crate::{
    ids::NodeId,
    lane::Lane,
    net::time::{self, sleep, timeout},
    receive::{
        connection::{Connection, Read},
        end::End,
        sender::Sender,
        source::MAX_DISCARDED,
    },
    session::{
        admitted::Session,
        context::{Answer, SessionContext},
    },
    wire::control::{
        Control, Front,
        node_info::{Features, NodeInfo},
        refused::{Refused, RefusedReason},
    },
};

/// What a connection begins with.
enum Beginning {
    /// Too few bytes to tell.
    Incomplete,
    /// A frame, and sessions are not required.
    Frame,
    Hello {
        answer: Box<Answer>,
        from: Option<Box<(NodeInfo, Lane)>>,
    },
}

impl Connection {
    /// Finds out who dials, unless it does not say so and need not.
    pub(super) async fn introduce(&mut self, context: &Arc<SessionContext>) -> Result<(), End> {
        let lifecycle = self.lifecycle.clone();
        let mut closing = pin!(lifecycle.receiving_ends());
        let late = context.required.then(|| sleep(context.time_limit));
        let mut late = pin!(OptionFuture::from(late));
        loop {
            tokio::select! {
                biased;
                () = &mut closing => return Err(End::Closing),
                Some(()) = &mut late => return Err(End::BadHandshake("no Hello came in time".into())),
                readable = self.readable() => readable?,
            }
            self.take_memory().await?;
            match self.read().await {
                Ok(Read::Some { .. }) => {}
                Ok(Read::NotReady) => continue,
                Ok(Read::EndOfStream) => return Err(End::ClosedByPeer),
                Err(err) => return Err(End::Failed(err)),
            }
            match self.beginning(context)? {
                Beginning::Incomplete => self.frame_deadline.incomplete(false, time::now()),
                Beginning::Frame => {
                    self.frame_deadline.clear();
                    return Ok(());
                }
                Beginning::Hello { answer, from } => {
                    self.frame_deadline.clear();
                    return tokio::select! {
                        biased;
                        () = &mut closing => Err(End::Closing),
                        said = self.say(context, *answer, from) => said,
                    };
                }
            }
        }
    }

    /// Looks at the front of what has been received. Takes a `Hello` off it.
    fn beginning(&mut self, context: &Arc<SessionContext>) -> Result<Beginning, End> {
        let front = Control::front(self.buffer.bytes());
        let front = front.map_err(|err| End::BadHandshake(err.to_string().into()))?;
        let (control, len) = match front {
            Front::Incomplete => return Ok(Beginning::Incomplete),
            Front::Other if context.required => {
                return Err(End::BadHandshake("the first frame is no Hello".into()));
            }
            Front::Other => return Ok(Beginning::Frame),
            Front::Control(control, len) => (control, len),
        };
        let (answer, from) = match control {
            Control::Hello {
                version,
                from,
                to,
                lane,
            } => match (self.may_speak_for(context, from.node), self.lane(lane)) {
                (false, _) => (Answer::refuse(RefusedReason::Certificate), None),
                (true, None) => (Answer::refuse(RefusedReason::Lane), None),
                (true, Some(lane)) => (
                    context.answer(version, (&from, lane), to),
                    Some(Box::new((from, lane))),
                ),
            },
            Control::OtherVersion => (Answer::refuse(RefusedReason::Version), None),
            Control::Welcome { .. }
            | Control::Refused(_)
            | Control::Start { .. }
            | Control::Gap { .. }
            | Control::Goodbye
            | Control::Unknown => {
                let text = "the first control frame is no Hello";
                return Err(End::BadHandshake(text.into()));
            }
        };
        self.buffer.skip(len);
        Ok(Beginning::Hello {
            answer: Box::new(answer),
            from,
        })
    }

    /// Returns whether the far end may speak for this node. Asked before the node is known to be here: it would
    /// end the links of its former life.
    fn may_speak_for(&self, context: &SessionContext, node: NodeId) -> bool {
        match self.source.tls() {
            Some(_) => self.source.vouches_for(node),
            None => context.allows_plain(),
        }
    }

    /// Returns the lane of this number, or `None` if the far end must not use it.
    fn lane(&self, number: u8) -> Option<Lane> {
        match Lane::new(number) {
            None if !self.config.refuse_unknown_lanes => Some(Lane::NORMAL),
            lane => lane,
        }
    }

    /// Answers a `Hello`.
    async fn say(
        &mut self,
        context: &SessionContext,
        answer: Answer,
        from: Option<Box<(NodeInfo, Lane)>>,
    ) -> Result<(), End> {
        let (welcome, session, greeting, from) = match (answer, from) {
            (Answer::Welcome(welcome, session, greeting), Some(from)) => {
                (welcome, session, greeting, from)
            }
            (Answer::Welcome(..), None) => return Ok(()),
            (Answer::Refused(refused), _) => return Err(self.refuse(context, refused).await),
        };
        // So that nothing of a former incarnation is delivered after something of this one. Its connections
        // end at once, unless their threads are blocked; this one does not wait for those.
        let _ = timeout(context.time_limit, session.former_ended()).await;
        if session.superseded.is_cancelled() {
            return Err(End::Refused(RefusedReason::OlderIncarnation));
        }
        let welcome = welcome.encode();
        match timeout(context.time_limit, self.source.write(&welcome)).await {
            Ok(written) => written.map_err(End::Failed)?,
            Err(_) => return Err(End::BadHandshake("the Welcome is not read".into())),
        }
        let (from, lane) = *from;
        self.join(context, session, &from, lane);
        drop(greeting);
        Ok(())
    }

    /// Makes the connection a link with this node. If the node takes frames on it, others may write to it
    /// from now on.
    fn join(&mut self, context: &SessionContext, session: Session, from: &NodeInfo, lane: Lane) {
        let certificate = self.source.tls().map(|tls| tls.certificate().clone());
        let sender = Sender::new(
            from,
            lane,
            self.from,
            self.peers.clone(),
            certificate.clone(),
        );
        // A lane that this release does not know is taken as the normal one, but nothing is written back on it.
        let writing = match from.features.has(Features::links_of(lane)) {
            true => self.source.take_writing(),
            false => None,
        };
        // If the options cannot be set, the socket has failed, and nobody may write.
        let writing = writing.filter(|writing| writing.prepare(&self.config).is_ok());
        let tls = self.source.tls();
        let link = context.open_link(session, (from, lane), self.from, false, writing, tls);
        let superseded = link.cut().clone();
        self.source.joined(link.clone());
        self.patience.watch(&link);
        self.link = Some(link);
        if let Some(peers) = self.peers.upgrade() {
            peers.heard(from.node, &sender.addr());
        }
        let reporter = self.accounts.reporter();
        reporter.heard(from.node, from.incarnation, sender.addr());
        reporter.certified(&sender.addr(), self.from, Some(from.node), certificate);
        self.deliverer.introduced(Arc::new(sender), superseded);
    }

    /// Says no, and waits until the other end has closed the connection: if this one closed it first while
    /// frames come, the system would answer them with a reset, which may overtake the refusal.
    async fn refuse(&mut self, context: &SessionContext, refused: Refused) -> End {
        let refusal = Control::Refused(refused).encode();
        let said = async {
            if self.source.write(&refusal).await.is_ok() {
                self.source.end_writing_and_discard(MAX_DISCARDED).await;
            }
        };
        // It is counted in any case.
        let _ = timeout(context.time_limit, said).await;
        End::Refused(refused.reason)
    }
}
