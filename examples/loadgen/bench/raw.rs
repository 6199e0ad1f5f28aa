//! Raw blocking sockets with the same wire format: the fastest way without a transport.
//!
//! The sender writes into a buffer in front of the socket. Several producers share it under a lock,
//! so that frames stay whole. The receiver has one thread for each connection and one buffer for
//! all its reads; each read overwrites the last. There are no counters and no events, and a peer
//! that does not read blocks all senders.

use std::{
    io::{self, BufWriter, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
};

use super::{
    cost::Cost,
    figures::Figures,
    goal::Goal,
    started::{Side, announce, anywhere},
    work::{HEADER, PREFIX, Task, Work, header, touch},
};
use crate::{Failure, payload::fill};

/// Bytes of one read.
const READ: usize = 64 << 10;

pub(super) fn run(
    side: Side,
    work: &Work,
    to: &[SocketAddr],
    buffer: usize,
) -> Result<Figures, Failure> {
    match (work.task, side) {
        (Task::Stream, Side::Send) => send(work, to, buffer),
        (Task::Stream, Side::Receive) => receive(work),
        _ => Err("raw sockets have no such case".into()),
    }
}

fn send(work: &Work, to: &[SocketAddr], buffer: usize) -> Result<Figures, Failure> {
    let connect = |addr| {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(BufWriter::with_capacity(buffer, stream))
    };
    let writers: io::Result<Vec<_>> = to.iter().map(connect).collect();
    let mut writers = writers?;

    let cost = Cost::begin();
    if work.producers == 1 {
        produce(work, 0, |peer, frame| writers[peer].write_all(frame))?;
    } else {
        let writers: Vec<_> = writers.iter_mut().map(Mutex::new).collect();
        let write = &|peer: usize, frame: &[u8]| {
            let writer = writers[peer].lock();
            let mut writer = writer.unwrap_or_else(PoisonError::into_inner);
            writer.write_all(frame)
        };
        thread::scope(|scope| {
            let producers: Vec<_> = (0..work.producers)
                .map(|producer| scope.spawn(move || produce(work, producer, write)))
                .collect();
            producers.into_iter().try_for_each(|producer| {
                let produced = producer.join();
                produced.unwrap_or_else(|_| Err(io::Error::other("panicked")))
            })
        })?;
    }
    writers.iter_mut().try_for_each(Write::flush)?;
    Ok(cost.figures())
}

fn produce(
    work: &Work,
    producer: u64,
    mut write: impl FnMut(usize, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut frame = vec![0; HEADER + work.size];
    for (number, route) in work.frames_of(producer) {
        frame[..HEADER].copy_from_slice(&header(route.group, work.size));
        fill(&mut frame[HEADER..], number);
        write(route.peer, &frame)?;
    }
    Ok(())
}

fn receive(work: &Work) -> Result<Figures, Failure> {
    let listeners: io::Result<Vec<_>> = (0..work.peers)
        .map(|_| TcpListener::bind(anywhere()))
        .collect();
    let listeners = listeners?;
    let addrs: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
    let (goal, reached) = Goal::new(work.frames);
    let cost = Cost::begin();
    announce(&addrs?)?;
    for listener in listeners {
        let (goal, size) = (goal.clone(), work.size);
        thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            read(stream, size, &goal)
        });
    }
    // Without this, the wait below would not end when all threads have failed.
    drop(goal);
    let time = reached.blocking_recv()?.as_secs_f64();
    let figures = cost.figures();
    Ok(figures
        .with("seconds", time)
        .with("frames", work.frames as f64))
}

/// Reads until the end of the stream.
fn read(mut stream: TcpStream, size: usize, goal: &Goal) -> io::Result<()> {
    // What a read leaves over is less than a frame.
    let mut buffer = vec![0; HEADER + size + READ];
    let mut end = 0;
    loop {
        let n = stream.read(&mut buffer[end..end + READ])?;
        if n == 0 {
            return Ok(());
        }
        goal.begin();
        end += n;
        let (mut start, mut frames) = (0, 0);
        while let Some(prefix) = buffer[start..end].first_chunk::<PREFIX>()
            && let Some(frame) = buffer[start..end].get(..u32::from_be_bytes(*prefix) as usize)
        {
            touch(&frame[HEADER..]);
            start += frame.len();
            frames += 1;
        }
        if start > 0 {
            buffer.copy_within(start..end, 0);
            end -= start;
        }
        goal.add(frames);
    }
}
