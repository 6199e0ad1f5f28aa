//! [`Body`]: the payload of a call or of an answer, on its way into the send queue.

use bytes::{Bytes, BytesMut};

/// The payload of a call or of an answer.
///
/// What this crate has encoded itself stays as it was written until it is in the queue. A `Bytes` made of it would be one more
/// piece of memory, for nothing: short payloads are copied there.
#[derive(Debug)]
pub(crate) enum Body {
    Given(Bytes),
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
