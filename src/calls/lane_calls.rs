//! [`LaneCalls`]: the calls of one lane of a peer, as its sender and its links see them.

use std::{sync::Arc, time::Duration};

use crate::{
    calls::{
        pending::{CallLane, PendingCalls},
        rooms::CallRooms,
    },
    config::Config,
    observe::event::DownReason,
};

/// The calls of one lane of a peer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LaneCalls {
    /// Those of the whole transport.
    pub(crate) pending: Arc<PendingCalls>,
    pub(crate) lane: CallLane,
    pub(crate) rooms: CallRooms,
    /// How long a call waits for its answer, unless its caller says otherwise.
    pub(crate) deadline: Duration,
}

impl LaneCalls {
    /// Makes those that the ones of each lane are [made of](LaneCalls::of_lane).
    pub(crate) fn new(config: &Config, pending: Arc<PendingCalls>) -> Self {
        let of_all = (config.max_calls, config.max_call_bytes);
        let of_lane = (config.peer_calls, config.peer_call_bytes);
        LaneCalls {
            pending,
            lane: CallLane(u64::MAX),
            rooms: CallRooms::new(of_all, of_lane),
            deadline: config.call_deadline,
        }
    }

    /// Makes those of a lane. `number` is one that no other lane has.
    pub(crate) fn of_lane(&self, number: u64) -> Self {
        LaneCalls {
            lane: CallLane(number),
            rooms: self.rooms.of_another(),
            ..self.clone()
        }
    }

    /// Notes that a link of the lane has ended. If no answers can come any more to the calls that were sent on it, they
    /// fail.
    pub(crate) fn link_ended(&self, link: u64, reason: DownReason) {
        let may_be_answered = match reason {
            // The node is still there, and answers on another link.
            DownReason::Idle | DownReason::Replaced | DownReason::Expired | DownReason::Renewed => {
                true
            }
            DownReason::Closed
            | DownReason::Lost(_)
            | DownReason::Spoke
            | DownReason::Refused(_)
            | DownReason::Superseded
            | DownReason::Left
            | DownReason::Untrusted
            | DownReason::Ended => false,
        };
        if !may_be_answered {
            self.pending.link_ended(self.lane, link);
        }
    }

    /// Notes that a dial has failed, and that there has been no link for so long.
    pub(crate) fn unreachable(&self, since: Duration) {
        self.pending.unreachable(self.lane, since);
    }

    /// Notes that the peer was forgotten.
    pub(crate) fn forget(&self) {
        self.pending.forget(self.lane);
    }
}
