//! Bytes read as a script: what is to be done, and how much of it.

/// What is left of it.
pub(crate) struct Script<'d>(pub(crate) &'d [u8]);

impl Script<'_> {
    /// The next step, while there are any.
    pub(crate) fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number for a step; nothing once the script is over.
    pub(crate) fn number(&mut self) -> usize {
        self.step().unwrap_or(0).into()
    }
}
