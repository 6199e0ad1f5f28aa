//! What the parts of one transport have in common.
//!
//! Owns no behaviour: settings, counters, the tokens by which all ends, and the books that outlive
//! the actors. One for each transport, so two in a process never meet.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures::FutureExt;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    observe::event::{Component, Events, PeerEvent},
    observe::receive_accounts::ReceiveAccounts,
    observe::stats::{DatagramErrors, LinkStats},
    receive::admission::ConnectionLimits,
    receive::groups::Groups,
    runtime::failpoints::{Failpoint, Failpoints},
    runtime::supervision::{self, Lifeline, Turn},
    send::pace::Pace,
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) local: SocketAddr,
    pub(crate) groups: Groups,
    pub(crate) accounts: ReceiveAccounts,
    pub(crate) events: Events,
    pub(crate) gatekeeper: ConnectionLimits,
    /// Permits for connections being made.
    pub(crate) dials: Semaphore,
    pub(crate) counters: Counters,
    /// Cancelled when nothing new may come in: accepting and reading end.
    pub(crate) closing: CancellationToken,
    /// Cancelled when everything must end.
    pub(crate) kill: CancellationToken,
    /// Whoever takes frames from a socket: when they have ended, all that was read is in the accounts.
    pub(crate) receiving: TaskTracker,
    /// Every task that must have ended before `stop` returns.
    pub(crate) tasks: TaskTracker,
    pub(crate) failpoints: Failpoints,
    /// Of the sends that wake nobody.
    pub(crate) pace: Pace,
}

/// What [`LinkStats`] is a snapshot of. Each is added to where it happens and read by `stats`; they
/// order nothing.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) dials: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) accept_stalls: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) too_long: AtomicU64,
    pub(crate) unreachable: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) other: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Shared {
    pub(crate) fn new(config: Config, local: SocketAddr, failpoints: Failpoints) -> Self {
        let events = Events::default();
        Shared {
            local,
            groups: Groups::default(),
            accounts: ReceiveAccounts::new(events.clone()),
            events,
            gatekeeper: ConnectionLimits::new(
                config.max_connections,
                config.max_connections_per_ip,
            ),
            dials: Semaphore::new(config.max_dials),
            counters: Counters::default(),
            closing: CancellationToken::new(),
            kill: CancellationToken::new(),
            receiving: TaskTracker::new(),
            tasks: TaskTracker::new(),
            failpoints,
            pace: Pace::new(Instant::now()),
            config,
        }
    }

    /// Keeps one part of the transport alive; see [`supervision::keep_alive`]. `rest` spends the time
    /// between two lives.
    pub(crate) async fn keep_alive<R: Future<Output = ()>>(
        &self,
        component: Component,
        start: impl FnMut(Lifeline),
        rest: impl Fn(Duration) -> R,
    ) {
        let told = |turn| self.told(component, turn);
        let rest = |time| {
            self.kill
                .run_until_cancelled(rest(time))
                .map(|rested| rested.is_some())
        };
        supervision::keep_alive(&self.config, start, told, rest).await;
    }

    /// Waits for the transport's end: the life of an actor that only answers messages.
    pub(crate) async fn killed(&self, point: Failpoint) {
        tokio::select! {
            () = self.kill.cancelled() => {}
            () = self.failpoints.strike(point) => {}
        }
    }

    /// Counts and tells what became of a component.
    fn told(&self, component: Component, turn: Turn) {
        let event = match turn {
            Turn::Restarted => {
                count(&self.counters.restarts);
                tracing::warn!(%component, "ended unasked, started anew");
                PeerEvent::Restarted { component }
            }
            Turn::Failed => {
                tracing::error!(%component, "ended unasked too often, rests");
                PeerEvent::Failed { component }
            }
        };
        self.events.tell(&event);
    }

    pub(crate) fn link_stats(&self, peers: usize) -> LinkStats {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        LinkStats {
            dials: read(&counters.dials),
            connects: read(&counters.connects),
            disconnects: read(&counters.disconnects),
            peers: peers as u64,
            accepted: read(&counters.accepted),
            turned_away: read(&counters.turned_away),
            accept_stalls: read(&counters.accept_stalls),
            connections: self.gatekeeper.open() as u64,
            restarts: read(&counters.restarts),
            datagram_errors: DatagramErrors {
                too_long: read(&counters.too_long),
                unreachable: read(&counters.unreachable),
                refused: read(&counters.refused),
                other: read(&counters.other),
            },
        }
    }
}
