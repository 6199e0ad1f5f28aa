//! [`HeadBytes`]: the encoded head of a frame about a call.

use std::ops::Deref;

/// What a frame about a call begins with, behind the header of the frame and before the payload of the call.
///
/// It is no `Bytes`, because a call or an answer that is not long is copied into the send queue at once: memory for the head
/// would be allocated and freed for nothing.
#[derive(Debug, Copy, Clone)]
pub(crate) struct HeadBytes {
    bytes: [u8; HeadBytes::MAX],
    len: usize,
}

impl HeadBytes {
    /// The longest head that this release writes: that of a call with its trace.
    pub(super) const MAX: usize = 56;

    /// Makes one of these parts, which are no longer than [`HeadBytes::MAX`] together.
    #[inline]
    pub(super) fn new(parts: &[&[u8]]) -> Self {
        let (mut bytes, mut len) = ([0; HeadBytes::MAX], 0);
        for part in parts {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        HeadBytes { bytes, len }
    }
}

impl Deref for HeadBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for HeadBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}
