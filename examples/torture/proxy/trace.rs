//! Finds the frames in a stream of bytes, by their stamps.
//!
//! In an encrypted stream there are none to be found: the first bytes of TLS stand for a frame of 369 MB.
//! Of such a stream only the bytes are counted.

use crate::stamp::{self, Stamp};

/// Bytes of a frame before its payload.
const HEADER: usize = 8;

/// The group of what the two ends of a link say to each other. These are no frames of a sender.
const RESERVED: [u8; 4] = [0xFF; 4];

/// The frames found so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    /// Bytes so far.
    pub(crate) bytes: u64,
    /// The sequences of the complete frames, as runs of consecutive ones: first and last.
    pub(crate) runs: Vec<(u64, u64)>,
    /// Number of complete frames.
    pub(crate) frames: u64,
    /// The beginning of the incomplete frame: its header and its stamp.
    begun: Vec<u8>,
    /// Bytes of that frame so far.
    have: usize,
}

impl Trace {
    /// Adds the next bytes of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let wanted = HEADER + stamp::PEEK;
            let more = (wanted - self.begun.len().min(wanted)).min(bytes.len());
            // Do not read beyond the header before the length is known, nor into the next frame.
            let more = match self.len() {
                Some(len) => more.min(len - self.have),
                None => more.min(HEADER - self.begun.len()),
            };
            self.begun.extend_from_slice(&bytes[..more]);
            self.have += more;
            bytes = &bytes[more..];
            let Some(len) = self.len() else {
                continue;
            };
            if self.begun.len() == wanted.min(len) {
                let rest = (len - self.have).min(bytes.len());
                self.have += rest;
                bytes = &bytes[rest..];
            }
            if self.have == len {
                self.note(len);
            }
        }
    }

    /// Returns the received bytes of the incomplete frame.
    pub(crate) fn partial(&self) -> usize {
        self.have
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.runs.first().map(|run| run.0)
    }

    pub(crate) fn last(&self) -> Option<u64> {
        self.runs.last().map(|run| run.1)
    }

    /// Returns the sequences of the complete frames, in order.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(|&(first, last)| first..=last)
    }

    /// Returns the length of the incomplete frame, once its length field is complete.
    fn len(&self) -> Option<usize> {
        let length = self.begun.first_chunk()?;
        // No row sends a malformed length through a proxy.
        Some((u32::from_be_bytes(*length) as usize).max(HEADER))
    }

    fn note(&mut self, len: usize) {
        if self.begun[4..HEADER] == RESERVED {
            self.begun.clear();
            self.have = 0;
            return;
        }
        let stamp = Stamp::peek_of(&self.begun[HEADER..], len - HEADER);
        self.begun.clear();
        self.have = 0;
        self.frames += 1;
        let Some(Stamp { sequence, .. }) = stamp else {
            return;
        };
        match self.runs.last_mut() {
            Some(run) if run.1 + 1 == sequence => run.1 = sequence,
            _ => self.runs.push((sequence, sequence)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns frames of various lengths as bytes on the wire.
    pub(crate) fn wire(sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut wire = Vec::new();
        for sequence in sequences {
            let stamp = Stamp {
                sender: 1,
                incarnation: 0,
                group: 2,
                sequence,
            };
            let payload = stamp.payload([8, 20, 28, 32, 36, 90][sequence as usize % 6]);
            wire.extend_from_slice(&(payload.len() as u32 + 8).to_be_bytes());
            wire.extend_from_slice(&2_u32.to_le_bytes());
            wire.extend_from_slice(&payload);
        }
        wire
    }

    #[test]
    fn frames_are_found_in_pieces_of_any_size() {
        let wire = wire((0..20).chain(30..40));
        for piece in 1..200 {
            let mut trace = Trace::default();
            wire.chunks(piece).for_each(|bytes| trace.feed(bytes));
            assert_eq!(trace.runs, [(0, 19), (30, 39)], "in pieces of {piece}");
            assert_eq!((trace.frames, trace.partial()), (30, 0));
        }
    }

    #[test]
    fn control_frames_are_no_frames() {
        let mut control = 100_u32.to_be_bytes().to_vec();
        control.resize(100, 0xFF);
        let wire = [control.clone(), wire(0..3), control, wire(3..5)].concat();
        let mut trace = Trace::default();
        trace.feed(&wire);
        assert_eq!((trace.runs, trace.frames), (vec![(0, 4)], 5));
    }

    #[test]
    fn a_frame_without_its_last_byte_is_partial() {
        let wire = wire(0..3);
        let mut trace = Trace::default();
        trace.feed(&wire[..wire.len() - 1]);
        assert_eq!(trace.runs, [(0, 1)]);
        assert!(trace.partial() > 0);
    }
}
