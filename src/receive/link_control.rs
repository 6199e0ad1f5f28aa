//! Control frames between the frames of a link: which frames come next, which are missing, and that the node
//! stops.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::{
    net::time,
    observe::event::DownReason,
    receive::{connection::Connection, end::End},
    session::{
        context::SessionContext,
        inbound_stream::{InboundStream, Turn, Waiting},
        open_link::OpenLink,
    },
    wire::control::{Control, refused::RefusedReason},
};

/// How often a link looks whether others have begun. It does so only when frames are missing, and mostly
/// finds out at once.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Connection {
    /// Acts on a control frame. The frames before it have been delivered, and those behind it have not.
    pub(super) async fn obey(&mut self, control: Control) -> Result<(), End> {
        if self.link.is_none() {
            return bad("a control frame came from a node that did not introduce itself");
        }
        match control {
            Control::Start { stream, next } => self.start(stream, next).await,
            Control::Gap { next } => match self.deliverer.turn() {
                Some(turn) => self.announce(turn, next),
                None => bad("a gap came before the start of the frames"),
            },
            Control::Goodbye => {
                if let Some(link) = &self.link
                    && link.ends_because(DownReason::Left)
                {
                    let reporter = self.accounts.reporter();
                    reporter.goodbye(link.node, link.incarnation);
                }
                Ok(())
            }
            Control::Hello { .. } | Control::Welcome { .. } | Control::OtherVersion => {
                bad("an introduction came behind the first frame")
            }
            // The node at the far end dialled this one, and knows a later incarnation of it, for example.
            Control::Refused(refused) => {
                if let Some(sessions) = &self.sessions {
                    sessions.refused(refused);
                }
                Err(End::RefusedByPeer(refused.reason))
            }
            // Of a later release, which must be able to do without an answer.
            Control::Unknown => Ok(()),
        }
    }

    /// Waits until former links of the same queue have been read to their end.
    async fn start(&mut self, stream: u64, next: u64) -> Result<(), End> {
        let (Some(sessions), Some(link)) = (&self.sessions, &self.link) else {
            return Ok(());
        };
        if self.deliverer.turn().is_some() {
            return bad("the start of the frames came twice");
        }
        let Some(stream) = sessions.stream(link, stream) else {
            return Err(End::Refused(RefusedReason::OlderIncarnation));
        };
        let (lifecycle, limit) = (self.lifecycle.clone(), self.config.handover_wait);
        let (buffer, brings_nothing) = (&self.buffer, CancellationToken::new());
        let waiting = turn(sessions, link, stream, next, limit);
        let ended = |rest: &mut Bytes| {
            if rest.is_empty() && buffer.is_empty() {
                brings_nothing.cancel();
            }
        };
        let closing = lifecycle.receiving_ends();
        let turn = tokio::select! {
            biased;
            turn = self.source.watch_unless(closing, waiting, ended) => turn.ok_or(End::Closing)?,
            // It was replaced before a frame was written. The link that has the turn may be the one that replaced it, and
            // must not give way.
            () = brings_nothing.cancelled() => return Err(End::ClosedByPeer),
        };
        sessions.accepted();
        self.frame_deadline.restart(time::now());
        self.announce(&turn, next)?;
        self.deliverer.begin_stream(turn);
        Ok(())
    }

    /// Notes which frame comes next. Tells how many are missing before it.
    fn announce(&self, turn: &Turn, next: u64) -> Result<(), End> {
        let missing = match turn.announce(next) {
            Ok(missing) => missing.unwrap_or(0),
            Err(err) => return bad(err.to_string()),
        };
        if let Some(link) = self.link.as_ref().filter(|_| missing > 0) {
            self.accounts.missing(missing);
            let reporter = self.accounts.reporter();
            reporter.gap((link.node, link.incarnation), link.lane, self.from, missing);
        }
        Ok(())
    }
}

/// Waits until it is the turn of a link whose first frame has this number.
///
/// Links mostly begin in the order in which the sender used them. But each has a socket of its own, and a link
/// that was replaced soon after it was made may have brought frames that nobody has looked at yet. So if frames
/// are missing, links that have not begun go first, and of those that wait the one with the lowest number, for
/// as long as a later link waits for a former one.
async fn turn(
    sessions: &SessionContext,
    link: &OpenLink,
    stream: Arc<InboundStream>,
    next: u64,
    limit: Duration,
) -> Turn {
    let waiting = stream.clone().waiting(next);
    link.begin();
    let mut deadline = None;
    loop {
        let turn = stream.clone().turn(link.stirs_reading.clone()).await;
        let is_early = is_early(sessions, link, &waiting, &turn, next);
        let now = time::now();
        if !is_early || now >= *deadline.get_or_insert(now + limit) {
            return turn;
        }
        drop(turn);
        time::sleep(LOOK_AGAIN).await;
    }
}

/// Returns whether frames that come before this one may still come on another link.
///
/// A link waits for its turn before it counts as one that has begun. Here it is asked the other way round, so that
/// a link which begins meanwhile is seen as the one or as the other.
fn is_early(
    sessions: &SessionContext,
    link: &OpenLink,
    waiting: &Waiting,
    turn: &Turn,
    next: u64,
) -> bool {
    let another_may_begin = turn.would_miss(next) && sessions.another_may_begin(link);
    another_may_begin || waiting.is_behind_another()
}

fn bad<T>(problem: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, End> {
    Err(End::BadHandshake(problem.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures::FutureExt;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        ids::{Incarnation, NodeId},
        lane::Lane,
        session::{identity::Identity, inbound_stream::RememberedGroups, meant::Meant},
    };

    /// The later link asks at the moment at which the earlier one begins, on another thread.
    #[test]
    fn a_link_that_begins_is_waited_for_at_every_moment() {
        const ROUNDS: usize = 20_000;

        let me = Identity::new(NodeId::new(1)).resolve().expect("valid");
        let sessions = SessionContext::new(me, 1, 100, Meant::default(), true, LOOK_AGAIN);
        let mut far = sessions.me();
        (far.node, far.incarnation) = (NodeId::new(2), Incarnation::new(7));
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 2));
        let open = |dialled| {
            let session = sessions.welcomed(&far, None).expect("welcome");
            sessions.open_link(session, (&far, Lane::NORMAL), addr, dialled, None, None)
        };
        let later = open(true);
        later.begin();
        let both = Barrier::new(2);
        for _ in 0..ROUNDS {
            let stream = Arc::new(InboundStream::new(RememberedGroups::default()));
            let waiting = stream.clone().waiting(16);
            let turn = stream.clone().turn(CancellationToken::new());
            let turn = turn.now_or_never().expect("nobody else has it");
            let earlier = open(false);
            std::thread::scope(|scope| {
                let begins = scope.spawn(|| {
                    both.wait();
                    let waiting = stream.clone().waiting(0);
                    earlier.begin();
                    waiting
                });
                both.wait();
                while !begins.is_finished() {
                    assert!(is_early(&sessions, &later, &waiting, &turn, 16));
                }
                // It waits until this is dropped.
                drop(begins.join());
            });
        }
    }
}
