//! The thread that ends the transport's arbiters and waits until their threads have ended.
//!
//! Waiting for a thread blocks, so it needs a thread of its own. That one is started together with the
//! arbiters: when the transport stops, the system may not have another thread to give. Where no actix
//! `System` runs, this thread also runs the `System` that the arbiters belong to.

use std::{io, sync::mpsc, thread};

use actix_rt::{Arbiter, ArbiterHandle, System};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::observe::subscribers::Subscribers;

/// A handle to the thread. The thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Gets the arbiters when they must end.
    end: oneshot::Sender<Vec<Arbiter>>,
}

/// A keeper, its arbiters, and the first arbiter of their `System`.
type Kept = (Keeper, Vec<Arbiter>, ArbiterHandle);

impl Keeper {
    /// Starts arbiters that belong to `system`, which is the one of this thread.
    ///
    /// `joined` is cancelled when their threads have ended.
    pub(super) fn beside(
        system: &System,
        arbiters: usize,
        joined: &CancellationToken,
    ) -> io::Result<Kept> {
        let (end, ending) = oneshot::channel();
        let joined = joined.clone().drop_guard();
        start_thread(move || {
            let _joined = joined;
            if let Ok(arbiters) = ending.blocking_recv() {
                join_all(arbiters);
            }
        })?;
        let arbiters = start_arbiters(arbiters)?;
        Ok((Keeper { end }, arbiters, system.arbiter().clone()))
    }

    /// Starts a `System` on the keeper's thread, and arbiters that belong to it. The `System` ends with
    /// the keeper.
    pub(super) fn with_system(
        arbiters: usize,
        joined: &CancellationToken,
        subscribers: &Subscribers,
    ) -> io::Result<Kept> {
        let (end, ending) = oneshot::channel();
        let (tell, told) = mpsc::sync_channel(1);
        let (joined, subscribers) = (joined.clone().drop_guard(), subscribers.clone());
        start_thread(move || {
            // Dropped last: by then, nothing of the system is left.
            let _joined = joined;
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let system = match runtime.enable_all().build() {
                Ok(runtime) => System::with_tokio_rt(|| runtime),
                Err(err) => return drop(tell.send(Err(err))),
            };
            let home = System::current().arbiter().clone();
            let started = system.block_on(async { start_arbiters(arbiters) });
            // If it is an error, `end` is dropped and this thread ends.
            let _ = tell.send(started.map(|arbiters| (arbiters, home)));
            match system.block_on(ending) {
                Ok(arbiters) => join_all(arbiters),
                // The transport was dropped. Subscribers may run here, and have time for the last
                // events.
                Err(_) => system.block_on(subscribers.end()),
            }
        })?;
        let died = |_| io::Error::other("the thread of the actix system ended at once");
        let (arbiters, home) = told.recv().map_err(died)??;
        Ok((Keeper { end }, arbiters, home))
    }

    /// Ends these arbiters, without waiting for it.
    pub(super) fn end(self, arbiters: Vec<Arbiter>) {
        if let Err(arbiters) = self.end.send(arbiters) {
            // The thread panicked. Nobody waits for these, but they end.
            for arbiter in arbiters {
                arbiter.stop();
            }
        }
    }
}

fn start_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name("actix-transport".into());
    thread.spawn(work).map(drop)
}

/// Starts this many arbiters in the `System` of this thread, or none.
fn start_arbiters(number: usize) -> io::Result<Vec<Arbiter>> {
    let mut arbiters = Vec::with_capacity(number);
    for _ in 0..number {
        match Arbiter::try_new() {
            Ok(arbiter) => arbiters.push(arbiter),
            Err(err) => {
                join_all(arbiters);
                return Err(err);
            }
        }
    }
    Ok(arbiters)
}

/// Ends these arbiters and waits until their threads have ended.
fn join_all(arbiters: Vec<Arbiter>) {
    for arbiter in &arbiters {
        arbiter.stop();
    }
    for arbiter in arbiters {
        // A thread that panicked has ended as well.
        let _ = arbiter.join();
    }
}
