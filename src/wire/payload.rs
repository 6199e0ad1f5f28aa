//! [`Payload`]: the types whose bytes can be sent.

use bytes::{Bytes, BytesMut};

/// The payload of a frame: the bytes to send, owned or borrowed.
///
/// A payload below 8 KiB is copied into the send queue, so a borrowed one costs no allocation. A longer
/// one is kept and written without a copy, except that slices, arrays, `&str` and `&Vec<u8>` are copied
/// once. Datagrams are always copied. If a send is refused, the payload comes back as the type that was
/// given.
///
/// Only the types listed here are payloads. For other types, pass their bytes as `&[u8]`.
pub trait Payload: AsRef<[u8]> + sealed::Sealed {
    /// Returns the same bytes, owned. Copies them if they are borrowed.
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
