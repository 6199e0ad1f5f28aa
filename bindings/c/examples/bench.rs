//! What a message costs through the C functions, compared with the crate's own. Run with `make bench`.
//!
//! One thread sends messages of 64 bytes over a real connection of two transports in this process, and counts
//! those that are accepted. Both ways take turns, on the same connection, so that nothing but the function that is called
//! differs. Prints each round and the ratio of the medians.

use std::{
    ffi::{CString, c_void},
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
    axt_peer_get, axt_register_batches, axt_transport_new, axt_try_send,
};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(1000);
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
    let (context, peer) = unsafe {
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
        (context, to.assume_init())
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
    let through_rust = || match to.try_send(GroupId::new(GROUP), &MESSAGE[..]) {
        Ok(()) => true,
        Err(err) if err.is_full() => false,
        Err(err) => panic!("{err}"),
    };
    let (mut c, mut own) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        c.push(rate(through_c));
        own.push(rate(through_rust));
        println!(
            "round {round}: {:.2} M/s through C, {:.2} M/s in Rust",
            c[round - 1],
            own[round - 1]
        );
    }
    let (c, own) = (median(c), median(own));
    println!(
        "64 B, one sending thread: {c:.2} M/s through C, {own:.2} M/s in Rust, ratio {:.2}",
        c / own
    );
    assert!(received.load(Relaxed) > 0, "messages arrive");
    drop(rust);
    // SAFETY: nobody is in a call with the context.
    unsafe { ok(axt_context_free(context, ptr::null_mut())) };
    Ok(())
}

/// Returns how many million messages are accepted in a second. A full queue is waited for, as a program would.
fn rate(try_send: impl Fn() -> bool) -> f64 {
    let (begun, mut accepted) = (Instant::now(), 0u64);
    loop {
        for _ in 0..256 {
            match try_send() {
                true => accepted += 1,
                false => std::thread::yield_now(),
            }
        }
        let taken = begun.elapsed();
        if taken >= ROUND {
            return accepted as f64 / taken.as_secs_f64() / 1e6;
        }
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
