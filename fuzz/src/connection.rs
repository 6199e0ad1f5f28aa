//! Any bytes in any pieces on a real connection. The transport delivers what the reference decodes,
//! and counts what ends the connection.

use std::io::ErrorKind;

use actix::SystemRunner;
use actix_transport::{Config, GroupId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
};

use super::node::Node;
use super::reference::{by_group, reference};

const LIMIT: usize = 300;

thread_local! {
    static NODE: (SystemRunner, Node) =
        Node::start(Config::default().max_frame(LIMIT).udp(false));
}

/// The first byte is the length of the pieces in which the others are written.
pub fn run(data: &[u8]) {
    if let Some((step, stream)) = data.split_first() {
        NODE.with(|(system, node)| {
            system.block_on(connection(node, usize::from(*step) + 1, stream));
        });
    }
}

async fn connection(node: &Node, step: usize, stream: &[u8]) {
    let before = node.received();
    let mut connection = match TcpStream::connect(node.transport.local_addr()).await {
        Ok(connection) => connection,
        // Recently closed connections still hold all ports.
        Err(err) if err.kind() == ErrorKind::AddrNotAvailable => return,
        Err(err) => panic!("{err}"),
    };
    connection.set_nodelay(true).expect("open");
    for chunk in stream.chunks(step) {
        // The transport closes the connection when a frame is malformed.
        if connection.write_all(chunk).await.is_err() {
            break;
        }
        for _ in 0..4 {
            yield_now().await;
        }
    }
    let _ = connection.shutdown().await;
    // The transport writes nothing, and closes the connection when it has delivered everything.
    match connection.read(&mut [0]).await {
        Ok(said) => assert_eq!(said, 0),
        Err(err) => assert_eq!(err.kind(), ErrorKind::ConnectionReset),
    }
    let after = node.received();
    let expected = reference(stream, LIMIT);
    let frames = expected.frames.len() as u64;
    assert_eq!(after.received.frames - before.received.frames, frames);
    assert!(after.in_delivery.is_zero());
    assert_eq!(
        after.malformed - before.malformed,
        u64::from(expected.malformed)
    );
    let truncated = !expected.malformed && expected.rest > 0;
    assert_eq!(after.truncated - before.truncated, u64::from(truncated));
    let got = node.take().into_iter().map(|got| (got.group, got.payload));
    let mut frames = expected.frames;
    frames.retain(|(group, _)| *group != GroupId::RESERVED.get());
    assert_eq!(by_group(got.collect()), by_group(frames));
}
