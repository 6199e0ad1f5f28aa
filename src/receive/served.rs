//! [`ServedCalls`]: the calls of other nodes that handlers have not answered.
//!
//! Everything that can end a call comes here: the handler, its deadline, the caller that goes away, the end of the
//! handler's actor. The first of them decides, under one lock, so each call is answered once at most and counted once.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    calls::{
        deadlines::Deadlines,
        expire::Expire,
        foreign::{contain, wake},
        pending::CallPeer,
    },
    error::{LargeError, Refusal},
    ids::GroupId,
    net::{
        clock::CoarseInstant,
        time::{self, Instant, timeout},
    },
    observe::{stats::ServedStats, trace::call_span::CallSpan},
    receive::{answers::Answers, charge::Charge, secret_hasher::SecretHasher, sender::Sender},
    runtime::{work_slot::WorkSlot, worker::Worker},
    send::{large::Began, queue::WhenFull},
    wire::{
        body::Body,
        call::{CallFrame, CallId, NotServed},
        frame::HEADER,
        head_bytes::HeadBytes,
        payload::Payload,
    },
};

/// Which call of which life of which node.
pub(super) type CallKey = (CallPeer, CallId);

/// The calls that are being served.
#[derive(Debug)]
pub(crate) struct ServedCalls {
    table: Mutex<Table>,
    /// Where answers wait that find no room in the queue.
    worker: Worker,
    /// How many bytes the calls of a group may hold, with answers that wait.
    max_held: usize,
}

#[derive(Debug, Default)]
struct Table {
    calls: HashMap<CallKey, Arc<Served>, SecretHasher>,
    deadlines: Deadlines<CallKey>,
    stats: ServedStats,
    stopped: bool,
}

/// How a call ends.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Ending {
    Answered,
    Failed,
    Unanswered,
    #[cfg(feature = "remote")]
    NotUnderstood,
    #[cfg(feature = "remote")]
    NoHandler,
    Refused,
    Expired,
    Cancelled,
}

/// Why a call is not served.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub(super) enum Unserved {
    NoHandler,
    Refused,
    Expired,
}

/// One call that is being served, as all see it who may end it.
pub(super) struct Served {
    calls: Arc<ServedCalls>,
    key: CallKey,
    pub(super) group: GroupId,
    pub(super) sender: Arc<Sender>,
    /// The lane of the caller's node that the call came on.
    answer_to: Arc<Answers>,
    pub(super) deadline: Instant,
    is_over: AtomicBool,
    over: Notify,
    /// The request to the handler's actor, if it has one. If it is cancelled, actix skips the message, unless a handler
    /// has it.
    pub(super) request: WorkSlot,
    pub(super) span: CallSpan,
}

impl ServedCalls {
    pub(crate) fn new(worker: Worker, max_held: usize) -> Arc<Self> {
        Arc::new(ServedCalls {
            table: Mutex::default(),
            worker,
            max_held,
        })
    }

    /// Returns whether this call may begin now: it is not being served, and the transport has not stopped.
    pub(super) fn takes(&self, key: CallKey) -> bool {
        let table = self.table.lock();
        !table.stopped && !table.calls.contains_key(&key)
    }

    /// Notes that a call is about to be served. `None` if it is being served already, which counts as refused.
    pub(super) fn begin(
        self: &Arc<Self>,
        key: CallKey,
        group: GroupId,
        sender: Arc<Sender>,
        answer_to: Arc<Answers>,
        deadline: Instant,
        span: CallSpan,
    ) -> Option<Arc<Served>> {
        let served = Arc::new(Served {
            calls: self.clone(),
            key,
            group,
            sender,
            answer_to,
            deadline,
            is_over: AtomicBool::new(false),
            over: Notify::new(),
            request: WorkSlot::new(),
            span,
        });
        let mut table = self.table.lock();
        table.stats.received += 1;
        if table.stopped || table.calls.contains_key(&key) {
            table.stats.refused += 1;
            return None;
        }
        table.stats.serving += 1;
        table.calls.insert(key, served.clone());
        let looks = table.deadlines.add(deadline, key);
        drop(table);
        looks.into_iter().for_each(wake);
        Some(served)
    }

