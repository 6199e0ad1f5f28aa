//! Counts allocated bytes exactly.
//!
//! The kernel's figures for a process change by pages and depend on the allocator. With this count
//! a leak of one task in a round shows at once, and so does memory that was allocated and never
//! used.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the bytes that this process has allocated and not freed.
pub(crate) fn allocated() -> u64 {
    let stats = HEAP.stats();
    // Other threads may allocate or free between the two reads, so never go below zero.
    stats
        .bytes_allocated
        .saturating_sub(stats.bytes_deallocated) as u64
}
