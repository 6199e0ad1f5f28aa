//! The faults, one at a time, while all senders send.

use std::time::{Duration, Instant};

use super::{ends::Ends, message::MessageId};
use crate::{named_child::LONG, proxy::CUTS, row::Failure, world::pause};

const MS: Duration = Duration::from_millis(1);

/// A fault. Beside these, the proxies cut connections and hold bytes back by themselves.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Fault {
    Cut,
    /// The proxy forwards nothing for a while.
    BlackHole,
    /// The same, and what the kernels hold is lost.
    DeadBlackHole,
    Refuse,
    PauseReceiver,
    PauseSender,
    KillSender,
    KillReceiver,
}

impl Fault {
    /// Those that end no connection.
    pub(super) const WITHOUT_ENDS: &[Fault] =
        &[Fault::BlackHole, Fault::PauseReceiver, Fault::PauseSender];

    /// All but kills.
    pub(super) const WITHOUT_KILLS: &[Fault] = &[
        Fault::Cut,
        Fault::BlackHole,
        Fault::DeadBlackHole,
        Fault::Refuse,
        Fault::PauseReceiver,
        Fault::PauseSender,
    ];

    pub(super) const ALL: &[Fault] = &[
        Fault::Cut,
        Fault::BlackHole,
        Fault::DeadBlackHole,
        Fault::Refuse,
        Fault::PauseReceiver,
        Fault::PauseSender,
        Fault::KillSender,
        Fault::KillReceiver,
    ];

    /// Makes the fault and ends it.
    pub(super) fn make(self, ends: &mut Ends, draw: &mut fastrand::Rng) -> Result<(), Failure> {
        let index = draw.usize(..ends.senders.len());
        let (ending, side) = CUTS[draw.usize(..CUTS.len())];
        let time = MS * draw.u32(50..500);
        let sender = &mut ends.senders[index];
        match self {
            Fault::Cut => sender.proxy.cut(ending, side),
            Fault::BlackHole | Fault::DeadBlackHole => {
                sender.proxy.set_black_hole(true);
                pause(time);
                if self == Fault::DeadBlackHole {
                    sender.proxy.cut(ending, side);
                }
                sender.proxy.set_black_hole(false);
            }
            Fault::Refuse => {
                let runtime = &ends.runtime.runtime;
                runtime.block_on(sender.proxy.set_refusing(true))?;
                sender.proxy.cut(ending, side);
                pause(time / 2);
                runtime.block_on(sender.proxy.set_refusing(false))?;
            }
            Fault::PauseReceiver => {
                ends.receiver.child.stop()?;
                pause(time);
                ends.receiver.child.resume()?;
            }
            Fault::PauseSender => {
                sender.node.child.stop()?;
                pause(time / 2);
                sender.node.child.resume()?;
            }
            Fault::KillSender => ends.replace_last_sender()?,
            Fault::KillReceiver => ends.replace_receiver(time / 4)?,
        }
        Ok(())
    }
}

/// How long a time of faults lasts, at least.
#[derive(Debug, Copy, Clone)]
pub(super) struct Until {
    /// How often each fault is made.
    pub(super) rounds: u32,
    /// Frames of the normal lane.
    pub(super) frames: u64,
    /// Large messages that came to an end, whatever it was.
    pub(super) messages: u64,
    /// Large messages that failed by then, at any time.
    pub(super) failed: u64,
}

/// Makes faults under load. Before each, waits for the messages that must have arrived.
pub(super) fn torture(
    ends: &mut Ends,
    faults: &[Fault],
    until: Until,
    draw: &mut fastrand::Rng,
    progress: impl Fn(u64),
) -> Result<(), Failure> {
    let (_, messages_before, _) = ends.done()?;
    let (mut left, mut rounds) = (Vec::<Fault>::new(), 0);
    ends.tell_all("load")?;
    loop {
        let (frames, messages, failed) = ends.done()?;
        let messages = messages - messages_before;
        progress(messages.min(until.messages));
        let is_enough =
            frames >= until.frames && messages >= until.messages && failed >= until.failed;
        if left.is_empty() {
            if rounds >= until.rounds && is_enough {
                return Ok(());
            }
            left = faults.to_vec();
            draw.shuffle(&mut left);
            rounds += 1;
        }
        pause(MS * draw.u32(20..150));
        messages_on_living_links_arrive(ends)?;
        if let Some(fault) = left.pop() {
            fault.make(ends, draw)?;
        }
    }
}

/// Waits until each large message has arrived that was written on one connection, as far as that connection still
/// lives.
pub(super) fn messages_on_living_links_arrive(ends: &mut Ends) -> Result<(), Failure> {
    for index in 0..ends.senders.len() {
        let sender = &mut ends.senders[index].node;
        let (node, incarnation) = sender.life();
        let bulk = sender.report()?.sent.lanes[2];
        ends.gather()?;
        let of_life = |number| MessageId {
            sender: node,
            incarnation,
            number,
        };
        let written = ends.sent.range(of_life(0)..=of_life(u64::MAX));
        let written = written.filter(|(_, message)| message.was_written_on(bulk.epoch));
        let written: Vec<_> = written.map(|(id, _)| *id).collect();
        let deadline = Instant::now() + LONG;
        loop {
            let missing = written.iter().find(|id| !ends.got.contains(id));
            let Some(missing) = missing else {
                ends.certain.extend(written);
                break;
            };
            let now = ends.senders[index].node.report()?.sent.lanes[2];
            if now.epoch != bulk.epoch || !now.is_connected {
                break;
            }
            if Instant::now() > deadline {
                let text = "the link of a message lives, and the message does not come";
                let receiver = ends.receiver.report()?.describe();
                return Err(Failure::error(format!("{text}: {missing:?}; {receiver}")));
            }
            pause(2 * MS);
            ends.gather()?;
        }
    }
    Ok(())
}
