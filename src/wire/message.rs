//! Typed messages: what a call begins with that carries one, and why one was not understood.
//!
//! ```text
//! offset  size  field
//! 0       4     id        u32 big-endian: which message it is
//! 4       2     version   u16 big-endian: the version of the message that its sender knows
//! 6       2     fields    u16 big-endian: how many bytes of fields follow the head; none so far, skipped when read
//! 8       m     fields
//! 8+m     n     message   as its codec writes it
//! ```
//!
//! The answer is the result of the handler, as the codec writes it, with nothing before it. If the message was not
//! understood, the answer is a call frame of a kind of its own, whose target says why:
//!
//! ```text
//! target  means                             payload
//! 1       the group serves no such message
//! 2       it is newer than what is known    u16 big-endian: the newest version that is known
//! 3       it cannot be decoded              text
//! 4       the result cannot be encoded      text
//! ```

#[cfg(feature = "remote")]
use bytes::Bytes;

use crate::{call_error::NotUnderstood, wire::call::MAX_TEXT};

/// Bytes before the fields.
#[cfg(feature = "remote")]
const HEAD: usize = 8;

const UNKNOWN: u32 = 1;
const VERSION: u32 = 2;
#[cfg(feature = "remote")]
const UNDECODABLE: u32 = 3;
const UNENCODABLE: u32 = 4;

/// Which message a call carries.
#[cfg(feature = "remote")]
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) struct MessageHead {
    pub(crate) id: u32,
    pub(crate) version: u16,
}

#[cfg(feature = "remote")]
impl MessageHead {
    /// Returns what a call with this message begins with.
    pub(crate) fn encode(self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&self.id.to_be_bytes());
        head[4..6].copy_from_slice(&self.version.to_be_bytes());
        head
    }

    /// Takes the head off a call. `None` if it is too short.
    pub(crate) fn take(call: &mut Bytes) -> Option<Self> {
        let head: &[u8; HEAD] = call.first_chunk()?;
        let [i0, i1, i2, i3, v0, v1, f0, f1] = *head;
        let rest = HEAD + usize::from(u16::from_be_bytes([f0, f1]));
        if call.len() < rest {
            return None;
        }
        bytes::Buf::advance(call, rest);
        Some(MessageHead {
            id: u32::from_be_bytes([i0, i1, i2, i3]),
            version: u16::from_be_bytes([v0, v1]),
        })
    }
}

/// Returns the target and the payload of the frame that says why a message was not understood.
#[cfg(feature = "remote")]
pub(crate) fn encode_not_understood(why: NotUnderstood) -> (u32, Bytes) {
    match why {
        NotUnderstood::Unknown => (UNKNOWN, Bytes::new()),
        NotUnderstood::Version { known } => (VERSION, Bytes::copy_from_slice(&known.to_be_bytes())),
        NotUnderstood::Undecodable { text } => (UNDECODABLE, short(text)),
        NotUnderstood::Unencodable { text } => (UNENCODABLE, short(text)),
    }
}

/// Reads why a message was not understood. A reason of a later release is read as text.
pub(crate) fn not_understood(target: u32, payload: &[u8]) -> NotUnderstood {
    let text = || String::from_utf8_lossy(&payload[..payload.len().min(MAX_TEXT)]).into_owned();
    match (target, payload) {
        (UNKNOWN, _) => NotUnderstood::Unknown,
        (VERSION, [high, low, ..]) => NotUnderstood::Version {
            known: u16::from_be_bytes([*high, *low]),
        },
        (UNENCODABLE, _) => NotUnderstood::Unencodable { text: text() },
        _ => NotUnderstood::Undecodable { text: text() },
    }
}

#[cfg(feature = "remote")]
fn short(mut text: String) -> Bytes {
    let at = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(at.unwrap_or(0));
    text.into()
}

#[cfg(all(test, feature = "remote"))]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_exactly_these_bytes_and_its_unknown_fields_are_skipped() {
        let head = MessageHead { id: 7, version: 2 };
        assert_eq!(head.encode(), *b"\0\0\0\x07\0\x02\0\0");
        let mut call = Bytes::from_static(b"\0\0\0\x07\0\x02\0\x03abchello");
        assert_eq!(MessageHead::take(&mut call), Some(head));
        assert_eq!(call, "hello");
        let whole = b"\0\0\0\x07\0\x02\0\x03abc";
        for cut in 0..whole.len() {
            let mut call = Bytes::copy_from_slice(&whole[..cut]);
            assert_eq!(MessageHead::take(&mut call), None, "{cut}");
        }
    }

    #[test]
    fn each_reason_is_read_as_it_was_written() {
        let text = || "why".to_owned();
        for why in [
            NotUnderstood::Unknown,
            NotUnderstood::Version { known: 0x0102 },
            NotUnderstood::Undecodable { text: text() },
            NotUnderstood::Unencodable { text: text() },
        ] {
            let (target, payload) = encode_not_understood(why.clone());
            assert_eq!(not_understood(target, &payload), why);
        }
        let later = not_understood(99, b"of a later release");
        let text = "of a later release".to_owned();
        assert_eq!(later, NotUnderstood::Undecodable { text });
        let cut = not_understood(VERSION, b"\x01");
        assert!(matches!(cut, NotUnderstood::Undecodable { .. }));
    }
}
