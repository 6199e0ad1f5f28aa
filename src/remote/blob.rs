//! [`Blob`]: bytes in a message that are decoded without a copy.
//!
//! Serde knows no shared buffers. So while a codec decodes, this thread knows the buffer, and bytes that serde borrows
//! from it become a slice of it, which shares its memory.

use std::{cell::RefCell, fmt, ops::Deref};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

thread_local! {
    /// What is being decoded on this thread, or nothing.
    static RECEIVED: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Bytes in a message. [`Postcard`](crate::Postcard) does not copy them when it decodes: they share the memory of the
/// received message, and keep all of it for as long as they live.
///
/// ```
/// use actix::prelude::*;
/// use actix_transport::{Blob, RemoteMessage};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, RemoteMessage, Serialize, Deserialize)]
/// #[rtype(result = "()")]
/// #[remote(id = 8)]
/// struct Put {
///     key: String,
///     value: Blob,
/// }
///
/// let put = Put { key: "logo".into(), value: vec![0; 1 << 20].into() };
/// assert_eq!(put.value.len(), 1 << 20);
/// ```
///
/// Other codecs that use serde can read it, too, and copy it.
#[derive(Clone, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Blob(pub Bytes);

impl Deref for Blob {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl<T: Into<Bytes>> From<T> for Blob {
    fn from(bytes: T) -> Self {
        Blob(bytes.into())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Blob, E> {
        Ok(Blob(slice_of_received(bytes)))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes.into()))
    }

    /// Formats without bytes, such as JSON, have lists of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(Blob(bytes.into()))
    }
}

/// Decodes what was received. Each [`Blob`] that borrows from it shares its memory.
pub(super) fn sharing<T>(received: Bytes, decode: impl FnOnce(&[u8]) -> T) -> T {
    // Moved there and not cloned: the first clone of a buffer allocates.
    let nested = RECEIVED.with(|known| match known.try_borrow_mut() {
        Ok(mut known) => {
            *known = received;
            None
        }
        Err(_) => Some(received),
    });
    if let Some(received) = nested {
        // A value that is being decoded uses this codec itself.
        return decode(&received);
    }
    let _forget = Forget;
    RECEIVED.with_borrow(|received| decode(received))
}

/// Lets this thread forget what it decodes, even if that panics.
struct Forget;

impl Drop for Forget {
    fn drop(&mut self) {
        drop(RECEIVED.take());
    }
}

/// Returns these bytes as a slice of what is being decoded, or a copy if they are elsewhere.
fn slice_of_received(bytes: &[u8]) -> Bytes {
    RECEIVED.with_borrow(|received| {
        let (all, part) = (received.as_ptr_range(), bytes.as_ptr_range());
        match all.start <= part.start && part.end <= all.end {
            true => received.slice_ref(bytes),
            false => Bytes::copy_from_slice(bytes),
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::remote::{codec::Codec, postcard::Postcard};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Put {
        key: String,
        parts: Vec<Blob>,
    }

    fn put() -> (Put, Bytes) {
        let parts = ["first".into(), Blob::default(), vec![7; 1_000].into()].into();
        let key = "a key".to_owned();
        let put = Put { key, parts };
        let mut out = BytesMut::new();
        Postcard::encode(&put, &mut out).expect("can be written");
        (put, out.freeze())
    }

    #[test]
    fn a_blob_is_a_slice_of_what_was_received() {
        let (put, bytes) = put();
        let decoded: Put = Postcard::decode(bytes.clone()).expect("was written so");
        assert_eq!(decoded, put);
        for part in decoded.parts.iter().filter(|part| !part.is_empty()) {
            let (all, part) = (bytes.as_ptr_range(), part.as_ptr_range());
            assert!(all.start <= part.start && part.end <= all.end, "shared");
        }
        RECEIVED.with_borrow(|left| assert!(left.is_empty(), "nothing is kept"));
    }

    #[test]
    fn other_formats_can_have_it() {
        let (put, _) = put();
        let text = serde_json::to_string(&put).expect("can be written");
        let read: Put = serde_json::from_str(&text).expect("was written so");
        assert_eq!(read, put);
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let bytes = Bytes::from_static(b"abc");
        let panics = std::panic::catch_unwind(|| sharing(bytes, |_| panic!("caused by this test")));
        assert!(panics.is_err());
        RECEIVED.with_borrow(|left| assert!(left.is_empty()));
    }
}
