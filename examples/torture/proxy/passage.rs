//! One connection through the proxy, from its making to its end.

use std::{io, net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
};

use super::{Cut, Ending, Inner, Meet, Pace, Plan, Side, Trace, source_of};

/// How long a sender that was told the end may take to end, too.
const DRAIN: Duration = Duration::from_secs(20);

/// What became of one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passage {
    /// How fast it went.
    pub(crate) pace: Pace,
    /// What was read from the sender.
    pub(crate) taken: Trace,
    /// What of it was written to the receiver.
    pub(crate) forwarded: Trace,
    /// Bytes taken and not forwarded.
    pub(crate) thrown: u64,
    /// Whether the receiver was reached, and the connection stands or stood.
    pub(crate) stood: bool,
    /// Whether the sender's end was read to its last byte: then nothing that its kernel took is
    /// unknown.
    pub(crate) drained: bool,
    /// What the system said when it could not be made, or not be drained.
    pub(crate) failed: Option<String>,
    /// None while it goes on.
    pub(crate) ended: Option<Ended>,
    /// Whether what had to be read after the end was.
    settled: bool,
}

/// Why a connection ended.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Ended {
    /// As planned, or asked for.
    Cut(Cut),
    /// The receiver could not be reached, or the door was closed.
    Refused,
    /// Accepted and closed.
    Closed,
    /// The sender closed it.
    BySender,
    /// The sender reset it.
    SenderReset,
    /// The receiver closed it.
    ByReceiver,
}

impl Passage {
    /// The connections that were made while nobody accepted them any more.
    pub(super) fn shut_out() -> Self {
        Passage {
            ended: Some(Ended::Refused),
            settled: true,
            ..Passage::default()
        }
    }

    pub(crate) fn was_cut(&self) -> bool {
        matches!(self.ended, Some(Ended::Cut(_)))
    }

    /// Whether the receiver got all that was forwarded: its end was a FIN, behind all of it.
    pub(crate) fn came_through(&self) -> bool {
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

/// What a connection that is waited for does.
enum Woken {
    Read(usize),
    Ended(Ended),
}

/// Takes a connection to its end.
pub(super) async fn pass(inner: &Inner, number: u64, plan: &Plan, mut sender: TcpStream) {
    let ended = match plan.meet {
        Meet::Close => {
            drop(sender);
            Ended::Closed
        }
        Meet::Forward => match dial(inner, number).await {
            Ok(mut receiver) => {
                let ended = forward(inner, number, plan, &mut sender, &mut receiver).await;
                note(inner, number, |passage| passage.ended = Some(ended));
                end(inner, number, ended, sender, receiver).await;
                ended
            }
            Err(err) => {
                note(inner, number, |passage| {
                    passage.failed = Some(err.to_string());
                });
                Ended::Refused
            }
        },
    };
    note(inner, number, |passage| {
        passage.ended = Some(ended);
        passage.settled = true;
    });
}

async fn dial(inner: &Inner, number: u64) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if inner.target.ip().is_loopback() {
        // Its port may be one that another connection has just let go.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((source_of(inner.id, number), 0)))?;
    }
    let receiver = socket.connect(inner.target).await?;
    receiver.set_nodelay(true)?;
    Ok(receiver)
}

/// Forwards bytes until the connection ends; says why.
async fn forward(
    inner: &Inner,
    number: u64,
    plan: &Plan,
    sender: &mut TcpStream,
    receiver: &mut TcpStream,
) -> Ended {
    let mut buffer = vec![0; 64 << 10];
    let (mut hole, mut cuts) = (inner.hole.subscribe(), inner.cut.subscribe());
    cuts.mark_unchanged();
    note(inner, number, |passage| passage.stood = true);
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
            .min(until(plan.hole))
            .min(match plan.pace {
                Pace::Free | Pace::Jitter(_) => buffer.len(),
                Pace::OneByOne => 1,
                // A hundredth of a second's worth.
                Pace::Throttle(rate) => (rate as usize / 100).clamp(1, buffer.len()),
            });
        let woken = tokio::select! {
            biased;
            cut = asked(&mut cuts) => Woken::Ended(Ended::Cut(cut)),
            () = gone(receiver) => Woken::Ended(Ended::ByReceiver),
            read = take(&mut hole, sender, &mut buffer[..room.min(64 << 10)]) => read,
        };
        let read = match woken {
            Woken::Read(read) => read,
            Woken::Ended(ended) => return ended,
        };
        let mut piece = &mut buffer[..read];
        note(inner, number, |passage| passage.taken.feed(piece));
        if let Some(bit) = plan.flip
            && (at..at + read as u64).contains(&(bit / 8))
        {
            piece[(bit / 8 - at) as usize] ^= 1 << (bit % 8);
        }
        at += read as u64;
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
                cut = asked(&mut cuts) => Err(Ended::Cut(cut)),
                written = receiver.write(piece) => written.map_err(|_| Ended::ByReceiver),
            };
            match written {
                Ok(n) => {
                    note(inner, number, |passage| passage.forwarded.feed(&piece[..n]));
                    piece = &mut piece[n..];
                }
                Err(ended) => {
                    note(inner, number, |passage| {
                        passage.thrown += piece.len() as u64;
                    });
                    return ended;
                }
            }
        }
    }
}

