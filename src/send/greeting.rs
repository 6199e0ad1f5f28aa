//! The handshake at the end that dials: a `Hello` first, and a wait for the answer where frames need it.

use std::{io, sync::Arc};

use crate::{
    net::{tcp::Stream, time::timeout},
    observe::event::DownReason,
    peer_addr::PeerAddr,
    send::back_channel::BackChannel,
    session::context::SessionContext,
    wire::control::{Control, refused::RefusedReason},
};

/// Why no frame may be sent on a new connection.
#[derive(Debug)]
pub(super) enum NotWelcome {
    /// One of the two ends does not want to talk to the other.
    Refused(RefusedReason),
    /// The connection was lost, the peer did not answer in time, or its answer was none.
    Failed(io::Error),
}

/// Introduces this node on a new connection, if sessions are on. Returns once frames may leave.
pub(super) async fn greet(
    context: Option<&Arc<SessionContext>>,
    peer: &PeerAddr,
    stream: &Stream,
) -> Result<BackChannel, NotWelcome> {
    let Some(context) = context else {
        return Ok(BackChannel::silent());
    };
    let demand = context.demand(peer);
    let hello = Control::hello(context.me(), demand.node).encode();
    let back_channel = BackChannel::awaiting(context.clone(), peer.clone(), demand.node);
    let limit = context.time_limit;
    match timeout(limit, stream.write_whole(&hello)).await {
        Ok(written) => written.map_err(NotWelcome::Failed)?,
        Err(_) => return Err(no_answer()),
    }
    if demand.waits {
        match timeout(limit, back_channel.until_welcomed(stream)).await {
            Ok(welcomed) => welcomed.map_err(NotWelcome::because)?,
            Err(_) if demand.serves_mute => {}
            Err(_) => return Err(no_answer()),
        }
    }
    Ok(back_channel)
}

fn no_answer() -> NotWelcome {
    let text = "the peer did not answer the Hello";
    NotWelcome::Failed(io::Error::new(io::ErrorKind::TimedOut, text))
}

impl NotWelcome {
    /// Says why a link that ended before it was up is no link.
    fn because(reason: DownReason) -> Self {
        let kind = match reason {
            DownReason::Refused(reason) => return NotWelcome::Refused(reason),
            DownReason::Lost(kind) => kind,
            DownReason::Spoke => io::ErrorKind::InvalidData,
            DownReason::Closed | DownReason::Idle | DownReason::Superseded | DownReason::Ended => {
                io::ErrorKind::UnexpectedEof
            }
        };
        let text = format!("no answer to the Hello: {reason}");
        NotWelcome::Failed(io::Error::new(kind, text))
    }
}
