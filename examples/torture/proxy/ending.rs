//! Ends a connection through the proxy, so that each side sees what the plan says.

use std::{io, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Cut, Ending, Inner, Side,
    connection::{Ended, note},
};

/// How long a side may take to close after it has seen the end.
pub(super) const LINGER: Duration = Duration::from_secs(20);

/// Closes both sides in the way that `ended` asks for. The receiver's side stays open until the bytes that
/// come late have been written.
pub(super) async fn end(
    inner: &Inner,
    number: u64,
    ended: Ended,
    sender: TcpStream,
    receiver: TcpStream,
    late: Option<(Duration, Vec<u8>)>,
) {
    let (sender_sees, receiver_sees) = match ended {
        Ended::Cut(Cut { ending, side, .. }) => match (side, ending) {
            (Side::Sender, Ending::Fin) => (Sees::Fin, Sees::Fin),
            (Side::Sender, Ending::Rst) => (Sees::Rst, Sees::Fin),
            (Side::Receiver, Ending::Fin) => (Sees::Close, Sees::Fin),
            (Side::Receiver, Ending::Rst) => (Sees::Fin, Sees::Rst),
        },
        // The sender closed, so everything was read.
        Ended::BySender => {
            note(inner, number, |connection| connection.drained = true);
            (Sees::Close, Sees::Fin)
        }
        Ended::SenderReset => (Sees::Close, Sees::Fin),
        // The receiver is gone; the sender sees a FIN, as from any peer that closes.
        Ended::ByReceiver | Ended::Refused | Ended::Closed => (Sees::Fin, Sees::Close),
    };
    // At the same time, because each waits for its end to close too.
    tokio::join!(
        end_receiver(inner, number, receiver_sees, receiver, late),
        end_sender(inner, number, sender_sees, sender),
    );
}

async fn end_receiver(
    inner: &Inner,
    number: u64,
    sees: Sees,
    mut receiver: TcpStream,
    late: Option<(Duration, Vec<u8>)>,
) {
    if let Some((time, held)) = late {
        match write_late(&mut receiver, &held, time).await {
            Ok(()) => note(inner, number, |connection| connection.forwarded.feed(&held)),
            Err(_) => note(inner, number, |connection| {
                connection.thrown_away += held.len() as u64;
            }),
        }
    }
    match sees {
        Sees::Rst => reset(&receiver),
        Sees::Fin => {
            let _ = receiver.shutdown().await;
            discard(&mut receiver).await;
        }
        Sees::Close => {}
    }
}

async fn end_sender(inner: &Inner, number: u64, sees: Sees, mut sender: TcpStream) {
    match sees {
        Sees::Rst => reset(&sender),
        Sees::Close => {}
        Sees::Fin => {
            let _ = sender.shutdown().await;
            let drained = tokio::time::timeout(LINGER, drain(inner, number, &mut sender)).await;
            let drained = drained.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
            note(inner, number, |connection| {
                connection.drained = drained.is_ok();
                connection.failed = drained.err().map(|err| err.to_string());
            });
        }
    }
}

enum Sees {
    Fin,
    Rst,
    /// What the kernel sends for a close: FIN, or RST if there are unread bytes.
    Close,
}

/// Reads what the sender has written and throws it away. Fails if its end is not orderly.
async fn drain(inner: &Inner, number: u64, sender: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match sender.read(&mut buffer).await? {
            0 => return Ok(()),
            read => note(inner, number, |connection| {
                connection.taken.feed(&buffer[..read]);
                connection.thrown_away += read as u64;
            }),
        }
    }
}

fn reset(stream: &TcpStream) {
    // The close that follows sends an RST and discards the buffers.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Reads what the receiver still sends, and throws it away. If it stayed unread, the close would be a reset,
/// and a reset discards what the receiver has not read yet.
async fn discard(receiver: &mut TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    let reading = async { while receiver.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(LINGER, reading).await;
}

/// Writes bytes that were held back.
async fn write_late(receiver: &mut TcpStream, held: &[u8], late: Duration) -> io::Result<()> {
    tokio::time::sleep(late).await;
    let written = tokio::time::timeout(LINGER, receiver.write_all(held));
    written.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