    /// Counts a call that no handler gets.
    pub(super) fn refuse(&self, why: Unserved) {
        let stats = &mut self.table.lock().stats;
        stats.received += 1;
        match why {
            Unserved::NoHandler => stats.no_handler += 1,
            Unserved::Refused => stats.refused += 1,
            Unserved::Expired => stats.expired += 1,
        }
    }

    /// Notes that nobody waits for the answer any more.
    pub(super) fn cancel(&self, key: CallKey) {
        let served = self.table.lock().end(key, Ending::Cancelled);
        served.into_iter().for_each(|served| served.tell_over());
    }

    /// Ends all calls, and lets none begin: nobody can be answered any more.
    pub(crate) fn stop(&self) {
        let mut table = self.table.lock();
        table.stopped = true;
        let keys: Vec<_> = table.calls.keys().copied().collect();
        let ended = keys
            .into_iter()
            .filter_map(|key| table.end(key, Ending::Cancelled));
        let ended: Vec<_> = ended.collect();
        drop(table);
        ended.iter().for_each(|served| served.tell_over());
    }

    pub(crate) fn stats(&self) -> ServedStats {
        self.table.lock().stats
    }

    fn count_lost_answer(&self) {
        self.table.lock().stats.lost_answers += 1;
    }
}

impl Table {
    /// Ends a call that is being served. Returns it if this is its end.
    fn end(&mut self, key: CallKey, ending: Ending) -> Option<Arc<Served>> {
        let served = self.calls.remove(&key)?;
        self.deadlines.remove(served.deadline, key);
        self.stats.serving -= 1;
        match ending {
            Ending::Answered => self.stats.answered += 1,
            Ending::Failed => self.stats.failed += 1,
            Ending::Unanswered => self.stats.unanswered += 1,
            #[cfg(feature = "remote")]
            Ending::NotUnderstood => self.stats.not_understood += 1,
            #[cfg(feature = "remote")]
            Ending::NoHandler => self.stats.no_handler += 1,
            Ending::Refused => self.stats.refused += 1,
            Ending::Expired => self.stats.expired += 1,
            Ending::Cancelled => self.stats.cancelled += 1,
        }
        served.is_over.store(true, Relaxed);
        Some(served)
    }
}

impl Expire for ServedCalls {
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut table = self.table.lock();
        let due = table.deadlines.take_due(now);
        let ended = due
            .into_iter()
            .filter_map(|key| table.end(key, Ending::Expired));
        let ended: Vec<_> = ended.collect();
        let next = table.deadlines.arm();
        drop(table);
        ended.iter().for_each(|served| served.tell_over());
        next
    }

    fn poll_sooner(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(cx.waker().clone());
        self.table.lock().deadlines.poll_sooner(&mut waker)
    }
}