/// Reads from the sender, unless nothing is to be read.
async fn take(hole: &mut watch::Receiver<bool>, sender: &mut TcpStream, into: &mut [u8]) -> Woken {
    // A plan's black hole has no room, and a row's has no end before the row says so.
    if into.is_empty() || hole.wait_for(|hole| !hole).await.is_err() {
        return std::future::pending().await;
    }
    match sender.read(into).await {
        Ok(0) => Woken::Ended(Ended::BySender),
        Err(_) => Woken::Ended(Ended::SenderReset),
        Ok(read) => Woken::Read(read),
    }
}

/// Waits until the row cuts the connection.
async fn asked(cuts: &mut watch::Receiver<(u64, Option<Cut>)>) -> Cut {
    loop {
        if cuts.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let (_, Some(cut)) = *cuts.borrow_and_update() {
            return cut;
        }
    }
}

/// Waits until the receiver closes the connection. It says nothing, as links are one-way.
async fn gone(receiver: &TcpStream) {
    let mut byte = [0];
    while receiver.readable().await.is_ok() {
        match receiver.try_read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Ends both sides as the way it ended asks for.
async fn end(
    inner: &Inner,
    number: u64,
    ended: Ended,
    mut sender: TcpStream,
    mut receiver: TcpStream,
) {
    let (sender_sees, receiver_sees) = match ended {
        Ended::Cut(Cut { ending, side, .. }) => match (side, ending) {
            (Side::Sender, Ending::Fin) => (Sees::Fin, Sees::Fin),
            (Side::Sender, Ending::Rst) => (Sees::Rst, Sees::Fin),
            (Side::Receiver, Ending::Fin) => (Sees::Close, Sees::Fin),
            (Side::Receiver, Ending::Rst) => (Sees::Fin, Sees::Rst),
        },
        // There was nothing more to read.
        Ended::BySender => {
            note(inner, number, |passage| passage.drained = true);
            (Sees::Close, Sees::Fin)
        }
        Ended::SenderReset => (Sees::Close, Sees::Fin),
        // It has gone; its sender reads of it as of any peer that closes.
        Ended::ByReceiver | Ended::Refused | Ended::Closed => (Sees::Fin, Sees::Close),
    };
    match receiver_sees {
        Sees::Rst => reset(&receiver),
        Sees::Fin => {
            let _ = receiver.shutdown().await;
        }
        Sees::Close => {}
    }
    drop(receiver);
    match sender_sees {
        Sees::Rst => reset(&sender),
        Sees::Close => {}
        Sees::Fin => {
            let _ = sender.shutdown().await;
            let drained = tokio::time::timeout(DRAIN, drain(inner, number, &mut sender)).await;
            let drained = drained.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
            note(inner, number, |passage| {
                passage.drained = drained.is_ok();
                passage.failed = drained.err().map(|err| err.to_string());
            });
        }
    }
}

enum Sees {
    Fin,
    Rst,
    /// Whatever the kernel makes of a close.
    Close,
}

/// Reads to the sender's end and throws it away; fails when that end is not in good order.
async fn drain(inner: &Inner, number: u64, sender: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match sender.read(&mut buffer).await? {
            0 => return Ok(()),
            read => note(inner, number, |passage| {
                passage.taken.feed(&buffer[..read]);
                passage.thrown += read as u64;
            }),
        }
    }
}

fn reset(stream: &TcpStream) {
    // The close that follows then takes everything with it.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn note(inner: &Inner, number: u64, change: impl FnOnce(&mut Passage)) {
    change(&mut inner.ledger()[number as usize]);
}
