//! Frames and events as streams, for programs without actors.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use actix::{
    Actor, ActorContext, Addr, Context as ActorCtx, Handler, Message, ResponseFuture, WeakAddr,
};
use futures::Stream;
use tokio::sync::mpsc;

use crate::{
    api::transport::Transport, error::RegisterError, ids::GroupId, observe::event::PeerEvent,
    receive::inbound::Inbound,
};

impl Transport {
    /// Serves `group` by a stream of the batches of frames that come for it, instead of by an actor.
    ///
    /// At most `bound` batches wait in the stream (at least one). Beyond that the connections wait, as for an actor that is
    /// slow ([`GroupOverflow::Wait`](crate::GroupOverflow::Wait)), and the senders' queues fill. Dropping the stream ends
    /// the service: frames that wait in it count as dropped
    /// ([`DropReason::ActorGone`](crate::DropReason::ActorGone)), and the group may be served by others again. The stream
    /// ends when the transport has stopped. It may be polled on any thread and any runtime.
    ///
    /// ```
    /// use actix_transport::{GroupId, Shutdown, Transport};
    /// use futures::StreamExt;
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let transport = Transport::builder().bind("127.0.0.1:0")?;
    ///     let mut batches = transport.stream(GroupId::new(3), 16)?;
    ///     let me = transport.peer(transport.local_addr())?;
    ///     me.send(GroupId::new(3), "hello").await?;
    ///     let mut batch = batches.next().await.expect("the transport runs");
    ///     assert_eq!(batch.next().as_deref(), Some(&b"hello"[..]));
    ///     transport.stop(Shutdown::Now).await;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`register`](Transport::register).
    pub fn stream(&self, group: GroupId, bound: usize) -> Result<Streamed<Inbound>, RegisterError> {
        let (streamed, addr) = self.streamed(bound);
        self.register(group, addr.recipient())?;
        Ok(streamed)
    }

    /// Returns a stream of the events that happen from now on.
    ///
    /// At most `bound` events wait in the stream (at least one), and as many more as for every subscriber; if it is slow,
    /// events are merged, or missed and told as [`PeerEvent::Missed`]. The stream ends when the transport has stopped. It
    /// may be polled on any thread and any runtime.
    ///
    /// ```
    /// use actix_transport::{PeerEvent, Shutdown, Transport};
    /// use futures::StreamExt;
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let transport = Transport::builder().bind("127.0.0.1:0")?;
    ///     let mut events = transport.events(16);
    ///     transport.peer(transport.local_addr())?.connect();
    ///     while let Some(event) = events.next().await {
    ///         println!("{event}");
    ///         if matches!(event, PeerEvent::Up { .. }) {
    ///             break;
    ///         }
    ///     }
    ///     transport.stop(Shutdown::Now).await;
    ///     Ok(())
    /// }
    /// ```
    pub fn events(&self, bound: usize) -> Streamed<PeerEvent> {
        let (streamed, addr) = self.streamed(bound);
        self.subscribe(addr.recipient());
        streamed
    }

    /// Starts the actor that fills a stream.
    fn streamed<M>(&self, bound: usize) -> (Streamed<M>, Addr<Pump<M>>)
    where
        M: Send + Unpin + 'static,
    {
        let (to, from) = mpsc::channel(bound.clamp(1, MAX_BOUND));
        let pump = Pump::start_in_arbiter(&self.arbiter(), |_| Pump(to));
        let end = Box::new(EndPump(pump.downgrade()));
        let streamed = Streamed { from, _end: end };
        (streamed, pump)
    }
}

/// More would be no bound.
const MAX_BOUND: usize = 1 << 20;

/// A stream of what a transport has for an actor: [`Transport::stream`], [`Transport::events`].
#[must_use = "dropping it ends it"]
pub struct Streamed<M> {
    from: mpsc::Receiver<M>,
    /// Ends the actor that fills it.
    _end: Box<dyn Send + Sync>,
}

impl<M> Stream for Streamed<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        self.from.poll_recv(cx)
    }
}

impl<M> Unpin for Streamed<M> {}

impl<M> fmt::Debug for Streamed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").finish_non_exhaustive()
    }
}

/// Puts messages into a stream. Whoever sends one waits until there is room for it.
struct Pump<M>(mpsc::Sender<M>);

impl<M: Unpin + 'static> Actor for Pump<M> {
    type Context = ActorCtx<Self>;
}

macro_rules! pump {
    ($($message:ty),+) => {
        $(impl Handler<$message> for Pump<$message> {
            type Result = ResponseFuture<()>;

            fn handle(&mut self, message: $message, _: &mut ActorCtx<Self>) -> Self::Result {
                let to = self.0.clone();
                Box::pin(async move {
                    // If the stream is gone, the message is dropped here, which counts it.
                    let _ = to.send(message).await;
                })
            }
        })+
    };
}

pump!(Inbound, PeerEvent);

/// Ends the actor when its stream is dropped. Weak, because the actor also ends when the transport lets go of it.
struct EndPump<M: Unpin + 'static>(WeakAddr<Pump<M>>);

struct End;

impl Message for End {
    type Result = ();
}

impl<M: Unpin + 'static> Handler<End> for Pump<M> {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut ActorCtx<Self>) {
        ctx.stop();
    }
}

impl<M: Unpin + 'static> Drop for EndPump<M> {
    fn drop(&mut self) {
        if let Some(pump) = self.0.upgrade() {
            pump.do_send(End);
        }
    }
}
