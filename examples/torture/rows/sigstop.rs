//! A peer that stands still while as much as possible is sent to it: memory stays within the queue's
//! bound, and comes back; nothing is lost when the peer goes on.

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
    eye::Eye,
    row::{Failure, Figures, Row, Run},
    sink::{Sink, say},
    stamp::Stamp,
    world::{self, Child, Cost, ONE_EACH, Role, mib, pause},
};

pub(crate) const ROW: Row = Row {
    name: "sigstop",
    what: "a peer stopped under full offer, bound 64 MiB: memory within it, back afterwards",
    run,
};

pub(crate) const ROLE: Role = Role {
    name: "offer",
    run: offer,
};

const BOUND: u64 = 64 << 20;
const NEVER: Duration = Duration::from_secs(24 * 3600);
const MS: Duration = Duration::from_millis(1);

/// Has the allocator map what is longer than this, so that it gives it back when it is freed. It keeps
/// tens of megabytes otherwise, in pieces, which says nothing about who had them.
const GIVES_BACK: [&str; 2] = ["env", "MALLOC_MMAP_THRESHOLD_=4096"];

/// What the queue keeps beside its bytes, and what the allocator keeps, within reason.
const MARGIN: u64 = BOUND / 10;

/// What may be left when all is written: what the allocator keeps in pieces.
const REST: u64 = 2 << 20;

fn run(run: &Run) -> Result<Figures, Failure> {
    let stopped = run
        .tier
        .of(Duration::from_secs(15), Duration::from_secs(60));
    run.progress.total(stopped.as_secs());
    let mut sink = Sink::start(&[], "127.0.0.1:0")?;
    let mut offer = Child::start_with(&GIVES_BACK, ROLE.name, &[sink.addr.to_string()])?;
    let memory = |offer: &Child| Ok::<_, Failure>(Cost::of(offer.pid())?.memory);
    // Until code and buffers are where they will be: the flow has run, and rests.
    offer.tell("warm up")?;
    offer.line()?;
    pause(Duration::from_secs(3));
    let base = memory(&offer)?;

    sink.child.stop()?;
    offer.tell("offer")?;
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < stopped {
        most = most.max(memory(&offer)?);
        run.progress.at(began.elapsed().as_secs());
        pause(5 * MS);
    }
    offer.tell("enough")?;
    let refused: u64 = offer.parse()?;
    let held: u64 = offer.parse()?;
    most = most.max(memory(&offer)?);
    sink.child.go_on()?;
    let (accepted, written): (u64, u64) = (offer.parse()?, offer.parse()?);
    // The kernel's share is on its way.
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut tally, _) = sink.tally()?;
    while tally.came().frames < accepted && Instant::now() < deadline {
        pause(10 * MS);
        (tally, _) = sink.tally()?;
    }
    let mut after = memory(&offer)?;
    while after > base + REST && Instant::now() < deadline {
        pause(50 * MS);
        after = memory(&offer)?;
    }

    let mut figures = Figures::default();
    let came = tally.came();
    let over = most.saturating_sub(base);
    figures.must(over <= BOUND + MARGIN, || {
        format!("{} over the base", mib(over))
    });
    figures.must(after <= base + REST, || "memory did not come back".into());
    figures.must(held > BOUND - (128 << 10), || {
        "the queue was not full".into()
    });
    figures.must(refused > 0, || "nothing was refused".into());
    figures.must(written == accepted, || {
        format!("{accepted} accepted, {written} written")
    });
    let frames = came.frames;
    figures.must(frames == accepted, || {
        format!("{accepted} accepted, {frames} came")
    });
    figures.must(came.wrong().is_none(), || came.wrong().unwrap_or_default());
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

/// The sender, whose memory is looked at: it has a process to itself. Lengths go around, so that
/// copied payloads and chained ones are both there; the long ones are as long as whole pages hold.
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
        let eye = Eye::on([&transport]);
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

        // As much as will be queued, while it flows.
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
        say("warm")?;

        lines.next();
        drop(lines);
        let enough = Arc::new(AtomicBool::new(false));
        let told = enough.clone();
        thread::spawn(move || {
            std::io::stdin().lock().read_line(&mut String::new()).ok();
            told.store(true, Relaxed);
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
                    // Full offer, and a core left for those who look.
                    if refused.is_multiple_of(1000) {
                        tokio::time::sleep(MS).await;
                    }
                }
                Err(err) => return Err(refusal(err)),
            }
        }
        let frames = peer.stats().frames;
        say(refused)?;
        say(frames.queued.bytes + frames.in_flight.bytes)?;
        world::until("written", Duration::from_secs(60), || written() == sequence).await?;
        let frames = peer.stats().frames;
        transport.stats().balance()?;
        eye.holds()?;
        say(frames.accepted.frames)?;
        say(frames.written.frames)?;
        // Stays as it is, to be looked at, until the row ends it.
        std::future::pending().await
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refusal<P>(err: SendError<P>) -> Failure {
    Failure::stuck(err.to_string())
}
