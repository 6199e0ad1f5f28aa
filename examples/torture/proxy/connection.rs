//! One connection through the proxy, from its start to its end.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, tcp::ReadHalf},
    sync::watch,
};

use super::{
    Cut, Ending, Inner, OnAccept, Pace, Plan, Side, Trace,
    back::pass_back,
    ending::{LINGER, end},
    source_of,
};

/// What became of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyConnection {
    /// How fast bytes were forwarded.
    pub(crate) pace: Pace,
    /// Bytes read from the sender.
    pub(crate) taken: Trace,
    /// Those of them that were written to the receiver.
    pub(crate) forwarded: Trace,
    /// Bytes read and not forwarded.
    pub(crate) thrown_away: u64,
    /// Whether the connection to the receiver was established.
    pub(crate) established: bool,
    /// Whether the proxy read all that the sender had written. If so, no bytes were lost in a
    /// kernel.
    pub(crate) drained: bool,
    /// The system's error if it could not be established or read to its end.
    pub(crate) failed: Option<String>,
    /// `None` while it is open.
    pub(crate) ended: Option<Ended>,
    /// Whether reading after the end is finished.
    settled: bool,
}

/// Why a connection ended.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Ended {
    /// By the plan or by the row.
    Cut(Cut),
    /// The receiver could not be reached, or the proxy was not listening.
    Refused,
    /// Closed right after it was accepted.
    Closed,
    /// The sender closed it.
    BySender,
    /// The sender reset it.
    SenderReset,
    /// The receiver closed it.
    ByReceiver,
}

impl ProxyConnection {
    /// Returns an entry for connections that were in the backlog when the proxy stopped listening.
    pub(super) fn never_accepted() -> Self {
        ProxyConnection {
            ended: Some(Ended::Refused),
            settled: true,
            ..ProxyConnection::default()
        }
    }

    pub(crate) fn was_cut(&self) -> bool {
        matches!(self.ended, Some(Ended::Cut(_)))
    }

    /// Returns whether the receiver got all forwarded bytes, that is, whether its end was a FIN.
    pub(crate) fn delivered_all(&self) -> bool {
        match self.ended {
            None | Some(Ended::BySender | Ended::SenderReset) => true,
            Some(Ended::Cut(cut)) => (cut.ending, cut.side) != (Ending::Rst, Side::Receiver),
            Some(Ended::Refused | Ended::Closed | Ended::ByReceiver) => false,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }
}

/// What ends a wait for the connection.
enum Event {
    Read(usize),
    Ended(Ended),
}

/// Handles a connection until its end.
pub(super) async fn run(inner: &Inner, number: u64, plan: &Plan, mut sender: TcpStream) {
    let ended = match plan.on_accept {
        OnAccept::Close => {
            drop(sender);
            Ended::Closed
        }
        OnAccept::Forward => match dial(inner, number).await {
            Ok(mut receiver) => {
                let mut held = Vec::new();
                let forwarding =
                    forward(inner, number, plan, &mut sender, &mut receiver, &mut held);
                let ended = forwarding.await;
                note(inner, number, |connection| connection.ended = Some(ended));
                let late = plan.hold.map(|hold| (hold.time, held));
                end(inner, number, ended, sender, receiver, late).await;
                ended
            }
            Err(err) => {
                note(inner, number, |connection| {
                    connection.failed = Some(err.to_string());
                });
                Ended::Refused
            }
        },
    };
    note(inner, number, |connection| {
        connection.ended = Some(ended);
        connection.settled = true;
    });
}

async fn dial(inner: &Inner, number: u64) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if inner.target.ip().is_loopback() {
        // The port may have belonged to another connection just before.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((source_of(inner.id, number), 0)))?;
    }
    let receiver = socket.connect(inner.target).await?;
    receiver.set_nodelay(true)?;
    Ok(receiver)
}

