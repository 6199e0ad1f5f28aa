//! Dials the addresses of one name: the next one soon after a slow one, and at once after one that failed.
//! The first that connects wins (RFC 8305, section 5).

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};

use crate::{
    net::{candidates::ATTEMPT_DELAY, tcp::Stream, time::sleep},
    send::{
        attempt::{Attempts, FailedAttempt},
        dial_places::Place,
    },
};

/// The most failed attempts that one error tells of.
const MAX_TOLD: usize = 4;

/// The attempts that have failed, and those that are being made.
#[derive(Debug, Default)]
pub(super) struct Failures {
    failed: Vec<(SocketAddr, io::Error)>,
    running: Vec<SocketAddr>,
    /// Whether an address gave no answer.
    pub(super) unanswered: bool,
    /// An address that connected and was not accepted.
    pub(super) not_accepted: Option<SocketAddr>,
}

impl Failures {
    /// Notes that an attempt has failed. Returns its place, if others do not need it.
    fn add<'d>(&mut self, failure: FailedAttempt<'d>) -> Option<Place<'d>> {
        self.unanswered |= !failure.answered;
        self.running.retain(|addr| *addr != failure.addr);
        self.failed.push((failure.addr, failure.err));
        failure.place
    }

    /// Notes that the attempts that are being made have failed for want of an answer.
    pub(super) fn time_is_over(&mut self) {
        self.unanswered = true;
        let timed_out = |addr| (addr, io::ErrorKind::TimedOut.into());
        self.failed.extend(self.running.drain(..).map(timed_out));
    }

    /// Makes one error of all, of the kind of the last one.
    pub(super) fn into_error(self) -> io::Error {
        let last = self.failed.last().map(|(_, err)| err.kind());
        let told = self.failed.iter().take(MAX_TOLD);
        let mut told: Vec<_> = told.map(|(addr, err)| format!("{addr}: {err}")).collect();
        if self.failed.len() > MAX_TOLD {
            told.push(format!("and {} more", self.failed.len() - MAX_TOLD));
        }
        io::Error::new(last.unwrap_or(io::ErrorKind::TimedOut), told.join("; "))
    }
}

/// Dials these addresses, each with a place of its own, until `accepts` takes a connection. Those
/// that failed are noted in `failures`. Returns `None` when all have failed.
///
/// If no place is free, the next address waits in line for one as every dial does, and an address that does
/// not answer gives way to it. So the number of connections being made stays within its bound.
pub(super) async fn race<'d>(
    attempts: &'d Attempts,
    addrs: Vec<SocketAddr>,
    place: Place<'d>,
    unanswered: u32,
    accepts: impl Fn(&Stream, SocketAddr) -> bool,
    failures: &mut Failures,
) -> Option<(Stream, SocketAddr)> {
    let mut addrs = addrs.into_iter();
    let mut running = FuturesUnordered::new();
    let (mut spare, mut wait) = (Some(place), ATTEMPT_DELAY);
    loop {
        if let Some(place) = spare.take()
            && let Some(addr) = addrs.next()
        {
            failures.running.push(addr);
            running.push(attempts.connect(addr, place));
            wait = ATTEMPT_DELAY;
        }
        let turn = async {
            sleep(wait).await;
            attempts.turn(unanswered).await
        };
        tokio::select! {
            biased;
            Some(ended) = running.next() => match ended {
                Ok((stream, addr)) if accepts(&stream, addr) => return Some((stream, addr)),
                Ok((_, addr)) => {
                    failures.not_accepted = Some(addr);
                    wait = Duration::ZERO;
                }
                Err(failed) => {
                    spare = failures.add(failed);
                    wait = Duration::ZERO;
                }
            },
            place = turn, if addrs.len() > 0 => spare = Some(place),
            else => return None,
        }
    }
}
