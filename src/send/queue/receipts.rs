//! What the queue hears of its link, to say at the end which written frames are confirmed.
//!
//! The frames themselves are in [`unacked`](super::unacked). The link asks the system what is
//! acknowledged.

use super::SendQueue;
use crate::{calls::pending::CallPeer, observe::stats::Receipt};

impl<To: Copy + Eq> SendQueue<To> {
    /// Notes that a link begins, after `written` bytes of its connection. From now on, only the frames of
    /// this queue may be written on it. `None` if the system does not tell what is acknowledged.
    ///
    /// `call_peer` is who is at the far end, if it takes calls.
    pub(crate) fn link_begins(&self, written: Option<u64>, call_peer: Option<CallPeer>) {
        self.locked(|state| {
            state.links += 1;
            state.call_peer = call_peer;
            state.unacked.link_begins(written);
        });
    }

    /// Notes that a control frame was written between two frames.
    pub(crate) fn said(&self, len: usize) {
        self.locked(|state| state.unacked.note_control(len));
    }

    /// Notes that the first `bytes` of the link's connection are acknowledged.
    pub(crate) fn acknowledged(&self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.locked(|state| state.unacked.acknowledged(bytes));
        }
    }

    /// Notes that the link has ended, when the first `bytes` of its connection were acknowledged. Returns
    /// what that says of the frames written on it; `None` if the system does not tell.
    pub(crate) fn link_ended(&self, bytes: Option<u64>) -> Option<Receipt> {
        self.locked(|state| {
            let receipt = state.unacked.link_ends(bytes)?;
            state.account.count_receipt(receipt);
            Some(receipt)
        })
    }
}
