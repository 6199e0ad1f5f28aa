//! [`Body`]: the payload of a call or of an answer, on its way into the send queue.

use bytes::{Bytes, BytesMut};

/// The payload of a call or of an answer.
///
/// What this crate has encoded itself stays a `BytesMut` until it is in the queue. To make a `Bytes` of it allocates once more,
/// and a short payload is copied into the queue anyway.
#[derive(Debug)]
pub(crate) enum Body {
    /// By the user.
    Given(Bytes),
    /// By this crate: a typed message, or its result.
    Encoded(BytesMut),
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        self.as_ref().len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Body::Given(bytes) => bytes,
            Body::Encoded(bytes) => bytes.freeze(),
        }
    }
}

impl AsRef<[u8]> for Body {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Body::Given(bytes) => bytes,
            Body::Encoded(bytes) => bytes,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::Given(Bytes::new())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Given(bytes)
    }
}

impl From<BytesMut> for Body {
    fn from(bytes: BytesMut) -> Self {
        Body::Encoded(bytes)
    }
}
