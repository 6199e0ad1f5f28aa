//! [`Payload`]: the types whose bytes can be sent.

use bytes::{Bytes, BytesMut};

use crate::wire::{body::Body, head_bytes::HeadBytes};

/// A type whose bytes can be sent as the payload of a frame, owned or borrowed.
///
/// A payload below 8 KiB is copied into the send queue, so a borrowed one costs no allocation. A longer
/// one is kept and written without a copy, except that slices, arrays, `&str` and `&Vec<u8>` are copied
/// once. Datagrams are always copied. If a send is refused, the payload comes back as the type that was
/// given.
///
/// A pair is one payload, too: its second part follows its first. So a header can be sent in front of a
/// body that is kept without a copy, such as `([1, 0, 7], body)` with a `body` that is [`Bytes`]. The
/// receiver gets both in one.
///
/// Only the types listed here are payloads. For other types, pass their bytes as `&[u8]`.
pub trait Payload: sealed::Pieces {
    /// Returns the payload's bytes, owned and in one piece. Copies them if they are borrowed or a pair.
    fn into_bytes(self) -> Bytes;
}

mod sealed {
    use bytes::Bytes;

    /// What the transport needs of a payload.
    pub trait Pieces: Sized {
        /// Returns the bytes, in order. The second piece is empty where there is one only.
        fn pieces(&self) -> [&[u8]; 2];

        /// Returns the same pieces, owned. Copies those that are borrowed.
        fn into_pieces(self) -> [Bytes; 2];

        /// Returns how many bytes there are.
        #[inline]
        fn byte_len(&self) -> usize {
            let [first, second] = self.pieces();
            first.len() + second.len()
        }
    }
}

macro_rules! payload {
    ($($(const $n:ident,)? $type:ty: |$payload:ident| $into_bytes:expr;)+) => {
        $(
            impl<$(const $n: usize)?> sealed::Pieces for $type {
                #[inline]
                fn pieces(&self) -> [&[u8]; 2] {
                    [AsRef::<[u8]>::as_ref(self), &[]]
                }

                fn into_pieces(self) -> [Bytes; 2] {
                    [Payload::into_bytes(self), Bytes::new()]
                }
            }

            impl<$(const $n: usize)?> Payload for $type {
                fn into_bytes(self) -> Bytes {
                    let $payload = self;
                    $into_bytes
                }
            }
        )+
    };
}

payload! {
    Bytes: |payload| payload;
    BytesMut: |payload| payload.freeze();
    Vec<u8>: |payload| payload.into();
    Box<[u8]>: |payload| payload.into();
    String: |payload| payload.into();
    &[u8]: |payload| Bytes::copy_from_slice(payload);
    &str: |payload| Bytes::copy_from_slice(payload.as_bytes());
    &Bytes: |payload| payload.clone();
    &Vec<u8>: |payload| Bytes::copy_from_slice(payload);
    Body: |payload| Body::into_bytes(payload);
    HeadBytes: |payload| Bytes::copy_from_slice(&payload);
    const N, [u8; N]: |payload| Bytes::copy_from_slice(&payload);
    const N, &[u8; N]: |payload| Bytes::copy_from_slice(payload);
}

impl<H, B> sealed::Pieces for (H, B)
where
    H: Payload + AsRef<[u8]>,
    B: Payload + AsRef<[u8]>,
{
    #[inline]
    fn pieces(&self) -> [&[u8]; 2] {
        [self.0.as_ref(), self.1.as_ref()]
    }

    fn into_pieces(self) -> [Bytes; 2] {
        [self.0.into_bytes(), self.1.into_bytes()]
    }
}

impl<H, B> Payload for (H, B)
where
    H: Payload + AsRef<[u8]>,
    B: Payload + AsRef<[u8]>,
{
    fn into_bytes(self) -> Bytes {
        [self.0.as_ref(), self.1.as_ref()].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::{sealed::Pieces, *};

    #[test]
    fn a_pair_is_its_first_part_and_then_its_second() {
        let pair = ([1, 2], Bytes::from_static(b"body"));
        assert_eq!(pair.byte_len(), 6);
        assert_eq!(pair.pieces(), [&[1, 2][..], b"body"]);
        assert_eq!(pair.into_bytes(), &b"\x01\x02body"[..]);
    }

    #[test]
    fn a_part_that_is_owned_is_not_copied() {
        let (head, body) = (vec![1; 100], Bytes::from(vec![2; 100]));
        let at = [head.as_ptr(), body.as_ptr()];
        let pieces = (head, body).into_pieces();
        assert_eq!(pieces.map(|piece| piece.as_ptr()), at);
    }
}
