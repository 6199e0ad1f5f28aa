//! [`Codec`]: how values become bytes, and the guard around it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::{Bytes, BytesMut};

/// How values of a type become bytes, and bytes values.
///
/// A codec is a type without values, named by [`RemoteMessage::Codec`](crate::RemoteMessage::Codec). It must take the
/// message and its result. The default is [`Postcard`](crate::Postcard); this one writes JSON:
///
/// ```
/// use actix_transport::{Codec, CodecError};
/// use bytes::{BufMut, Bytes, BytesMut};
/// use serde::{Serialize, de::DeserializeOwned};
///
/// enum Json {}
///
/// impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
///     fn encode(value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
///         serde_json::to_writer(out.writer(), value).map_err(CodecError::new)
///     }
///
///     fn decode(bytes: Bytes) -> Result<T, CodecError> {
///         serde_json::from_slice(&bytes).map_err(CodecError::new)
///     }
/// }
/// ```
///
/// It is called on the threads that send and receive, so it must not block. A panic costs the call and nothing else.
#[diagnostic::on_unimplemented(
    message = "the codec `{Self}` does not take `{T}`",
    note = "the codec of a remote message must take the message and its result"
)]
pub trait Codec<T> {
    /// Appends the value to `out`, and leaves alone what is there already.
    ///
    /// # Errors
    ///
    /// If the value has no encoding. The caller of the message is told.
    fn encode(value: &T, out: &mut BytesMut) -> Result<(), CodecError>;

    /// Returns the value that these bytes are. They come from another node, and may be anything: memory must be given
    /// for what is there, not for what they announce. What borrows from them needs no copy: slices of `bytes` share its
    /// memory.
    ///
    /// # Errors
    ///
    /// If the bytes are not those of a value of this type. The sender of the message is told.
    fn decode(bytes: Bytes) -> Result<T, CodecError>;
}

/// Why a codec could not encode or decode a value.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

impl CodecError {
    /// Makes an error that says `why`: a text, or the error of a library.
    pub fn new(why: impl fmt::Display) -> Self {
        CodecError(why.to_string())
    }

    fn too_long(len: usize, max: usize) -> Self {
        CodecError(format!(
            "{len} bytes are more than the {max} that the message allows"
        ))
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Appends the value to `out`, if it is not longer than `max`.
pub(super) fn encode<C: Codec<T>, T>(
    value: &T,
    max: usize,
    out: &mut BytesMut,
) -> Result<(), CodecError> {
    let before = out.len();
    guarded(|| C::encode(value, out))?;
    let len = out.len().saturating_sub(before);
    match len <= max {
        true => Ok(()),
        false => Err(CodecError::too_long(len, max)),
    }
}

/// Decodes bytes that are not longer than `max`, and gives the value to `then`, all of which is foreign code.
pub(super) fn decode<C: Codec<T>, T, U>(
    bytes: Bytes,
    max: usize,
    then: impl FnOnce(T) -> U,
) -> Result<U, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::too_long(bytes.len(), max));
    }
    guarded(|| C::decode(bytes).map(then))
}

/// Runs foreign code. A panic is an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, CodecError>) -> Result<T, CodecError> {
    let ended = catch_unwind(AssertUnwindSafe(run));
    ended.unwrap_or_else(|_| Err(CodecError::new("the codec panicked")))
}
