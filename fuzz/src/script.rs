//! Reads bytes as a script: which steps to take, and with which numbers.

/// The bytes that are left of the script.
pub(crate) struct Script<'d>(pub(crate) &'d [u8]);

impl Script<'_> {
    /// Returns the next step, or `None` at the end of the script.
    pub(crate) fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Returns a number for the current step, or 0 at the end of the script.
    pub(crate) fn number(&mut self) -> usize {
        self.step().unwrap_or(0).into()
    }
}
