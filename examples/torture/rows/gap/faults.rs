//! The faults, one at a time, while all senders send.

use std::time::Duration;

use super::ends::Ends;
use crate::{proxy::CUTS, row::Failure, world::pause};

const MS: Duration = Duration::from_millis(1);

/// A fault. Beside these, the proxies cut connections and hold bytes back by themselves.
#[derive(Debug, Copy, Clone)]
pub(super) enum Fault {
    Cut,
    BlackHole,
    Refuse,
    PauseReceiver,
    PauseSender,
    /// Always of the same one, so that the sums of the others are exact to the end.
    KillSender,
    KillReceiver,
}

impl Fault {
    /// All but a kill of the receiver.
    pub(super) const ON_THE_WAY: [Fault; 6] = [
        Fault::Cut,
        Fault::BlackHole,
        Fault::Refuse,
        Fault::PauseReceiver,
        Fault::PauseSender,
        Fault::KillSender,
    ];

    /// Makes the fault and ends it.
    pub(super) fn make(self, ends: &mut Ends, draw: &mut fastrand::Rng) -> Result<(), Failure> {
        let index = draw.usize(..ends.senders.len());
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        let time = MS * draw.u32(50..300);
        let sender = &mut ends.senders[index];
        pause(MS * draw.u32(20..100));
        match self {
            Fault::Cut => sender.proxy.cut(ending, side),
            Fault::BlackHole => {
                sender.proxy.set_black_hole(true);
                pause(time);
                if draw.bool() {
                    // What the kernels hold is lost.
                    sender.proxy.cut(ending, side);
                }
                sender.proxy.set_black_hole(false);
            }
            Fault::Refuse => {
                let runtime = &ends.runtime.runtime;
                runtime.block_on(sender.proxy.set_refusing(true))?;
                sender.proxy.cut(ending, side);
                pause(time);
                runtime.block_on(sender.proxy.set_refusing(false))?;
            }
            Fault::PauseReceiver => {
                ends.receiver.child.stop()?;
                pause(time);
                ends.receiver.child.resume()?;
            }
            Fault::PauseSender => {
                sender.node.child.stop()?;
                pause(time);
                sender.node.child.resume()?;
            }
            Fault::KillSender => ends.replace_last_sender()?,
            Fault::KillReceiver => ends.replace_receiver(time / 2)?,
        }
        Ok(())
    }
}
