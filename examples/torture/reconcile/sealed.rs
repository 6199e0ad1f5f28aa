//! The same for encrypted connections, in which the proxy cannot see frames.
//!
//! It knows how many bytes it took on each, and whether those are all that the sender's system took. A frame
//! that counts as written was taken whole by the system, and encryption makes no frame shorter. So the frames
//! that are missing after a connection cannot be longer than what the proxy took on it, without those that
//! came over it. What was only encrypted, and not taken by the system, must come on the next connection.

use actix_transport::SendStats;

use super::{Arrivals, Arrived, IN_KERNELS, NumberSet, Reconciled};
use crate::proxy::ProxyConnection;

/// Reconciles the frames of a sender, as [`reconcile`](super::reconcile) does, by what the receiver got on
/// each connection. With sessions, each connection brings a run of frames behind those of the one before.
pub(crate) fn reconcile_sealed(
    id: u8,
    sent: &SendStats,
    connections: &[ProxyConnection],
    arrived: &Arrived,
    lens: impl Fn(u64) -> u64,
) -> Reconciled {
    let mut found = Reconciled::default();
    let (accepted, cut_off) = (sent.accepted.frames, sent.dropped.cut_off);
    found.given_up = cut_off.frames;
    // Those that do not explain a gap yet.
    let mut given_up = cut_off.frames;
    if sent.written + cut_off != sent.accepted {
        found.unexplained.push(format!(
            "sender {id}: accepted {}, wrote {}",
            sent.accepted, sent.written
        ));
    }
    let mut seen = NumberSet::new(accepted);
    let none = Arrivals::default();
    let mut next = 0;
    // What connections since the last frame that came may have lost, and whether one was reset.
    let (mut room, mut reset) = (0, false);
    let mut lost = |found: &mut Reconciled, until: u64, next: u64, room: u64, reset: bool| {
        let mut bytes: u64 = (next..until).map(&lens).sum();
        if bytes > room && given_up > 0 {
            // The sender has given up a frame that was cut. It is not known which, so it is taken for the
            // longest.
            bytes -= (next..until).map(&lens).max().unwrap_or(0);
            given_up -= 1;
        }
        if bytes > room {
            found.unexplained.push(format!(
                "sender {id}: {next} to {until} are missing, {bytes} bytes, and {room} can have been cut off"
            ));
        }
        match reset {
            true => found.lost_by_reset += until - next,
            false => found.lost_in_proxy += until - next,
        }
    };
    for (number, connection) in connections.iter().enumerate() {
        let arrivals = arrived.arrivals.get(&(id, number as u64)).unwrap_or(&none);
        let mut came = arrivals.sequences.clone();
        came.sort_unstable();
        for &sequence in &came {
            found.duplicate += u64::from(!seen.set(sequence));
        }
        found.received += came.len() as u64;
        found.reordered += arrivals.reordered;
        // Before the handshake is done, no frame is written.
        if !connection.established {
            continue;
        }
        if let (Some(&first), Some(&last)) = (came.first(), came.last()) {
            if last - first + 1 != came.len() as u64 {
                found.unexplained.push(format!(
                    "sender {id}, connection {number}: {} of {first} to {last} came",
                    came.len()
                ));
            }
            if first < next {
                found.unexplained.push(format!(
                    "sender {id}, connection {number}: begins with {first}, expected {next}"
                ));
            } else if first > next {
                lost(&mut found, first, next, room, reset);
            }
            next = next.max(last + 1);
            (room, reset) = (0, false);
        }
        let bytes: u64 = came.iter().map(|&sequence| lens(sequence)).sum();
        room += connection.taken.bytes.saturating_sub(bytes);
        if !connection.drained {
            room += IN_KERNELS;
            reset = true;
        }
    }
    if next < accepted {
        lost(&mut found, accepted, next, room, reset);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 50;

    /// Returns a connection on which so many bytes were taken, all that the system of the sender had.
    fn connection(taken: u64) -> ProxyConnection {
        let mut connection = ProxyConnection::default();
        connection.taken.bytes = taken;
        connection.established = true;
        connection.drained = true;
        connection
    }

    /// Reconciles ten frames of 50 bytes on two connections.
    fn reconciled(connections: &[ProxyConnection], came: [Vec<u64>; 2]) -> Reconciled {
        let mut sent = SendStats::default();
        sent.accepted.frames = 10;
        sent.written.frames = 10;
        let mut arrived = Arrived::default();
        for (number, sequences) in (0..).zip(came) {
            let arrivals = Arrivals {
                sequences,
                ..Arrivals::default()
            };
            arrived.arrivals.insert((1, number), arrivals);
        }
        reconcile_sealed(1, &sent, connections, &arrived, |_| LEN)
    }

    #[test]
    fn a_loss_is_explained_by_bytes_that_were_taken() {
        let connections = [connection(5 * LEN), connection(5 * LEN)];
        let found = reconciled(&connections, [vec![1, 0, 2], vec![5, 6, 7, 8, 9]]);
        assert_eq!(found.unexplained, [""; 0]);
        assert_eq!((found.received, found.lost_in_proxy), (8, 2));
    }

    #[test]
    fn a_frame_that_counts_as_written_and_was_not_taken_is_found() {
        let connections = [connection(5 * LEN - 1), connection(5 * LEN)];
        let found = reconciled(&connections, [vec![0, 1, 2], vec![5, 6, 7, 8, 9]]);
        assert!(found.unexplained[0].contains("3 to 5 are missing"));
        let connections = [connection(5 * LEN), connection(4 * LEN)];
        let found = reconciled(&connections, [vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8]]);
        assert!(found.unexplained[0].contains("9 to 10 are missing"));
    }

    #[test]
    fn a_frame_that_comes_twice_or_too_late_is_found() {
        let connections = [connection(10 * LEN), connection(10 * LEN)];
        let found = reconciled(&connections, [vec![0, 1, 2, 3, 4, 5], vec![5, 6, 7, 8, 9]]);
        assert_eq!(found.duplicate, 1);
        let found = reconciled(&connections, [vec![5, 6, 7, 8, 9], vec![0, 1, 2, 3, 4]]);
        assert!(found.unexplained.concat().contains("begins with 0"));
        let found = reconciled(&connections, [vec![0, 1, 2, 4], vec![5, 6, 7, 8, 9]]);
        assert!(found.unexplained[0].contains("4 of 0 to 4 came"));
    }
}
