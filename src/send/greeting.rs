//! The handshake at the end that dials: a `Hello` first, and a wait for the answer where frames need it.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    lane::Lane,
    net::{halves::WriteHalf, tcp::Stream, time::timeout, tls::HandshakeError},
    observe::event::DownReason,
    send::{
        back_channel::{BackChannel, Welcomed},
        peer_state::PeerState,
        wire::{FarEnd, Wire},
        writer_context::{SessionParts, WriterContext},
    },
    session::context::{Demand, SessionContext},
    wire::control::{Control, refused::RefusedReason},
};

/// Why no frame may be sent on a new connection.
#[derive(Debug)]
pub(super) enum NotWelcome {
    /// One of the two ends does not want to talk to the other.
    Refused(RefusedReason),
    /// The connection was lost, the peer did not answer in time, or its answer was none.
    Failed(io::Error),
    /// The TLS handshake failed.
    Untrusted(HandshakeError),
}

/// Introduces this node on a new connection, if sessions are on. Returns once frames may leave.
pub(super) async fn greet(
    writers: &WriterContext,
    peer: &PeerState,
    (stream, addr): (Stream, SocketAddr),
) -> Result<Wire, NotWelcome> {
    let (reading, writing) = stream.split();
    let Some(SessionParts { context, links }) = &writers.sessions else {
        let far_end = FarEnd::Watched(BackChannel::silent(reading));
        return Ok(Wire::new(writing, far_end, addr, false));
    };
    let demand = context.demand(peer.addr()).or_node(peer.demanded());
    // Frames that leave before the answer make it too late to agree on both ways.
    let both_ways = demand.waits;
    let back_channel = BackChannel::awaiting(
        reading,
        context.clone(),
        peer.addr().clone(),
        demand.node,
        both_ways,
    );
    let node = demand.node.or(peer.node()).filter(|_| both_ways);
    let _greeting = node.map(|node| context.greets(node, peer.to.lane));
    say_hello(context, &writing, demand, both_ways, peer.to.lane).await?;
    if !demand.waits {
        // A node that does not know the numbers of frames ignores them.
        let far_end = FarEnd::Watched(back_channel);
        return Ok(Wire::new(writing, far_end, addr, true));
    }
    until_answered(context, &writing, &back_channel, demand).await?;
    let (reading, welcomed) = match back_channel.hand_over() {
        Ok(welcomed) => welcomed,
        Err(back_channel) => {
            // A node that answered, and that does not know the numbers of frames, needs none.
            let numbered = back_channel.node().is_none();
            let far_end = FarEnd::Watched(*back_channel);
            return Ok(Wire::new(writing, far_end, addr, numbered));
        }
    };
    let Welcomed {
        session,
        from,
        rest,
    } = welcomed;
    context.set_first_peer(from.node, peer.addr());
    peer.met(from.node);
    let tls = reading.tls().cloned();
    let far = (&from, peer.to.lane);
    let link = context.open_link(session, far, addr, true, None, tls);
    links.read(reading, rest, link.clone(), &from);
    Ok(Wire::new(writing, FarEnd::Read(link), addr, true))
}

/// Waits for the answer. Returns without one if frames go to a peer that does not answer, too.
async fn until_answered(
    sessions: &SessionContext,
    writing: &WriteHalf,
    back_channel: &BackChannel,
    demand: Demand,
) -> Result<(), NotWelcome> {
    match timeout(sessions.time_limit, back_channel.until_welcomed()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => {
            if let Some(objection) = back_channel.take_objection() {
                // A few bytes on a new connection: the system takes them at once. The link ends in any case.
                let _ = writing.try_write(&[IoSlice::new(&objection)]);
            }
            match back_channel.tls_failure() {
                // The far end looks at the certificate of this one when the handshake is done here.
                Some(text) => Err(NotWelcome::Failed(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    text,
                ))),
                None => Err(NotWelcome::because(reason)),
            }
        }
        Err(_) if demand.serves_mute => {
            back_channel.frames_leave_now();
            Ok(())
        }
        Err(_) => Err(no_answer()),
    }
}

async fn say_hello(
    sessions: &Arc<SessionContext>,
    writing: &WriteHalf,
    demand: Demand,
    both_ways: bool,
    lane: Lane,
) -> Result<(), NotWelcome> {
    let hello = Control::hello(sessions.me_for(lane, both_ways), demand.node, lane).encode();
    match timeout(sessions.time_limit, writing.write_whole(&hello)).await {
        Ok(written) => written.map_err(NotWelcome::Failed),
        Err(_) => Err(no_answer()),
    }
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
            DownReason::Untrusted | DownReason::Expired => io::ErrorKind::PermissionDenied,
            DownReason::Closed
            | DownReason::Idle
            | DownReason::Left
            | DownReason::Renewed
            | DownReason::Replaced
            | DownReason::Superseded
            | DownReason::Ended => io::ErrorKind::UnexpectedEof,
        };
        let text = format!("no answer to the Hello: {reason}");
        NotWelcome::Failed(io::Error::new(kind, text))
    }
}
