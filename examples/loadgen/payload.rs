//! The payload that is sent: a number, and filler bytes that change with it.
//!
//! ```text
//! offset  size  field
//! 0       8     number    u64 little-endian
//! 8       n     filler    the number's lowest byte, repeated
//! ```
//!
//! A payload that is too short for the number is all filler.

/// Size of the number in bytes.
pub(crate) const NUMBER: usize = size_of::<u64>();

/// Overwrites all of `payload`.
pub(crate) fn fill(payload: &mut [u8], number: u64) {
    payload.fill(number as u8);
    if let Some(head) = payload.first_chunk_mut() {
        *head = number.to_le_bytes();
    }
}

/// Returns the number, or `None` if the payload is too short for one.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().copied().map(u64::from_le_bytes)
}

/// Parses the size of a payload that has a number.
pub(crate) fn numbered_size(text: &str) -> Result<usize, String> {
    let size = text.parse().map_err(|err| format!("{err}"))?;
    match size < NUMBER {
        true => Err(format!("must be at least {NUMBER} bytes, for its number")),
        false => Ok(size),
    }
}
