//! What a message costs through the C functions, compared with the crate's own. Run with `make bench`.
//!
//! One thread sends messages of 64 bytes over a real connection of two transports in this process, and counts
//! those that are accepted. Both ways take turns, to the same receiver. Prints the medians and their ratio.

use std::{
    ffi::{CString, c_void},
    hint::black_box,
    mem::MaybeUninit,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use actix_transport::{GroupId, Peer, Transport};
use actix_transport_c::{
    axt_address, axt_bind, axt_code, axt_code::*, axt_config, axt_context_free, axt_context_new,
    axt_peer_get, axt_register_batches, axt_stats, axt_stats_get, axt_transport_new, axt_try_send,
};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(500);
const BURSTS: u32 = 50;
/// Fits the queue, which takes 10,240.
const BURST: u32 = 8_192;
const GROUP: u32 = 3;
const MESSAGE: [u8; 64] = [7; 64];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let received = Arc::new(AtomicU64::new(0));
    let mut context = MaybeUninit::uninit();
    let mut receiving = MaybeUninit::uninit();
    let mut sending = MaybeUninit::uninit();
    let mut to = MaybeUninit::uninit();
    let mut address = [0u8; 64];
    // SAFETY: each pointer leads to memory of this function, and each value is set by the call before it is used.
    let (context, sending, peer) = unsafe {
        ok(axt_context_new(context.as_mut_ptr(), ptr::null_mut()));
        let context = context.assume_init();
        for transport in [&mut receiving, &mut sending] {
            let none = axt_config { id: 0 };
            ok(axt_transport_new(
                context,
                none,
                transport.as_mut_ptr(),
                ptr::null_mut(),
            ));
        }
        let (receiving, sending) = (receiving.assume_init(), sending.assume_init());
        let user = Arc::as_ptr(&received).cast_mut().cast::<c_void>();
        ok(axt_register_batches(
            context,
            receiving,
            GROUP,
            Some(count),
            user,
            1,
            ptr::null_mut(),
        ));
        for transport in [receiving, sending] {
            ok(axt_bind(
                context,
                transport,
                c"127.0.0.1:0".as_ptr(),
                ptr::null_mut(),
            ));
        }
        let room = address.len();
        ok(axt_address(
            context,
            receiving,
            address.as_mut_ptr().cast(),
            room,
            ptr::null_mut(),
        ));
        ok(axt_peer_get(
            context,
            sending,
            address.as_ptr().cast(),
            to.as_mut_ptr(),
            ptr::null_mut(),
        ));
        (context, sending, to.assume_init())
    };
    let text = CString::from_vec_with_nul(address[..=end(&address)].to_vec())?;
    let rust = Transport::builder().bind("127.0.0.1:0")?;
    let to: Peer = rust.peer(text.to_str()?)?;

    let through_c = || {
        // SAFETY: the context lives, and the message is a constant.
        let code = unsafe {
            let message = MESSAGE.as_ptr().cast();
            axt_try_send(
                context,
                peer,
                GROUP,
                message,
                MESSAGE.len(),
                ptr::null(),
                ptr::null_mut(),
            )
        };
        match code {
            AXT_OK => true,
            AXT_FULL => false,
            code => panic!("{code:?}"),
        }
    };
    let through_rust = || match to.try_send(GroupId::new(GROUP), black_box(&MESSAGE[..])) {
        Ok(()) => true,
        Err(err) if err.is_full() => false,
        Err(err) => panic!("{err}"),
    };
    let c_is_empty = || {
        let mut stats = MaybeUninit::<axt_stats>::uninit();
        // SAFETY: the call sets the counters.
        let stats = unsafe {
            ok(axt_stats_get(
                context,
                sending,
                stats.as_mut_ptr(),
                ptr::null_mut(),
            ));
            stats.assume_init()
        };
        stats.tcp.queued.frames + stats.tcp.in_flight.frames == 0
    };
    let rust_is_empty = || {
        let frames = to.stats().frames;
        frames.queued.frames + frames.in_flight.frames == 0
    };
    let (mut bursts, mut rates) = (Pair::default(), Pair::default());
    for _ in 0..ROUNDS {
        bursts.c.push(burst(through_c, c_is_empty));
        bursts.own.push(burst(through_rust, rust_is_empty));
        rates.c.push(rate(through_c));
        rates.own.push(rate(through_rust));
    }
    println!("64 B, one sending thread, medians of {ROUNDS} rounds in turns:");
    bursts.print("while there is room, by the time of the thread");
    rates.print("with a full queue, by the clock");
    assert!(received.load(Relaxed) > 0, "messages arrive");
    drop(rust);
    // SAFETY: nobody is in a call with the context.
    unsafe { ok(axt_context_free(context, ptr::null_mut())) };
    Ok(())
}

/// Returns how many million messages a second of this thread's time take while there is room: bursts that fit the
/// queue, each into an empty one. This is what the function itself costs, whatever else the machine does.
fn burst(try_send: impl Fn() -> bool, is_empty: impl Fn() -> bool) -> f64 {
    let mut taken = 0.0;
    for _ in 0..BURSTS {
        while !is_empty() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let begun = cpu_seconds();
        for _ in 0..BURST {
            assert!(try_send(), "there is room");
        }
        taken += cpu_seconds() - begun;
    }
    f64::from(BURSTS * BURST) / taken / 1e6
}

/// Returns how long this thread has run.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns how many million messages a second are accepted by a queue that is mostly full. The writer, the
/// reader and the callback have a part in this, and on few cores they decide it.
fn rate(try_send: impl Fn() -> bool) -> f64 {
    let (begun, mut accepted) = (Instant::now(), 0u64);
    loop {
        for _ in 0..256 {
            match try_send() {
                true => accepted += 1,
                false => std::thread::sleep(Duration::from_micros(100)),
            }
        }
        let taken = begun.elapsed();
        if taken >= ROUND {
            return accepted as f64 / taken.as_secs_f64() / 1e6;
        }
    }
}

/// The rates of both ways.
#[derive(Default)]
struct Pair {
    c: Vec<f64>,
    own: Vec<f64>,
}

impl Pair {
    fn print(self, when: &str) {
        let (c, own) = (median(self.c), median(self.own));
        println!(
            "{when}: {c:.2} M/s through C, {own:.2} M/s in Rust, ratio {:.2}",
            c / own
        );
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn ok(code: axt_code) {
    assert_eq!(code, AXT_OK);
}

/// Returns where the zero is.
fn end(text: &[u8]) -> usize {
    text.iter()
        .position(|&byte| byte == 0)
        .unwrap_or(text.len() - 1)
}

unsafe extern "C" fn count(user: *mut c_void, batch: *const actix_transport_c::axt_batch) {
    // SAFETY: `user` is the counter, which outlives the context, and the batch lives until this returns.
    let (received, batch) = unsafe { (&*user.cast::<AtomicU64>(), &*batch) };
    received.fetch_add(batch.count as u64, Relaxed);
}
