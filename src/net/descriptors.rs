//! How many descriptors this process may have, and room for them in the system's table. Every socket takes
//! one.

/// Returns the limit at this moment; `None` if there is none, or if the system cannot be asked.
pub(crate) fn limit() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let limit = None::<u64>;
    limit.and_then(|limit| usize::try_from(limit).ok())
}

/// Has the system make room in its table for `count` descriptors of this process, or as many as it may have.
/// Returns at once; a thread waits for it and ends.
///
/// Linux doubles the table when it is full. In a process with several threads, the call that needs the next
/// descriptor then waits until all processors have left the old table: usually 10 to 25 ms, but 6 s were
/// measured on a busy machine. If that call is `accept`, the arbiter reads no connection meanwhile.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn make_room(count: usize) {
    use std::{io::stderr, thread};

    use rustix::io::fcntl_dupfd_cloexec;

    /// More than enough for one system call.
    const STACK: usize = 64 << 10;

    let count = limit().map_or(count, |limit| limit.min(count));
    let Some(Ok(last)) = count.checked_sub(1).map(i32::try_from) else {
        return;
    };
    let thread = thread::Builder::new().name("actix-transp-fd".into());
    // Copies a descriptor to the number `last`, or the next free one, and closes the copy at once. Which one is
    // copied does not matter. If this fails, the table grows later, when it is full.
    let _ = thread.stack_size(STACK).spawn(move || {
        let _ = fcntl_dupfd_cloexec(stderr(), last);
    });
}

/// No other system is known to wait when its table grows.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn make_room(_count: usize) {}
