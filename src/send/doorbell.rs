//! The doorbell of a link that rests: rung by whoever sends while its queue is empty.
//!
//! Owns the choice of what a ring does. It wakes the writer, which takes as long as it takes to come
//! to another thread: far longer than to write one frame. Where frames have been coming one at a
//! time, the ring therefore writes the frame itself, there and then, on the thread of whoever sends,
//! and the writer sleeps on. Two sends in quick succession are the beginning of more, and more are
//! best written together: then the ring wakes the writer as before.
//!
//! The queue knows nothing of this: to it, a doorbell is a waker.

use std::{
    future::poll_fn,
    io::IoSlice,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{io::Interest, net::TcpStream, time::Instant};

use crate::{
    net::clock::CoarseInstant,
    runtime::shared::Shared,
    send::pace::Pace,
    send::queue::{Batch, SendQueue},
};

/// So many frames in a row must have come alone before a ring writes the next.
const ALONE: u8 = 3;

/// What is longer is left to the writer: whoever sends should not be held up for long.
const SHORT: u64 = 8 << 10;

/// Slices of one vectored write: two for each of the few runs that a short batch may have.
const SLICES: usize = 4;

/// The bell of one link. It outlives a rest, and its link, in the queue: it is mute then.
pub(crate) struct Doorbell {
    /// Whoever rests.
    writer: AtomicWaker,
    hung: Mutex<Option<Hung>>,
    shared: Arc<Shared>,
}

/// What a ring has at hand while the bell hangs.
struct Hung {
    stream: Arc<TcpStream>,
    queue: Arc<SendQueue>,
    manner: Manner,
    /// What a ring took and did not get written whole.
    left: Option<Batch>,
}

/// How frames have been coming.
#[derive(Debug, Copy, Clone)]
pub(crate) struct Manner {
    /// How many came alone, as far as it matters.
    alone: u8,
    /// When a ring last wrote.
    wrote: Instant,
}

impl Doorbell {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Doorbell {
            writer: AtomicWaker::new(),
            hung: Mutex::new(None),
            shared,
        })
    }

    /// Hangs the bell for one rest.
    pub(crate) fn hang(
        self: &Arc<Self>,
        stream: &Arc<TcpStream>,
        queue: &Arc<SendQueue>,
        manner: Manner,
    ) -> Rest<'_> {
        *self.hung.lock() = Some(Hung {
            stream: stream.clone(),
            queue: queue.clone(),
            manner,
            left: None,
        });
        let waker = self.clone().into();
        Rest { bell: self, waker }
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        // Who cannot have a look at once finds another ring, or the end of the rest, under way.
        let hung = self.hung.try_lock();
        let written = hung.is_some_and(|mut hung| match &mut *hung {
            Some(hung) if self.shared.failpoints.spent() => {
                hung.write(&self.shared.pace, &self.clone().into())
            }
            _ => false,
        });
        if !written {
            self.writer.wake();
        }
    }
}

impl Hung {
    /// Writes what is queued, if that is one frame that came alone, and hangs the bell again. False
    /// if there is something left for the writer to do.
    fn write(&mut self, pace: &Pace, bell: &Waker) -> bool {
        // A ring may come late, from a rest before this one and behind another ring. What is queued then
        // is not to overtake what that left, or to come in the middle of it.
        if self.left.is_some() || self.manner.alone < ALONE {
            return false;
        }
        let began = Instant::now();
        if pace.is_close(began) {
            self.manner.alone = 0;
            return false;
        }
        // Readable is a link that the other side has ended.
        if self.stream.try_io(Interest::READABLE, || Ok(())).is_ok() {
            return false;
        }
        let taken = self.queue.take(CoarseInstant::now());
        // The writer tells of them.
        self.queue.put_back_untold(taken.dropped);
        let Some(mut batch) = taken.batch else {
            return false;
        };
        if batch.count().bytes <= SHORT {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = batch.slices(&mut slices);
            // What goes wrong here goes wrong again when the writer tries.
            let taken = match &slices[..filled] {
                // Mostly; and the kernel takes one slice with less ado than a list of one.
                [slice] => self.stream.try_write(slice),
                slices => self.stream.try_write_vectored(slices),
            };
            if let Ok(n) = taken {
                batch.advance(n);
                let ended = Instant::now();
                pace.note(began, ended);
                self.manner.wrote = ended;
            }
        }
        if !batch.is_empty() {
            self.left = Some(batch);
            return false;
        }
        let mut cx = Context::from_waker(bell);
        self.queue.poll_ready(&mut cx).is_pending()
    }
}

const HANGS: &str = "it hangs while the rest lasts";

/// A rest of the writer, with the bell in its place. It comes down with this.
pub(crate) struct Rest<'b> {
    bell: &'b Arc<Doorbell>,
    waker: Waker,
}

impl Rest<'_> {
    /// Waits for something that the writer has to do.
    pub(crate) async fn rung(&self) {
        poll_fn(|cx| {
            self.bell.writer.register(cx.waker());
            match &*self.bell.hung.lock() {
                Some(Hung {
                    queue, left: None, ..
                }) => queue.poll_ready(&mut Context::from_waker(&self.waker)),
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Returns when the link last wrote something without the writer.
    pub(crate) fn wrote(&self) -> Instant {
        let hung = self.bell.hung.lock();
        hung.as_ref().expect(HANGS).manner.wrote
    }

    /// Takes the bell down; returns how frames have been coming, and what a ring left.
    pub(crate) fn end(&self) -> (Manner, Option<Batch>) {
        let hung = self.bell.hung.lock().take().expect(HANGS);
        (hung.manner, hung.left)
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        // What a ring left goes back to the queue, with this lock free.
        let hung = self.bell.hung.lock().take();
        drop(hung);
    }
}

impl Manner {
    pub(crate) fn new() -> Self {
        Manner {
            alone: 0,
            wrote: Instant::now(),
        }
    }

    /// Notes how many frames there were when the writer woke up.
    pub(crate) fn woken_by(&mut self, frames: u64) {
        self.alone = match frames {
            0 | 1 => ALONE.min(self.alone + 1),
            _ => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Config, Failpoints, GroupId};

    #[tokio::test]
    async fn a_ring_that_comes_late_does_not_overtake_what_another_left() {
        let nobody = ([127, 0, 0, 1], 1).into();
        let shared = Shared::new(Config::default(), nobody, Failpoints::default());
        let limits = crate::send::peers::limits(&shared.config);
        let (queue, bell) = (
            Arc::new(SendQueue::new(limits)),
            Doorbell::new(shared.into()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let addr = listener.local_addr().expect("bound");
        let stream = Arc::new(TcpStream::connect(addr).await.expect("room"));
        stream.writable().await.expect("open");
        // So that nothing follows the last write closely.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let manner = Manner {
            alone: ALONE,
            ..Manner::new()
        };
        let rest = bell.hang(&stream, &queue, manner);
        assert!(rest.rung().now_or_never().is_none());

        let push = |payload: Vec<u8>| {
            let pushed = queue.push((), GroupId::new(1), payload, CoarseInstant::now());
            drop(pushed.expect("room"));
        };
        push(vec![0; SHORT as usize]);
        push(vec![1]);
        // Begun before the one that found the first, and held up until now.
        bell.clone().wake();
        assert_eq!(queue.stats().written.frames, 0);
        let (_, left) = rest.end();
        assert_eq!(left.map(|batch| batch.count().frames), Some(1));
    }
}
