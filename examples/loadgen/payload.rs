//! What is sent: a number, and bytes that change with it.
//!
//! ```text
//! offset  size  field
//! 0       8     number    u64 little-endian
//! 8       n     filler    the number's lowest byte, again and again
//! ```
//!
//! What is too short for the number is all filler.

/// Bytes of the number.
pub(crate) const NUMBER: usize = size_of::<u64>();

/// Writes all of `payload` anew.
pub(crate) fn fill(payload: &mut [u8], number: u64) {
    payload.fill(number as u8);
    if let Some(head) = payload.first_chunk_mut() {
        *head = number.to_le_bytes();
    }
}

/// Returns the number, if there is one.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().copied().map(u64::from_le_bytes)
}
