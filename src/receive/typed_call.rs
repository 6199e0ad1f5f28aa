//! What a [`Call`] does with a typed message in it, beside what users see.

use std::sync::Arc;

use bytes::Bytes;
use futures::task::ArcWake;

use crate::{
    call_error::NotUnderstood,
    receive::{
        call::Call,
        served::{Ending, Served},
    },
    runtime::{
        self_driven::{self, Owner},
        work_slot::WorkSlot,
    },
    wire::{
        call::{CallFrame, NotServed},
        message,
    },
};

impl Call {
    /// Takes the bytes of the call out of it, so that they need not live as long as it does.
    pub(crate) fn take_payload(&mut self) -> Bytes {
        std::mem::take(&mut self.payload)
    }

    /// Runs the future that `serve` returns until it is ready, or until nobody waits for the answer any more. Whoever
    /// wakes it runs it: after its first poll that is the arbiter of the handler.
    pub(crate) fn drive<F>(self, serve: impl FnOnce(Call) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let served = self.served.clone();
        self_driven::start(&served, serve(self));
    }

    /// Tells the caller that the message in the call was not understood.
    pub(crate) fn not_understood(mut self, why: NotUnderstood) {
        if self.served.end(Ending::NotUnderstood) {
            let (code, payload) = message::encode_not_understood(why);
            let charge = self.charge.take();
            self.served
                .say(CallFrame::NotUnderstood { code }, payload, charge);
        }
    }

    /// Tells the caller that nobody serves the message in the call.
    pub(crate) fn no_handler(self) {
        if self.served.end(Ending::NoHandler) {
            self.served.say_not_served(NotServed::NoHandler);
        }
    }
}

impl Owner for Served {
    fn work(&self) -> &WorkSlot {
        &self.request
    }
}

impl ArcWake for Served {
    fn wake_by_ref(this: &Arc<Self>) {
        self_driven::wake(this);
    }
}
