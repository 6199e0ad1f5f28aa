//! Control frames between the frames of a link: which frames come next, which are missing, and that the node
//! stops.

use std::{sync::Arc, time::Duration};

use crate::{
    net::time,
    observe::event::DownReason,
    receive::{connection::Connection, end::End},
    session::{
        context::SessionContext,
        inbound_stream::{InboundStream, Turn},
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
        let turn = tokio::select! {
            biased;
            () = lifecycle.receiving_ends() => return Err(End::Closing),
            turn = self.source.watch_during(turn(sessions, link, stream, next, limit), |_| {}) => turn,
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
        let others = waiting.is_behind_another()
            || turn.would_miss(next) && sessions.another_may_begin(link);
        let now = time::now();
        if !others || now >= *deadline.get_or_insert(now + limit) {
            return turn;
        }
        drop(turn);
        time::sleep(LOOK_AGAIN).await;
    }
}

fn bad<T>(problem: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, End> {
    Err(End::BadHandshake(problem.into()))
}
