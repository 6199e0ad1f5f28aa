//! [`ServedBy`]: the way of one message, from its bytes to the actor that handles it, and of the result back.

use actix::Recipient;
use bytes::Bytes;
use futures::{FutureExt, future::Either};

use crate::{
    call_error::NotUnderstood,
    receive::call::Call,
    remote::{
        codec::{self, CodecError},
        encoded::encode_result,
        message::RemoteMessage,
        messages::ServedMessage,
        traced::Traced,
    },
};

/// An actor that serves messages of one type.
pub(super) enum ServedBy<M: RemoteMessage> {
    Plain(Recipient<M>),
    /// It enters the spans of its messages.
    Traced(Recipient<Traced<M>>),
}

impl<M: RemoteMessage> ServedMessage for ServedBy<M> {
    fn is_there(&self) -> bool {
        match self {
            ServedBy::Plain(actor) => actor.connected(),
            ServedBy::Traced(actor) => actor.connected(),
        }
    }

    fn version(&self) -> u16 {
        M::VERSION
    }

    fn serve(&self, call: Call, message: Bytes) {
        // Puts the message into the mailbox, even into a full one: the bound of the group is the bound.
        let mut request = None;
        let send = |message| {
            request = Some(match self {
                ServedBy::Plain(actor) => Either::Left(actor.send(message)),
                ServedBy::Traced(actor) => {
                    let traced = Traced::new(message, call.span().clone());
                    Either::Right(actor.send(traced))
                }
            });
        };
        if let Err(why) = codec::decode::<M::Codec, M, _>(message, M::MAX_BYTES, send) {
            let text = why.into_text();
            return call.not_understood(NotUnderstood::Undecodable { text });
        }
        let Some(request) = request else {
            return;
        };
        // Actix drops a message whose result nobody waits for, if no handler has it yet. So the call keeps the request,
        // until it is answered or nobody waits for the answer.
        call.drive(|call| {
            request.map(|result| match result {
                Ok(result) => answer::<M>(call, result),
                // The actor has ended, or its handler panicked.
                Err(_) => drop(call),
            })
        });
    }
}

fn answer<M: RemoteMessage>(call: Call, result: M::Result) {
    let encoded = encode_result::<M>(&result);
    match encoded {
        Ok(answer) => call.reply_with(answer),
        Err(why) => call.not_understood(unencodable(why)),
    }
    // Its `Drop` is foreign code, and may panic: not before the caller has its answer.
    drop(result);
}

fn unencodable(why: CodecError) -> NotUnderstood {
    let text = why.into_text();
    NotUnderstood::Unencodable { text }
}
