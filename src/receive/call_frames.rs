//! What a connection does with frames about calls: hands calls to their handlers, and answers to their callers.

use std::time::Duration;

use actix::Recipient;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;

use crate::{
    call_error::{CallError, CallPart},
    calls::deadlines::LATEST,
    ids::GroupId,
    net::time,
    observe::trace::call_span::CallSpan,
    receive::{
        answers::Answers,
        call::Call,
        connection::Connection,
        end::End,
        read_buffer::MAX_SHARED,
        served::{CallKey, Served, Unserved, say_not_served},
        services::CallHandler,
    },
    wire::{
        call::{self, CallFrame, MAX_TEXT, NotServed},
        message,
        trace_context::TraceContext,
    },
};

/// What a call costs beside its payload. Charged to its group.
const CALL_OVERHEAD: usize = 1 << 10;

impl Connection {
    /// Takes a whole frame about a call.
    pub(super) fn take_call(&mut self, frame: BytesMut) -> Result<(), End> {
        if self.deliverer.turn().is_none() {
            let text = "a call came before the start of the frames";
            return Err(End::BadHandshake(text.into()));
        }
        // It has a number, as frames have.
        self.deliverer.receive_part();
        self.obey_call(frame);
        Ok(())
    }

    /// Does what a frame about a call says. It may have come in parts.
    pub(super) fn obey_call(&mut self, frame: BytesMut) {
        let (Some(link), Some(received)) = (&self.link, call::read(&frame)) else {
            return;
        };
        let (peer, id, payload_at) = (link.peer(), received.id, received.payload_at);
        let says = match received.says {
            CallFrame::Call { group, left } => {
                let trace = call::trace_in(&frame, payload_at);
                let payload = payload_of(frame, payload_at);
                return self.serve_call((peer, id), group, left, trace, payload);
            }
            CallFrame::Cancel => return self.calls.served.cancel((peer, id)),
            CallFrame::Nothing => return,
            CallFrame::Answer => Ok(payload_of(frame, payload_at)),
            CallFrame::NotServed(why) => Err(reason(why)),
            CallFrame::Failure { code } => {
                // An honest node sends no more.
                let text = &frame[payload_at..];
                let text = &text[..text.len().min(MAX_TEXT)];
                let text = String::from_utf8_lossy(text).into_owned();
                Err(CallError::Failed { code, text })
            }
            CallFrame::NotUnderstood { code } => {
                let why = message::not_understood(code, &frame[payload_at..]);
                Err(CallError::NotUnderstood(why))
            }
        };
        self.calls.pending.answer(id, peer, says);
    }

    /// Hands a call to the handler of its group, if there is one and it has room.
    fn serve_call(
        &mut self,
        key: CallKey,
        group: GroupId,
        left: Duration,
        trace: Option<TraceContext>,
        payload: Bytes,
    ) {
        let calls = &self.calls;
        if left.is_zero() {
            // Its caller knows.
            return calls.served.refuse(Unserved::Expired);
        }
        let Some(sender) = self.deliverer.sender().cloned() else {
            return calls.served.refuse(Unserved::Refused);
        };
        let answer_to = match &self.answer_to {
            Some(known) if known.takes_answers() => known.clone(),
            _ => {
                let answers = sender
                    .peer()
                    .map(|peer| Answers::to(peer.lane(sender.lane())));
                let Some(answers) = answers.ok().filter(|answers| answers.takes_answers()) else {
                    // This node can answer nobody: it stops, or knows as many peers as it may.
                    return calls.served.refuse(Unserved::Refused);
                };
                self.held_back = None;
                self.answer_to.insert(answers).clone()
            }
        };
        // Until the connection waits for something.
        self.held_back.get_or_insert_with(|| answer_to.hold_back());
        let services = calls.services.snapshot();
        let service = services
            .get(group)
            .filter(|service| service.handler.takes_calls());
        let Some(service) = service else {
            calls.served.refuse(Unserved::NoHandler);
            return say_not_served(&answer_to, key.1, NotServed::NoHandler);
        };
        let (cost, max) = (CALL_OVERHEAD + payload.len(), self.config.served_call_bytes);
        let charge = service
            .held
            .charge(self.from, max, |room| match cost <= room {
                true => cost,
                false => 0,
            });
        if charge.is_nothing() {
            calls.served.refuse(Unserved::Refused);
            return say_not_served(&answer_to, key.1, NotServed::Busy);
        }
        let now = time::now();
        let due = now.checked_add(left).unwrap_or(now + LATEST);
        let node = sender.node();
        let span = match trace {
            // No span is opened for a call that is not served.
            Some(trace) if calls.served.takes(key) => CallSpan::open(trace, group, node),
            _ => CallSpan::NONE,
        };
        let served = calls.served.begin(key, group, sender, answer_to, due, span);
        let Some(served) = served else {
            return;
        };
        let call = Call::new(payload, served.clone(), charge);
        match &service.handler {
            CallHandler::Actor(actor) => hand_to(actor, call, &served),
            CallHandler::Function(begin) => begin(call),
            #[cfg(feature = "remote")]
            CallHandler::Messages(messages) => messages.serve(call),
        }
    }
}

/// Puts the call into the mailbox of an actor, even into a full one: the bound of the group is the bound.
fn hand_to(actor: &Recipient<Call>, call: Call, served: &Served) {
    let mut request = Box::pin(actor.send(call).map(drop));
    // If it is ready, the handler is done with it already, or the mailbox has dropped it.
    if request.as_mut().now_or_never().is_none() {
        let put = served.request.put(request);
        debug_assert!(put.is_none(), "nothing wakes it");
    }
}

/// Returns the payload of a frame. Copies it if it shares the buffer that it was read into, and would keep all of that.
fn payload_of(mut frame: BytesMut, at: usize) -> Bytes {
    match frame.len() - at {
        0 => Bytes::new(),
        1..=MAX_SHARED => Bytes::copy_from_slice(&frame[at..]),
        _ => frame.split_off(at).freeze(),
    }
}

fn reason(why: NotServed) -> CallError {
    match why {
        NotServed::NoHandler => CallError::NoHandler,
        NotServed::Busy => CallError::Refused,
        NotServed::Unanswered => CallError::Unanswered,
        NotServed::TooLarge => CallError::TooLarge {
            what: CallPart::Answer,
        },
        NotServed::Lost | NotServed::Other => CallError::Lost { sent: true },
    }
}
