//! [`Numbering`]: which frame the far end of a link expects next.

/// The number of the frame that the far end expects next, if it was told one.
#[derive(Debug, Copy, Clone, Default)]
pub(super) struct Numbering(Option<u64>);

impl Numbering {
    /// The far end was told that this frame comes next.
    pub(super) fn from(next: u64) -> Self {
        Numbering(Some(next))
    }

    /// Returns whether the far end needs no word before this frame.
    pub(super) fn goes_on_with(self, next: u64) -> bool {
        self.0.is_none_or(|expected| expected == next)
    }

    /// Notes that all frames before this one have been written.
    pub(super) fn reached(&mut self, next: u64) {
        if let Some(expected) = &mut self.0 {
            *expected = next;
        }
    }
}
