//! What a run costs this process: CPU time and memory.
//!
//! Measured on Linux only; elsewhere there are no values, and the columns stay empty.

use std::time::Duration;

use super::figures::Figures;
use crate::memory::memory;

/// Created when the setup is done, read when the work is done.
pub(super) struct Cost {
    begun: Option<Duration>,
}

impl Cost {
    pub(super) fn begin() -> Self {
        Cost { begun: cpu() }
    }

    /// Returns the CPU seconds of all threads since the beginning.
    pub(super) fn cpu(&self) -> Option<f64> {
        Some(cpu()?.saturating_sub(self.begun?).as_secs_f64())
    }

    pub(super) fn figures(&self) -> Figures {
        let figures = Figures::default();
        figures
            .with_some("cpu", self.cpu())
            .with_some("peak", memory("VmHWM"))
    }
}

#[cfg(target_os = "linux")]
fn cpu() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    clock_gettime(ClockId::ProcessCPUTime).try_into().ok()
}

#[cfg(not(target_os = "linux"))]
fn cpu() -> Option<Duration> {
    None
}
