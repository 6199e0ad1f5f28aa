//! The parts of a running transport, and the order in which they start and stop.

use std::{net::SocketAddr, sync::Arc};

use actix::Addr;
use futures::future;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

#[cfg(feature = "tls")]
use crate::api::tls_watch::TlsWatch;
use crate::{
    api::{
        node::Node,
        shutdown::{Shutdown, StopReport},
    },
    calls::keeper::keep_deadlines,
    datagrams::{Outgoing, UdpActor},
    net::{tcp::ListeningSocket, time::sleep},
    observe::{
        event::Component,
        reporter::Reporter,
        stats::{SendStats, Stats},
    },
    receive::{
        admission::ConnectionLimits,
        context::ReceiveContext,
        listener::{Accepting, Listener},
        reader::Reader,
        reader_set::ReaderSet,
    },
    runtime::{
        arbiters::Arbiters, failpoints::Failpoints, lifecycle::Lifecycle, supervision::Supervisor,
        worker::Worker,
    },
    send::peers::Peers,
};

/// What all handles to one transport share. When the last handle is dropped, the transport ends.
pub(super) struct Running {
    pub(super) local: SocketAddr,
    pub(super) receive: ReceiveContext,
    pub(super) limits: ConnectionLimits,
    pub(super) peers: Arc<Peers>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) lifecycle: Lifecycle,
    pub(super) reporter: Reporter,
    pub(super) supervisor: Supervisor,
    pub(super) failpoints: Failpoints,
    pub(super) arbiters: Arc<Arbiters>,
    /// The current `Node`. `None` before it has started, and after it has ended for good.
    pub(super) node: Arc<Mutex<Option<Addr<Node>>>>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<TlsWatch>>,
    /// Set by the first `stop` that comes to its end.
    pub(super) stopped: OnceCell<StopReport>,
}

impl Running {
    pub(super) fn stats(&self) -> Stats {
        let connections = [self.limits.open(), self.limits.max()];
        let lanes = self.peers.stats();
        Stats {
            tcp: SendStats::sum(&lanes),
            lanes,
            udp: self.outgoing.stats(),
            inbound: self.receive.accounts.stats(),
            calls: self.receive.calls.pending.stats(),
            served: self.receive.calls.served.stats(),
            links: self.reporter.link_stats(self.peers.len(), connections),
            #[cfg(feature = "tls")]
            tls: self
                .tls
                .as_ref()
                .map(|tls| tls.endpoint.stats())
                .unwrap_or_default(),
        }
    }

    // ---- start -------------------------------------------------------------------------------------

