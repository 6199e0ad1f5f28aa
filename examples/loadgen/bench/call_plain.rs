//! Calls in a careful program on plain tokio: what one would write without this crate.
//!
//! One task for each side owns the connection, so there are no locks. It takes all calls that are queued before it
//! writes, and reads while it writes. The server answers in the task that reads: there is no task for each call. The
//! program has no deadlines, no cancelling, no bound in bytes, no counters and no reconnects.
//!
//! ```text
//! offset  size  field
//! 0       4     length    u32 big-endian, without itself
//! 4       8     call      u64 big-endian: the number of the call
//! 12      n     payload
//! ```

use std::{collections::HashMap, io, net::SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    calls,
    cost::Cost,
    figures::Figures,
    goal::Goal,
    started::{announce, anywhere},
    work::{Work, touch},
};
use crate::{Failure, callers::Runtime};

const LENGTH: usize = 4;
const NUMBER: usize = 8;

/// Bytes of one read, and of what waits to be written.
const BUFFER: usize = 64 << 10;

/// The most calls that wait to be written. More did not help.
const CHANNEL: usize = 1_024;

/// A call, and where its answer goes.
type Request = (Bytes, oneshot::Sender<Bytes>);

pub(super) async fn call(work: &Work, to: SocketAddr) -> Result<Figures, Failure> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (requests, queued) = mpsc::channel::<Request>(CHANNEL);
    let connection = tokio::spawn(ask(stream, queued));
    let call = move |payload| {
        let requests = requests.clone();
        async move {
            let (answer_tx, answer) = oneshot::channel();
            requests.send((payload, answer_tx)).await?;
            Ok(answer.await?)
        }
    };
    let figures = calls::measure(&Runtime::Tokio(Handle::current()), work, call).await?;
    connection.await??;
    Ok(figures)
}

/// Sends calls and receives their answers until nobody calls any more.
async fn ask(mut stream: TcpStream, mut queued: mpsc::Receiver<Request>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let [mut input, mut output] = [(); 2].map(|()| BytesMut::with_capacity(BUFFER));
    let mut requests = Vec::with_capacity(CHANNEL);
    let mut waiting = HashMap::new();
    let mut last = 0;
    loop {
        tokio::select! {
            biased;
            count = queued.recv_many(&mut requests, CHANNEL), if output.len() < BUFFER => {
                if count == 0 {
                    return Ok(());
                }
                for (payload, answer_tx) in requests.drain(..) {
                    last += 1;
                    put(&mut output, last, &payload);
                    waiting.insert(last, answer_tx);
                }
            }
            written = writer.write_buf(&mut output), if !output.is_empty() => {
                written?;
            }
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                while let Some((number, payload)) = take(&mut input) {
                    if let Some(answer_tx) = waiting.remove(&number) {
                        // Nobody gives a call up.
                        let _ = answer_tx.send(payload.freeze());
                    }
                }
                input.reserve(BUFFER);
            }
        }
    }
}

pub(super) async fn serve(work: &Work) -> Result<Figures, Failure> {
    let listener = TcpListener::bind(anywhere()).await?;
    let (goal, reached) = Goal::new(calls::total(work));
    let cost = Cost::begin();
    announce(&[listener.local_addr()?])?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let connection = tokio::spawn(answer(stream, goal));
    reached.await?;
    let figures = cost.figures();
    connection.await??;
    Ok(figures)
}

/// Answers calls until the connection ends.
async fn answer(mut stream: TcpStream, goal: Goal) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let [mut input, mut output] = [(); 2].map(|()| BytesMut::with_capacity(BUFFER));
    loop {
        tokio::select! {
            biased;
            written = writer.write_buf(&mut output), if !output.is_empty() => {
                written?;
            }
            read = reader.read_buf(&mut input), if output.len() < BUFFER => {
                if read? == 0 {
                    return Ok(());
                }
                goal.begin();
                let mut answered = 0;
                while let Some((number, payload)) = take(&mut input) {
                    touch(&payload);
                    put(&mut output, number, &payload);
                    answered += 1;
                }
                goal.add(answered);
                input.reserve(BUFFER);
            }
        }
    }
}

fn put(output: &mut BytesMut, number: u64, payload: &[u8]) {
    output.reserve(LENGTH + NUMBER + payload.len());
    output.put_u32((NUMBER + payload.len()) as u32);
    output.put_u64(number);
    output.put_slice(payload);
}

/// Takes a frame, if it is there whole.
fn take(input: &mut BytesMut) -> Option<(u64, BytesMut)> {
    let length = u32::from_be_bytes(*input.first_chunk()?) as usize;
    if input.len() < LENGTH + length {
        return None;
    }
    input.advance(LENGTH);
    let mut frame = input.split_to(length);
    Some((frame.get_u64(), frame))
}
