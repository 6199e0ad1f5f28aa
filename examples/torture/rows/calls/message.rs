//! What callers ask, and what handlers answer. A call names the life of the node that made it, and says what its
//! handler is to do.

use actix_transport::{Config, GroupId, Lane};
use bytes::{BufMut, Bytes, BytesMut};
use std::time::Duration;

use crate::world::ONE_EACH;

/// Its calls are served by an actor.
pub(super) const BY_ACTOR: GroupId = GroupId::new(1);
/// Its calls are served by a function.
pub(super) const BY_FUNCTION: GroupId = GroupId::new(2);

pub(super) const LANES: [Lane; 2] = [Lane::NORMAL, Lane::CONTROL];

const MS: Duration = Duration::from_millis(1);

/// Frames are short, so that long answers travel in parts.
const MAX_FRAME: usize = 64 << 10;
const LONG: usize = 200 << 10;

/// A process of a node.
#[derive(Debug, Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(super) struct Life {
    /// 1 or 2.
    pub(super) node: u8,
    pub(super) incarnation: u32,
}

/// A call, unlike any other of any life: the node in the highest byte, then the incarnation in 24 bits, and then the
/// number of the call in its life.
pub(super) type CallName = u64;

impl Life {
    pub(super) fn call(self, number: u32) -> CallName {
        u64::from(self.node) << 56 | u64::from(self.incarnation) << 32 | u64::from(number)
    }

    /// Returns who made a call.
    pub(super) fn of(call: CallName) -> Self {
        Life {
            node: (call >> 56) as u8,
            incarnation: (call >> 32) as u32 & 0x00FF_FFFF,
        }
    }
}

/// What the handler is to do with a call.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Plan {
    Answer,
    AnswerLater,
    /// With more than one frame holds.
    AnswerAtLength,
    Fail,
    DropIt,
}

const PLANS: [Plan; 5] = [
    Plan::Answer,
    Plan::AnswerLater,
    Plan::AnswerAtLength,
    Plan::Fail,
    Plan::DropIt,
];

/// The payload of a call.
#[derive(Debug, Copy, Clone)]
pub(super) struct Question {
    pub(super) call: CallName,
    pub(super) plan: Plan,
    /// How long [`Plan::AnswerLater`] waits.
    pub(super) wait: u8,
}

impl Question {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u64(self.call);
        bytes.put_u8(PLANS.iter().position(|it| *it == self.plan).unwrap_or(0) as u8);
        bytes.put_u8(self.wait);
        bytes.freeze()
    }

    pub(super) fn decode(payload: &[u8]) -> Self {
        let call = payload.first_chunk();
        let byte = |at| payload.get(at).copied().unwrap_or(0);
        Question {
            call: call.map_or(0, |call| u64::from_be_bytes(*call)),
            plan: PLANS[usize::from(byte(8)) % PLANS.len()],
            wait: byte(9),
        }
    }

    /// Returns the right answer.
    pub(super) fn answer(self) -> Bytes {
        let times = match self.plan {
            Plan::AnswerAtLength => LONG / 8,
            _ => 1,
        };
        self.call.to_be_bytes().repeat(times).into()
    }

    /// Returns the right code and text of a failure.
    pub(super) fn failure(self) -> (u32, String) {
        (self.call as u32, self.call.to_string())
    }
}

pub(super) fn config() -> Config {
    Config::default()
        .placement(ONE_EACH)
        .udp(false)
        .max_frame(MAX_FRAME)
        .redial_first(2 * MS)
        .redial_max(50 * MS)
        .stable_after(Duration::ZERO)
        .connect_timeout(500 * MS)
}