impl Served {
    /// Ends it. Returns whether this is its end, so that the caller must be told.
    pub(super) fn end(&self, ending: Ending) -> bool {
        let ended = self.calls.table.lock().end(self.key, ending);
        // The actor is at work on it, or has ended: nobody needs the request any more.
        self.request.cancel();
        contain(|| self.over.notify_waiters());
        ended.is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Waits until it has ended.
    pub(super) async fn over(&self) {
        loop {
            // Created before the check, so that a notification between the two is not missed.
            let over = self.over.notified();
            if self.is_over() {
                return;
            }
            over.await;
        }
    }

    /// Drops the request, so that no handler gets the call if none has it yet, and tells the handler that has it.
    fn tell_over(&self) {
        self.request.cancel();
        contain(|| self.over.notify_waiters());
    }

    /// Sends what the caller is told. `charge` is kept until it is in the queue.
    pub(super) fn say(&self, says: CallFrame, payload: impl Into<Body>, charge: Option<Charge>) {
        let payload = payload.into();
        let head = says.encode(self.key.1);
        let state = &self.answer_to.peer.state;
        if HEADER + head.len() + payload.len() > state.longest_frame() {
            let Some(charge) = self.may_wait(payload.len(), charge) else {
                return;
            };
            return self.say_in_parts(head, payload.into_bytes(), charge);
        }
        let (frame, now) = ((head, payload), CoarseInstant::now());
        match state.queue.push_reserved((), frame, now, WhenFull::Wait) {
            Ok(doorbell) => self.answer_to.ring(doorbell),
            Err((Refusal::Full(_), frame)) => {
                if let Some(charge) = self.may_wait(frame.1.len(), charge) {
                    self.say_later(frame, charge);
                }
            }
            Err(_) => self.calls.count_lost_answer(),
        }
    }

    /// Tells the caller that the call was not served. If there is no room for that, it finds out at its deadline.
    pub(super) fn say_not_served(&self, why: NotServed) {
        say_not_served(&self.answer_to, self.key.1, why);
    }

    /// Returns the charge for an answer of so many bytes that cannot leave at once. `None`: the sender has no room for
    /// it in what the group may hold, so the answer is lost.
    fn may_wait(&self, len: usize, charge: Option<Charge>) -> Option<Charge> {
        let charge = charge.and_then(|charge| charge.with_more(len, self.calls.max_held));
        if charge.is_none() {
            self.calls.count_lost_answer();
            self.say_not_served(NotServed::Lost);
        }
        charge
    }

    /// Waits for room in the queue, at most until the deadline.
    fn say_later(&self, frame: (HeadBytes, Body), charge: Charge) {
        let (unsent, peer) = (Unsent::of(&self.calls), self.answer_to.peer.clone());
        let left = self.deadline.saturating_duration_since(time::now());
        self.calls.worker.spawn_untracked(async move {
            let queue = &peer.state.queue;
            let pushed = queue.push_reserved_wait((), frame, CoarseInstant::now);
            match timeout(left, pushed).await {
                Ok(Ok(doorbell)) => {
                    unsent.sent();
                    peer.state.ring(doorbell);
                }
                Ok(Err(_)) | Err(_) => drop(unsent),
            }
            drop(charge);
        });
    }

    fn say_in_parts(&self, head: HeadBytes, payload: Bytes, charge: Charge) {
        let (unsent, peer) = (Unsent::of(&self.calls), self.answer_to.peer.clone());
        let id = self.key.1;
        let left = self.deadline.saturating_duration_since(time::now());
        self.calls.worker.spawn_untracked(async move {
            let sent = peer.state.send_in_parts(GroupId::RESERVED, payload, |_| {
                Began::With(head.into_bytes())
            });
            match timeout(left, sent).await {
                Ok(Ok(())) => unsent.sent(),
                Ok(Err(why)) => {
                    let why = match why {
                        LargeError::TooLarge { .. } | LargeError::Unsupported => {
                            NotServed::TooLarge
                        }
                        _ => NotServed::Lost,
                    };
                    say_not_served(&Answers::to(peer), id, why);
                }
                // When the time is over, the caller knows.
                Err(_) => {}
            }
            drop(charge);
        });
    }
}

/// An answer that is not in the queue yet. It counts as lost if this is dropped, also because the arbiter or the transport
/// ends.
///
/// Does not keep the calls: they have the way to the arbiter, and a task that is given to it as it ends may stay there.
struct Unsent(Weak<ServedCalls>);

impl Unsent {
    fn of(calls: &Arc<ServedCalls>) -> Self {
        Unsent(Arc::downgrade(calls))
    }

    fn sent(mut self) {
        self.0 = Weak::new();
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(calls) = self.0.upgrade() {
            calls.count_lost_answer();
        }
    }
}

/// Tells the caller that its call is not served. If there is no room for that, it finds out at its deadline.
pub(super) fn say_not_served(to: &Answers, id: CallId, why: NotServed) {
    let (frame, now) = (CallFrame::NotServed(why).encode(id), CoarseInstant::now());
    let queue = &to.peer.state.queue;
    if let Ok(doorbell) = queue.push_reserved((), frame, now, WhenFull::Refuse) {
        to.ring(doorbell);
    }
}

impl Drop for Served {
    /// The end of the span is foreign code, and may run where actix or tokio drops a waker.
    fn drop(&mut self) {
        let span = mem::replace(&mut self.span, CallSpan::NONE);
        contain(|| drop(span));
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("key", &self.key)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
