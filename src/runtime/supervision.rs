//! Keeps actors alive.
//!
//! actix' own `Supervisor` brings an actor back that called `ctx.stop()`, at once and without limit,
//! but not one that panicked. Here every actor of the transport carries a [`Lifeline`]; however it
//! ends, the lifeline's `Drop` tells the loop that started it, which waits a little and starts
//! another, so long as its [`Budget`] lasts. What must survive (queues, counters, registrations,
//! sockets) lives outside the actors; this file knows nothing of it.

use std::{collections::VecDeque, future::Future, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::{sync::oneshot, time::Instant};

use crate::{config::Config, runtime::backoff::Backoff};

/// How many restarts are left, as of now.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    window: Duration,
    restarts: VecDeque<Instant>,
}

impl Budget {
    pub(crate) fn new(limit: usize, window: Duration) -> Self {
        Budget {
            limit,
            window,
            restarts: VecDeque::new(),
        }
    }

    /// Takes one restart; false when the window has none left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while self
            .restarts
            .front()
            .is_some_and(|then| now - *then >= self.window)
        {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.limit {
            return false;
        }
        self.restarts.push_back(now);
        true
    }
}

/// What an actor holds to be missed: dropped without [`done`](Lifeline::done), it was not asked.
#[derive(Debug)]
pub(crate) struct Lifeline(Option<oneshot::Sender<End>>);

#[derive(Debug, Copy, Clone, Eq, PartialEq)]
enum End {
    Asked,
    Unasked,
}

impl Lifeline {
    /// The actor has nothing more to do and must not be started again.
    pub(crate) fn done(&mut self) {
        self.tell(End::Asked);
    }

    fn tell(&mut self, end: End) {
        if let Some(tell) = self.0.take() {
            // Nobody listens once the transport is gone, and then nobody needs to.
            let _ = tell.send(end);
        }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.tell(End::Unasked);
    }
}

/// An actor that is kept alive.
pub(crate) trait Supervised: Actor<Context = Context<Self>> {
    fn lifeline(&mut self) -> &mut Lifeline;
}

/// Makes `life` the life of an actor: when it comes to its end, so does the actor, as it was meant
/// to; when it panics, the actor ends unasked.
pub(crate) fn live<A>(actor: &mut A, ctx: &mut Context<A>, life: impl Future<Output = ()> + 'static)
where
    A: Supervised,
{
    let life = life.into_actor(actor);
    ctx.spawn(life.map(|(), actor, ctx| {
        actor.lifeline().done();
        ctx.stop();
    }));
}

/// What becomes of a supervised actor, for those who count and tell.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(crate) enum Turn {
    Restarted,
    Failed,
}

/// Starts an actor and starts it anew whenever it ends unasked, until it ends asked.
///
/// `start` starts one life on the current arbiter; `told` hears of each turn; `rest` spends the time
/// between two lives, so that what the actor looked after can be looked after meanwhile, and says
/// whether there is to be another.
pub(crate) async fn keep_alive<R>(
    config: &Config,
    mut start: impl FnMut(Lifeline),
    mut told: impl FnMut(Turn),
    rest: impl Fn(Duration) -> R,
) where
    R: Future<Output = bool>,
{
    const REST_MAX: Duration = Duration::from_secs(1);

    let mut budget = Budget::new(config.restart_limit, config.restart_window);
    let mut backoff = Backoff::new(config.restart_first, REST_MAX.max(config.restart_first));
    loop {
        let (tell, end) = oneshot::channel();
        let born = Instant::now();
        start(Lifeline(Some(tell)));
        if end.await == Ok(End::Asked) {
            return;
        }
        if born.elapsed() >= REST_MAX {
            backoff.reset();
        }
        let time = if budget.take(Instant::now()) {
            backoff.next(fastrand::f64())
        } else {
            told(Turn::Failed);
            budget = Budget::new(config.restart_limit, config.restart_window);
            config.failed_retry
        };
        if !rest(time).await {
            return;
        }
        told(Turn::Restarted);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    async fn sleep(time: Duration) -> bool {
        tokio::time::sleep(time).await;
        true
    }

    #[tokio::test(start_paused = true)]
    async fn budget_is_per_window() {
        let mut budget = Budget::new(2, Duration::from_secs(60));
        assert!(budget.take(Instant::now()));
        assert!(budget.take(Instant::now()));
        assert!(!budget.take(Instant::now()));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(budget.take(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_that_keeps_dying_is_reported_rests_and_is_tried_again() {
        let config = Config::default();
        let turns = RefCell::new(Vec::new());
        let mut lives = 0;
        let began = Instant::now();
        let start = |mut lifeline: Lifeline| {
            lives += 1;
            if lives == 13 {
                lifeline.done();
            }
        };
        keep_alive(&config, start, |turn| turns.borrow_mut().push(turn), sleep).await;
        let mut expected = vec![Turn::Restarted; 10];
        expected.extend([Turn::Failed, Turn::Restarted, Turn::Restarted]);
        assert_eq!(turns.into_inner(), expected);
        assert!(began.elapsed() >= config.failed_retry);
    }

    #[tokio::test]
    async fn an_actor_that_was_asked_to_end_stays_ended() {
        let mut lives = 0;
        let start = |mut lifeline: Lifeline| {
            lives += 1;
            lifeline.done();
        };
        keep_alive(&Config::default(), start, |_| panic!("no turn"), sleep).await;
        assert_eq!(lives, 1);
    }
}
