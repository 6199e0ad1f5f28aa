//! The memory of one large frame while it arrives.
//!
//! Owns how that memory grows. The frame arrives in parts, each at most a quarter as long as what is
//! there already, so that the memory follows the bytes that arrived and not the announced length. Once
//! four fifths have arrived, the parts are copied into one buffer for the whole frame. Each byte is
//! therefore copied at most once, however slowly the frame arrives. Which frames are large is decided
//! by `read_buffer`.

use bytes::{BufMut, BytesMut, buf::Limit};

/// The least memory that is added at a time.
const MIN_STEP: usize = 16 << 10;

/// How much more memory than a quarter beyond the received bytes a frame may hold at a review.
const SLACK: usize = 32 << 10;

/// One frame whose length is known. Holds nothing but bytes of this frame.
#[derive(Debug)]
pub(super) struct LargeFrame {
    /// Bytes of the whole frame, header included.
    len: usize,
    received: usize,
    /// In order, never empty. Only the last one has room.
    parts: Vec<BytesMut>,
    /// Bytes allocated for all parts.
    held: usize,
}

impl LargeFrame {
    /// Begins a frame of `len` bytes, of which `first` have arrived. `used` is the memory of an earlier
    /// frame, and is used again if it is free and fits.
    pub(super) fn begin(len: usize, first: &[u8], used: Option<Spare>) -> Self {
        let received = first.len();
        let (mut part, held) = match used.and_then(|spare| spare.reuse(len)) {
            Some(spare) => (spare.buffer, spare.held),
            None => {
                let capacity = len.min(received + step(received));
                (BytesMut::with_capacity(capacity), capacity)
            }
        };
        part.extend_from_slice(first);
        LargeFrame {
            len,
            received,
            parts: vec![part],
            held,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn received(&self) -> usize {
        self.received
    }

    /// Returns how many bytes are allocated for this frame.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Returns how many bytes will be allocated after the next call of [`room`](LargeFrame::room).
    pub(super) fn needs(&self) -> usize {
        let step = step(self.received);
        match self.parts.last() {
            Some(last) if spare(last) > 0 => self.held,
            _ if self.len - self.received > step => self.held + step,
            _ => self.len,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.received == self.len
    }

    /// Makes room for at least one byte and at most `max`, and for none beyond the end of the frame.
    /// Must not be called for a complete frame.
    pub(super) fn room(&mut self, max: usize) -> Limit<&mut BytesMut> {
        if spare(self.last()) == 0 {
            self.grow();
        }
        let missing = self.len - self.received;
        let last = self.last();
        let room = spare(last).min(missing).min(max);
        last.limit(room)
    }

    /// Notes that a read put `n` bytes into the room.
    pub(super) fn filled(&mut self, n: usize) {
        self.received += n;
    }

    /// Returns the buffer of a complete frame. It holds the whole frame.
    pub(super) fn whole(&mut self) -> &mut BytesMut {
        self.last()
    }

    /// Gives back the memory of an earlier frame, if little of it is used. This copies the received
    /// bytes, but only once for each frame: no other memory of a frame is that large.
    pub(super) fn trim(&mut self) {
        if self.held > self.received + self.received / 4 + SLACK {
            let mut part = BytesMut::with_capacity(self.received);
            part.extend_from_slice(self.last());
            self.parts = vec![part];
            self.held = self.received;
        }
    }

    /// Returns the memory of a delivered frame.
    pub(super) fn into_spare(mut self) -> Spare {
        Spare {
            buffer: std::mem::take(self.last()),
            held: self.held,
        }
    }

    fn last(&mut self) -> &mut BytesMut {
        self.parts.last_mut().expect("a frame begins with a part")
    }

    fn grow(&mut self) {
        let step = step(self.received);
        if self.len - self.received > step {
            self.parts.push(BytesMut::with_capacity(step));
            self.held += step;
            return;
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for part in self.parts.drain(..) {
            whole.extend_from_slice(&part);
        }
        self.parts.push(whole);
        self.held = self.len;
    }
}

/// The buffer of a large frame that was delivered. Others may still read the frame.
#[derive(Debug)]
pub(super) struct Spare {
    buffer: BytesMut,
    held: usize,
}

impl Spare {
    /// Returns how many bytes are allocated.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Returns the memory, for a frame of `len` bytes. `None` if the earlier frame is still in use, or
    /// was much longer: a payload must not hold much more memory than its own length.
    fn reuse(mut self, len: usize) -> Option<Self> {
        let fits = self.held <= len + len / 4 + SLACK;
        (fits && self.buffer.try_reclaim(len)).then_some(self)
    }
}

/// How much memory is added when `received` bytes have arrived.
fn step(received: usize) -> usize {
    (received / 4).max(MIN_STEP)
}

fn spare(bytes: &BytesMut) -> usize {
    bytes.capacity() - bytes.len()
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;

    const LEN: usize = 10 << 20;

    /// Receives `bytes`, at most `max` of them at a time.
    fn receive(frame: &mut LargeFrame, mut bytes: &[u8], max: usize) {
        while !bytes.is_empty() {
            let needs = frame.needs();
            frame.room(max);
            assert_eq!(frame.held(), needs);
            let mut room = frame.room(max);
            let n = room.remaining_mut().min(bytes.len());
            assert!(n > 0, "no room");
            room.put_slice(&bytes[..n]);
            frame.filled(n);
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn a_frame_in_many_parts_is_whole_and_in_order_in_the_end() {
        let sent: Vec<u8> = (0..LEN).map(|at| (at / 7) as u8).collect();
        let mut frame = LargeFrame::begin(LEN, &sent[..5], None);
        receive(&mut frame, &sent[5..], 100_000);
        assert!(frame.is_complete());
        assert!(*frame.whole() == sent);
    }

    #[test]
    fn each_byte_is_copied_at_most_once() {
        let sent = vec![7; LEN];
        let memory = measure(|| {
            let mut frame = LargeFrame::begin(LEN, &[], None);
            receive(&mut frame, &sent, usize::MAX);
        });
        // The parts, and the buffer that they are copied to.
        assert!(memory.bytes_total as usize <= 2 * LEN, "{memory:?}");
    }

    #[test]
    fn memory_follows_the_received_bytes() {
        let mut frame = LargeFrame::begin(LEN, &[], None);
        while !frame.is_complete() {
            let n = 1000.min(LEN - frame.received);
            receive(&mut frame, &[7; 1000][..n], 1000);
            let most = frame.received + frame.received / 4 + MIN_STEP;
            assert!(
                frame.held() <= most,
                "{} for {}",
                frame.held(),
                frame.received
            );
            let capacities: usize = frame.parts.iter().map(BytesMut::capacity).sum();
            assert_eq!(frame.held(), capacities);
        }
    }

    #[test]
    fn the_memory_of_a_frame_is_used_again_once_nobody_reads_it() {
        let sent = vec![7; LEN];
        let mut frame = LargeFrame::begin(LEN, &sent, None);
        let payload = frame.whole().split_to(LEN).freeze();
        let spare = frame.into_spare();
        drop(payload);
        let memory = measure(|| {
            let mut next = LargeFrame::begin(LEN, &sent[..9], Some(spare));
            receive(&mut next, &sent[9..], usize::MAX);
            assert!(*next.whole() == sent);
        });
        assert!(memory.bytes_total < 1000, "{memory:?}");
    }

    #[test]
    fn memory_that_is_still_read_or_much_too_large_is_not_used_again() {
        let delivered = || {
            let mut frame = LargeFrame::begin(LEN, &vec![7; LEN], None);
            let payload = frame.whole().split_to(LEN).freeze();
            (payload, frame.into_spare())
        };
        let (payload, spare) = delivered();
        let mut next = LargeFrame::begin(LEN, &[], Some(spare));
        assert_eq!(next.held(), MIN_STEP);
        receive(&mut next, &vec![8; LEN], usize::MAX);
        assert!(payload.iter().all(|&byte| byte == 7));
        let (payload, spare) = delivered();
        drop(payload);
        let next = LargeFrame::begin(LEN / 2, &[], Some(spare));
        assert_eq!(next.held(), MIN_STEP);
    }

    #[test]
    fn a_frame_that_stalls_gives_back_reused_memory() {
        let mut frame = LargeFrame::begin(LEN, &vec![7; LEN], None);
        drop(frame.whole().split_to(LEN).freeze());
        let sent = vec![9; LEN];
        let mut next = LargeFrame::begin(LEN, &sent[..1000], Some(frame.into_spare()));
        assert!(next.held() >= LEN);
        next.trim();
        assert_eq!(next.held(), 1000);
        receive(&mut next, &sent[1000..], 100_000);
        assert!(*next.whole() == sent);
    }
}
