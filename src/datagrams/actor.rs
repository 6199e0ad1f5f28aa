//! The `UdpActor`: sends and receives datagrams.
//!
//! While the system has no descriptor or no memory for the socket, the actor waits, longer each time.
//! Datagrams that go stale meanwhile are dropped and reported. A socket that was shut down from outside is
//! closed and bound again.

use std::{io, sync::Arc, time::Duration};

use actix::{Actor, Context};

use crate::{
    datagrams::{outgoing::Outgoing, receiving::Receiving, sending::Sending},
    net::{
        time::{self, sleep},
        udp,
    },
    observe::reporter::Reporter,
    receive::context::ReceiveContext,
    runtime::{
        backoff::Backoff,
        failpoints::{Failpoint, Failpoints},
        supervision::{Lifeline, Supervised, live},
    },
};

/// The actor; one per transport, unless datagrams are switched off.
#[derive(Debug)]
pub(crate) struct UdpActor {
    context: ReceiveContext,
    outgoing: Arc<Outgoing>,
    reporter: Reporter,
    failpoints: Failpoints,
    lifeline: Lifeline,
}

impl UdpActor {
    pub(crate) fn start(
        context: ReceiveContext,
        outgoing: Arc<Outgoing>,
        reporter: Reporter,
        failpoints: Failpoints,
        lifeline: Lifeline,
    ) {
        Actor::start(UdpActor {
            context,
            outgoing,
            reporter,
            failpoints,
            lifeline,
        });
    }
}

impl Actor for UdpActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (context, failpoints) = (self.context.clone(), self.failpoints.clone());
        let (outgoing, reporter) = (self.outgoing.clone(), self.reporter.clone());
        live(self, ctx, async move {
            tokio::select! {
                () = context.lifecycle.all_ends() => {}
                () = failpoints.strike(Failpoint::Udp) => {}
                () = send_and_receive(&context, &outgoing, &reporter) => {}
            }
        });
    }
}

impl Supervised for UdpActor {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Returns when no datagram may be sent or received any more. Waits while the socket cannot be used.
async fn send_and_receive(context: &ReceiveContext, outgoing: &Outgoing, reporter: &Reporter) {
    const FIRST_WAIT: Duration = Duration::from_millis(100);
    const MAX_WAIT: Duration = Duration::from_secs(1);
    // No jitter: nobody else competes for this socket, and a wait drawn as nothing would be spinning.
    const FULL_WAIT: f64 = 1.0;

    let mut waits = Backoff::new(FIRST_WAIT, MAX_WAIT);
    loop {
        let began = time::now();
        let Err(err) = use_socket(context, outgoing, reporter).await else {
            return;
        };
        if began.elapsed() > MAX_WAIT {
            waits.reset();
        }
        let wait = waits.next(FULL_WAIT);
        reporter.no_datagrams(&err, wait);
        outgoing.expire_while(sleep(wait)).await;
    }
}

/// Attaches the socket to the runtime of this thread and uses it until nothing may be sent or received
/// any more, or the socket fails.
async fn use_socket(
    context: &ReceiveContext,
    outgoing: &Outgoing,
    reporter: &Reporter,
) -> io::Result<()> {
    let Some(socket) = outgoing.attach()? else {
        return Ok(());
    };
    let sending = Sending::new(&outgoing.queue, &socket, reporter);
    let receiving = Receiving::new(context, &socket, reporter);
    let used = tokio::try_join!(sending.run(), receiving.run());
    if let Err(err) = &used
        && udp::is_broken(err)
    {
        outgoing.close_broken();
    }
    used.map(drop)
}
