//! [`LinkReading`]: reads the links that this node dialled, as connections that it accepted are read.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    net::halves::ReadHalf,
    receive::{connection::Connection, context::ReceiveContext, sender::Sender, source::Source},
    send::read_links::ReadLinks,
    session::open_link::OpenLink,
    wire::control::node_info::NodeInfo,
};

/// Starts the tasks. They run on the arbiter that writes to the link, and take no place among the accepted
/// connections: there is at most one for each lane of each peer.
#[derive(Debug)]
pub(crate) struct LinkReading(pub(crate) ReceiveContext);

impl ReadLinks for LinkReading {
    fn read(&self, reading: ReadHalf, begun: Bytes, link: Arc<OpenLink>, from: &NodeInfo) {
        let (LinkReading(context), peer) = (self, link.addr);
        let certificate = reading.tls().map(|tls| tls.certificate().clone());
        let sender = Sender::new(from, link.lane, peer, context.peers.clone(), certificate);
        let source = Source::dialled(reading, begun, link.clone());
        let connection = Connection::of_link(context, source, peer, sender, link);
        let reporter = context.accounts.reporter();
        // Boxed, because each future around it would hold it twice: as an argument and while it runs.
        let running = Box::pin(reporter.on_connection(peer, connection.run()));
        let lifecycle = context.lifecycle.clone();
        let running = async move {
            lifecycle.run(running).await;
        };
        actix_rt::spawn(context.lifecycle.track(running));
    }
}
