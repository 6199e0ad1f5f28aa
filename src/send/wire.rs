//! [`Wire`]: the writing half of a link, and what is known of the far end.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    calls::pending::CallPeer,
    ids::NodeId,
    net::{
        halves::{Readiness, WriteHalf},
        tls::Certificate,
    },
    observe::event::DownReason,
    send::{back_channel::BackChannel, queue::Batch},
    session::open_link::{OpenLink, Takes},
    wire::control::Control,
};

/// A connection that frames may be written to.
#[derive(Debug)]
pub(crate) struct Wire {
    writing: WriteHalf,
    far_end: FarEnd,
    /// Where the far end is.
    addr: SocketAddr,
    /// Whether the far end is told the numbers of the frames.
    numbered: bool,
    /// Whether the last frame was written in part only.
    mid_frame: AtomicBool,
}

/// How this end learns what the far end does.
#[derive(Debug)]
pub(crate) enum FarEnd {
    /// The far end sends at most the answer to a `Hello`, and the writer reads that itself.
    Watched(BackChannel),
    /// The far end may send frames too. A task of its own reads them.
    Read(Arc<OpenLink>),
}

impl Wire {
    pub(crate) fn new(
        writing: WriteHalf,
        far_end: FarEnd,
        addr: SocketAddr,
        numbered: bool,
    ) -> Self {
        Wire {
            writing,
            far_end,
            addr,
            numbered,
            mid_frame: AtomicBool::new(false),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the node at the far end, if it has introduced itself.
    pub(super) fn node(&self) -> Option<NodeId> {
        match &self.far_end {
            FarEnd::Watched(back_channel) => back_channel.node(),
            FarEnd::Read(link) => Some(link.node),
        }
    }

    /// Returns who is at the far end, if it takes calls.
    pub(super) fn call_peer(&self) -> Option<CallPeer> {
        match &self.far_end {
            FarEnd::Watched(_) => None,
            FarEnd::Read(link) => link.call_peer(),
        }
    }

    pub(super) fn numbers_frames(&self) -> bool {
        self.numbered
    }

    pub(super) fn is_both_ways(&self) -> bool {
        matches!(self.far_end, FarEnd::Read(_))
    }

    // ---- writing -----------------------------------------------------------------------------------

    /// Writes what is next of the batch, at most so many bytes, once, without waiting. Returns how many bytes.
    pub(super) fn try_write<const SLICES: usize>(
        &self,
        batch: &mut Batch,
        most: usize,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = batch.slices(&mut slices, most);
        let written = self.writing.try_write(&slices[..filled]);
        if let Ok(written) = written {
            batch.advance(written);
        }
        let encrypted = self.writing.encrypted();
        batch.encrypted(encrypted);
        let mid_frame = encrypted > 0 || !batch.is_empty() && batch.begins_with().is_none();
        self.mid_frame.store(mid_frame, Relaxed);
        written
    }

    /// Writes a control frame, which may have to wait. Called between two frames. Returns its length.
    pub(super) async fn say(&self, control: &Control) -> io::Result<usize> {
        let control = control.encode();
        self.mid_frame.store(true, Relaxed);
        self.writing.write_whole(&control).await?;
        self.mid_frame.store(false, Relaxed);
        Ok(control.len())
    }

    /// Returns how many bytes have been written, and how many of them are acknowledged; see
    /// [`WriteHalf::written`] and [`WriteHalf::acknowledged`].
    pub(super) fn written(&self) -> Option<u64> {
        self.writing.written()
    }

    pub(super) fn acknowledged(&self) -> Option<u64> {
        self.writing.acknowledged()
    }

    /// Says that this node stops, if the far end understands it and the system takes it at once.
    pub(super) fn say_goodbye(&self) {
        if self.is_both_ways() && !self.mid_frame.load(Relaxed) {
            let goodbye = Control::Goodbye.encode();
            // The link ends in any case, and the far end notices that.
            let _ = self.writing.try_write(&[IoSlice::new(&goodbye)]);
        }
    }

    // ---- the far end -------------------------------------------------------------------------------

    /// Returns whether the far end may have ended the link: the writer looks into that.
    pub(super) fn may_be_over(&self) -> bool {
        match &self.far_end {
            FarEnd::Watched(_) => self.writing.is_readable(),
            FarEnd::Read(link) => link.ends().is_some(),
        }
    }

    /// Returns why the link must end between two frames, if it must. Costs next to nothing.
    pub(super) fn ends(&self) -> Option<DownReason> {
        match &self.far_end {
            FarEnd::Watched(_) => None,
            FarEnd::Read(link) => link.ends(),
        }
    }

    /// Waits until the link must end. Returns why.
    pub(super) async fn until_over(&self) -> DownReason {
        match &self.far_end {
            FarEnd::Watched(back_channel) => back_channel.until_far_end_closes().await,
            FarEnd::Read(link) => link.until_end().await,
        }
    }

    /// Returns whether the socket can be written now. `None`: the caller must wait. Fails if the link must
    /// end.
    pub(super) fn ready_now(&self) -> Option<Result<Readiness, DownReason>> {
        match &self.far_end {
            FarEnd::Watched(back_channel) => {
                let ready = self.writing.ready_now()?;
                Some(
                    ready
                        .map_err(|err| DownReason::lost(&err))
                        .and_then(|ready| {
                            match ready.is_readable().then(|| back_channel.read()).flatten() {
                                Some(reason) => Err(reason),
                                None => Ok(ready),
                            }
                        }),
                )
            }
            FarEnd::Read(_) => {
                let ready = self.writing.writable_now()?;
                Some(ready.map_err(|err| DownReason::lost(&err)))
            }
        }
    }

    /// Waits until the socket can be written, or there is something to look at with
    /// [`ready_now`](Wire::ready_now). Fails if the link must end. Then the far end takes nothing more.
    pub(super) async fn until_ready(&self) -> Result<(), DownReason> {
        match &self.far_end {
            FarEnd::Watched(_) => {
                let ready = self.writing.ready().await;
                ready.map(|_| ()).map_err(|err| DownReason::lost(&err))
            }
            FarEnd::Read(link) => tokio::select! {
                biased;
                ready = self.writing.writable() => ready.map_err(|err| DownReason::lost(&err)),
                reason = link.until_end() => Err(reason),
            },
        }
    }

    /// Returns whether the link may have to end at once; see [`cut`](Wire::cut).
    pub(super) fn may_be_cut(&self) -> bool {
        match &self.far_end {
            FarEnd::Watched(back_channel) => back_channel.may_be_superseded(),
            FarEnd::Read(_) => true,
        }
    }

    /// Waits until a later incarnation of the node at the far end has come, or its certificate is not accepted
    /// any more.
    pub(super) async fn cut(&self) -> DownReason {
        match &self.far_end {
            FarEnd::Watched(back_channel) => back_channel.superseded().await,
            FarEnd::Read(link) => {
                link.cut().cancelled().await;
                if link.is_untrusted() {
                    return DownReason::Untrusted;
                }
            }
        }
        DownReason::Superseded
    }

    /// Returns what the far end takes that is longer than a frame.
    pub(super) fn takes(&self) -> Option<Takes> {
        match &self.far_end {
            FarEnd::Watched(_) => None,
            FarEnd::Read(link) => link.takes,
        }
    }

    /// Returns the certificate of the far end.
    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        match &self.far_end {
            FarEnd::Watched(_) => None,
            FarEnd::Read(link) => link.tls.as_ref().map(|tls| tls.certificate().clone()),
        }
    }

    /// Returns whether the link is still of use although this end has nothing to write: the end that dialled
    /// ends an idle link, once the far end has sent nothing either.
    pub(super) fn stays(&self) -> bool {
        match &self.far_end {
            FarEnd::Watched(_) => false,
            FarEnd::Read(link) => !link.dialled || link.was_active(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let FarEnd::Read(link) = &self.far_end {
            link.end_writing();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        config::Config,
        ids::GroupId,
        lane::Lane,
        net::{clock::CoarseInstant, tcp::Stream},
        send::queue::{Limits, SendQueue},
        session::{context::SessionContext, identity::Identity, meant::Meant},
        wire::frame::HEADER,
    };

    /// More than the system takes at once.
    const LEN: usize = 8 << 20;

    /// A link both ways whose far end is read by the test.
    async fn link(config: &Config) -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let addr = listener.local_addr().expect("bound");
        let stream = Stream::dial(addr, config).await.expect("listening");
        let (far_end, _) = listener.accept().await.expect("dialled");
        let identity = Identity::new(NodeId::new(1)).resolve().expect("valid");
        let limit = Duration::from_secs(1);
        let sessions = SessionContext::new(identity, 1, LEN, Meant::default(), true, limit);
        let mut far = sessions.me();
        far.node = NodeId::new(2);
        let session = sessions.welcomed(&far, None).expect("welcome");
        let far = (&far, Lane::NORMAL);
        let link = sessions.open_link(session, far, addr, true, None, None);
        let (_, writing) = stream.split();
        (Wire::new(writing, FarEnd::Read(link), addr, true), far_end)
    }

    /// The far end would read it as a part of the frame.
    #[tokio::test]
    async fn a_goodbye_is_said_between_two_frames_and_never_in_the_middle_of_one() {
        let config = Config::default();
        let (wire, mut far_end) = link(&config).await;
        let queue = Arc::new(SendQueue::new(Limits::of_lane(&config, Lane::NORMAL)));
        let now = CoarseInstant::now();
        let pushed = queue.push((), GroupId::new(1), vec![0; LEN], now);
        drop(pushed.map_err(|(refusal, _)| refusal).expect("room"));
        let mut batch = queue.take(now).batch.expect("queued");
        let reading = tokio::spawn(async move {
            let mut frame = vec![0; HEADER + LEN];
            far_end.read_exact(&mut frame).await.map(|_| far_end)
        });
        let mut writes = 0;
        while !batch.is_empty() {
            // Until there is room, for a Goodbye too.
            wire.writing.writable().await.expect("open");
            if writes > 0 {
                wire.say_goodbye();
            }
            writes += u32::from(wire.try_write::<4>(&mut batch, usize::MAX).is_ok());
        }
        assert!(writes > 1, "it was never in the middle");
        let mut far_end = reading.await.expect("no panic").expect("the frame");
        wire.writing.writable().await.expect("open");
        wire.say_goodbye();
        drop(wire);
        let mut rest = Vec::new();
        far_end.read_to_end(&mut rest).await.expect("no reset");
        assert_eq!(rest, Control::Goodbye.encode());
    }
}
