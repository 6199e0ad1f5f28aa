//! What is asked for and not given back, to the byte.
//!
//! What the kernel says of a process moves by pages, arenas and chance; a leak of one task in a round
//! is seen here at once, and so is memory that was asked for and never touched.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that this process holds.
pub(crate) fn held() -> u64 {
    let stats = HEAP.stats();
    // The two are read one after the other, and others go on meanwhile.
    stats
        .bytes_allocated
        .saturating_sub(stats.bytes_deallocated) as u64
}
