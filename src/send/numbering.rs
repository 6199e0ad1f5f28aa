//! [`Numbering`]: which frame the far end of a link expects next.

/// The number of the frame that the far end expects next, if it was told one. All numbers are those of the
/// queue, which counts from 0 on.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct Numbering {
    expected: Option<u64>,
    /// What is added to a number of the queue on the wire.
    base: u64,
}

impl Numbering {
    /// The far end was told that this frame comes next.
    pub(super) fn from(base: u64, next: u64) -> Self {
        Numbering {
            expected: Some(next),
            base,
        }
    }

    /// Returns whether the far end needs no word before this frame.
    pub(super) fn goes_on_with(self, next: u64) -> bool {
        self.expected.is_none_or(|expected| expected == next)
    }

    /// Notes that all frames before this one have been written, or the far end knows that they are missing.
    pub(super) fn reached(&mut self, next: u64) {
        if let Some(expected) = &mut self.expected {
            *expected = next;
        }
    }

    pub(super) fn on_the_wire(self, next: u64) -> u64 {
        self.base + next
    }
}
