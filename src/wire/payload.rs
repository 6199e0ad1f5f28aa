//! What can be sent.

use bytes::{Bytes, BytesMut};

/// The payload of a frame: bytes in whatever form the sender has them.
///
/// A short payload is copied into the send queue, so a borrowed slice costs no allocation; a long one
/// (8 KiB and more) is kept and written from where it lies, so an owned form ([`Bytes`], `Vec<u8>`)
/// costs no copy. Datagrams are always copied. A refused payload comes back in the form in which it
/// was given.
///
/// The types that are payloads are those listed here; others are given as `&[u8]`.
pub trait Payload: AsRef<[u8]> + sealed::Sealed {
    /// Returns the same bytes in a form that can be kept. Copies them if they are borrowed.
    fn into_bytes(self) -> Bytes;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! payload {
    ($($type:ty: |$payload:ident| $into_bytes:expr;)+) => {
        $(
            impl sealed::Sealed for $type {}
            impl Payload for $type {
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
}

impl<const N: usize> sealed::Sealed for [u8; N] {}
impl<const N: usize> Payload for [u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> sealed::Sealed for &[u8; N] {}
impl<const N: usize> Payload for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}
