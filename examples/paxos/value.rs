//! The values that the groups decide, and how long their senders wait before they send them again.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes};

/// A value of more than this many bytes is long: it gets a lane of its own, and more time. The transport sends
/// what is shorter as one frame.
pub(crate) const LONG: usize = 64 * 1024;

/// A message without an answer for this long is sent again. This is far above the latency of a group that has
/// a leader, and below the time that an election takes.
const REPEAT: Duration = Duration::from_millis(200);

/// How many bytes of a value give it another microsecond: a tenth of what a slow computer moves over loopback.
const BYTES_PER_MICROSECOND: u64 = 10;

/// Received payloads above this length have a buffer of their own; see
/// [`Inbound`](actix_transport::Inbound), "Back-pressure and memory".
const SHARED: usize = 512 * 1024;

/// Returns how long a sender of values with this many bytes waits for the answer before it sends them again.
pub(crate) fn repeat_after(len: usize) -> Duration {
    REPEAT + Duration::from_micros(len as u64 / BYTES_PER_MICROSECOND)
}

/// Identifies one request of one client session, so that a value decided twice is applied once.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub(crate) struct Request {
    pub(crate) session: u32,
    /// Counts up from 1 within the session. A session sends the next only after an answer.
    pub(crate) number: u32,
}

/// The value of an instance: a request with padding, or a no-op.
///
/// The log, the acceptor and an outgoing message share one allocation.
#[derive(Clone)]
pub(crate) struct Value(Storage);

#[derive(Clone)]
enum Storage {
    Short(Arc<[u8]>),
    /// With more than [`SHARED`] bytes: those of the buffer that it was received into.
    Long(Bytes),
}

impl Value {
    /// The smallest value: the request alone.
    pub(crate) const REQUEST_LEN: usize = 8;

    /// Returns a value of `len` bytes, the request included. No two words of 8 bytes in it are the same, so that
    /// a part of it at the wrong place shows.
    pub(crate) fn new(request: Request, len: usize) -> Self {
        let len = len.max(Self::REQUEST_LEN);
        let mut bytes = Vec::with_capacity(len);
        bytes.put_u32(request.session);
        bytes.put_u32(request.number);
        bytes.resize(len, 0);
        let seed = u64::from(request.session) << 32 | u64::from(request.number);
        for (word, count) in bytes[Self::REQUEST_LEN..].chunks_mut(8).zip(1..) {
            let padding = (seed ^ count << 40).wrapping_mul(ODD).to_le_bytes();
            word.copy_from_slice(&padding[..word.len()]);
        }
        Self(match len > SHARED {
            true => Storage::Long(bytes.into()),
            false => Storage::Short(bytes.into()),
        })
    }

    /// Returns the value that a new leader proposes for an instance without votes.
    pub(crate) fn no_op() -> Self {
        Self(Storage::Short(Arc::default()))
    }

    /// Returns the value that has these bytes of a frame. Copies them on purpose if the frame may share the
    /// transport's read buffer: a slice would keep all of it in memory for as long as the log lives.
    pub(crate) fn received(frame: &Bytes, bytes: &[u8]) -> Self {
        Self(match bytes.len() > SHARED {
            true => Storage::Long(frame.slice_ref(bytes)),
            false => Storage::Short(bytes.into()),
        })
    }

    /// Returns the request in this value, or `None` for a no-op.
    pub(crate) fn request(&self) -> Option<Request> {
        let (session, rest) = self.bytes().split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Request {
            session: u32::from_be_bytes(*session),
            number: u32::from_be_bytes(*number),
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Storage::Short(bytes) => bytes,
            Storage::Long(bytes) => bytes,
        }
    }

    /// Returns the bytes for a payload. Does not copy those of a long value.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self.0 {
            Storage::Short(bytes) => Bytes::copy_from_slice(&bytes),
            Storage::Long(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(crate) fn is_long(&self) -> bool {
        self.len() > LONG
    }
}

/// Multiplication with an odd number maps different words to different words. This one is 2⁶⁴ divided by the
/// golden ratio, which changes many bits.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} bytes", self.request(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_request_and_padding_that_does_not_repeat() {
        let request = Request {
            session: 7,
            number: 9,
        };
        for len in [8, 9, 100, LONG + 1] {
            let value = Value::new(request, len);
            assert_eq!((value.len(), value.request()), (len, Some(request)));
            let mut words: Vec<_> = value.bytes().chunks_exact(8).collect();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), len / 8);
        }
        assert_eq!(Value::no_op().request(), None);
    }

    #[test]
    fn only_a_long_value_keeps_the_frame_that_it_came_in() {
        for (len, keeps) in [(100, false), (SHARED + 1, true)] {
            let frame = Bytes::from(vec![7; len]);
            let value = Value::received(&frame, &frame);
            assert_eq!(value.bytes().as_ptr() == frame.as_ptr(), keeps);
        }
    }
}