    /// Starts the actors and keeps them alive. The Readers have an arbiter each; those actors that have
    /// little to do share the first Reader's.
    pub(super) fn start(&self, socket: Option<ListeningSocket>) {
        let readers = Arc::new(ReaderSet::new(self.arbiters.readers.len()));
        for (index, worker) in self.arbiters.readers.iter().enumerate() {
            self.start_reader(worker, index, readers.clone());
        }
        let worker = &self.arbiters.readers[0];
        if let Some(socket) = socket {
            self.start_listener(worker, socket, readers);
        }
        self.start_node(worker);
        let (calls, lifecycle) = (self.receive.calls.clone(), self.lifecycle.clone());
        worker.spawn(move || async move {
            let mine = keep_deadlines(&*calls.pending);
            let of_others = keep_deadlines(&*calls.served);
            lifecycle.run(future::join(mine, of_others)).await;
        });
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            let lifecycle = self.lifecycle.clone();
            worker.spawn(move || async move {
                lifecycle.run(tls.run()).await;
            });
        }
        if self.outgoing.is_switched_on() {
            self.start_udp_actor(worker);
        }
    }

    fn start_reader(&self, worker: &Worker, index: usize, readers: Arc<ReaderSet>) {
        let (context, failpoints) = (self.receive.clone(), self.failpoints.clone());
        let supervisor = self.supervisor.clone();
        worker.spawn(move || async move {
            let start = |lifeline| {
                let reader = Reader::start(context.clone(), failpoints.clone(), lifeline);
                readers.set(index, Some(reader));
            };
            let component = Component::Reader(index);
            supervisor.keep_alive(component, start, sleep).await;
            readers.set(index, None);
        });
    }

    fn start_listener(&self, worker: &Worker, socket: ListeningSocket, readers: Arc<ReaderSet>) {
        let accepting = Accepting {
            socket: Arc::new(socket),
            limits: self.limits.clone(),
            readers,
            reporter: self.reporter.clone(),
        };
        let (lifecycle, failpoints) = (self.lifecycle.clone(), self.failpoints.clone());
        let supervisor = self.supervisor.clone();
        worker.spawn(move || async move {
            let start = |lifeline| {
                let (lifecycle, failpoints) = (lifecycle.clone(), failpoints.clone());
                Listener::start(accepting.clone(), lifecycle, failpoints, lifeline);
            };
            let component = Component::Listener;
            supervisor.keep_alive(component, start, sleep).await;
        });
    }

    fn start_node(&self, worker: &Worker) {
        let make = {
            let (receive, peers) = (self.receive.clone(), self.peers.clone());
            let (reporter, failpoints) = (self.reporter.clone(), self.failpoints.clone());
            move |lifeline| {
                Node::new(
                    receive.clone(),
                    peers.clone(),
                    reporter.clone(),
                    failpoints.clone(),
                    lifeline,
                )
            }
        };
        let (node, supervisor) = (self.node.clone(), self.supervisor.clone());
        worker.spawn(move || async move {
            let start = |lifeline| *node.lock() = Some(actix::Actor::start(make(lifeline)));
            let component = Component::Node;
            supervisor.keep_alive(component, start, sleep).await;
            *node.lock() = None;
        });
    }

    fn start_udp_actor(&self, worker: &Worker) {
        let (context, outgoing) = (self.receive.clone(), self.outgoing.clone());
        let (reporter, failpoints) = (self.reporter.clone(), self.failpoints.clone());
        let supervisor = self.supervisor.clone();
        // Closes the queue when the arbiter ends, even if the task has not started by then.
        let close_queue = self.outgoing.close_on_drop();
        worker.spawn(move || async move {
            let _close_queue = close_queue;
            let start = |lifeline| {
                let (context, outgoing) = (context.clone(), outgoing.clone());
                let (reporter, failpoints) = (reporter.clone(), failpoints.clone());
                UdpActor::start(context, outgoing, reporter, failpoints, lifeline);
            };
            // Datagrams also go stale between two lives of the actor.
            let pause = |wait| outgoing.expire_while(sleep(wait));
            let component = Component::UdpActor;
            supervisor.keep_alive(component, start, pause).await;
        });
    }

    // ---- stop --------------------------------------------------------------------------------------

    /// Runs on whatever thread and executor the caller has, so it must not set timers itself: those run
    /// on an arbiter of the transport.
    pub(super) async fn stop(&self, how: Shutdown) -> StopReport {
        self.peers.seal();
        self.outgoing.seal();
        if let Shutdown::Drain(limit) = how {
            let time_is_over = self.arbiters.run(async move { sleep(limit).await });
            // What is left when the time is over is in the report.
            tokio::select! {
                () = self.drain() => {}
                () = time_is_over => {}
            }
        }
        self.end();
        self.lifecycle.ended().await;
        self.outgoing.close_socket();
        self.outgoing.report_dropped();
        // A registered actor may hold a handle to this transport: this breaks the cycle.
        self.receive.groups.close();
        self.receive.calls.services.close();
        let report = StopReport {
            undelivered: self.peers.undelivered(),
            datagrams: self.outgoing.stats().dropped.stopped,
        };
        let subscribers = self.reporter.subscribers.clone();
        let last_events = async move { subscribers.end().await };
        self.arbiters.run(last_events).await;
        self.arbiters.stop().await;
        report
    }

    /// Waits until everything queued is written, and then until everything received is handled. Frames
    /// are received while the queues drain: other nodes that drain, or this one itself, may be sending
    /// to this node.
    async fn drain(&self) {
        tokio::join!(self.peers.drained(), self.outgoing.drained());
        self.lifecycle.end_receiving().await;
        self.receive.accounts.drained().await;
    }

    /// Ends a transport that was never started, without waiting for it.
    pub(super) fn abandon(&self) {
        self.end();
        self.outgoing.close_socket();
        // A registered actor may hold a handle to this transport: this breaks the cycle.
        self.receive.groups.close();
        self.receive.calls.services.close();
    }

    /// Tells everything to end, without waiting for it.
    fn end(&self) {
        self.reporter.subscribers.begin_end();
        self.receive.accounts.stopping();
        self.receive.calls.pending.stop();
        self.receive.calls.served.stop();
        self.peers.close();
        self.outgoing.close();
        self.lifecycle.end_all();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.stopped.get().is_none() {
            self.end();
            self.peers.undelivered();
            self.outgoing.report_dropped();
            self.reporter.subscribers.close();
        }
    }
}
