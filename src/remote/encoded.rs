//! Messages and results as bytes.

use bytes::BytesMut;

use crate::{
    remote::{
        codec::{CodecError, encode},
        message::RemoteMessage,
    },
    wire::message::MessageHead,
};

/// Room for a short message or a short result, so that it is encoded without growing the buffer.
const ROOM: usize = 128;

/// Returns the payload of a call that carries this message.
pub(super) fn encode_message<M: RemoteMessage>(message: &M) -> Result<BytesMut, CodecError> {
    let head = MessageHead {
        id: M::ID,
        version: M::VERSION,
    };
    let mut call = BytesMut::with_capacity(ROOM);
    call.extend_from_slice(&head.encode());
    encode::<M::Codec, M>(message, M::MAX_BYTES, &mut call)?;
    Ok(call)
}

/// Returns the answer to a call whose message had this result.
pub(super) fn encode_result<M: RemoteMessage>(result: &M::Result) -> Result<BytesMut, CodecError> {
    let mut answer = BytesMut::with_capacity(ROOM);
    encode::<M::Codec, M::Result>(result, M::MAX_BYTES, &mut answer)?;
    Ok(answer)
}