/// Forwards bytes until the connection ends, and returns why it ended. Bytes that the plan holds back go
/// to `held`.
async fn forward(
    inner: &Inner,
    number: u64,
    plan: &Plan,
    sender: &mut TcpStream,
    receiver: &mut TcpStream,
    held: &mut Vec<u8>,
) -> Ended {
    let (mut sender, to_sender) = sender.split();
    let (from_receiver, mut receiver) = receiver.split();
    let mut back = pin!(pass_back(from_receiver, to_sender));
    let mut buffer = vec![0; 64 << 10];
    let (mut black_hole, mut cuts) = (inner.black_hole.subscribe(), inner.cut.subscribe());
    cuts.mark_unchanged();
    note(inner, number, |connection| connection.established = true);
    let mut at = 0;
    let mut draw = fastrand::Rng::with_seed(number);
    loop {
        if let Some(cut) = plan.cut
            && at >= cut.after
        {
            return Ended::Cut(cut);
        }
        let until = |mark: Option<u64>| mark.map_or(usize::MAX, |mark| (mark - at) as usize);
        let room = until(plan.cut.map(|cut| cut.after))
            .min(until(plan.black_hole))
            .min(match plan.pace {
                Pace::Free | Pace::Jitter(_) => buffer.len(),
                Pace::OneByOne => 1,
                // What passes in 10 ms.
                Pace::Throttle(rate) => (rate as usize / 100).clamp(1, buffer.len()),
            });
        let event = tokio::select! {
            biased;
            cut = cut_requested(&mut cuts) => Event::Ended(Ended::Cut(cut)),
            () = &mut back => Event::Ended(Ended::ByReceiver),
            read = read_from_sender(&mut black_hole, &mut sender, &mut buffer[..room.min(64 << 10)]) => read,
        };
        let read = match event {
            Event::Read(read) => read,
            Event::Ended(Ended::BySender) if held.is_empty() => {
                // The receiver may have something to say to the end.
                let _ = receiver.shutdown().await;
                tokio::select! {
                    _ = cut_requested(&mut cuts) => {}
                    _ = tokio::time::timeout(LINGER, &mut back) => {}
                }
                return Ended::BySender;
            }
            Event::Ended(ended) => return ended,
        };
        let mut piece = &mut buffer[..read];
        note(inner, number, |connection| connection.taken.feed(piece));
        if let Some(bit) = plan.flip
            && (at..at + read as u64).contains(&(bit / 8))
        {
            piece[(bit / 8 - at) as usize] ^= 1 << (bit % 8);
        }
        let begins_at = at;
        at += read as u64;
        if plan.hold.is_some_and(|hold| begins_at >= hold.from) {
            held.extend_from_slice(piece);
            continue;
        }
        match plan.pace {
            Pace::Free | Pace::OneByOne => {}
            Pace::Throttle(rate) => {
                let took = Duration::from_secs_f64(read as f64 / f64::from(rate));
                tokio::time::sleep(took).await;
            }
            Pace::Jitter(up_to) => tokio::time::sleep(up_to.mul_f64(draw.f64())).await,
        }
        while !piece.is_empty() {
            let written = tokio::select! {
                biased;
                cut = cut_requested(&mut cuts) => Err(Ended::Cut(cut)),
                () = &mut back => Err(Ended::ByReceiver),
                written = receiver.write(piece) => written.map_err(|_| Ended::ByReceiver),
            };
            match written {
                Ok(n) => {
                    note(inner, number, |connection| {
                        connection.forwarded.feed(&piece[..n]);
                    });
                    piece = &mut piece[n..];
                }
                Err(ended) => {
                    note(inner, number, |connection| {
                        connection.thrown_away += piece.len() as u64;
                    });
                    return ended;
                }
            }
        }
    }
}

/// Reads from the sender, or waits while reading is suspended.
async fn read_from_sender(
    black_hole: &mut watch::Receiver<bool>,
    sender: &mut ReadHalf<'_>,
    into: &mut [u8],
) -> Event {
    // A black hole from the plan leaves no room and never ends. One that the row set ends when
    // the row resumes.
    if into.is_empty() || black_hole.wait_for(|black_hole| !black_hole).await.is_err() {
        return std::future::pending().await;
    }
    match sender.read(into).await {
        Ok(0) => Event::Ended(Ended::BySender),
        Err(_) => Event::Ended(Ended::SenderReset),
        Ok(read) => Event::Read(read),
    }
}

/// Waits until the row cuts the connection.
async fn cut_requested(cuts: &mut watch::Receiver<(u64, Option<Cut>)>) -> Cut {
    loop {
        if cuts.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let (_, Some(cut)) = *cuts.borrow_and_update() {
            return cut;
        }
    }
}

pub(super) fn note(inner: &Inner, number: u64, change: impl FnOnce(&mut ProxyConnection)) {
    change(&mut inner.connections()[number as usize]);
}
