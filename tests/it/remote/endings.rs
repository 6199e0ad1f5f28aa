//! What becomes of messages that nobody waits for any more, and of those that an actor has when it ends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use actix::prelude::*;
use actix_transport::{CallError, Config, RemoteError, Transport};

use super::{MS, STORE, messages::*, pair, serve_store, settled, to};
use crate::support::*;

#[test]
fn a_message_that_is_too_late_or_was_given_up_is_seen_by_no_handler() {
    for config in placements() {
        run(async {
            let [a, b] = pair(&config);
            let (gate, handled) = serve_busy(&b);
            let at_b = to::<Block>(&a, &b);
            // The actor is at work on the first, and does not come to the others in time.
            let first = actix::spawn(at_b.send(Block));
            until("the first is with the handler", || {
                handled.load(SeqCst) == 1
            })
            .await;
            let late = at_b.send(Block).deadline(50 * MS).await;
            let expected = RemoteError::Call(CallError::Deadline { sent: true });
            assert_eq!(late, Err(expected));
            let given_up = actix::spawn(at_b.send(Block));
            until("it came", || b.stats().served.received == 3).await;
            given_up.abort();
            until("its node knows", || b.stats().served.cancelled == 1).await;
            assert_eq!(b.stats().served.expired, 1);
            gate.send(()).expect("waits");
            assert_eq!(first.await.expect("no panic"), Ok(1));
            assert_eq!(at_b.send(Block).await, Ok(2), "the others were skipped");
            settled(&[a.clone(), b.clone()]).await;
            end([a, b]).await;
        });
    }
}

/// Serves [`Block`] with an actor that blocks its own thread at the first message until the gate opens.
fn serve_busy(transport: &Transport) -> (std::sync::mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (open, gate) = std::sync::mpsc::channel();
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    let arbiter = Arbiter::new().handle();
    let busy = Busy::start_in_arbiter(&arbiter, |_| Busy {
        handled: count,
        gate,
    });
    transport.serve::<Block>(STORE, busy).expect("free id");
    (open, handled)
}

struct Busy {
    handled: Arc<AtomicUsize>,
    gate: std::sync::mpsc::Receiver<()>,
}

impl Actor for Busy {
    type Context = Context<Self>;
}

impl Handler<Block> for Busy {
    type Result = usize;

    fn handle(&mut self, _: Block, _: &mut Context<Self>) -> usize {
        let handled = self.handled.fetch_add(1, SeqCst) + 1;
        if handled == 1 {
            self.gate.recv().expect("the test goes on");
        }
        handled
    }
}

#[test]
fn an_actor_that_ends_reports_its_messages_and_another_may_serve_them() {
    run(async {
        let [a, b] = pair(&Config::default());
        let arbiter = Arbiter::new();
        let first = Store::start_in_arbiter(&arbiter.handle(), |_| Store::default());
        serve_store(&b, &first);
        let slow = to::<Slow>(&a, &b);
        let asked = actix::spawn(slow.send(Slow { millis: 60_000 }));
        until("it came", || b.stats().served.serving == 1).await;
        arbiter.stop();
        let unanswered = Err(RemoteError::Call(CallError::Unanswered));
        assert_eq!(asked.await.expect("no panic"), unanswered);
        until("the actor has ended", || !first.connected()).await;
        let refused = slow.send(Slow { millis: 0 }).await;
        assert_eq!(refused, Err(RemoteError::Call(CallError::NoHandler)));
        serve_store(&b, &Store::default().start());
        assert_eq!(slow.send(Slow { millis: 0 }).await, Ok(0));
        arbiter.join().expect("no panic");
        settled(&[a.clone(), b.clone()]).await;
        end([a, b]).await;
    });
}

#[test]
fn a_handler_that_panics_costs_its_own_message_and_its_actor() {
    run(async {
        let [a, b] = pair(&Config::default());
        let arbiter = Arbiter::new();
        let first = Store::start_in_arbiter(&arbiter.handle(), |_| Store::default());
        b.serve::<Get>(STORE, first).expect("free id");
        let get = to::<Get>(&a, &b);
        let panics = get.send(Get::of("panic")).await;
        assert_eq!(panics, Err(RemoteError::Call(CallError::Unanswered)));
        until("its actor has ended", || {
            b.serve::<Get>(STORE, Store::default().start()).is_ok()
        })
        .await;
        assert!(get.send(Get::of("go on")).await.is_ok());
        arbiter.stop();
        arbiter.join().expect("no panic");
        end([a, b]).await;
    });
}
