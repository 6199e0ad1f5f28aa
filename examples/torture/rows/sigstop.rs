//! A peer is stopped while a sender offers it as much as possible. The sender's memory stays within
//! the queue's bound and shrinks afterwards, and nothing is lost when the peer resumes.

use std::{
    io::BufRead,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use actix_transport::{Config, GroupId, SendError};

use crate::{
    balance_watch::BalanceWatch,
    row::{Failure, Figures, Row, Run},
    sink::{Sink, print_line},
    stamp::Stamp,
    world::{self, Child, Cost, ONE_EACH, Role, mib, pause},
};

pub(crate) const ROW: Row = Row {
    name: "sigstop",
    what: "a peer stopped under full load, bound 64 MiB: memory stays within it and shrinks afterwards",
    run,
};

pub(crate) const ROLE: Role = Role {
    name: "offer",
    run: offer,
};

const BOUND: u64 = 64 << 20;
const NEVER: Duration = Duration::from_secs(24 * 3600);
const MS: Duration = Duration::from_millis(1);

/// Makes the allocator map each larger block on its own, and return it to the system when it is
/// freed. By default it keeps tens of megabytes of freed blocks, which would hide what the queue
/// holds.
const ALLOCATOR: [&str; 2] = ["env", "MALLOC_MMAP_THRESHOLD_=4096"];

/// What the queue may use in addition to its bytes, and what the allocator may keep.
const MARGIN: u64 = BOUND / 10;

/// What may remain when all is written: small blocks that the allocator keeps.
const LEFTOVER: u64 = 2 << 20;

fn run(run: &Run) -> Result<Figures, Failure> {
    let stopped = run
        .tier
        .pick(Duration::from_secs(15), Duration::from_secs(60));
    run.progress.total(stopped.as_secs());
    let mut sink = Sink::start(&[], "127.0.0.1:0")?;
    let mut offer = Child::start_with(&ALLOCATOR, ROLE.name, &[sink.addr.to_string()])?;
    let memory = |offer: &Child| Ok::<_, Failure>(Cost::of(offer.pid())?.memory);
    // Send some load first, so that code and buffers are in memory.
    offer.send_line("warm up")?;
    offer.line()?;
    pause(Duration::from_secs(3));
    let base = memory(&offer)?;

    sink.child.stop()?;
    offer.send_line("offer")?;
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < stopped {
        most = most.max(memory(&offer)?);
        run.progress.set_done(began.elapsed().as_secs());
        pause(5 * MS);
    }
    offer.send_line("enough")?;
    let refused: u64 = offer.parse()?;
    let held: u64 = offer.parse()?;
    most = most.max(memory(&offer)?);
    sink.child.resume()?;
    let (accepted, written): (u64, u64) = (offer.parse()?, offer.parse()?);
    // The frames in the kernel's buffers are still on the way.
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut log, _) = sink.receive_log()?;
    while log.lock().frames < accepted && Instant::now() < deadline {
        pause(10 * MS);
        (log, _) = sink.receive_log()?;
    }
    let mut after = memory(&offer)?;
    while after > base + LEFTOVER && Instant::now() < deadline {
        pause(50 * MS);
        after = memory(&offer)?;
    }

    let mut figures = Figures::default();
    let came = log.lock();
    let over = most.saturating_sub(base);
    figures.require(over <= BOUND + MARGIN, || {
        format!("{} over the base", mib(over))
    });
    figures.require(after <= base + LEFTOVER, || "memory did not shrink".into());
    figures.require(held > BOUND - (128 << 10), || {
        "the queue was not full".into()
    });
    figures.require(refused > 0, || "nothing was refused".into());
    figures.require(written == accepted, || {
        format!("{accepted} accepted, {written} written")
    });
    let frames = came.frames;
    figures.require(frames == accepted, || {
        format!("{accepted} accepted, {frames} received")
    });
    figures.require(came.faults().is_none(), || {
        came.faults().unwrap_or_default()
    });
    figures.add("stopped for", format!("{stopped:?}"));
    figures.add("base", mib(base));
    figures.add("most over it", mib(over));
    figures.add("bound", mib(BOUND));
    figures.add("queued", mib(held));
    figures.add("afterwards over it", mib(after.saturating_sub(base)));
    figures.add("offers refused", refused);
    figures.add("accepted and received", frames);
    figures.verdict()
}

/// The child: the sender whose memory is measured. Payload lengths alternate, so that the queue
/// holds copied and chained ones; the long ones just fill whole pages.
fn offer(args: &[String]) -> Result<(), Failure> {
    const LENGTHS: [usize; 8] = [8, 64, 200, 1_000, 4_000, 12_200, 20_400, 65_400];

    let to: SocketAddr = args[0].parse()?;
    world::system(async {
        let config = Config::default()
            .placement(ONE_EACH)
            .udp(false)
            .queue_bytes(BOUND as usize)
            .queue_frames(u32::MAX as usize)
            .stale_after(NEVER)
            .user_timeout(Duration::from_secs(3600));
        let transport = world::node(config)?;
        let peer = transport.peer(to)?;
        let snapshots = BalanceWatch::start([&transport]);
        let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
        let mut sequence = 0;
        let next = |sequence: u64| {
            let stamp = Stamp {
                sender: 1,
                incarnation: 0,
                group: (sequence % 4) as u32,
                sequence,
            };
            (
                stamp.group,
                stamp.payload(LENGTHS[sequence as usize % LENGTHS.len()]),
            )
        };

        // As much as the queue will hold, while the peer reads.
        lines.next();
        let mut bytes = 0;
        while bytes < BOUND {
            let (group, payload) = next(sequence);
            bytes += payload.len() as u64;
            peer.send(GroupId::new(group), payload)
                .await
                .map_err(refusal)?;
            sequence += 1;
        }
        let written = || peer.stats().frames.written.frames;
        world::until("written", Duration::from_secs(30), || written() == sequence).await?;
        print_line("warm")?;

        lines.next();
        drop(lines);
        let enough = Arc::new(AtomicBool::new(false));
        let stop = enough.clone();
        thread::spawn(move || {
            std::io::stdin().lock().read_line(&mut String::new()).ok();
            stop.store(true, Relaxed);
        });
        let mut refused = 0_u64;
        let (mut group, mut payload) = next(sequence);
        while !enough.load(Relaxed) {
            match peer.try_send(GroupId::new(group), payload) {
                Ok(()) => {
                    sequence += 1;
                    (group, payload) = next(sequence);
                }
                Err(SendError::Full { payload: back, .. }) => {
                    payload = back;
                    refused += 1;
                    // Full load, but leave a core for the measuring process.
                    if refused.is_multiple_of(1000) {
                        tokio::time::sleep(MS).await;
                    }
                }
                Err(err) => return Err(refusal(err)),
            }
        }
        let frames = peer.stats().frames;
        print_line(refused)?;
        print_line(frames.queued.bytes + frames.in_flight.bytes)?;
        world::until("written", Duration::from_secs(60), || written() == sequence).await?;
        let frames = peer.stats().frames;
        transport.stats().balance()?;
        snapshots.check()?;
        print_line(frames.accepted.frames)?;
        print_line(frames.written.frames)?;
        // Stay until the row has measured and ends this process.
        std::future::pending().await
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refusal<P>(err: SendError<P>) -> Failure {
    Failure::error(err.to_string())
}
