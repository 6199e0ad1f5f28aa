//! The handlers of a node: an actor, and a function.

use std::{
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_transport::Call;

use super::{
    journal_line::{JournalLine, Late},
    message::{Plan, Question},
};

const MS: Duration = Duration::from_millis(1);
/// What is not a stall.
const TICK: Duration = Duration::from_millis(10);

/// The actor.
pub(super) struct Desk {
    /// When the clock of the journal began.
    pub(super) began: Instant,
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Call> for Desk {
    type Result = ();

    fn handle(&mut self, call: Call, ctx: &mut Context<Self>) {
        ctx.spawn(handle(call, self.began).into_actor(self));
    }
}

/// Writes that a handler has the call, and does what its caller wants.
pub(super) fn handle(call: Call, began: Instant) -> impl Future<Output = ()> {
    let now = Instant::now();
    let late = Late {
        by: now.saturating_duration_since(call.deadline()),
        at: now - began,
    };
    let question = Question::decode(call.payload());
    let is_written = JournalLine::Served(question.call, late).write();
    async move {
        if !is_written {
            return;
        }
        match question.plan {
            Plan::Answer | Plan::AnswerAtLength => call.reply(question.answer()),
            Plan::AnswerLater => {
                tokio::time::sleep(MS * question.wait.into()).await;
                call.reply(question.answer());
            }
            Plan::Fail => {
                let (code, text) = question.failure();
                call.fail(code, text);
            }
            Plan::DropIt => drop(call),
        }
    }
}

/// Writes when this process has not run for a while: it was paused, or had no processor.
pub(super) fn tell_stalls(began: Instant) {
    thread::spawn(move || {
        let mut before = Instant::now();
        loop {
            thread::sleep(MS);
            let (now, last) = (Instant::now(), before);
            before = now;
            let is_stall = now - last > TICK;
            if is_stall && !JournalLine::Stall(now - last, now - began).write() {
                return;
            }
        }
    });
}
