//! Keeps the transport's own actors alive.
//!
//! actix' own `Supervisor` restarts an actor that called `ctx.stop()`, at once and without limit, but
//! not one that panicked. Here every actor holds a [`Lifeline`]. However the actor ends, dropping the
//! lifeline tells the loop that started it, which waits a little and starts another one, as long as its
//! [`RestartBudget`] lasts.
//!
//! What must survive an actor (queues, counters, registrations, sockets) lives outside of it.

use std::{future::Future, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;

use crate::{
    config::Config,
    net::{random, time},
    observe::{event::Component, reporter::Reporter},
    runtime::{
        backoff::Backoff,
        failpoints::{Failpoint, Failpoints},
        lifecycle::Lifecycle,
        restart_budget::RestartBudget,
    },
};

/// Keeps actors alive until the transport ends. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    config: Arc<Config>,
    lifecycle: Lifecycle,
    reporter: Reporter,
}

impl Supervisor {
    pub(crate) fn new(config: Arc<Config>, lifecycle: Lifecycle, reporter: Reporter) -> Self {
        Supervisor {
            config,
            lifecycle,
            reporter,
        }
    }

    /// Starts an actor on this arbiter, and starts it again whenever it ends unexpectedly. Returns when
    /// it has ended as intended, or the transport ends.
    ///
    /// `pause` spends the time between two lives: what the actor took care of can be taken care of
    /// meanwhile.
    pub(crate) async fn keep_alive<P: Future<Output = ()>>(
        &self,
        component: Component,
        mut start: impl FnMut(Lifeline),
        pause: impl Fn(Duration) -> P,
    ) {
        let mut restarts = Restarts::new(&self.config);
        loop {
            let (lifeline, end) = Lifeline::new(self.lifecycle.clone());
            let started = time::now();
            start(lifeline);
            if end.await == Ok(ActorEnd::Intended) {
                return;
            }
            let wait = match restarts.after_life(started.elapsed()) {
                Restart::After(wait) => wait,
                Restart::LimitReached(wait) => {
                    self.reporter.failed(&component);
                    wait
                }
            };
            if self.lifecycle.run(pause(wait)).await.is_none() {
                return;
            }
            self.reporter.restarted(&component);
        }
    }
}

/// When an actor that ended unexpectedly is started again.
struct Restarts<'c> {
    config: &'c Config,
    budget: RestartBudget,
    backoff: Backoff,
}

enum Restart {
    After(Duration),
    /// It has failed: the window has no restart left. It is tried again after a long wait.
    LimitReached(Duration),
}

impl<'c> Restarts<'c> {
    /// The waits double up to this. They start over after an actor has lived for this long.
    const MAX_WAIT: Duration = Duration::from_secs(1);

    fn new(config: &'c Config) -> Self {
        let first = config.restart_first;
        Restarts {
            config,
            budget: RestartBudget::new(config.restart_limit, config.restart_window),
            backoff: Backoff::new(first, Self::MAX_WAIT.max(first)),
        }
    }

    fn after_life(&mut self, lived: Duration) -> Restart {
        if lived >= Self::MAX_WAIT {
            self.backoff.reset();
        }
        if self.budget.take(time::now()) {
            return Restart::After(self.backoff.next(random::fraction()));
        }
        self.budget = RestartBudget::new(self.config.restart_limit, self.config.restart_window);
        Restart::LimitReached(self.config.failed_retry)
    }
}

/// Held by an actor. Dropped without [`done`](Lifeline::done), it reports an unexpected end.
#[derive(Debug)]
pub(crate) struct Lifeline {
    end: Option<oneshot::Sender<ActorEnd>>,
    lifecycle: Lifecycle,
}

#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum ActorEnd {
    Intended,
    Unexpected,
}

impl Lifeline {
    fn new(lifecycle: Lifecycle) -> (Self, oneshot::Receiver<ActorEnd>) {
        let (sender, receiver) = oneshot::channel();
        let end = Some(sender);
        (Lifeline { end, lifecycle }, receiver)
    }

    /// Reports that the actor has nothing more to do and must not be started again.
    pub(crate) fn done(&mut self) {
        self.report(ActorEnd::Intended);
    }

    fn report(&mut self, end: ActorEnd) {
        if let Some(sender) = self.end.take() {
            // Nobody listens once the transport is gone.
            let _ = sender.send(end);
        }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.report(ActorEnd::Unexpected);
    }
}

/// An actor that is kept alive.
pub(crate) trait Supervised: Actor<Context = Context<Self>> {
    fn lifeline(&mut self) -> &mut Lifeline;
}

/// Ties an actor to the future that does its work: when the future is done, the actor ends as
/// intended; when it panics, the actor ends unexpectedly. `stop` waits until the future is gone: by
/// then, the frames that it held are counted.
pub(crate) fn live<A>(actor: &mut A, ctx: &mut Context<A>, work: impl Future<Output = ()> + 'static)
where
    A: Supervised,
{
    let work = actor.lifeline().lifecycle.track(work).into_actor(actor);
    ctx.spawn(work.map(|(), actor, ctx| {
        actor.lifeline().done();
        ctx.stop();
    }));
}

/// The work of an actor that only answers messages: it waits until everything must end.
pub(crate) async fn until_all_ends(
    lifecycle: Lifecycle,
    failpoints: Failpoints,
    failpoint: Failpoint,
) {
    tokio::select! {
        () = lifecycle.all_ends() => {}
        () = failpoints.strike(failpoint) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn supervisor(reporter: &Reporter) -> Supervisor {
        Supervisor::new(Arc::default(), Lifecycle::default(), reporter.clone())
    }

    #[tokio::test]
    async fn an_actor_that_keeps_ending_is_paused_for_long_and_started_again() {
        let reporter = Reporter::default();
        let mut lives = 0;
        let start = |mut lifeline: Lifeline| {
            lives += 1;
            if lives == 13 {
                lifeline.done();
            }
        };
        let waits = RefCell::new(Vec::new());
        let pause = async |wait| waits.borrow_mut().push(wait);
        let supervisor = supervisor(&reporter);
        supervisor.keep_alive(Component::Node, start, pause).await;
        assert_eq!(reporter.link_stats(0, [0; 2]).restarts, 12);
        // The limit is ten restarts in a window, so the eleventh wait is the long one.
        let waits = waits.into_inner();
        let long: Vec<_> = (0..12)
            .filter(|index| waits[*index] > Restarts::MAX_WAIT)
            .collect();
        assert_eq!(long, [10]);
        assert_eq!(waits[10], Config::default().failed_retry);
    }

    #[tokio::test]
    async fn an_actor_that_ended_as_intended_stays_ended() {
        let mut lives = 0;
        let start = |mut lifeline: Lifeline| {
            lives += 1;
            lifeline.done();
        };
        let supervisor = supervisor(&Reporter::default());
        let pause = |_| std::future::ready(());
        supervisor.keep_alive(Component::Node, start, pause).await;
        assert_eq!(lives, 1);
    }
}
