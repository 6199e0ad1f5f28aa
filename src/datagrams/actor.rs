//! The `UdpActor`: sends and receives datagrams.

use std::sync::Arc;

use actix::{Actor, Context};

use crate::{
    datagrams::{outgoing::Outgoing, receiving::Receiving, sending::Sending},
    net::udp::DatagramSocket,
    observe::reporter::Reporter,
    receive::context::ReceiveContext,
    runtime::{
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
            let socket = match outgoing.attach() {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                // For example, there are no descriptors left. This life ends, and the next one tries
                // again.
                Err(err) => panic!("cannot use the datagram socket: {err}"),
            };
            tokio::select! {
                () = context.lifecycle.all_ends() => {}
                () = failpoints.strike(Failpoint::Udp) => {}
                () = send_and_receive(&context, &outgoing, &reporter, &socket) => {}
            }
        });
    }
}

impl Supervised for UdpActor {
    fn lifeline(&mut self) -> &mut Lifeline {
        &mut self.lifeline
    }
}

/// Returns when no datagram may be sent or received any more.
async fn send_and_receive(
    context: &ReceiveContext,
    outgoing: &Outgoing,
    reporter: &Reporter,
    socket: &DatagramSocket,
) {
    let sending = Sending::new(&outgoing.queue, socket, reporter);
    let receiving = Receiving::new(context, socket);
    tokio::join!(sending.run(), receiving.run());
}
